"""Searching: what is shared between settings must not change an answer, and no row may see what it should not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.data.columns import column_group
from analysis.data.plan import Plan, make_plan
from analysis.data.samples import Data, Sample, subsample
from analysis.models import grid, search
from analysis.models.grid import Candidate
from analysis.studies import leakage
from featurestore.errors import MissingInput


def sample(
    n: int = 90, classes: int = 3, d: int = 6, per_artist: int = 3, seed: int = 0, artist: float = 0.0
) -> Sample:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    group = (np.arange(n) // classes // per_artist) * classes + y
    X = rng.normal(size=(n, d)) + 1.2 * np.eye(classes, d)[y]
    X += artist * rng.normal(size=(group.max() + 1, d))[group]
    return Sample(X.astype(np.float32), y.astype(np.int64), np.arange(n) + 10, group.astype(np.int64))


def data(parts: dict[str, Sample], classes: int = 3) -> Data:
    names = tuple("abcdefgh"[:classes])
    width = next(iter(parts.values())).X.shape[1]
    return Data("made", "official", names, tuple(f"x_{j}" for j in range(width)), parts, ())


def three_way() -> Data:
    whole = sample(180)
    rows = np.arange(180)
    return data(
        {
            "training": whole.take(rows < 108),
            "validation": whole.take((rows >= 108) & (rows < 144)),
            "test": whole.take(rows >= 144),
        }
    )


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate("svm_rbf", None, {"kernel": "rbf", "gamma": 0.3, "C": 2.0}),
        Candidate("svm_poly", None, {"kernel": "poly", "degree": 3, "gamma": 1.0, "coef0": 1.0, "C": 0.3}),
        Candidate("svm_sigmoid", None, {"kernel": "sigmoid", "gamma": 0.1, "C": 3.0}),
        Candidate("svm_linear", None, {"kernel": "linear", "C": 0.1}),
        Candidate("knn", 0.95, {"n_neighbors": 7}),
    ],
    ids=lambda c: c.model,
)
def test_shared_work_scores_as_the_pipeline_itself(candidate: Candidate) -> None:
    learn, score = sample(seed=1), sample(seed=2)
    before = grid.prefix(candidate.pca)
    from sklearn.pipeline import Pipeline

    steps = Pipeline(before).fit(learn.X)
    A, B = steps.transform(learn.X), steps.transform(score.X)
    found, _ = next(iter(search.bundle_scores([candidate], A, learn.y, B, learn.X.shape[1], 3, 0)))
    fitted = grid.pipeline(candidate, learn.X.shape[1]).fit(learn.X, learn.y)
    assert found == pytest.approx(grid.row_scores(fitted, score.X, 3), abs=1e-4)


def test_every_k_comes_from_one_query() -> None:
    learn, score = sample(seed=1), sample(seed=2)
    bundle = [Candidate("knn", None, {"n_neighbors": k}) for k in (1, 4, 9)]
    for c, (found, _) in zip(bundle, search.bundle_scores(bundle, learn.X, learn.y, score.X, 6, 3, 0), strict=True):
        assert found == pytest.approx(grid.classifier(c, 6).fit(learn.X, learn.y).predict_proba(score.X))


def test_nothing_is_fitted_on_what_is_scored() -> None:
    """Every score of the search is that of a Pipeline that saw the training rows alone; the scored rows have another
    scale, so a scaler fitted on them too would change the neighbours."""
    whole = sample(120)
    rows = np.arange(120)
    whole.X[rows >= 80, 0] *= 50
    learn, score = whole.take(rows < 80), whole.take(rows >= 80)
    made = Plan(whole, ((rows[rows < 80], rows[rows >= 80]),), score, "test", "validation")
    found = {t.candidate.text(): t.accuracy for t in search.search([grid.MODELS["knn"]], made, 3)}
    settings = [Candidate("knn", None, {"n_neighbors": k}) for k in range(1, 21)]
    alone, leaking = [], []
    for c in settings:
        fitted = grid.pipeline(c, 6).fit(learn.X, learn.y)
        alone.append(search.answers(fitted, score, 3).accuracy)
        fitted = grid.pipeline(c, 6).fit(whole.X, whole.y)
        fitted.named_steps["classify"].fit(fitted[:-1].transform(learn.X), learn.y)
        leaking.append(search.answers(fitted, score, 3).accuracy)
    assert [found[c.text()] for c in settings] == alone
    assert leaking != alone


def test_k_larger_than_the_fold_is_not_tried() -> None:
    small = sample(24)
    made = make_plan(data({"training": small.take(np.arange(24) < 15), "test": small.take(np.arange(24) >= 15)}))
    ks = [t.candidate.params["n_neighbors"] for t in search.search([grid.MODELS["knn"]], made, 3)]
    assert ks
    assert max(ks) <= min(len(a) for a, _ in made.folds)


def test_halving_ranks_on_a_quarter_then_on_all() -> None:
    trials = search.search([grid.MODELS["svm_linear"]], make_plan(three_way()), 3, halve_from=50)
    quarter = [t for t in trials if t.n_tracks == 27]
    full = [t for t in trials if t.n_tracks == 108]
    assert len(quarter) == len(grid.candidates(grid.MODELS["svm_linear"]))
    assert len(full) == 2
    assert search.best(trials, "svm_linear") in full


def test_the_model_kept_is_chosen_by_its_choice_score() -> None:
    from analysis.studies import comparison

    finals = search.finals([grid.MODELS[m] for m in ("knn", "naive_bayes")], [], make_plan(three_way()), 3)
    knn, bayes = (dataclasses.replace(f, chosen_score=c) for f, c in zip(finals, (0.9, 0.1), strict=True))
    wrong = dataclasses.replace(knn.report, answer=(knn.report.truth + 1) % 3)
    knn = dataclasses.replace(knn, report=wrong)
    assert bayes.report.accuracy > knn.report.accuracy == 0
    assert comparison.chosen([bayes, knn]) is knn


def test_best_takes_the_simplest_of_equals() -> None:
    trials = [search.Trial(Candidate("knn", None, {"n_neighbors": k}), 9, 1, 2, True, 0.0) for k in (1, 2)]
    best = search.best(trials, "knn")
    assert best is not None
    assert best.candidate.params["n_neighbors"] == 1


# ---------------------------------------------------------------- who learns from whom


def test_plan_with_three_splits() -> None:
    made = make_plan(three_way())
    ((a, v),) = made.folds
    assert (len(a), len(v), len(made.fit), len(made.report)) == (108, 36, 144, 36)
    assert made.reported == "test"
    assert made.chosen_on == "validation"
    assert not set(made.fit.track_ids) & set(made.report.track_ids)


def test_plan_without_test_reports_validation_and_says_so() -> None:
    d = three_way()
    made = make_plan(data({k: d.splits[k] for k in ("training", "validation")}))
    assert made.reported == "validation"
    assert any("VALIDATION" in n for n in made.notes)
    assert len(made.folds) == 3
    assert not set(made.fit.track_ids) & set(made.report.track_ids)
    for a, b in made.folds:
        assert not set(made.fit.groups[a]) & set(made.fit.groups[b])


def test_plan_refuses_a_single_split() -> None:
    with pytest.raises(MissingInput, match="training rows and others"):
        make_plan(data({"training": sample()}))


def test_genre_absent_from_training_is_said_and_counts_as_wrong() -> None:
    d = three_way()
    training = d.splits["training"]
    made = make_plan(data({**d.splits, "training": training.take(training.y != 2)}))
    assert any("absent from training (c)" in n for n in made.notes)
    alone = data({"training": training.take(training.y != 2), "test": d.splits["test"]})
    final = search.finals([grid.MODELS["logistic"]], [], make_plan(alone), 3)[0]
    assert not final.report.correct[final.report.truth == 2].any()


def test_subsample_keeps_shares_and_every_genre() -> None:
    whole = sample(300)
    rows = subsample(whole, 30, np.random.default_rng(0))
    assert np.bincount(whole.y[rows]).tolist() == [10, 10, 10]
    few = subsample(whole.take(np.r_[0:200:3, [1], [2]]), 5, np.random.default_rng(0))
    assert len(few) == 5
    assert len(np.unique(whole.take(np.r_[0:200:3, [1], [2]]).y[few])) == 3
    artists = np.unique(whole.groups[rows], return_counts=True)[1]
    assert np.median(artists) == 3  # whole artists, not single tracks


def test_two_tracks_per_genre_leave_nothing_to_choose() -> None:
    tiny = sample(6, per_artist=1)
    made = make_plan(data({"training": tiny.take(np.arange(6) < 3), "test": tiny.take(np.arange(6) >= 3)}))
    assert made.folds == ()
    assert any("too few tracks per genre" in n for n in made.notes)


@pytest.mark.parametrize(
    ("column", "feature"),
    [
        ("mfcc_mean_01", "mfcc"),
        ("spectral_contrast_kurtosis_03", "spectral_contrast"),
        ("mfccs_var_07", "mfccs"),
        ("mfcc12_mean", "mfcc"),
        ("chroma_stft_var", "chroma_stft"),
        ("beats_max", "beats"),
        ("tempo", "tempo"),
        ("acousticness", "acousticness"),
        ("01", "01"),
    ],
)
def test_columns_belong_to_features(column: str, feature: str) -> None:
    assert column_group(column) == feature


# ---------------------------------------------------------------- leakage


def leak(artist: float) -> leakage.Leakage:
    whole = sample(360, artist=artist, per_artist=6, d=10)
    inside = whole.groups < 45
    made = Plan(whole.take(inside), (), whole.take(~inside), "test", "nothing")
    candidate = Candidate("knn", None, {"n_neighbors": 1})
    (grouped,) = search.fit_and_answer(candidate, made.fit, [made.report], 3, 0)
    return leakage.leakage_gap(candidate, made, grouped, 3, repeats=3)


def test_leakage_gap_is_found_where_artists_matter_and_not_where_they_do_not() -> None:
    strong = leak(artist=3.0)
    assert strong.gap.low > 0
    assert "leakage flatters" in strong.sentence("artist")
    assert "no leakage shown" in leak(artist=0.0).sentence("artist")


def test_random_deals_keep_sizes_per_genre_and_whole_tracks() -> None:
    whole = sample(90)
    twice = Sample(*(np.repeat(getattr(whole, f), 2, axis=0) for f in ("X", "y", "track_ids", "groups")))
    out = leakage.deal(twice, twice.take(np.arange(180) < 40), np.random.default_rng(0))
    assert out.sum() == 40
    assert all(len(set(out[twice.track_ids == t])) == 1 for t in np.unique(twice.track_ids))
    assert np.bincount(twice.y[out]).tolist() == np.bincount(twice.y[:40]).tolist()
