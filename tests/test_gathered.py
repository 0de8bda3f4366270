"""The copy of all features in one file: used exactly while it is right, checked, and removed when nobody needs it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import warehouse
from featurestore import schemas
from featurestore.maintenance import compact
from featurestore.maintenance.gc import gc
from featurestore.maintenance.verify import verify
from featurestore.store import files, gathered
from featurestore.store.store import Store
from tests.factories import make_store
from warehouse.database.connection import bytes_read

SQL = (
    "SELECT genre, avg(mfcc_mean_01), count(*) FROM features JOIN tracks USING (track_id) GROUP BY genre ORDER BY genre"
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three batches; the second half of the first one is superseded by a fourth."""
    store = make_store(str(tmp_path / "store"), tracks=60, batch_tracks=24, excerpts=2)
    tables = {name: store.read_batch(name, "000001-00000") for name in schemas.MEASURED}
    late = {name: t.filter(pa.compute.greater(t["track_id"], 12)) for name, t in tables.items()}
    names = pa.array(["000002-00000"] * len(late["excerpts"]), pa.string())
    at = late["excerpts"].column_names.index("batch")
    late["excerpts"] = late["excerpts"].set_column(at, "batch", names)
    changed = late["features"]["mfcc_mean_01"].to_numpy() + 100
    at = late["features"].column_names.index("mfcc_mean_01")
    late["features"] = late["features"].set_column(at, late["features"].schema.field(at), pa.array(changed))
    store.write_batch("000002-00000", late)
    return store


def gather(store: Store) -> str:
    """Write the copy; its path below the store."""
    assert gathered.write(store, store.snapshot())
    return str(gathered.find(store, store.snapshot()))


def test_sql_and_matrix_read_the_copy_and_see_what_the_batches_hold(store: Store) -> None:
    with warehouse.connect(store) as connection:
        before = connection.execute(SQL).fetchall()
        assert any(name.startswith("features/") for name in bytes_read(connection))
    X = warehouse.matrix(store)
    copy = gather(store)
    with warehouse.connect(store) as connection:
        after = connection.execute(SQL).fetchall()
        assert copy in bytes_read(connection)
        assert not [name for name in bytes_read(connection) if name.startswith("features/")]
    np.testing.assert_allclose([r[1] for r in before], [r[1] for r in after], rtol=1e-6)
    assert [r[2] for r in before] == [r[2] for r in after]
    again = warehouse.matrix(store)
    assert again.track_ids.tolist() == X.track_ids.tolist()
    np.testing.assert_array_equal(again.X, X.X)
    split = warehouse.matrix(store, split="test", scheme="artist")
    np.testing.assert_array_equal(split.X, X.X[np.isin(X.track_ids, split.track_ids)])


def test_matrix_reads_several_row_groups_in_any_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = warehouse.matrix(store)
    monkeypatch.setattr(files, "DEFAULT_ROW_GROUP_ROWS", 16)
    gather(store)
    np.testing.assert_array_equal(warehouse.matrix(store).X, plain.X)


def test_row_groups_are_full_however_small_the_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "DEFAULT_ROW_GROUP_ROWS", 32)
    rows = [len(part) for part in gathered._blocks(store, store.snapshot(), schemas.features_schema(store.spec.groups))]
    assert sum(rows) == 120
    assert all(n % 32 == 0 for n in rows[:-1])


def test_a_copy_of_other_rows_is_not_read(store: Store) -> None:
    copy = gather(store)
    tables = {name: store.read_batch(name, "000001-00001") for name in schemas.MEASURED}
    at = tables["excerpts"].column_names.index("batch")
    renamed = pa.array(["000003-00000"] * len(tables["excerpts"]), pa.string())
    store.write_batch("000003-00000", {**tables, "excerpts": tables["excerpts"].set_column(at, "batch", renamed)})
    assert gathered.find(store, store.snapshot()) is None
    with warehouse.connect(store) as connection:
        assert connection.execute("SELECT count(*) FROM features").fetchall() == [(120,)]
        assert copy not in bytes_read(connection)


def test_nothing_is_gathered_from_one_clean_batch_or_twice(tmp_path: Path, store: Store) -> None:
    one = make_store(str(tmp_path / "one"), tracks=8, arrays_too=False)
    assert not gathered.write(one, one.snapshot())
    gather(store)
    assert not gathered.write(store, store.snapshot())


def test_a_store_beyond_the_limit_is_not_gathered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathered, "MAX_BYTES", 1000)
    assert not gathered.write(store, store.snapshot())


def test_the_fingerprint_is_of_what_is_shown(store: Store, tmp_path: Path) -> None:
    first = store.snapshot().fingerprint
    moved = Path(shutil.copytree(store.root, tmp_path / "moved"))
    assert Store.open(str(moved)).snapshot().fingerprint == first
    compact.compact(store.url, target_mb=1000)
    merged = store.snapshot()
    assert merged.fingerprint != first
    gc(store.url, grace_s=0)
    assert store.snapshot().fingerprint == merged.fingerprint, "what gc removes was not shown"
    store.remove_batch(merged.batches[-1])
    assert store.snapshot().fingerprint != merged.fingerprint


def test_gc_removes_a_replaced_copy_after_the_grace_period(store: Store) -> None:
    old = gather(store)
    store.remove_batch("000002-00000")  # another snapshot, as after a build
    new = gather(store)
    assert new != old
    os.utime(store.path(old), (time.time() - 10, time.time() - 10))
    assert gc(store.url, grace_s=3600).copies == 0
    assert gc(store.url, grace_s=0, dry_run=True).copies == 1
    assert gathered.names(store) == sorted([old, new])
    assert gc(store.url, grace_s=0).copies == 1
    assert gathered.names(store) == [new]


def test_verify_finds_a_flipped_byte_and_other_values_and_repair_drops_the_copy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurestore.store.checks.problems", lambda *_: [])  # the values of this store are no features
    copy = gather(store)
    whole = Path(store.path(copy)).read_bytes()
    assert verify(store.url).damages == ()
    Path(store.path(copy)).write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert [d.file for d in verify(store.url).damages] == [copy]
    snapshot = store.snapshot()
    rows = pa.concat_tables([store.current_rows("features", b, None, snapshot) for b in snapshot.batches])
    values = rows["zcr_mean_01"].to_numpy().copy()
    values[7] += 1
    at = rows.column_names.index("zcr_mean_01")
    wrong = rows.set_column(at, rows.schema.field(at), pa.array(values))
    files.write_parquet(store.fs, store.path(copy), wrong, "features")  # a good seal over other values
    damage = verify(store.url).damages
    assert [d.file for d in damage] == [copy]
    assert "differs from the rows of batch 000001-00000" in damage[0].message
    files.write_parquet(store.fs, store.path(copy), rows.slice(0, 100), "features")
    assert [d.file for d in verify(store.url).damages] == [copy]
    assert verify(store.url, repair=True).dropped == (copy,)
    assert verify(store.url).damages == ()
    assert gather(store) == copy
    assert Path(store.path(copy)).read_bytes() == whole, "the same rows give the same bytes"


def test_a_build_that_died_before_gathering_is_seen(store: Store) -> None:
    assert compact.is_untidy(store, store.snapshot())
    gather(store)
    assert not compact.is_untidy(store, store.snapshot())


def test_the_portable_catalog_reads_the_batches(store: Store, tmp_path: Path) -> None:
    import duckdb

    gather(store)
    written = warehouse.write_database(store, tmp_path / "views.duckdb")
    shutil.rmtree(store.path("gathered"))
    with duckdb.connect(written.path, read_only=True) as connection:
        connection.execute(f"SET file_search_path = '{tmp_path}'")
        assert connection.execute("SELECT count(*) FROM features").fetchall() == [(120,)]
