"""An index: tracks, features and the vectors of `similar_tracks` as tables of one DuckDB file beside the Parquet files.

DuckDB binds and plans a view of 518 columns anew for every question, which takes longer than reading 20 of them; a
table of its own it knows already. The file is made when somebody asks for it, named by what it was made from and by its
own checksum, and used by every connection as long as the store holds just that; afterwards they read the Parquet files
again, as they do where there is no index. So answers never depend on it, and it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import time
import uuid

import duckdb

from featurestore.errors import FeatureStoreError
from featurestore.store import files, gathered, lock
from featurestore.store.store import INDEX, Store
from warehouse.database import vectors
from warehouse.database.connection import connect, failure
from warehouse.database.readonly import PREFIX
from warehouse.database.views import SCHEMA, contents, identifier, literal

TABLES = ("tracks", "features")
_MADE = "made"


@dataclasses.dataclass(frozen=True)
class Indexed:
    """path: of the index, below the store; tracks, excerpts: rows in it; bytes: its size; seconds: what making it took,
    0 where the store had it already."""

    path: str
    tracks: int
    excerpts: int
    bytes: int
    seconds: float


def make(store: Store | str | os.PathLike[str]) -> Indexed:
    """Make the index of a store as it is now, unless it is there.

    Raises MissingStore, StoreBusy, StoreDamaged, FeatureStoreError where it cannot be written.
    """
    opened = store if isinstance(store, Store) else Store.open(os.fspath(store))
    started = time.monotonic()
    with lock.hold(opened.fs, opened.root, "index"):
        found = contents(opened)
        if found.index:
            return _describe(opened, found.index, 0.0)
        folder = opened.path(INDEX) if files.is_local(opened.fs) else tempfile.gettempdir()
        temporary = os.path.join(folder, f".{uuid.uuid4().hex}{files.TEMPORARY}")
        try:
            os.makedirs(folder, exist_ok=True)
            _fill(opened, temporary)
            path = gathered.index_name(opened, found.snapshot, temporary)
            files.publish(opened.fs, temporary, opened.path(path))
        except duckdb.Error as error:
            raise failure(error) from None
        except OSError as error:
            raise FeatureStoreError(
                f"{folder}: the index cannot be written ({error.strerror or error})",
                "Check free space and permissions. Queries go on without it.",
            ) from None
        finally:
            for left in (temporary, f"{temporary}.wal"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(left)
    return _describe(opened, path, time.monotonic() - started)


def _fill(store: Store, path: str) -> None:
    with contextlib.closing(connect(store, read_only=False)) as connection:
        connection.execute(f"SET temp_directory = ''; ATTACH {literal(path)} AS {_MADE}")
        for name in TABLES:
            connection.execute(f"CREATE TABLE {_MADE}.{name} AS FROM {name}")
        connection.execute(f"CREATE SCHEMA {_MADE}.{SCHEMA}")
        made = literal(PREFIX + vectors.FILE)
        connection.execute(f"CREATE TABLE {_MADE}.{SCHEMA}.vectors AS FROM {SCHEMA}.vectors({made})")
        connection.execute(";".join(_comments(connection)))
        connection.execute(f"DETACH {_MADE}")


def _comments(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Statements that give the tables the comments of the views."""
    views = connection.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall()
    columns = connection.execute("SELECT table_name, column_name, comment FROM duckdb_columns()").fetchall()
    told = [(f"TABLE {_MADE}.{view}", text) for view, text in views if view in TABLES]
    told += [(f"COLUMN {_MADE}.{t}.{identifier(c)}", text) for t, c, text in columns if t in TABLES and text]
    return [f"COMMENT ON {what} IS {literal(text)}" for what, text in told]


def _describe(store: Store, path: str, seconds: float) -> Indexed:
    with contextlib.closing(connect(store)) as connection:
        tracks, excerpts = (connection.sql(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in TABLES)
    return Indexed(path, tracks, excerpts, int(store.fs.size(store.path(path))), seconds)
