"""Shards read by TensorFlow: the bytes as it sees them, batches, windows, augmentation."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import original
from featurestore.store.store import Store
from tests.conftest import ROOT
from tests.factories import make_store
from tests.training_cases import DEVICE, SPEC, batches_of, card_of, decode, records_of_file, settings_of
from training.backend import keras, tensorflow
from training.feed import augment, pipeline
from training.feed.augment import Augment
from training.networks import catalogue, networks
from training.results import predictor
from training.run import loop
from training.shards import records
from training.shards.check import DataSet, open_data, record_files
from training.shards.encoding import resize
from training.shards.export import export
from training.shards.sidecar import Sidecar

pytest_plugins = ("tests.training_cases",)


@settings(deadline=None)  # the first example loads TensorFlow
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=10),
        st.one_of(st.binary(max_size=300), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4)),
        max_size=5,
    )
)
def test_our_example_is_protobufs_own_bytes(features: dict[str, bytes | list[int]]) -> None:
    ours = b"".join(records.example(features))
    theirs = tensorflow().train.Example.FromString(ours)
    assert theirs.SerializeToString(deterministic=True) == ours
    assert set(theirs.features.feature) == set(features)
    for name, value in features.items():
        found = theirs.features.feature[name]
        kind = "bytes_list" if isinstance(value, bytes) else "int64_list"
        assert list(getattr(found, kind).value) == ([value] if isinstance(value, bytes) else value)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 397), st.integers(1, 255))
def test_a_damaged_byte_never_changes_a_record(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    """tf.data reads the records before the damage and leaves the rest of the file out."""
    payloads = [bytes([i]) * (50 + i) for i in range(6)]
    data = bytearray(b"".join(map(records.frame, payloads)))
    data[place] ^= change
    path = tmp_path_factory.getbasetemp() / "damaged.tfrec"
    path.write_bytes(bytes(data))
    found = list(record_files([str(path)], "none").ignore_errors().as_numpy_iterator())
    whole = [n for n in range(7) if sum(map(len, payloads[:n])) + records.OVERHEAD * n <= place]
    assert found == payloads[: whole[-1]]


def test_our_resize_is_tensorflows() -> None:
    image = np.random.default_rng(0).normal(-40, 12, (300, 40)).astype(np.float32)
    theirs = tensorflow().image.resize(image[..., None], (64, 64), antialias=True)[..., 0]
    assert np.allclose(resize(image, 64, 64), theirs, atol=1e-3)


def test_the_originals_records_still_read(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(i).normal(size=(4, 5)).astype(np.float32) for i in range(5)]
    path = str(tmp_path / "old.tfrec")
    assert original.write(path, [(a, i % 3) for i, a in enumerate(arrays)], 3) == 5
    for read in (original.read, original.read_batched):
        ((x, y),) = batches_of(read([path], (4, 5), 3, 8))
        assert np.array_equal(x, np.stack(arrays))
        assert y.argmax(axis=1).tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("document", ["README.md", "docs/training.md"])
def test_the_ten_lines_in_the_docs_read_our_files(home: Path, document: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.S)
    code = [block for block in blocks if "TFRecordDataset" in block]
    assert len(code) == 1
    assert len([line for line in code[0].splitlines() if line.strip()]) <= 11
    names: dict[str, Any] = {"folder": str(home / "tf/mel")}
    exec(code[0], names)
    side = Sidecar.read(str(home / "tf/mel"))
    read = batches_of(names["dataset"])
    assert len(read) == side.records("training")
    assert read[0][0].shape == side.shape
    counts = np.sum([y for _, y in read], axis=0)
    assert counts.tolist() == [side.counts["training"][g] for g in side.classes]


@pytest.mark.parametrize("cache", [True, False])
def test_an_epoch_shows_every_record_once(sets: dict[str, DataSet], cache: bool) -> None:
    data = sets["features"]
    n = data.records("training")
    batches = batches_of(
        pipeline.load(
            data, "training", batch_size=n // 3, training=True, epochs=(0, 2), deterministic=True, cache=cache
        )
    )
    assert len(batches) == 6
    whole = batches_of(pipeline.load(data, "training", batch_size=n))[0][0]
    for epoch in (batches[:3], batches[3:]):
        x = np.concatenate([b[0] for b in epoch])
        assert np.array_equal(np.sort(x[:, 0]), np.sort(whole[:, 0]))
    assert not np.array_equal(batches[0][0], batches[3][0])


@pytest.mark.parametrize("read_bytes", [1, 5000])
def test_no_record_is_lost_or_misplaced_however_many_are_read_at_once(
    sets: dict[str, DataSet], read_bytes: int
) -> None:
    """One by one, or a few: the last of a shard are fewer. Labels and keys stay with their arrays."""
    data = dataclasses.replace(sets["mel"], read_bytes=read_bytes)
    n = data.records("training")
    for limit in (None, 5):
        batches = batches_of(pipeline.load(data, "training", batch_size=7, limit=limit, cache=False))
        wanted = limit or n
        arrays = np.concatenate([b[0] for b in batches])[:wanted]
        labels = np.concatenate([b[1] for b in batches])[:wanted].argmax(axis=1)
        keys = pipeline.keys(data, "training", limit)
        assert np.array_equal(labels, keys.labels)
        rows = [row for path in data.paths["training"] for row in records_of_file(path, data.sidecar)]
        found = {row["track_id"]: row["array"] for row in rows}
        assert len(set(keys.track_ids.tolist())) == len(keys.track_ids) == wanted
        assert all(np.array_equal(a, found[t]) for a, t in zip(arrays, keys.track_ids.tolist(), strict=True))


@pytest.mark.parametrize("cache", [True, False])
def test_a_later_epoch_does_not_depend_on_the_earlier_ones(sets: dict[str, DataSet], cache: bool) -> None:
    def load(first: int) -> list[tuple[np.ndarray, ...]]:
        hard = Augment(masks=2, mixup=0.4)
        return batches_of(
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
    batches = batches_of(pipeline.load(data, "test", batch_size=5, window=window))
    x = np.concatenate([b[0] for b in batches])[: n * count]
    array = records_of_file(data.paths["test"][0], side)[0]["array"]
    card = card_of(kind=kind, window=window)
    expected = list(predictor.windows_of(card, array))
    assert len(expected) == count
    assert np.array_equal(x[:count], np.stack(expected))
    labels = np.concatenate([b[1] for b in batches])[: n * count : count].argmax(axis=1)
    assert np.array_equal(labels, pipeline.keys(data, "test").labels)


@pytest.mark.parametrize("dtype", ["float16", "uint8", "float32"])
def test_pipeline_and_numpy_decode_alike(home: Path, tmp_path: Path, dtype: str) -> None:
    export(Store.open(str(home / "s")), output=str(tmp_path), dtype=dtype, compression="gzip", shards=1)
    data = open_data(str(tmp_path / "mel"))
    side = data.sidecar
    ((x, _),) = batches_of(pipeline.load(data, "test", batch_size=data.records("test"), cache=False))
    expected = [row["array"] for row in records_of_file(data.paths["test"][0], side)]
    assert np.allclose(x, np.stack(expected), atol=1e-4)
    ((stored, _),) = batches_of(pipeline.load(data, "test", batch_size=4, limit=4, cast=False))
    assert stored.dtype == dtype


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_the_device_casts_as_the_host_would(home: Path, tmp_path: Path, dtype: str) -> None:
    export(Store.open(str(home / "s")), output=str(tmp_path), dtype=dtype, shards=1)
    data = open_data(str(tmp_path / "mel"))
    side = data.sidecar

    def first(augment: Augment, cast: bool) -> np.ndarray:
        stream = pipeline.load(
            data, "training", batch_size=8, window=16, training=True, augment=augment, deterministic=True, cast=cast
        )
        return batches_of(stream.take(1))[0][0]

    keras().utils.set_random_seed(0)
    model = networks.cnn((16, 16), 3, side.normalisation, 4)
    fed = networks.cnn((16, 16), 3, side.stored_normalisation, 4)
    fed.set_weights(model.get_weights())
    stored = first(Augment(), cast=False)
    assert str(stored.dtype) == dtype
    assert np.allclose(fed(stored), model(first(Augment(), cast=True)), atol=1e-4)
    # masks are filled with the nearest value that the dtype has
    masked = first(Augment(masks=2), cast=False)
    half_a_step = side.encoding.scale[0] / 2 if dtype == "uint8" else 0.035
    seen = decode(side.encoding, masked.tobytes(), masked.shape)
    assert np.abs(seen - first(Augment(masks=2), cast=True)).max() <= half_a_step + 1e-4
    assert not np.array_equal(masked, stored)


def test_mobilenet_learns_from_stored_bytes(home: Path, tmp_path: Path) -> None:
    export(Store.open(str(home / "s")), output=str(tmp_path), dtype="uint8", shards=1)
    data = open_data(str(tmp_path / "mel"))
    chosen = settings_of("mobilenet", weights="none", epochs=1)
    model = catalogue.build(chosen, (16, 16), 3, data.sidecar.stored_normalisation)
    loop.prepare(model, chosen, loop.stages_of(chosen)[0], 1, DEVICE)
    ((x, y, w),) = batches_of(
        pipeline.load(data, "training", batch_size=4, window=16, training=True, cast=False).take(1)
    )
    assert x.dtype == np.uint8
    before = [v.copy() for v in model.get_weights()]
    assert np.isfinite(model.train_on_batch(x, y, sample_weight=w))
    assert sum(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)) > 100


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
    ((x, _),) = batches_of(pipeline.load(data, "training", batch_size=data.records("training")))
    keys = pipeline.keys(data, "training")
    known = keys.track_ids[keys.track_ids % 5 > 0]
    assert np.allclose(x[:, 0], np.where(keys.track_ids % 5, keys.track_ids, known.mean()), rtol=1e-5)


def test_class_weights_make_genres_count_the_same(sets: dict[str, DataSet]) -> None:
    data = sets["features"]
    weights = np.array([1.0, 2.0, 4.0])
    batches = batches_of(pipeline.load(data, "training", batch_size=12, training=True, class_weights=weights))
    for _, y, w in batches:
        assert np.array_equal(w, weights[y.argmax(axis=1)])
    even = loop.class_weights(data, settings_of("mlp"))
    counts = [data.sidecar.counts["training"][g] for g in data.sidecar.classes]
    assert np.allclose(even * counts, sum(counts) / 3)
