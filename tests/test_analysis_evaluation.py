"""The arithmetic of evaluation against closed-form answers and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import evaluation
from analysis.evaluation import Scored, by_track
from analysis.studies import powerlaw


def scored(truth: list[int], answer: list[int], groups: list[int] | None = None) -> Scored:
    n = len(truth)
    t, a = np.array(truth), np.array(answer)
    return by_track(np.arange(n), t, np.arange(n) if groups is None else np.array(groups), np.eye(max(3, n))[a])


def test_excerpts_are_averaged_into_their_track() -> None:
    scores = np.array([[0.6, 0.4], [0.0, 1.0], [0.9, 0.1]])
    found = evaluation.by_track(np.array([7, 7, 3]), np.array([1, 1, 0]), np.array([5, 5, 6]), scores)
    assert found.track_ids.tolist() == [3, 7]
    assert found.answer.tolist() == [0, 1]  # 0.3 against 0.7, though the first excerpt alone says 0
    assert found.scores[1] == pytest.approx([0.3, 0.7])
    assert found.groups.tolist() == [6, 5]


def test_macro_f1_and_confusion_equal_scikit_learn() -> None:
    from sklearn.metrics import confusion_matrix, f1_score

    rng = np.random.default_rng(0)
    s = scored(rng.integers(0, 4, 60).tolist(), rng.integers(0, 3, 60).tolist())
    assert evaluation.macro_f1_interval(s, 6).value == pytest.approx(f1_score(s.truth, s.answer, average="macro"))
    assert np.array_equal(evaluation.confusion(s, 6), confusion_matrix(s.truth, s.answer, labels=range(6)))


def test_precision_and_recall_of_a_class_nobody_answers_or_has() -> None:
    rows = evaluation.class_scores(evaluation.confusion(scored([0, 0, 1], [0, 2, 0]), 4), "abcd")
    assert rows[0] == {"genre": "a", "precision": 0.5, "recall": 0.5, "f1": 0.5, "n": 2, "answered": 2}
    assert rows[1]["precision"] is None
    assert rows[1]["recall"] == 0.0
    assert rows[3] == {"genre": "d", "precision": None, "recall": None, "f1": None, "n": 0, "answered": 0}


def test_mcnemar_mid_p_in_closed_form() -> None:
    # a alone right on 5, b alone on 1: 2 * P(X <= 1) - P(X = 1) for X ~ B(6, 1/2) = (2 * 7 - 6) / 64
    a = scored([0] * 10, [0] * 5 + [1] + [0] * 4)
    b = scored([0] * 10, [1] * 5 + [0] + [0] * 4)
    assert evaluation.mcnemar(a, b) == (5, 1, pytest.approx(8 / 64))
    assert evaluation.mcnemar(a, a) == (0, 0, 1.0)


def test_paired_tests_refuse_other_tracks() -> None:
    a, b = scored([0, 1], [0, 1]), scored([0, 1, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="paired"):
        evaluation.mcnemar(a, b)
    with pytest.raises(ValueError, match="same tracks"):
        evaluation.paired_difference(a, b)


def test_interval_of_independent_tracks_is_the_binomial_one() -> None:
    s = scored([0] * 400, [0] * 300 + [1] * 100)
    found = evaluation.accuracy_interval(s)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert found.value == 0.75
    assert found.low == pytest.approx(0.75 - half, abs=0.01)
    assert found.high == pytest.approx(0.75 + half, abs=0.01)


def test_interval_resamples_artists_not_tracks() -> None:
    # 20 artists of 20 tracks, each artist all right or all wrong: 20 independent facts, not 400
    answer = np.repeat(np.arange(20) % 4 == 0, 20).astype(int).tolist()
    by_artist = evaluation.accuracy_interval(scored([0] * 400, answer, np.repeat(np.arange(20), 20).tolist()))
    by_track = evaluation.accuracy_interval(scored([0] * 400, answer))
    assert by_artist.high - by_artist.low > 3 * (by_track.high - by_track.low)


def test_all_right_is_not_certainty() -> None:
    found = evaluation.accuracy_interval(scored([0] * 10, [0] * 10))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 10))


def test_macro_f1_interval_holds_its_value() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 200)
    answer = np.where(rng.random(200) < 0.6, truth, rng.integers(0, 3, 200))
    found = evaluation.macro_f1_interval(scored(truth.tolist(), answer.tolist()), 3)
    assert found.low < found.value < found.high
    assert 0.05 < found.high - found.low < 0.25


def test_bootstrap_columns_meet_the_same_resamples() -> None:
    rng = np.random.default_rng(2)
    values, groups = rng.random((50, 2)), rng.integers(0, 12, 50)
    draws = evaluation.bootstrap_mean(values, groups, seed=3)
    assert draws.shape == (evaluation.RESAMPLES, 2)
    assert np.allclose(draws[:, 1], evaluation.bootstrap_mean(values[:, 1], groups, seed=3))


def test_paired_difference_sees_what_unpaired_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    answer = (rng.random(500) < 0.5).astype(int)
    better = answer.copy()
    better[np.flatnonzero(answer)[:20]] = 0
    found = evaluation.paired_difference(scored([0] * 500, better.tolist()), scored([0] * 500, answer.tolist()))
    assert found.value == pytest.approx(0.04)
    assert found.low > 0


def test_holm_in_closed_form() -> None:
    assert evaluation.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert evaluation.holm([]) == []


def test_power_law_is_recovered_exactly() -> None:
    n = np.geomspace(50, 5000, 8)
    law = powerlaw.fit(n, 0.3 + 1.2 * n**-0.5)
    assert law.rate == pytest.approx(0.5, abs=0.02)
    assert float(law.error(100_000)) == pytest.approx(0.3 + 1.2 * 100_000**-0.5, abs=0.002)


def test_power_law_without_learning_is_flat_and_never_negative() -> None:
    n = np.array([10.0, 100.0, 1000.0])
    assert powerlaw.fit(n, np.array([0.5, 0.5, 0.5])).error(1e6) == pytest.approx(0.5)
    steep = powerlaw.fit(n, n**-1.0)
    assert steep.floor >= 0
    assert float(steep.error(1e9)) >= 0
    with pytest.raises(ValueError, match="at least 3 sizes"):
        powerlaw.fit(np.array([10.0, 20.0]), np.array([0.5, 0.4]))


def test_one_reading_says_all() -> None:
    ids = np.array([1, 1, 2, 3])
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    scored = by_track(ids, np.array([0, 0, 1, 1]), ids, scores)
    found = evaluation.evaluate(scored, ("Jazz", "Rock"), split="test", scheme="artist")
    assert (found.n, found.excerpts) == (3, 4)
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert found.excerpt_accuracy == pytest.approx(2 / 4)
    assert found.chance == pytest.approx(2 / 3)
    assert found.macro_f1 == evaluation.macro_f1_interval(scored, 2)
    assert found.accuracy == evaluation.accuracy_interval(scored)
    about = found.as_dict()
    assert about["low"] <= about["accuracy"] <= about["high"]
    assert about["confusion"] == [[1, 0], [1, 1]]
    assert [r["genre"] for r in about["per_class"]] == ["Jazz", "Rock"]


@pytest.mark.parametrize("name", ["scored", "intervals", "classes", "paired", "reading", "answers"])
def test_examples_hold(name: str) -> None:
    import doctest
    import importlib

    found = doctest.testmod(importlib.import_module(f"analysis.evaluation.{name}"))
    assert found.failed == 0
    assert found.attempted > 0
