"""The database of a snapshot: one DuckDB file in the store, which connections attach and nobody asks for.

It holds as tables what SQL reads (the features included), and views over the files of `mel` and `wave`. Its name is
that of the state it was made from, `derived/<batches>-<catalog>.duckdb`: a connection looks that name up, and makes the
file where it is not there. So it is never stale, nobody has to keep it true, and it may be deleted at any time.

Where it cannot be made (a store on another filesystem, or without write permission) or cannot be read (made by a newer
DuckDB), a connection makes such a database for itself, in which `features` and the vectors of `similar_tracks` are
views over the Parquet files: the answers are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Collection
from pathlib import Path

import duckdb

from featurestore import schemas
from featurestore.errors import FeatureStoreError
from featurestore.store import files, places
from featurestore.store.store import Store
from warehouse.database.readonly import PREFIX, SnapshotFiles
from warehouse.database.sql import literal, read_sql, sql_names
from warehouse.database.views import LARGE, contents

NAME = "snapshot"  # what the database is called in a connection
_VERSION = "1"  # of what Python code puts into a database; SQL files are part of the name anyway


def attach(connection: duckdb.DuckDBPyConnection, store: Store, filesystem: SnapshotFiles) -> None:
    """Let a connection show a store: attach the database of its snapshot, read-only.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        An empty one, with `filesystem` registered.
    store : Store
        What to show.
    filesystem : SnapshotFiles
        Learns which files the views read.

    Raises
    ------
    StoreDamaged, duckdb.Error
        If a file of the store cannot be read.
    """
    if not _attach_kept(connection, store, filesystem):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, f"{NAME}.duckdb")
            _make(connection, store, filesystem, path)
            _attach(connection, path)
    connection.execute(f"SET search_path = 'memory.main,{NAME}.main'")


def _attach(connection: duckdb.DuckDBPyConnection, path: str) -> None:
    connection.execute(f"ATTACH {literal(path)} AS {NAME} (READ_ONLY)")


def is_kept(store: Store) -> bool:
    """Whether a connection finds the database of the store as it is now.

    Parameters
    ----------
    store : Store

    Returns
    -------
    bool
        False where the next connection makes a database first.
    """
    return files.is_local(store.fs) and os.path.exists(store.path(places.DERIVED, state(store)[0]))


def _attach_kept(connection: duckdb.DuckDBPyConnection, store: Store, filesystem: SnapshotFiles) -> bool:
    """Attach the database in the store, made now where it is not there; False where that cannot be."""
    if not files.is_local(store.fs):
        return False
    name, batches = state(store)
    path = store.path(places.DERIVED, name)
    try:
        if not os.path.exists(path):
            _keep(connection, store, filesystem, name)
        _attach(connection, path)
    except duckdb.InterruptException:
        raise  # who ended this wants no other database either
    except (OSError, duckdb.Error, FeatureStoreError):
        return False  # the Parquet files answer, or say what is wrong
    filesystem.show(f"{table}/{batch}.parquet" for table in schemas.MEASURED for batch in batches)
    return True


def state(store: Store) -> tuple[str, tuple[str, ...]]:
    """Name of the database of a local store as it is now, and the committed batches that it shows.

    A Parquet file stands for itself by its footer, which holds a checksum of the rest.

    Parameters
    ----------
    store : Store

    Returns
    -------
    name : str
        `<batches>-<catalog>.duckdb`, hexadecimal digests of 32 and 16 digits.
    batches : tuple of str
        Oldest first.
    """
    batches = store.batches()
    content = hashlib.sha256()
    for batch in batches:
        content.update(batch.encode() + _footer(store.batch_path("excerpts", batch)))
    catalog = hashlib.sha256(_VERSION.encode())
    for name in store.catalog_names():
        catalog.update(name.encode() + _footer(store.catalog_path(name)))
    for folder in ("views", "macros"):
        catalog.update("".join(read_sql(f"{folder}/{name}") for name in sql_names(folder)).encode())
    return f"{content.hexdigest()[:32]}-{catalog.hexdigest()[:16]}.duckdb", batches


def _footer(path: str) -> bytes:
    """The footer of a Parquet file and the length of the file; nothing of one that is gone."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as f:
        size = f.seek(-8, os.SEEK_END) + 8
        length = int.from_bytes(f.read(4), "little")
        f.seek(max(0, size - 8 - length))
        return f.read(length) + size.to_bytes(8, "little")
    return b""


def _keep(connection: duckdb.DuckDBPyConnection, store: Store, filesystem: SnapshotFiles, name: str) -> None:
    """Put the database `name` into the store, whole or not at all, and remove those of earlier states."""
    places.require_own(store.fs, store.root)
    folder = Path(store.path(places.DERIVED))
    folder.mkdir(exist_ok=True)
    temporary = Path(files.temporary_path(str(folder / name)))
    try:
        _make(connection, store, filesystem, str(temporary), LARGE)
        if state(store)[0] != name:
            raise FeatureStoreError(f"{store.url} changed while its database was made")
        files.publish(store.fs, str(temporary), str(folder / name))
    finally:
        for left in (temporary, Path(f"{temporary}.wal")):
            left.unlink(missing_ok=True)
    for old in folder.iterdir():
        if places.DERIVED_FILE.fullmatch(old.name) and old.name != name:
            old.unlink(missing_ok=True)  # whoever has it open goes on reading it


def _make(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    filesystem: SnapshotFiles,
    path: str,
    copied: Collection[str] = (),
) -> None:
    """Make a database file of a store as it is now."""
    from warehouse.database.fill import fill

    found = contents(store)
    filesystem.show(name for table in schemas.MEASURED for name in found.files(table))
    filesystem.show((f"catalog/{name}.parquet" for name in found.catalog), pinned=True)
    connection.execute(f"ATTACH {literal(path)} AS {NAME}; USE {NAME}")
    try:
        fill(connection, found, PREFIX, copied)
    finally:
        connection.execute(f"USE memory; DETACH {NAME}")
