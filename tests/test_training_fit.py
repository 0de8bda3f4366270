"""With TensorFlow: the input pipeline, training, resuming, reports, evaluation and prediction, all at toy size."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from featurestore import cli
from featurestore.errors import FeatureStoreError, MissingInput, SpecMismatch, UsageError
from featurestore.spec import Spec
from featurestore.store import Store
from tests.conftest import ROOT
from tests.factories import make_store
from training import (
    augment,
    catalogue,
    devices,
    evaluate,
    example,
    fit,
    keeper,
    loop,
    metrics,
    networks,
    original,
    pipeline,
    predict,
    predictor,
    records,
    report,
    saved,
)
from training.augment import Augment
from training.backend import keras, tensorflow
from training.dataset import DataSet, open_data
from training.encoding import resize
from training.export import export
from training.pipeline import Keys
from training.sidecar import DataMismatch, Sidecar

SPEC = Spec(n_mels=16, excerpt_seconds=1.0, wave_seconds=1.0, groups=("fma",))
GENRES = ("Ambient", "Blues", "Choral")
DEVICE = devices.Device("CPU", 1, "float32", None, False)
KINDS = ("mel", "wave", "features")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store `s` and its shards `tf`: 60 tracks of 3 genres, artists apart."""
    folder = tmp_path_factory.mktemp("home")
    store = make_store(str(folder / "s"), tracks=60, artists_per_genre=10, spec=SPEC, signal=3.0, artist_signal=0.3)
    for kind in KINDS:
        export(store, kind=kind, output=str(folder / "tf"), shards=3)
    return folder


@pytest.fixture(scope="module")
def sets(home: Path) -> dict[str, DataSet]:
    return {kind: open_data(str(home / "tf" / kind)) for kind in KINDS}


def _settings(model: str, **changes: Any) -> catalogue.Settings:
    return catalogue.settings_for(model, **{"epochs": 3, **changes})


def _list(dataset: Any) -> list[tuple[np.ndarray, ...]]:
    return list(dataset.as_numpy_iterator())


# ---------------------------------------------------------------- bytes, as TensorFlow sees them


def test_our_example_is_protobufs_own_bytes() -> None:
    ours = example.encode({"array": b"\x00\xff" * 200, "label": [-3], "shape": [2, 300], "track_id": [2**62]})
    theirs = tensorflow().train.Example.FromString(ours)
    assert theirs.SerializeToString(deterministic=True) == ours
    assert theirs.features.feature["label"].int64_list.value[0] == -3


def test_our_resize_is_tensorflows() -> None:
    image = np.random.default_rng(0).normal(-40, 12, (300, 40)).astype(np.float32)
    theirs = tensorflow().image.resize(image[..., None], (64, 64), antialias=True)[..., 0]
    assert np.allclose(resize(image, 64, 64), theirs, atol=1e-3)


def test_the_originals_records_still_read(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(i).normal(size=(4, 5)).astype(np.float32) for i in range(5)]
    path = str(tmp_path / "old.tfrec")
    assert original.write(path, [(a, i % 3) for i, a in enumerate(arrays)], 3) == 5
    for read in (original.read, original.read_batched):
        ((x, y),) = _list(read([path], (4, 5), 3, 8))
        assert np.array_equal(x, np.stack(arrays))
        assert y.argmax(axis=1).tolist() == [0, 1, 2, 0, 1]
    found = example.decode(next(iter(records.unframe(Path(path).read_bytes()))))
    assert np.array_equal(found["song"], arrays[0].ravel())


def test_the_ten_lines_in_the_docs_read_our_files(home: Path) -> None:
    text = (ROOT / "docs/training.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(code) == 1
    assert len([line for line in code[0].splitlines() if line.strip()]) <= 11
    names: dict[str, Any] = {"folder": str(home / "tf/mel")}
    exec(code[0], names)
    side = Sidecar.read(str(home / "tf/mel"))
    read = _list(names["dataset"])
    assert len(read) == side.records("training")
    assert read[0][0].shape == side.shape
    counts = np.sum([y for _, y in read], axis=0)
    assert counts.tolist() == [side.counts["training"][g] for g in side.classes]


# ---------------------------------------------------------------- pipeline


@pytest.mark.parametrize("cache", [True, False])
def test_an_epoch_shows_every_record_once(sets: dict[str, DataSet], cache: bool) -> None:
    data = sets["features"]
    n = data.records("training")
    batches = _list(
        pipeline.load(
            data, "training", batch_size=n // 3, training=True, epochs=(0, 2), deterministic=True, cache=cache
        )
    )
    assert len(batches) == 6
    whole = _list(pipeline.load(data, "training", batch_size=n))[0][0]
    for epoch in (batches[:3], batches[3:]):
        x = np.concatenate([b[0] for b in epoch])
        assert np.array_equal(np.sort(x[:, 0]), np.sort(whole[:, 0]))
    assert not np.array_equal(batches[0][0], batches[3][0])


@pytest.mark.parametrize("cache", [True, False])
def test_a_later_epoch_does_not_depend_on_the_earlier_ones(sets: dict[str, DataSet], cache: bool) -> None:
    def load(first: int) -> list[tuple[np.ndarray, ...]]:
        hard = Augment(masks=2, mixup=0.4)
        return _list(
            pipeline.load(
                sets["mel"],
                "training",
                batch_size=8,
                window=16,
                training=True,
                epochs=(first, 4),
                augment=hard,
                seed=3,
                deterministic=True,
                cache=cache,
            )
        )

    steps = pipeline.steps_per_epoch(sets["mel"], 8)
    for a, b in zip(load(0)[2 * steps :], load(2), strict=True):
        assert all(np.array_equal(i, j) for i, j in zip(a, b, strict=True))


@pytest.mark.parametrize(("kind", "window"), [("mel", 16), ("mel", 60), ("wave", 10_000), ("features", None)])
def test_windows_for_evaluation_are_those_of_prediction(
    sets: dict[str, DataSet], kind: str, window: int | None
) -> None:
    data, side = sets[kind], sets[kind].sidecar
    n, count = data.records("test"), pipeline.windows_of(sets[kind].sidecar, window)
    batches = _list(pipeline.load(data, "test", batch_size=5, window=window))
    x = np.concatenate([b[0] for b in batches])[: n * count]
    payload = next(iter(records.unframe(Path(data.paths["test"][0]).read_bytes())))
    found = example.decode(payload)
    array = side.encoding.decode(found["array"][0], tuple(int(v) for v in found["shape"]))
    card = _card(kind=kind, window=window)
    expected = list(predictor.windows_of(card, array))
    assert len(expected) == count
    assert np.array_equal(x[:count], np.stack(expected))
    labels = np.concatenate([b[1] for b in batches])[: n * count : count].argmax(axis=1)
    assert np.array_equal(labels, pipeline.keys(data, "test").labels)


def _card(kind: str = "mel", window: int | None = 16, spec: Spec = SPEC) -> saved.Card:
    return saved.Card(
        name="cnn",
        kind=kind,
        classes=GENRES,
        window=window,
        image=None,
        feature_set="librosa",
        columns=(),
        threshold=0.5,
        spec=spec,
        facts={},
    )


@pytest.mark.parametrize("dtype", ["float16", "uint8", "float32"])
def test_pipeline_and_numpy_decode_alike(home: Path, tmp_path: Path, dtype: str) -> None:
    export(Store.open(str(home / "s")), output=str(tmp_path), dtype=dtype, compression="gzip", shards=1)
    data = open_data(str(tmp_path / "mel"))
    side = data.sidecar
    ((x, _),) = _list(pipeline.load(data, "test", batch_size=data.records("test"), cache=False))
    import gzip

    payloads = records.unframe(gzip.decompress(Path(data.paths["test"][0]).read_bytes()))
    expected = [side.encoding.decode(example.decode(p)["array"][0], side.shape) for p in payloads]
    assert np.allclose(x, np.stack(expected), atol=1e-4)
    ((stored, _),) = _list(pipeline.load(data, "test", batch_size=4, limit=4, cast=False))
    assert stored.dtype == dtype


def test_short_records_are_repeated_to_fill_a_window() -> None:
    tf = tensorflow()
    x = tf.constant([[1.0, 2.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    out = augment.crop(x, tf.constant([2, 4], tf.int64), 3, tf.constant([0, 1], tf.int64))
    assert out.numpy().tolist() == [[1, 2, 1], [2, 3, 4]]
    offsets = augment.random_offsets(tf.fill([500], tf.constant(9, tf.int64)), 4, [1, 2]).numpy()
    assert (offsets.min(), offsets.max()) == (0, 5)


def test_masks_and_mixup_keep_their_promises() -> None:
    tf = tensorflow()
    x, fill = tf.ones([64, 40, 20]), tf.fill([20], -5.0)
    hard = Augment(masks=1, mask_share=0.25)
    masked = augment.mask(x, fill, hard, tf.constant([0, 1], tf.int64)).numpy()
    assert set(np.unique(masked)) == {-5.0, 1.0}
    share = (masked == -5).mean(axis=(1, 2))
    assert share.max() <= 1 - 0.75**2 + 1e-6
    assert 0.17 < share.mean() < 0.3  # 1 - (1 - 0.125) ** 2 = 0.234 on average
    y = tf.one_hot(tf.range(64) % 4, 4)
    mixed, labels, weights = augment.mixup(x * 3, y, tf.ones([64]), 0.4, tf.constant([0, 1], tf.int64))
    assert np.allclose(mixed, 3)
    assert np.allclose(weights, 1)
    assert np.allclose(labels.numpy().sum(axis=1), 1)
    assert (labels.numpy().argmax(axis=1) == np.arange(64) % 4).all()  # the larger share is one's own
    assert labels.numpy().max(axis=1).min() < 0.95


def test_missing_feature_values_become_the_training_mean(home: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    store = make_store(str(tmp_path / "s"), tracks=30, spec=SPEC, arrays_too=False)
    ids = np.arange(1, 31)
    values = pa.table({"track_id": ids, "a": np.where(ids % 5, ids.astype(float), np.nan), "b": np.ones(30)})
    store.write_catalog("features_mine", values)
    export(store, kind="features", feature_set="mine", output=str(tmp_path))
    data = open_data(str(tmp_path / "features"), store=store)
    ((x, _),) = _list(pipeline.load(data, "training", batch_size=data.records("training")))
    keys = pipeline.keys(data, "training")
    known = keys.track_ids[keys.track_ids % 5 > 0]
    assert np.allclose(x[:, 0], np.where(keys.track_ids % 5, keys.track_ids, known.mean()), rtol=1e-5)


def test_class_weights_make_genres_count_the_same(sets: dict[str, DataSet]) -> None:
    data = sets["features"]
    weights = np.array([1.0, 2.0, 4.0])
    batches = _list(pipeline.load(data, "training", batch_size=12, training=True, class_weights=weights))
    for _, y, w in batches:
        assert np.array_equal(w, weights[y.argmax(axis=1)])
    even = loop.class_weights(data, _settings("mlp"))
    counts = [data.sidecar.counts["training"][g] for g in data.sidecar.classes]
    assert np.allclose(even * counts, sum(counts) / 3)


# ---------------------------------------------------------------- metrics


def _keys(labels: list[int], tracks: list[int] | None = None, artists: list[int] | None = None) -> Keys:
    n = len(labels)
    columns = (tracks or range(n), range(n), artists or tracks or range(n), labels)
    return Keys(*(np.array(list(c), np.int64) for c in columns))


def test_metrics_of_a_known_confusion() -> None:
    labels, answers = [0] * 4 + [1] * 4 + [2] * 2, [0, 0, 0, 1, 1, 1, 1, 1, 1, 2]
    found = metrics.evaluate(np.eye(3)[answers], _keys(labels), classes=GENRES, split="test", scheme="artist")
    assert found.accuracy == pytest.approx(0.8)
    assert found.confusion.tolist() == [[3, 1, 0], [0, 4, 0], [0, 1, 1]]
    # F1: 2*3/(3+4), 2*4/(6+4), 2*1/(1+2)
    assert found.macro_f1 == pytest.approx((6 / 7 + 8 / 10 + 2 / 3) / 3)
    assert found.chance == pytest.approx(0.4)
    assert found.accuracy_interval[0] < 0.8 < found.accuracy_interval[1]


def test_excerpts_are_averaged_into_tracks() -> None:
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8], [0.55, 0.45]])
    keys = _keys([0, 0, 0, 1, 1], tracks=[7, 7, 7, 3, 3])
    found = metrics.evaluate(scores, keys, classes=("A", "B"), split="test", scheme="artist")
    assert (found.tracks, found.excerpts) == (2, 5)
    assert found.accuracy == 1.0
    assert found.excerpt_accuracy == pytest.approx(2 / 5)


def test_intervals_resample_artists_and_never_claim_certainty() -> None:
    answers = np.eye(2)[[0] * 10 + [1] * 10]
    one_by_one = metrics.evaluate(
        answers, _keys([0] * 20), classes=("A", "B"), split="test", scheme="artist"
    ).accuracy_interval
    two_artists = metrics.evaluate(
        answers, _keys([0] * 20, artists=[1] * 10 + [2] * 10), classes=("A", "B"), split="test", scheme="artist"
    ).accuracy_interval
    assert two_artists == (0.0, 1.0)
    assert 0.2 < one_by_one[0] < 0.4 < 0.6 < one_by_one[1] < 0.8
    sure = metrics.evaluate(np.eye(2)[[0] * 20], _keys([0] * 20), classes=("A", "B"), split="test", scheme="artist")
    assert sure.accuracy_interval == pytest.approx((0.025 ** (1 / 20), 1.0))


# ---------------------------------------------------------------- networks


def test_the_original_network_layer_for_layer() -> None:
    model = networks.raw_cnn((10_000,), 8, {"mean": [0.0], "std": [0.1]})
    kinds = [type(layer).__name__ for layer in model.layers[3:]]
    assert kinds == [
        "Conv1D",
        "MaxPooling1D",
        "Conv1D",
        "MaxPooling1D",
        "Flatten",
        "Dense",
        "Dropout",
        "Dense",
        "Dropout",
        "Dense",
    ]
    convolutions = [(x.filters, x.kernel_size) for x in model.layers if type(x).__name__ == "Conv1D"]
    assert convolutions == [(128, (3,)), (64, (3,))]
    assert [x.units for x in model.layers if type(x).__name__ == "Dense"] == [100, 20, 8]
    assert [x.rate for x in model.layers if type(x).__name__ == "Dropout"] == [0.5, 0.5]
    # by hand: 3*1*128+128, 3*128*64+64, 2498*64*100+100, 100*20+20, 20*8+8 and the normalisation's three numbers
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 512 + 24640 + 15_987_300 + 2020 + 168


@pytest.mark.parametrize("name", ["cnn", "raw_cnn_strided", "mlp"])
def test_normalisation_is_the_first_layer(name: str) -> None:
    shape = {"cnn": (32, 16), "raw_cnn_strided": (2000,), "mlp": (16,)}[name]
    bands = 1 if name == "raw_cnn_strided" else 16
    keras().utils.set_random_seed(0)
    shifted = getattr(networks, name)(shape, 3, {"mean": [-40.0] * bands, "std": [12.0] * bands})
    plain = getattr(networks, name)(shape, 3, {"mean": [0.0] * bands, "std": [1.0] * bands})
    plain.set_weights(shifted.get_weights())
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    # the statistics are constants of the layer, not weights: the same network must see the same numbers
    assert np.allclose(shifted(x * 12 - 40), plain(x), atol=1e-4)


def test_mobilenet_freezes_then_opens_its_end() -> None:
    settings = _settings("mobilenet", weights="imagenet", fine_tune_epochs=2, fine_tune_layers=20)
    model = networks.mobilenet((20, 16), 3, {"mean": [-40.0] * 16, "std": [12.0] * 16}, "none", side=32)
    stages = loop.stages_of(settings)
    loop.prepare(model, settings, stages[0], 4, DEVICE)
    assert [v.path.split("/")[0] for v in model.trainable_variables] == ["scores", "scores"]
    loop.prepare(model, settings, stages[1], 4, DEVICE)
    opened = {v.path.split("/")[-2] for v in model.trainable_variables}
    assert "Conv_1" in opened
    assert "Conv1" not in opened
    assert model(np.zeros((2, 20, 16), np.float32)).shape == (2, 3)


@pytest.mark.parametrize("weights", ["nowhere.h5", "README.md"])
def test_weights_that_are_not_there_or_not_weights(weights: str) -> None:
    with pytest.raises(FeatureStoreError, match=re.escape(weights)):
        networks.mobilenet((20, 16), 3, {"mean": [0.0] * 16, "std": [1.0] * 16}, str(ROOT / weights), side=32)


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: Any) -> None:
        raise Exception("URL fetch failure")  # the very class that Keras raises

    monkeypatch.setattr(keras().applications, "MobileNetV2", offline)
    with pytest.raises(MissingInput, match="cannot be downloaded") as caught:
        networks.mobilenet((20, 16), 3, {"mean": [0.0] * 16, "std": [1.0] * 16})
    assert "--weights PATH" in str(caught.value)


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def trained(sets: dict[str, DataSet], tmp_path_factory: pytest.TempPathFactory) -> dict[str, loop.Fitted]:
    """Toy networks, trained to the end: genres are a bright band (mel), a pitch (wave), shifted means (features)."""
    folder = tmp_path_factory.mktemp("models")
    runs = {
        "cnn": _settings("cnn", width=4, epochs=12, batch_size=8, learning_rate=3e-3),
        "mlp": _settings("mlp", width=64, epochs=60, learning_rate=3e-3),
        "raw_cnn": _settings("raw_cnn", variant="strided", epochs=5, batch_size=8),
    }
    kinds = {"cnn": "mel", "mlp": "features", "raw_cnn": "wave"}
    return {
        name: loop.fit(sets[kinds[name]], settings, output=str(folder / name), device=DEVICE)
        for name, settings in runs.items()
    }


@pytest.mark.parametrize("name", ["cnn", "mlp", "raw_cnn"])
def test_networks_learn_what_can_be_learnt(trained: dict[str, loop.Fitted], name: str) -> None:
    """Chance is 0.33; the test artists were never heard."""
    found = trained[name].evaluation
    assert found.chance == pytest.approx(1 / 3)
    assert found.accuracy >= 0.8
    assert found.accuracy_interval[0] > found.chance


def test_a_run_leaves_its_report_and_card(trained: dict[str, loop.Fitted], sets: dict[str, DataSet]) -> None:
    folder, side = Path(trained["cnn"].folder), sets["mel"].sidecar
    names = {p.name for p in folder.iterdir()}
    assert names == {
        "model.keras",
        "card.json",
        "metrics.json",
        "history.json",
        "curves.png",
        "confusion.png",
        "logs",
        "state.npz",
    }
    card = json.loads((folder / "card.json").read_text())
    assert card["classes"] == list(GENRES)
    assert card["spec"] == SPEC.as_dict()
    assert card["data"]["store"]["content"] == side.store["content"]
    facts = json.loads((folder / "metrics.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    best = min(history, key=lambda r: r["validation_loss"])
    assert facts["best_epoch"] == best["epoch"] == card["best_epoch"]
    assert facts["gap_at_best_epoch"] == pytest.approx(
        best["training_accuracy"] - best["validation_accuracy"], abs=1e-4
    )
    assert np.sum(facts["test"]["confusion"]) == facts["test"]["tracks"] == 12
    (log,) = (folder / "logs").iterdir()
    steps = [e.step for e in tensorflow().compat.v1.train.summary_iterator(str(log))]
    assert steps == [0, *(r["epoch"] for r in history)]


def test_the_saved_model_is_the_best_epochs(trained: dict[str, loop.Fitted], sets: dict[str, DataSet]) -> None:
    done = trained["cnn"]
    model, card = saved.load(done.folder)
    again = loop.evaluate_saved(model, card, sets["mel"], "test")
    assert again.as_dict() == done.evaluation.as_dict()
    validation = loop.evaluate_saved(model, card, sets["mel"], "validation")
    best = next(r for r in done.history if r["epoch"] == done.best_epoch)
    assert validation.excerpt_accuracy == pytest.approx(best["validation_accuracy"])


class _Killed(Exception):
    pass


def test_a_resumed_run_ends_as_an_undisturbed_one(
    sets: dict[str, DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after two of four epochs; dropout, mixup, batch statistics, schedule and data order included."""
    settings = _settings("mlp", width=8, epochs=4, batch_size=12, mixup=0.3, deterministic=True, seed=11)
    monkeypatch.setattr(keeper, "SECONDS_BETWEEN_STATES", 0.0)
    whole = loop.fit(sets["features"], settings, output=str(tmp_path / "whole"), device=DEVICE)
    real, calls = keeper.State.write, []

    def dying(state: keeper.State, folder: str) -> None:
        real(state, folder)
        calls.append(state.epoch)
        if state.epoch == 2:
            raise _Killed

    monkeypatch.setattr(keeper.State, "write", dying)
    with pytest.raises(_Killed):
        loop.fit(sets["features"], settings, output=str(tmp_path / "cut"), device=DEVICE)
    assert calls == [1, 2]
    monkeypatch.setattr(keeper.State, "write", real)
    resumed = loop.fit(sets["features"], settings, output=str(tmp_path / "cut"), device=DEVICE, resume=True)
    for a, b in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    with np.load(tmp_path / "whole/state.npz") as a, np.load(tmp_path / "cut/state.npz") as b:
        assert all(np.array_equal(a[k], b[k]) for k in a.files if k != "facts")
    other = dataclasses.replace(settings, batch_size=6)
    with pytest.raises(UsageError, match="batch_size: 12 then, 6 now"):
        loop.fit(sets["features"], other, output=str(tmp_path / "cut"), device=DEVICE, resume=True)


def test_memorised_random_labels_show_as_a_gap(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=90, spec=SPEC, signal=0.0, artist_signal=0.0, arrays_too=False)
    export(store, kind="features", output=str(tmp_path))
    settings = _settings("mlp", width=128, epochs=30, patience=30)
    done = loop.fit(open_data(str(tmp_path / "features")), settings, output=str(tmp_path / "m"), device=DEVICE)
    last = done.history[-1]
    assert last["training_accuracy"] > 0.95
    assert last["validation_accuracy"] < 0.6
    assert "learns by heart" in report.verdict(done.history, done.best_epoch)
    assert done.evaluation.accuracy_interval[0] < 0.5
    assert json.loads((tmp_path / "m/metrics.json").read_text())["gap_at_last_epoch"] > 0.4


def test_two_virtual_devices_train_as_mirrors(home: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "training.fit",
        "mlp",
        "--data",
        str(home / "tf"),
        "--store",
        str(home / "s"),
        "--device",
        "cpu:2",
        "--epochs",
        "1",
        "--width",
        "8",
        "--batch-size",
        "6",
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "CPU, 2 virtual devices; float32; batch 6 x 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "model.keras").is_file()
    noise = [x for x in done.stderr.splitlines() if re.search(r"WARNING|INFO:|oneDNN|cuda|E0000|I0000", x)]
    assert not noise, noise


# ---------------------------------------------------------------- evaluate and predict


def _tone(path: Path, hz: float, seconds: float = 2.5) -> None:
    t = np.arange(int(seconds * 22050)) / 22050
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * t) + np.random.default_rng(0).normal(0, 0.02, len(t)), 22050)


def test_predict_hears_what_it_learnt(
    trained: dict[str, loop.Fitted], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The factory's genres are tones of 220, 440 and 660 Hz."""
    for hz in (220, 440, 660):
        _tone(tmp_path / f"{hz}.wav", hz)
    (tmp_path / "broken.wav").write_bytes(b"RIFF....")
    (tmp_path / "notes.txt").write_text("not audio by its suffix")
    model = str(Path(trained["raw_cnn"].folder) / "model.keras")
    arguments = [model, str(tmp_path), "--store", str(home / "s"), "--format", "json", "--threshold", "0", "--scores"]
    assert cli.run(predict.main, arguments) == 3
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert [(Path(r["file"]).name, r["genre"]) for r in rows] == [
        ("220.wav", "Ambient"),
        ("440.wav", "Blues"),
        ("660.wav", "Choral"),
    ]
    assert "broken.wav" in err
    assert all(abs(sum(v for k, v in r.items() if k.startswith("score_")) - 1) < 0.001 for r in rows)
    assert cli.run(predict.main, [*arguments[:-3], "--threshold", "1", "--format", "csv"]) == 3
    assert capsys.readouterr().out.count("unknown") == 3
    assert cli.run(predict.main, [model, str(tmp_path / "broken.wav"), "--store", str(home / "s")]) == 1


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_predict_measures_what_each_network_eats(trained: dict[str, loop.Fitted], tmp_path: Path, name: str) -> None:
    _tone(tmp_path / "a.wav", 440, 1.0)
    model, card = saved.load(trained[name].folder)
    done = predictor.predict(model, card, [str(tmp_path / "a.wav")], all_scores=True)
    row = done.table.to_pylist()[0]
    from featurestore.decode import decode
    from featurestore.extract import extract

    measured = extract(decode(str(tmp_path / "a.wav"), SPEC)[0].y, SPEC)
    array = measured.features if name == "mlp" else measured.mel.T
    expected = model.predict_on_batch(np.stack(list(predictor.windows_of(card, array)))).mean(axis=0)
    assert np.allclose([row[f"score_{g}"] for g in card.classes], expected, atol=1e-4)


def test_a_model_of_another_spec_is_refused(trained: dict[str, loop.Fitted], tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "s"), Spec(n_mels=16, excerpt_seconds=1.0, wave_seconds=1.0, hop_length=256))
    _, card = saved.load(trained["cnn"].folder)
    with pytest.raises(SpecMismatch, match=r"hop_length: store .* has 256, the model cnn has 512"):
        predictor.require_same_spec(card, store)
    predictor.require_same_spec(card, None)
    with pytest.raises(SpecMismatch, match="extractor: this version of the toolkit has 1, the model cnn has 7"):
        predictor.require_same_spec(_card(spec=Spec(extractor=7)), None)


def test_evaluate_prints_the_figures_and_refuses_other_shards(
    trained: dict[str, loop.Fitted], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = trained["mlp"].folder
    common = ["--data", str(home / "tf"), "--store", str(home / "s")]
    assert cli.run(evaluate.main, [model, *common, "--format", "json", "--output", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert [r["genre"] for r in json.loads(out)] == list(GENRES)
    assert f"accuracy {trained['mlp'].evaluation.accuracy:.3f}" in err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"test.json", "test_confusion.png"}
    other = make_store(str(tmp_path / "o"), tracks=30, spec=SPEC, genres=("A", "B", "C"), arrays_too=False)
    export(other, kind="features", output=str(tmp_path / "tf"))
    loaded, card = saved.load(model)
    with pytest.raises(DataMismatch, match=r"expects genres \('Ambient'"):
        loop.evaluate_saved(loaded, card, open_data(str(tmp_path / "tf/features")), "test")


def test_model_and_card_must_belong_together(trained: dict[str, loop.Fitted], tmp_path: Path) -> None:
    source = Path(trained["mlp"].folder)
    for name in ("model.keras", "card.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    saved.load(str(tmp_path / "model.keras"))
    (tmp_path / "model.keras").write_bytes((Path(trained["cnn"].folder) / "model.keras").read_bytes())
    with pytest.raises(FeatureStoreError, match=r"not the model that card\.json beside it describes"):
        saved.load(str(tmp_path))
    (tmp_path / "card.json").write_text("[]")
    with pytest.raises(FeatureStoreError, match="not a model's card"):
        saved.load(str(tmp_path))
    (tmp_path / "card.json").unlink()
    with pytest.raises(MissingInput, match="card is missing"):
        saved.load(str(tmp_path))
    with pytest.raises(MissingInput, match="no such model"):
        saved.load("never_trained")


def test_a_model_with_code_in_it_is_not_loaded(trained: dict[str, loop.Fitted], tmp_path: Path) -> None:
    import hashlib

    k = keras()
    evil = k.Sequential([k.Input((2,)), k.layers.Lambda(lambda x: x)])
    evil.save(tmp_path / "model.keras")
    card = json.loads((Path(trained["mlp"].folder) / "card.json").read_text())
    card["sha256"] = hashlib.sha256((tmp_path / "model.keras").read_bytes()).hexdigest()
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(FeatureStoreError, match="Keras cannot load it"):
        saved.load(str(tmp_path))


# ---------------------------------------------------------------- the command's messages


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["raw_cnn", "--data", "{tmp}/none"], 1, "export_tfrecords --kind wave"),
        (["cnn", "--data", "{tmp}/none", "--store", "{tmp}/no-store"], 1, "no feature store at"),
        (["mlp", "--data", "{home}/tf", "--resume", "--output", "{tmp}/m"], 1, "no interrupted run"),
        (["mlp", "--data", "{home}/tf", "--device", "gpu:9"], 2, "TensorFlow sees"),
        (["mlp", "--data", "{home}/tf", "--device", "abacus"], 2, "unknown device 'abacus'"),
        (["mlp", "--data", "{home}/tf", "--label-smoothing", "3"], 2, "--label-smoothing must be between"),
    ],
)
def test_fit_says_what_to_do(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert cli.run(fit.main, [a.format(home=home, tmp=tmp_path) for a in arguments]) == code
    assert message in capsys.readouterr().err


def test_fit_says_how_many_records_were_damaged(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(Store.open(str(home / "s")), kind="features", output=str(tmp_path / "tf"), shards=1)
    shard = next((tmp_path / "tf/features").glob("training-*"))
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(bytes(data))
    arguments = [
        "mlp",
        "--data",
        str(tmp_path / "tf"),
        "--epochs",
        "1",
        "--width",
        "4",
        "--output",
        str(tmp_path / "m"),
    ]
    assert cli.run(fit.main, [*arguments, "--store", "none"]) == 0
    assert "1 damaged records of the training split are left out" in capsys.readouterr().err
    card = json.loads((tmp_path / "m/card.json").read_text())
    assert card["data"]["damaged_records_left_out"]["training"] == 1
    assert cli.run(fit.main, [*arguments, "--store", "none", "--verify", "size"]) == 1
    assert "is damaged" in capsys.readouterr().err
