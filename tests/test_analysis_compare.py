"""compare and the models it keeps: what is written, what is chosen, what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import joblib
import numpy as np
import pytest

from analysis import compare as compare_module
from analysis import explore as explore_module
from analysis import learning_curve, predict
from analysis.evaluation import Card, Scored, load_model, save_model
from analysis.evaluation.card import CARD_FILE
from analysis.models import persist
from analysis.models.calibration import choose_threshold
from analysis.results import output
from featurestore import schemas
from featurestore.errors import FeatureStoreError, MissingInput, MissingStore, SpecMismatch, UsageError
from featurestore.spec import Spec
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.analysis_stores import SPEC, add_set, edit_tracks, run, small_store
from tests.factories import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_store(tmp_path_factory.mktemp("studies"))


# ---------------------------------------------------------------- compare


def test_compare_learns_and_leaves_everything_named(store: Store, tmp_path: Path) -> None:
    study = run(store, tmp_path)
    rows = {r["model"]: r for r in study.rows}
    assert rows["logistic"]["accuracy"] > 0.9 > 0.4 > rows["majority"]["accuracy"]
    assert all(r["n"] == 6 and r["n_train"] == 39 for r in rows.values())  # tracks, not excerpts
    made = output.write(study, str(tmp_path / "reports"))
    assert [Path(m).name for m in made] == ["results.csv", "per_genre.csv", "confusion.csv", "search.csv", "study.json"]
    about = json.loads((tmp_path / "reports/compare/study.json").read_text())
    assert about["split"] == {"scheme": "official", "tracks": {"training": 33, "validation": 6, "test": 6}}
    assert about["reported"] == "test"
    assert about["store"]["spec_fingerprint"] == SPEC.fingerprint
    assert about["data"]["columns"] == 518
    assert any("leakage gap" in s for s in study.sentences)
    drawn = output.draw(study, str(tmp_path / "reports"))
    assert [Path(d).name for d in drawn] == ["accuracy.png", "confusion.png", "per_genre.png"]


def test_figures_show_the_rows(store: Store, tmp_path: Path) -> None:
    study = run(store, tmp_path)
    ax = study.figures["accuracy"]().axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == [r["model"] for r in study.rows]
    assert ax.collections[-1].get_offsets()[:, 0].tolist() == [r["train_accuracy"] for r in study.rows]
    matrix = study.figures["confusion"]().axes[0]
    counts = {(t.get_position()[1], t.get_position()[0]): int(t.get_text()) for t in matrix.texts}
    assert sum(counts.values()) == 6
    assert all(counts.get((i, i), 0) == 2 for i in range(3))


def test_same_seed_same_bytes_whatever_the_jobs(store: Store, tmp_path: Path) -> None:
    for name, jobs in (("a", 1), ("b", 2)):
        with joblib.parallel_config(n_jobs=jobs):
            study = run(store, tmp_path, features="easy", models=("svm_rbf", "mlp"))
        output.write(study, str(tmp_path / name))
    for name in ("results.csv", "search.csv", "per_genre.csv", "confusion.csv"):
        assert (tmp_path / "a/compare" / name).read_bytes() == (tmp_path / "b/compare" / name).read_bytes()
    assert "seconds" not in (tmp_path / "a/compare/results.csv").read_text()


def test_what_is_kept_is_chosen_without_test(tmp_path: Path) -> None:
    """Test labels are dealt anew: every test score changes, the model and setting that are kept must not."""
    store = small_store(tmp_path)
    genre = store.read_catalog("tracks")["genre"].to_pylist()
    splits = store.read_catalog("splits").to_pylist()
    test = {r["track_id"] for r in splits if (r["scheme"], r["split"]) == ("official", "test")}
    ids = store.read_catalog("tracks")["track_id"].to_pylist()
    following = dict(zip(sorted(set(genre)), [*sorted(set(genre))[1:], min(genre)], strict=True))
    kept = []
    for scramble in (False, True):
        labels = [following[g] if scramble and i in test else g for i, g in zip(ids, genre, strict=True)]
        edit_tracks(store, labels)
        study = run(store, tmp_path, features="easy", save="best")
        card = study.facts["kept"]
        kept.append((card["name"], card["facts"]["setting"], card["threshold"]))
        accuracy = {r["model"]: r["accuracy"] for r in study.rows}[card["name"]]
        assert (accuracy < 0.3) == scramble
    assert kept[0] == kept[1]


def test_gradient_boosting_is_compared_but_not_kept(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="private type"):
        run(store, tmp_path, models=("gradient_boosting",), save="gradient_boosting")
    study = run(store, tmp_path, features="easy", models=("gradient_boosting", "majority"), save="best")
    assert study.facts["kept"] is None
    assert not (tmp_path / "model").exists()


def test_unknown_names_are_usage_errors(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model 'forest'"):
        run(store, tmp_path, models=("forest",))
    with pytest.raises(UsageError, match="not among the models"):
        run(store, tmp_path, save="knn")
    with pytest.raises(MissingInput, match="no feature set 'nowhere'"):
        run(store, tmp_path, features="nowhere")


# ---------------------------------------------------------------- odd stores


def test_one_genre_is_refused_by_name(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=8, genres=("Polka",), spec=SPEC, arrays_too=False)
    with pytest.raises(MissingInput, match="at least two, found one: 'Polka'"):
        run(store, tmp_path)
    assert "1 genres" in explore_module.explore(store, tracks=[]).sentences[-1]


def test_two_tracks_per_genre_run_with_defaults(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=6, artists_per_genre=2, spec=SPEC, arrays_too=False)
    splits = [{"track_id": i, "scheme": "artist", "split": "training" if i < 4 else "test"} for i in range(1, 7)]
    store.write_catalog("splits", schemas.from_rows(splits, schemas.SPLIT_ROWS))
    study = run(store, tmp_path, models=("logistic", "knn"), save="best")
    assert len(study.rows) == 2
    assert any("too few tracks per genre" in n for n in study.notes)
    assert any("no model kept" in s for s in study.sentences)
    with pytest.raises(MissingInput, match="too few tracks per genre to hold some out of 3"):
        learning_curve.learning_curve(store)


def test_tracks_without_a_genre_are_left_out_and_counted(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=36, spec=SPEC, arrays_too=False)
    add_set(store, "easy", 4)
    genre = store.read_catalog("tracks")["genre"].to_pylist()
    edit_tracks(store, [None if i < 9 else g for i, g in enumerate(genre)])
    assert run(store, tmp_path, features="easy").facts["split"]["tracks"]["training"] < 24
    assert explore_module.explore(store, features="easy", tracks=[]).rows[-1]["tracks"] == 9
    edit_tracks(store, [None] * 36)
    with pytest.raises(MissingInput):
        run(store, tmp_path, features="easy")


def test_missing_and_infinite_values_are_said(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=45, spec=SPEC, arrays_too=False)
    X = add_set(store, "holes", 4, hole="all", infinite=True)
    study = run(store, tmp_path, features="holes")
    told = "\n".join(study.notes)
    assert "1 columns have no value at all" in told
    assert "x_1" in told
    assert "1 infinite values" in told
    assert study.rows[0]["accuracy"] > 0.4
    assert np.isinf(X).sum() == 1
    add_set(store, "gone", 4, hole="row")
    assert "1 of 45 rows have no value" in "\n".join(run(store, tmp_path, features="gone").notes)


def test_missing_scheme_and_store(store: Store, tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=9, spec=SPEC, arrays_too=False)
    store.write_catalog("splits", schemas.SPLIT_ROWS.empty_table())
    with pytest.raises(MissingInput, match="scheme 'artist'"):
        run(store, tmp_path)
    with pytest.raises(MissingStore):
        compare_module.main(["--store", str(tmp_path / "nowhere")])


# ---------------------------------------------------------------- kept models


@pytest.fixture(scope="module")
def kept(store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("kept") / "model")
    compare_module.compare(store, models=("svm_linear",), models_dir=folder)
    return folder


def test_kept_model_answers_as_it_did(store: Store, kept: str) -> None:
    card, model = persist.load(kept)
    assert card.spec == SPEC
    assert (card.evaluation["n"], card.evaluation["split"]) == (6, "test")
    found = predict.predict_stored(kept, store)
    assert [r["genre"] for r in found.rows] == [r["truth"] for r in found.rows]
    assert len(found.rows) == 6
    probabilities = model.probabilities(np.zeros((2, 518), np.float32))
    assert probabilities.sum(axis=1) == pytest.approx(1)


def test_unsure_is_unknown(store: Store, kept: str) -> None:
    found = predict.predict_stored(kept, store, threshold=1.0, every_score=True)
    assert {r["genre"] for r in found.rows} == {"unknown"}
    assert {"score_Ambient", "score_Blues", "score_Choral"} <= set(found.rows[0])


def test_audio_is_measured_under_the_models_spec(kept: str, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    y = 0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * 44100) / 44100)
    soundfile.write(tmp_path / "a.wav", y, 44100)
    (tmp_path / "b.wav").write_bytes(b"")
    found = predict.predict_files(kept, [str(tmp_path)])
    assert [Path(r["path"]).name for r in found.rows] == ["a.wav"]
    assert "empty" in found.failures[str(tmp_path / "b.wav")]
    assert predict.main([kept, str(tmp_path)]) == 3
    with pytest.raises(MissingInput, match="no audio file"):
        predict.predict_files(kept, [kept])


def test_other_specs_and_sets_are_refused(store: Store, kept: str, tmp_path: Path) -> None:
    other = make_store(str(tmp_path / "s"), tracks=9, spec=dataclasses.replace(SPEC, hop_length=256), arrays_too=False)
    with pytest.raises(SpecMismatch, match="hop_length"):
        predict.predict_stored(kept, other)
    card, data = load_model(kept, persist.MODEL_FILE, persist.AGAIN)

    def made_otherwise(**changes: object) -> str:
        save_model(str(tmp_path / "copy"), persist.MODEL_FILE, data, dataclasses.replace(card, **changes))  # type: ignore[arg-type]
        return str(tmp_path / "copy")

    newer = dataclasses.replace(SPEC, extractor=Spec().extractor + 1)
    with pytest.raises(SpecMismatch, match="extractor"):
        predict.predict_files(made_otherwise(spec=newer), ["x.wav"])
    with pytest.raises(SpecMismatch, match="not there, first 'x'"):
        predict.predict_files(made_otherwise(columns=("x",)), ["x.wav"])
    with pytest.raises(FeatureStoreError, match="imported set 'easy'"):
        predict.predict_files(made_otherwise(feature_set="easy", spec=None), ["x.wav"])


def test_an_edited_card_is_a_message(kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(kept, copy)
    values = json.loads((copy / CARD_FILE).read_text())
    values["classes"].reverse()
    (copy / CARD_FILE).write_text(json.dumps(values))
    assert cli.run(predict.main, [str(copy), "x.wav"]) == 1
    assert "card was edited after the model was kept" in capsys.readouterr().err


def test_a_model_file_with_foreign_types_is_refused(kept: str, tmp_path: Path) -> None:
    import skops.io
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    model = CalibratedClassifierCV(LogisticRegression(), cv=2).fit(rng.normal(size=(20, 2)), np.arange(20) % 2)
    card: Card = persist.load(kept)[0]
    save_model(str(tmp_path), persist.MODEL_FILE, skops.io.dumps({"pipeline": model, "calibrator": None}), card)
    with pytest.raises(FeatureStoreError, match="_CalibratedClassifier"):
        persist.load(str(tmp_path))
    save_model(str(tmp_path), persist.MODEL_FILE, b"not a zip", card)
    with pytest.raises(FeatureStoreError, match="not a readable model"):
        persist.load(str(tmp_path))


def test_threshold_is_the_lowest_that_keeps_the_promise() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    answer = np.array([0, 0, 1, 0, 1])
    scores = np.column_stack([confidence, 1 - confidence])
    ids, ones = np.arange(5), np.ones(5, int)
    s = Scored(ids, np.zeros(5, int), answer, ids, scores, ones, ones)
    assert choose_threshold(s, 0.7) == (0.6, 0.8, 0.75)
    assert choose_threshold(s, 0.5)[0] == 0.0  # everything may be answered
    never = Scored(ids, ones, np.zeros(5, int), ids, scores, ones, ones)
    assert choose_threshold(never, 0.7)[2] == 0.0


# ---------------------------------------------------------------- real tables


def test_real_rock_and_hip_hop(shared_data: Path, tmp_path: Path) -> None:
    """FMA's published MFCC of 2,000 tracks, empty rows included: two genres, far above chance on the official test."""
    from featurestore import datasets
    from featurestore.catalog import merge

    store = Store.create(str(tmp_path / "s"), Spec())
    merge.update(store, datasets.load("fma", metadata=str(shared_data / "fma_metadata")))
    study = run(store, tmp_path, features="fma", models=("naive_bayes", "logistic"))
    best = study.rows[0]
    assert best["n"] == 199
    assert best["accuracy"] > 0.85
    assert any("rows have no value in any column" in n for n in study.notes)
