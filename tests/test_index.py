"""The index: answers as without it, used exactly while it is right, checked by its name, removed when it is old."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

import warehouse
from featurestore import schemas
from featurestore.errors import FeatureStoreError, StoreBusy
from featurestore.maintenance.gc import gc
from featurestore.maintenance.verify import verify
from featurestore.store import gathered, lock
from featurestore.store.store import Store
from tests.factories import make_store
from warehouse.database import index
from warehouse.database.connection import bytes_read
from warehouse.shell import named

QUESTIONS = (
    "SELECT * FROM tracks ORDER BY track_id",
    "SELECT track_id, excerpt, mfcc_mean_01, tempo_value_01 FROM features ORDER BY ALL",
    "SELECT * FROM features_long WHERE feature = 'zcr' ORDER BY ALL",
    "SELECT genre, avg(zcr_mean_01) FROM features JOIN tracks USING (track_id) GROUP BY genre ORDER BY genre",
    "FROM similar_tracks(7, 5)",
    "FROM feature_profile('zcr') ORDER BY ALL",
    "FROM feature_drift('artist') ORDER BY ALL",
    "FROM duplicates() ORDER BY ALL",
    "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
    "WHERE table_name IN ('tracks', 'features') AND schema_name = 'main' ORDER BY ALL",
    "SHOW TABLES",
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two batches, and labels that do not cover all tracks."""
    return make_store(str(tmp_path / "store"), tracks=48, batch_tracks=24, excerpts=2)


def answers(store: Store) -> list[list[tuple[object, ...]]]:
    """Of QUESTIONS, rounded: sums in another order differ in the last digits."""
    with warehouse.connect(store) as connection:
        return [rounded(connection.execute(question).fetchall()) for question in QUESTIONS]


def rounded(rows: Iterable[Iterable[object]]) -> list[tuple[object, ...]]:
    return [tuple(round(v, 4) if isinstance(v, float) else v for v in row) for row in rows]


def test_answers_are_those_of_the_parquet_files(store: Store) -> None:
    before = answers(store)
    queries = ("tracks_by_genre", "tempo_by_genre", "failures_by_kind")
    tables = [rounded(zip(*named.run_named(store.url, q, {}).to_pydict().values(), strict=True)) for q in queries]
    made = index.make(store)
    assert (made.tracks, made.excerpts) == (48, 96)
    for question, old, new in zip(QUESTIONS, before, answers(store), strict=True):
        assert new == old, question
    for name, table in zip(queries, tables, strict=True):
        again = named.run_named(store.url, name, {}).to_pydict()
        assert rounded(zip(*again.values(), strict=True)) == table, name
    with warehouse.connect(store) as connection:
        bound = bytes_read(connection)
        connection.execute(QUESTIONS[3]).fetchall()
        assert [name for name, n in bytes_read(connection).items() if n != bound.get(name)] == [made.path]


def test_it_is_made_once(store: Store) -> None:
    first = index.make(store)
    again = index.make(store)
    assert again.path == first.path
    assert (again.seconds, again.bytes) == (0.0, first.bytes)


@pytest.mark.parametrize("change", ["batch", "labels"])
def test_it_is_not_used_once_the_store_has_changed(store: Store, change: str) -> None:
    made = index.make(store)
    if change == "batch":
        store.remove_batch("000001-00001")
    else:
        tracks = store.read_catalog("tracks")
        store.write_catalog("tracks", tracks.slice(0, 30))
    assert gathered.find_index(store, store.snapshot()) is None
    with warehouse.connect(store) as connection:
        assert connection.execute("SELECT count(*) FROM features").fetchall() == [(48 if change == "batch" else 96,)]
        assert connection.execute("SELECT count(*) FROM tracks").fetchall() == [(30 if change == "labels" else 48,)]
        assert made.path not in bytes_read(connection)


def test_no_statement_writes_to_it(store: Store) -> None:
    made = Path(store.path(index.make(store).path))
    before = made.read_bytes()
    with warehouse.connect(store) as connection:
        for statement in (
            "DELETE FROM features",
            "UPDATE tracks SET genre = 'x'",
            "DROP TABLE indexed.main.tracks",
            "CREATE TABLE indexed.main.more AS SELECT 1",
            "INSERT INTO indexed.stored.vectors SELECT * FROM indexed.stored.vectors",
            f"ATTACH '{made}' AS again",
        ):
            with pytest.raises(Exception, match=r"(?i)read-only|permission|disabled|not allowed|cannot"):
                connection.execute(statement)
    assert made.read_bytes() == before
    assert os.listdir(made.parent) == [made.name]


def test_one_that_cannot_be_read_is_left_aside(store: Store) -> None:
    expected = answers(store)
    path = Path(store.path(index.make(store).path))
    path.write_bytes(b"of another version" * 1000)
    assert answers(store) == expected


def test_verify_finds_a_flipped_byte_and_repair_drops_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurestore.store.checks.problems", lambda *_: [])  # the values of this store are no features
    made = index.make(store)
    path = Path(store.path(made.path))
    assert verify(store.url).damages == ()
    data = path.read_bytes()
    path.write_bytes(data[:9000] + bytes([data[9000] ^ 1]) + data[9001:])
    assert [(d.file, d.message[:8]) for d in verify(store.url).damages] == [(made.path, "checksum")]
    assert verify(store.url, repair=True).dropped == (made.path,)
    assert verify(store.url).damages == ()


def test_gc_removes_an_old_one_after_the_grace_period(store: Store) -> None:
    made = index.make(store)
    assert gc(store.url, grace_s=0).copies == 0, "it is in use"
    store.remove_batch("000001-00001")
    assert gc(store.url, grace_s=3600).copies == 0, "a reader may have it open"
    assert gc(store.url, grace_s=0).copies == 1
    assert not os.path.exists(store.path(made.path))


def test_a_stopped_one_leaves_nothing_and_a_busy_store_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with lock.hold(store.fs, store.root, "build"), pytest.raises(StoreBusy):
        index.make(store)
    monkeypatch.setattr("featurestore.store.files.publish", full)
    with pytest.raises(FeatureStoreError, match="No space left"):
        index.make(store)
    assert os.listdir(store.path("index")) == []
    monkeypatch.undo()
    half = Path(store.path("index")) / ".0123.tmp.wal"  # by a kill
    half.write_bytes(b"half")
    assert store.leftovers() == [str(half)]
    assert index.make(store).tracks == 48


def test_stores_without_measurements_and_without_labels(tmp_path: Path, store: Store) -> None:
    for name in schemas.CATALOG:
        os.unlink(store.catalog_path(name))
    assert index.make(store).tracks == 0
    with warehouse.connect(store) as connection:
        assert connection.execute("SELECT count(*) FROM features").fetchall() == [(96,)]
    labels = Store.create(str(tmp_path / "labels"), store.spec)
    assert (index.make(labels).tracks, index.make(labels).excerpts) == (0, 0)


def test_moving_the_store_keeps_it(store: Store, tmp_path: Path) -> None:
    made = index.make(store)
    moved = Store.open(str(shutil.move(store.root, tmp_path / "elsewhere")))
    with warehouse.connect(moved) as connection:
        connection.execute("SELECT count(zcr_mean_01) FROM features").fetchall()
        assert made.path in bytes_read(connection)
