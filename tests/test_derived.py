"""The database of a snapshot: answers as the Parquet files give, made once, used while it is right, never written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import warehouse
from featurestore import schemas
from featurestore.errors import EXIT_INTERRUPTED, FeatureStoreError
from featurestore.store.store import Store
from tests.builds import ROOT
from tests.factories import make_store
from warehouse.database import derived
from warehouse.shell import shell

QUESTIONS = (
    "FROM tracks ORDER BY track_id",
    "SELECT track_id, excerpt, mfcc_mean_01, tempo_value_01 FROM features ORDER BY ALL",
    "SELECT * FROM features_long WHERE feature = 'zcr' ORDER BY ALL",
    "SELECT track_id, len(mel_db(mel)) FROM mel ORDER BY ALL",
    "FROM similar_tracks(7, 5)",
    "FROM feature_profile('zcr') ORDER BY ALL",
    "FROM feature_drift('artist') ORDER BY ALL",
    "FROM duplicates() ORDER BY ALL",
    "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE schema_name = 'main' ORDER BY ALL",
    "SELECT function_name, comment FROM duckdb_functions() WHERE NOT internal AND comment IS NOT NULL ORDER BY ALL",
    "SHOW TABLES",
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two batches of two excerpts a track."""
    return make_store(str(tmp_path / "store"), tracks=48, batch_tracks=24, excerpts=2)


def answers(store: Store) -> list[list[tuple[object, ...]]]:
    """Of QUESTIONS, rounded: sums in another order differ in the last digits."""
    with warehouse.connect(store) as connection:
        return [rounded(connection.execute(question).fetchall()) for question in QUESTIONS]


def rounded(rows: Iterable[Iterable[object]]) -> list[tuple[object, ...]]:
    return [tuple(round(v, 3) if isinstance(v, float) else v for v in row) for row in rows]


def made(store: Store) -> Path:
    """The only database in the store."""
    (path,) = Path(store.path("derived")).iterdir()
    return path


def test_a_store_that_cannot_be_written_answers_the_same(store: Store) -> None:
    expected = answers(store)
    assert made(store).name == derived.state(store)[0]
    shutil.rmtree(store.path("derived"))
    Path(store.path("derived")).write_text("no folder can be made here, whoever tries")
    for question, old, new in zip(QUESTIONS, expected, answers(store), strict=True):
        assert new == old, question
    with warehouse.connect(store) as connection:
        for statement in ("DELETE FROM tracks", "DROP VIEW features", "CREATE TABLE snapshot.main.x AS SELECT 1"):
            with pytest.raises(duckdb.Error, match="read-only"):
                connection.execute(statement)


def test_it_is_made_once_and_read_without_the_parquet_files(store: Store) -> None:
    warehouse.connect(store).close()
    before = made(store).stat()
    for table in ("features", "mel", "wave", "failures"):
        os.rename(store.path(table), store.path(f"{table}-elsewhere"))
    assert len(warehouse.query(store, "FROM features JOIN tracks USING (track_id)")) == 96
    assert made(store).stat() == before


@pytest.mark.parametrize("change", ["batch", "labels", "set"])
def test_a_changed_store_gets_another_and_loses_the_old_one(store: Store, change: str) -> None:
    with warehouse.connect(store) as before:
        old = made(store)
        if change == "batch":
            store.remove_batch("000001-00001")
        elif change == "labels":
            store.write_catalog("tracks", store.read_catalog("tracks").slice(0, 30))
        else:
            store.write_catalog("features_other", store.read_catalog("tracks", ["track_id"]))
        with warehouse.connect(store) as connection:
            assert connection.execute("SELECT count(*) FROM features").fetchall() == [
                (48 if change == "batch" else 96,)
            ]
            assert connection.execute("SELECT count(*) FROM tracks").fetchall() == [(30 if change == "labels" else 48,)]
            assert len(connection.execute("SHOW TABLES").fetchall()) == 15 + (change == "set")
        assert made(store) != old
        assert before.execute("SELECT count(*) FROM tracks").fetchall() == [(48,)], "whoever has it open reads on"


def test_no_statement_writes_to_it_or_removes_the_lock(store: Store) -> None:
    warehouse.connect(store).close()
    path = made(store)
    before = path.read_bytes()
    with warehouse.connect(store) as connection:
        for statement in (
            "DELETE FROM features",
            "UPDATE tracks SET genre = 'x'",
            "DROP TABLE snapshot.main.tracks",
            "CREATE TABLE snapshot.main.more AS SELECT 1",
            "COMMENT ON TABLE tracks IS 'mine'",
            f"COPY (SELECT 1) TO '{path}' (FORMAT csv, USE_TMP_FILE false)",
            f"COPY (SELECT 1) TO '{path}.wal' (FORMAT csv, USE_TMP_FILE false)",
            f"COPY (SELECT 1) TO '{path}.wal.checkpoint' (FORMAT csv, USE_TMP_FILE false)",
            f"FROM read_blob('{path}')",
            f"ATTACH '{path}' AS again",
            f"ATTACH '{path}' AS again (READ_ONLY)",
            "SET disabled_filesystems = ''",
            "RESET disabled_filesystems",
        ):
            with pytest.raises(Exception, match=r"(?i)read-only|disabled|locked|already attached"):
                connection.execute(statement)
        connection.execute("CREATE TABLE mine AS SELECT 1 AS x; DETACH snapshot")
        with pytest.raises(duckdb.PermissionException):
            connection.execute(f"ATTACH '{path}' AS snapshot")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_one_that_cannot_be_read_is_left_aside(store: Store) -> None:
    expected = answers(store)
    made(store).write_bytes(b"of another version" * 1000)
    assert answers(store) == expected


def test_a_flipped_bit_gives_no_other_answer(store: Store) -> None:
    expected = warehouse.query(store, "FROM features")
    path = made(store)
    data = path.read_bytes()
    found: list[pa.Table | FeatureStoreError] = []
    for at in range(20_000, len(data), len(data) // 8):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            found.append(warehouse.query(store, "FROM features"))
        except FeatureStoreError as error:
            found.append(error)
    assert all(table.equals(expected) for table in found if isinstance(table, pa.Table))
    errors = [str(error) for error in found if isinstance(error, FeatureStoreError)]
    assert errors
    assert all("Delete the folder derived" in error for error in errors)


def test_connections_at_once_make_one(store: Store) -> None:
    found: list[int] = []

    def ask() -> None:
        found.append(warehouse.query(store, "SELECT count(*) AS n FROM features")["n"][0].as_py())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [96] * 3
    assert made(store).name == derived.state(store)[0]


def test_what_a_kill_left_behind_does_not_disturb(store: Store) -> None:
    folder = Path(store.path("derived"))
    folder.mkdir()
    (folder / ".0123.tmp").write_bytes(b"half")
    assert len(warehouse.query(store, "FROM tracks")) == 48
    assert len(list(folder.glob("[!.]*"))) == 1


def test_a_store_without_labels_and_one_that_was_moved(store: Store, tmp_path: Path) -> None:
    for name in schemas.CATALOG:
        os.unlink(store.catalog_path(name))
    assert len(warehouse.query(store, "FROM tracks")) == 0
    old = made(store)
    moved = Store.open(str(shutil.move(store.root, tmp_path / "elsewhere")))
    with warehouse.connect(moved) as connection:
        assert connection.execute("SELECT count(zcr_mean_01) FROM features").fetchall() == [(96,)]
        assert connection.execute("SELECT count(*) FROM mel").fetchall() == [(96,)]
    assert made(moved).name == old.name


def test_a_command_says_that_it_makes_the_database_and_nothing_when_it_is_there(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with shell.connected(store, patience=3600):
        assert capsys.readouterr().err == ""
    shutil.rmtree(store.path("derived"))
    with shell.connected(store, patience=0):
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("making a database of the store")
        assert err.count("\n") == 1
    with shell.connected(store, patience=0):
        assert capsys.readouterr().err == ""


def test_ctrl_c_while_it_is_made_leaves_nothing(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tracks=4000, arrays_too=False)
    folder = Path(store.path("derived"))
    command = [sys.executable, "-m", "warehouse", "--store", store.url, "SELECT 1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            while process.poll() is None and not (folder.exists() and os.listdir(folder)):
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == EXIT_INTERRUPTED
    assert err.strip().splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in err
    assert out == ""
    assert os.listdir(folder) == []
