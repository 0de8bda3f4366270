"""Shards checked before they are read: damage, what is missing or foreign, a store that holds something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from featurestore.errors import FeatureStoreError, MissingInput
from featurestore.spec import Spec
from featurestore.store import files
from featurestore.store.store import Store
from tests.factories import make_store
from tests.training_cases import damage_record
from training.feed import pipeline
from training.shards import sidecar
from training.shards.check import open_data
from training.shards.export import export
from training.shards.sidecar import DataMismatch

SPEC = Spec(n_mels=16, excerpt_seconds=0.5, wave_seconds=0.2, groups=("fma",))
TRACKS, EXCERPTS = 36, 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(
        str(tmp_path_factory.mktemp("store") / "s"), tracks=TRACKS, excerpts=EXCERPTS, spec=SPEC, batch_tracks=7
    )


def test_damaged_records_are_counted_and_left_out(store: Store, tmp_path: Path) -> None:
    export(store, output=str(tmp_path), shards=1)
    path = next((tmp_path / "mel").glob("training-*"))
    n = int(path.stem.rpartition("-")[2])
    damage_record(path, n - 3)
    data = open_data(str(tmp_path / "mel"))
    assert data.lost == {"training": 3, "validation": 0, "test": 0}  # tf.data gives up a file at its first damage
    assert data.records("training") == data.sidecar.records("training") - 3
    assert len(pipeline.keys(data, "training").labels) == data.records("training")
    assert data.notes() == [f"{tmp_path / 'mel'}: 3 damaged records of the training split are left out"]


def test_a_mostly_damaged_split_is_refused(store: Store, tmp_path: Path) -> None:
    export(store, output=str(tmp_path), shards=1)
    path = next((tmp_path / "mel").glob("test-*"))
    damage_record(path, 0)
    with pytest.raises(DataMismatch, match=r"(\d+) of \1 test records are damaged"):
        open_data(str(tmp_path / "mel"))


def test_missing_cut_and_foreign_shards_are_refused(store: Store, tmp_path: Path) -> None:
    export(store, output=str(tmp_path), shards=2)
    folder = tmp_path / "mel"
    first, second = sorted(folder.glob("training-*"))
    whole = first.read_bytes()
    first.write_bytes(whole[:-10])
    with pytest.raises(DataMismatch, match=f"expected {len(whole)} bytes, found {len(whole) - 10}"):
        open_data(str(folder))
    if len(whole) == second.stat().st_size:
        first.write_bytes(second.read_bytes())
        with pytest.raises(DataMismatch, match="not the shard that its sidecar describes"):
            open_data(str(folder))
    first.unlink()
    with pytest.raises(MissingInput, match="the shard is missing"):
        open_data(str(folder))


def test_the_sidecar_of_another_store_is_refused(store: Store, tmp_path: Path) -> None:
    export(store, output=str(tmp_path))
    open_data(str(tmp_path / "mel"), store=store)
    other = make_store(str(tmp_path / "other"), tracks=TRACKS + 1, excerpts=EXCERPTS, spec=SPEC)
    with pytest.raises(DataMismatch, match="made from other rows than store"):
        open_data(str(tmp_path / "mel"), store=other)
    spec = Spec(n_mels=16, excerpt_seconds=0.5, wave_seconds=0.2, groups=("fma",), hop_length=256)
    another = make_store(str(tmp_path / "another"), tracks=TRACKS, excerpts=EXCERPTS, spec=spec)
    with pytest.raises(DataMismatch, match=r"hop_length: store .* has 256, .* has 512"):
        open_data(str(tmp_path / "mel"), store=another)


def test_other_values_under_the_same_keys_are_other_shards(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=TRACKS, spec=SPEC)
    for kind in ("mel", "features"):
        export(store, kind=kind, output=str(tmp_path))
    make_store(str(tmp_path / "other"), tracks=TRACKS, spec=SPEC, seed=5)
    for table in ("features", "mel", "wave", "failures", "excerpts"):
        (tmp_path / "s" / table).rename(tmp_path / f"{table} of before")
        (tmp_path / "other" / table).rename(tmp_path / "s" / table)
    for kind in ("mel", "features"):
        with pytest.raises(DataMismatch, match="made from other rows"):
            open_data(str(tmp_path / kind), store=store)


def test_the_values_of_an_imported_set_count(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=TRACKS, spec=SPEC, arrays_too=False)
    for factor, column in ((1, "a"), (2, "a"), (2, "b")):
        ids = np.arange(1, TRACKS + 1)
        store.write_catalog("features_mine", pa.table({"track_id": ids, column: factor * ids.astype(float)}))
        if (tmp_path / "features").exists():
            with pytest.raises(DataMismatch, match="made from other rows"):
                open_data(str(tmp_path / "features"), store=store)
        export(store, kind="features", feature_set="mine", output=str(tmp_path))
        open_data(str(tmp_path / "features"), store=store)


def test_an_export_of_two_snapshots_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(str(tmp_path / "s"), tracks=TRACKS, spec=SPEC)
    real = files.write_bytes

    def building(fs: object, path: str, data: bytes) -> None:
        real(fs, path, data)
        if path.endswith("unfinished-00000.json"):  # a batch is removed meanwhile
            store.remove_batch(store.batches()[-1])

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_bytes", building)
        with pytest.raises(FeatureStoreError, match="changed while they were exported"):
            export(store, output=str(tmp_path))
    assert not (tmp_path / "mel" / sidecar.NAME).exists()


def test_a_sidecar_changed_by_hand_is_refused(store: Store, tmp_path: Path) -> None:
    export(store, output=str(tmp_path))
    path = tmp_path / "mel" / sidecar.NAME
    facts = json.loads(path.read_text())
    for change, message in (
        ({"format": 9}, "expected format 2, found 9"),
        ({"spec": {**facts["spec"], "hop_length": 256}}, "changed by hand"),
        ({"shards": "none"}, "not a data set's sidecar"),
    ):
        path.write_text(json.dumps({**facts, **change}))
        with pytest.raises(DataMismatch, match=message):
            open_data(str(tmp_path / "mel"))
    path.write_text("{")
    with pytest.raises(DataMismatch, match="not a data set's sidecar"):
        open_data(str(tmp_path / "mel"))
