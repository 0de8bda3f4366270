"""Stores, shards and toy models that the tests of training share. A test file names it in pytest_plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.evaluation import Card
from featurestore.spec import Spec
from tests.factories import make_store
from training.backend import tensorflow
from training.networks import catalogue
from training.run import devices, loop
from training.shards import records
from training.shards.check import DataSet, open_data
from training.shards.encoding import Encoding
from training.shards.export import export
from training.shards.sidecar import Sidecar

SPEC = Spec(n_mels=16, excerpt_seconds=1.0, wave_seconds=1.0, groups=("fma",))
GENRES = ("Ambient", "Blues", "Choral")
DEVICE = devices.Device("CPU", 1, "float32", None, False)
KINDS = ("mel", "wave", "features")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store `s` and its shards `tf`: 60 tracks of 3 genres, artists apart."""
    folder = tmp_path_factory.mktemp("home")
    store = make_store(str(folder / "s"), tracks=60, artists_per_genre=10, spec=SPEC, signal=3.0, artist_signal=0.3)
    for kind in KINDS:
        export(store, kind=kind, output=str(folder / "tf"), shards=3)
    return folder


@pytest.fixture(scope="session")
def sets(home: Path) -> dict[str, DataSet]:
    return {kind: open_data(str(home / "tf" / kind)) for kind in KINDS}


@pytest.fixture(scope="session")
def trained(sets: dict[str, DataSet], tmp_path_factory: pytest.TempPathFactory) -> dict[str, loop.Fitted]:
    """Toy networks, trained to the end: genres are a bright band (mel), a pitch (wave), shifted means (features)."""
    folder = tmp_path_factory.mktemp("models")
    runs = {
        "cnn": settings_of("cnn", width=4, epochs=12, batch_size=8, learning_rate=3e-3),
        "mlp": settings_of("mlp", width=64, epochs=60, learning_rate=3e-3),
        "raw_cnn": settings_of("raw_cnn", variant="strided", epochs=5, batch_size=8),
    }
    kinds = {"cnn": "mel", "mlp": "features", "raw_cnn": "wave"}
    return {
        name: loop.fit(sets[kinds[name]], settings, output=str(folder / name), device=DEVICE)
        for name, settings in runs.items()
    }


def settings_of(model: str, **changes: Any) -> catalogue.Settings:
    return catalogue.settings_for(model, **{"epochs": 3, **changes})


def batches_of(dataset: Any) -> list[tuple[np.ndarray, ...]]:
    return list(dataset.as_numpy_iterator())


def card_of(kind: str = "mel", window: int | None = 16, spec: Spec = SPEC) -> Card:
    return Card(
        name="cnn",
        kind=kind,
        classes=GENRES,
        window=window,
        feature_set="librosa",
        columns=(),
        threshold=0.5,
        spec=spec,
        evaluation={},
        versions={},
        facts={},
    )


def decode(encoding: Encoding, data: bytes, shape: Any) -> np.ndarray:
    """The float32 array of a record's bytes."""
    factor, offset = encoding.scale
    values = np.frombuffer(data, encoding.dtype).astype(np.float32)
    return (values * np.float32(factor) + np.float32(offset)).reshape([int(n) for n in shape])


def records_of(folder: Path) -> list[dict[str, Any]]:
    """Every record of a data set, as TensorFlow reads it: its split, numbers and array."""
    side = Sidecar.read(str(folder))
    return [row for shard in side.shards for row in records_of_file(folder / shard.name, side, shard.split)]


def records_of_file(path: Path | str, side: Sidecar, split: str = "") -> list[dict[str, Any]]:
    tf = tensorflow()
    rows = []
    for payload in tf.data.TFRecordDataset(str(path), "GZIP" if side.compression == "gzip" else ""):
        found = tf.train.Example.FromString(payload.numpy()).features.feature
        numbers = {k: found[k].int64_list.value[0] for k in ("track_id", "excerpt", "artist", "label")}
        array = decode(side.encoding, found["array"].bytes_list.value[0], found["shape"].int64_list.value)
        rows.append({**numbers, "split": split, "array": array})
    return rows


def damage_record(path: Path, record: int) -> None:
    """Change one byte of the record of that number in a file."""
    data = bytearray(path.read_bytes())
    at = 0
    for _ in range(record):
        at += int.from_bytes(data[at : at + 8], "little") + records.OVERHEAD
    data[at + 40] ^= 1
    path.write_bytes(bytes(data))
