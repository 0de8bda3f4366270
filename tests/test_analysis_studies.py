"""The other studies end to end on small stores, and the commands."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from analysis import compare as compare_module
from analysis import explore as explore_module
from analysis import feature_sets, learning_curve, pca_study, predict
from analysis.data.plan import study_fold
from analysis.data.samples import Sample, load
from analysis.evaluation import Scored
from analysis.figures import audio, plots
from analysis.figures.base import png
from analysis.results import output
from analysis.studies import components, exploration, frames
from featurestore.errors import MissingInput
from featurestore.spec import Spec
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.analysis_stores import SMALL_GRIDS, SPEC, add_set, small_store
from tests.factories import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_store(tmp_path_factory.mktemp("studies"))


# ---------------------------------------------------------------- the other studies


def test_pca_of_known_covariance() -> None:
    # three columns that are one, and one of its own: standardised eigenvalues 3 and 1
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4000))
    found = components.decompose(np.column_stack([a, a, -a, b]).astype(np.float32))
    assert found.explained[:2] == pytest.approx([0.75, 0.25], abs=0.01)
    assert np.abs(found.loadings[0]) == pytest.approx([3**-0.5] * 3 + [0], abs=0.03)
    assert [components.components_for(found.explained, s) for s in (0.7, 0.95)] == [1, 2]


def test_all_components_change_nothing(store: Store) -> None:
    data = load(store, features="easy")
    learn, score, _ = study_fold(data)
    points = components.sweep(learn, score, 3, [1, 4], ("logistic", "knn", "svm_rbf"), seed=0)
    for name in ("logistic", "knn", "svm_rbf"):
        without, _, every = (p for p in points if p.model == name)
        assert (without.components, every.components) == (None, 4)
        assert np.array_equal(without.score.answer, every.score.answer)


def test_pca_verdict_follows_its_interval() -> None:
    ids = np.arange(400)

    def answers(share: float) -> Scored:
        right = ids < share * 400
        return Scored(ids, np.zeros(400, int), (~right).astype(int), ids, np.zeros((400, 2)), ids, ids)

    less = [
        components.Point("knn", None, answers(0.9), answers(0.6)),
        components.Point("knn", 3, answers(0.6), answers(0.6)),
    ]
    found = components.judge(less, 3)
    assert found.gap.value == pytest.approx(-0.3)
    text = components.answer(found, 9, 1, 400, "validation")
    assert "Yes: it reduces overfitting, and validation accuracy does not measurably change" in text
    same = [less[0], dataclasses.replace(less[0], components=3)]
    assert "Not shown" in components.answer(components.judge(same, 3), 9, 1, 400, "validation")


def test_pca_study_writes_its_tables(store: Store, tmp_path: Path) -> None:
    study = pca_study.pca_study(store, groups=("mfcc", "rms"), models=("naive_bayes", "knn"), map_tracks=30)
    output.write(study, str(tmp_path))
    groups = {r["group"]: r for r in study.tables["variance"]}
    assert groups["all"]["columns"] == 147
    assert groups["rms"]["columns"] == 7
    assert {"explained", "components", "loadings", "frames", "maps"} <= set(study.figures)
    assert any("mel frames: of 32 dimensions" in s for s in study.sentences)
    assert study.sentences[-1].startswith("Does reducing dimension reduce overfitting here?")
    assert {r["n"] for r in study.rows} == {6}


@pytest.mark.parametrize("kind", frames.KINDS)
def test_incremental_frames_equal_one_pca(store: Store, kind: str) -> None:
    import scipy.fft
    from sklearn.decomposition import PCA

    import warehouse

    found = frames.frame_pca(store, kind=kind, sample=50, at_once=10)
    mels = [m for b in warehouse.iter_mels(store, split="training") for m in b.mels]
    every = np.concatenate([m[:, :: frames.EVERY].T for m in mels]).astype(float)
    if kind == "mfcc":
        every = scipy.fft.dct(every, axis=1, norm="ortho")[:, : frames.N_MFCC]
    assert found.n_frames == len(every)
    assert found.points.shape == (50, 2)
    assert found.explained[:2] == pytest.approx(PCA().fit(every).explained_variance_ratio_[:2], rel=0.02)


def test_sizes_are_log_spaced_and_refuse_too_few() -> None:
    def rows(n: int) -> Sample:
        y = np.arange(n) % 5
        return Sample(np.zeros((n, 1), np.float32), y, np.arange(n), np.arange(n))

    assert learning_curve.training_sizes(rows(2000), 3) == [20, 200, 2000]
    assert learning_curve.training_sizes(rows(18), 8)[0] == 10
    with pytest.raises(MissingInput, match="at least 15 training tracks, found 14"):
        learning_curve.training_sizes(rows(14), 8)


def test_learning_curve_rises_and_predicts(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=120, artists_per_genre=20, spec=SPEC, arrays_too=False)
    add_set(store, "easy", 4)
    study = learning_curve.learning_curve(store, features="easy", models=("naive_bayes",), sizes=4, repeats=2)
    rows = study.rows
    assert [r["n_train"] for r in rows] == sorted({r["n_train"] for r in rows})
    assert rows[-1]["n_train"] == 72
    assert rows[-1]["draws"] == 1
    law = study.tables["power_law"][0]
    assert law["fma_large_low"] <= law["fma_large"] <= law["fma_large_high"] <= 1
    ax = study.figures["curve"]().axes[0]
    assert ax.lines[0].get_xydata().tolist() == [[r["n_train"], r["accuracy"]] for r in rows]
    assert {"fma_medium ", "fma_large "} == {t.get_text() for t in ax.texts}


def test_feature_sets_find_the_column_that_matters(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=150, artists_per_genre=15, spec=SPEC, signal=0, artist_signal=0)
    ids = store.read_catalog("tracks", ["track_id", "genre"])
    codes = np.unique(ids["genre"].to_pylist(), return_inverse=True)[1]
    noise = np.random.default_rng(0).normal(size=len(codes))
    for name, values in (("good", codes + 0.1 * noise), ("noise", noise)):
        table = pa.table({"track_id": ids["track_id"], "signal": pa.array(values, pa.float32())})
        store.write_catalog(f"features_{name}", table.slice(0, 140))
    study = feature_sets.feature_sets(store, sets=["good", "noise"], model="naive_bayes")
    rows = {(r["kind"], r["features"]): r for r in study.rows}
    assert rows["set", "good"]["accuracy"] > 0.9
    assert rows["set", "noise"]["change_high"] < 0
    assert rows["set", "noise"]["p_holm"] < 0.05
    assert study.facts["shared_tracks"] == 140
    assert len(feature_sets.feature_sets(store, sets=["good", "librosa"], model="naive_bayes").rows) > 20


def test_sets_without_shared_tracks_are_refused(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=36, spec=SPEC, arrays_too=False)
    ids = store.read_catalog("tracks", ["track_id"])["track_id"]
    for name, part in (("a", ids.slice(0, 18)), ("b", ids.slice(18))):
        store.write_catalog(f"features_{name}", pa.table({"track_id": part, "x": pa.array([0.0] * 18, pa.float32())}))
    with pytest.raises(MissingInput, match="share 0 tracks"):
        feature_sets.feature_sets(store, sets=["a", "b"])


def test_explore_draws_tracks_and_counts(store: Store, tmp_path: Path) -> None:
    study = explore_module.explore(store, groups=("rms", "zcr"), tracks=[5])
    output.write(study, str(tmp_path))
    assert [r["tracks"] for r in study.rows] == [15, 15, 15]
    assert [r["excerpts"] for r in study.rows] == [30, 30, 30]
    assert {"class_counts", "durations", "distributions", "correlations", "track_5"} <= set(study.figures)
    bars = study.figures["class_counts"]().axes[0].patches
    assert [bar.get_width() for bar in bars[:3]] == [r["training"] for r in study.rows]
    assert len(study.tables["missing"]) == 14
    with pytest.raises(MissingInput, match="track 999 was not measured"):
        explore_module.explore(store, tracks=[999])


def test_effect_size_in_closed_form() -> None:
    X = np.array([[0, 1, 5], [0, 2, 5], [2, 1, 5], [2, 2, np.nan]], np.float32)
    assert exploration.effect_sizes(X, np.array([0, 0, 1, 1])) == pytest.approx([1, 0, 0])


def test_correlated_columns_share_a_cluster() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200))
    order, cluster, matrix = exploration.correlation_clusters(np.column_stack([a, b, -np.exp(a), np.zeros(200)]))
    assert cluster[0] == cluster[2]
    assert len(set(cluster)) == 3
    assert abs(list(order).index(0) - list(order).index(2)) == 1
    assert matrix[0, 2] == pytest.approx(1)


def test_chroma_and_centroid_of_a_sine() -> None:
    spec = Spec()
    t = np.arange(spec.sample_rate) / spec.sample_rate
    chroma, centroid = audio.describe(np.sin(2 * np.pi * 440 * t).astype(np.float32), spec)
    assert int(chroma.mean(axis=1).argmax()) == 9  # pitch classes count from C: A
    assert np.median(centroid) == pytest.approx(440, rel=0.02)


# ---------------------------------------------------------------- genres that look like mathematics

DOLLARS = ("Ca$$h Rap", "$uicide$", "$\\frac{a$")


@pytest.fixture(scope="module")
def dollars(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("dollars")
    made = make_store(str(folder / "store"), tracks=60, genres=DOLLARS, artists_per_genre=10, spec=SPEC)
    add_set(made, "easy", 4)
    tracks = made.read_catalog("tracks")
    at = tracks.column_names.index("title")
    made.write_catalog("tracks", tracks.set_column(at, "title", pa.array(["A$AP $ong $"] * len(tracks))))
    return made


@pytest.mark.parametrize(
    ("study", "given"),
    [
        (compare_module.compare, {"models": ("naive_bayes", "knn"), "grids": SMALL_GRIDS, "save": "none"}),
        (explore_module.explore, {}),
        (pca_study.pca_study, {"models": ("naive_bayes",)}),
        (learning_curve.learning_curve, {"models": ("naive_bayes",), "sizes": 3, "repeats": 1}),
        (feature_sets.feature_sets, {"sets": ["easy"], "model": "naive_bayes"}),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_genres_are_drawn_as_they_are_spelt(
    dollars: Store, tmp_path: Path, study: Callable[..., output.Study], given: dict[str, Any]
) -> None:
    found = study(dollars, **({"features": "easy"} | given if "sets" not in given else given))
    assert len(output.draw(found, str(tmp_path))) == len(found.figures) > 0


def test_text_is_not_read_as_mathematics() -> None:
    drawn = []

    def make() -> Any:
        drawn.append(plots.confusion(np.eye(3, dtype=int), DOLLARS, "$x$"))
        return drawn[0]

    png(make)
    ax = drawn[0].axes[0]
    labels = [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.title]
    assert [t.get_text() for t in labels[:3]] == list(DOLLARS)
    assert not any(t.get_parse_math() for t in labels)


def test_results_are_there_when_a_figure_fails(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> Any:
        raise RuntimeError("cannot be drawn")

    study = explore_module.explore(store, features="easy", tracks=[])
    with pytest.raises(RuntimeError):
        output.report(dataclasses.replace(study, figures={"broken": fails}), str(tmp_path))
    assert "Ambient" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "explore").iterdir()} >= {"results.csv", "missing.csv", "study.json"}


# ---------------------------------------------------------------- commands


def test_commands_run_and_print(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--store", store.url, "--output", str(tmp_path / "r"), "--jobs", "1"]
    given = [*common, "--features", "easy", "--models", "naive_bayes", "--models-dir", str(tmp_path / "m")]
    assert cli.run(compare_module.main, [*given, "--format", "csv"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("model,setting,choice_score,accuracy,low,high")
    assert "leakage gap" in err
    assert "time:" in err
    assert cli.run(predict.main, [str(tmp_path / "m"), "--store", store.url, "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 6
    assert cli.run(feature_sets.main, [*common, "--sets", "easy", "--model", "naive_bayes"]) == 0
    capsys.readouterr()
    quick = [*common, "--features", "easy", "--models", "naive_bayes,knn", "--seed", "1"]
    for main, own in ((pca_study.main, ["--frames", "none"]), (learning_curve.main, ["--sizes", "3"])):
        assert cli.run(main, [*quick, *own]) == 0
        about = json.loads((tmp_path / "r" / main.__module__.split(".")[1] / "study.json").read_text())
        assert about["fixed_settings"] == {"naive_bayes": {}, "knn": {"n_neighbors": 10}}
        assert (about["settings"]["models"], about["settings"]["seed"]) == (["naive_bayes", "knn"], 1)
        capsys.readouterr()
        assert cli.run(main, [*common, "--models", "forest"]) == 2
        assert "no fixed setting for model 'forest'" in capsys.readouterr().err
    assert cli.run(compare_module.main, [*common, "--backend", "pigeons"]) == 2
    assert "pigeons" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["compare", "pca_study", "learning_curve", "feature_sets", "explore", "predict"])
def test_help_is_light(name: str) -> None:
    import subprocess
    import sys

    code = (
        f"import sys; from analysis import {name} as m\n"
        "try: m.main(['--help'])\nexcept SystemExit as e: assert e.code == 0\n"
        "heavy = {'sklearn', 'tensorflow', 'librosa', 'matplotlib', 'pandas', 'scipy', 'duckdb', 'numba'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--store" in done.stdout
