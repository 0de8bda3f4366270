"""A DuckDB connection with the store's views, macros and `mel_db`, locked so that no statement can write."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import weakref
from collections.abc import Collection, Mapping, Sequence
from importlib import resources

import duckdb
import numpy as np
import pyarrow as pa

from featurestore.errors import REPAIR, FeatureStoreError, StoreDamaged
from featurestore.spec import Spec
from featurestore.store import arrays
from featurestore.store.store import Store
from warehouse.database import comments, vectors
from warehouse.database.readonly import PREFIX, SnapshotFiles
from warehouse.database.views import (
    SCHEMA,
    Contents,
    as_table,
    catalog_sql,
    contents,
    identifier,
    measured_sql,
)

# in the order in which they build on each other
VIEWS = (
    "genres",
    "tracks",
    "splits",
    "datasets",
    "excerpts",
    "failures",
    "features",
    "features_long",
    "mel",
    "wave",
    "track_genres",
    "provenance",
    "spec",
)
MACROS = ("genre_path", "feature_profile", "similar_tracks", "duplicates", "feature_drift")
MEASURED_VIEWS = ("excerpts", "failures", "features", "mel", "wave")
CATALOG_VIEWS = ("tracks", "genres", "splits", "datasets")

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
# no spilling: DuckDB would let a statement write to its folder for temporary files
_LOCK = f"""
SET temp_directory = '';
SET python_enable_replacements = false;
SET allowed_directories = ['{PREFIX}'];
SET enable_external_access = false;
SET lock_configuration = true;
"""

_SEES_COMMENTS = re.compile("comment|duckdb_|information_schema|pg_|sqlite_", re.IGNORECASE)

_open: weakref.WeakKeyDictionary[duckdb.DuckDBPyConnection, SnapshotFiles] = weakref.WeakKeyDictionary()


def connect(store: Store | str | os.PathLike[str], *, read_only: bool = True) -> duckdb.DuckDBPyConnection:
    """A new in-memory DuckDB connection that shows `store` (a Store, a path or a URL) as views and macros.

    It shows the store as it is now: batches committed later appear in the next connection. read_only: no statement
    can write a file, read one outside the store, load an extension or change a setting; tables made in it live in
    memory. With read_only=False the connection may do all that, and still never opens a file of the store for writing.

    Raises MissingStore, SpecMismatch or StoreDamaged.
    """
    return _connect(store, read_only=read_only, describe=True)


def connect_for(store: Store | str | os.PathLike[str], sql: str) -> duckdb.DuckDBPyConnection:
    """A read-only connection to run `sql` once, with the descriptions of columns only where `sql` can see them."""
    return _connect(store, read_only=True, describe=bool(_SEES_COMMENTS.search(sql)))


def _connect(store: Store | str | os.PathLike[str], *, read_only: bool, describe: bool) -> duckdb.DuckDBPyConnection:
    found = contents(store if isinstance(store, Store) else Store.open(os.fspath(store)))
    connection = session(found)
    try:
        create_views(connection, found, PREFIX, describe=describe)
        if read_only:
            connection.execute(_LOCK)
    except duckdb.Error as error:
        raise StoreDamaged(str(failure(error)), REPAIR) from None
    return connection


def bytes_read(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Bytes that DuckDB has read of each file of the store through a connection of `connect`, by relative path."""
    return dict(_open[connection].bytes_read)


def query(
    store: Store | str | os.PathLike[str], sql: str, parameters: Sequence[object] | Mapping[str, object] | None = None
) -> pa.Table:
    """The rows of one or more SQL statements (of the last that returns rows), read-only.

    Raises FeatureStoreError with DuckDB's own pointer to the mistake in `sql`, and what `connect` raises.
    """
    with contextlib.closing(connect_for(store, sql)) as connection:
        return fetch(connection, sql, parameters)


def fetch(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    parameters: Sequence[object] | Mapping[str, object] | None = None,
) -> pa.Table:
    """Run `sql` on `connection` and return its rows. Raises FeatureStoreError with DuckDB's message."""
    try:
        rows = relation(connection, sql, parameters)
        return pa.table({}) if rows is None else rows.to_arrow_table()
    except (duckdb.Error, RuntimeError) as error:
        raise failure(error) from None


def relation(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    parameters: Sequence[object] | Mapping[str, object] | None = None,
) -> duckdb.DuckDBPyRelation | None:
    """The result of `sql`, not yet read; None where it has none. Raises duckdb.Error with a pointer into `sql`."""
    try:
        return connection.sql(sql, params=parameters)
    except (duckdb.BinderException, duckdb.CatalogException):
        # what cannot be bound was not run; asked in this way, DuckDB adds the line and the place in it
        connection.execute(sql, parameters)
        raise


def failure(error: Exception) -> FeatureStoreError:
    """DuckDB's error, with its pointer into the SQL, as an error of ours."""
    text = str(error).strip()
    # an error in a function or file of ours carries Python's traceback; its last line says what happened
    head, traceback, rest = text.partition("Traceback (most recent call last)")
    if traceback:
        lines = [line for line in re.split(r"\n\nLINE ", rest)[0].splitlines() if line and not line.startswith(" ")]
        text = (head + (lines[-1] if lines else rest)).strip()
    refused = isinstance(error, duckdb.PermissionException) or "PermissionError" in text
    hint = "Nothing can be written from SQL here; keep a result with `python -m warehouse ... --output FILE`."
    return FeatureStoreError(text, hint if refused else "")


def session(found: Contents, tables: Collection[str] | None = None) -> duckdb.DuckDBPyConnection:
    """A connection with the relations of schema `stored` only, or some of them, for the warehouse's own queries.

    Raises StoreDamaged where a file cannot be read.
    """
    connection = duckdb.connect(":memory:", config=_CONFIG)
    names = [name for table in MEASURED_VIEWS for name in found.files(table)]
    filesystem = SnapshotFiles(
        found.store,
        [*names, *found.catalog_files],
        pinned=found.catalog_files,
        made={vectors.FILE: lambda: vectors.make(found, session(found, ["features"]))},
    )
    # closed at exit: a function that outlives the interpreter makes DuckDB 2.0 print pages of leak messages
    _open[connection] = filesystem
    connection.register_filesystem(filesystem)
    # a snapshot's files never change: each footer is read once
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false; SET parquet_metadata_cache = true")
    try:
        create_stored(connection, found, PREFIX, tables)
    except duckdb.Error as error:
        raise StoreDamaged(str(failure(error)), REPAIR) from None
    connection.execute(vectors.macro_sql(found, "read_parquet(file)"))
    return connection


@atexit.register
def _close_all() -> None:
    for connection in list(_open):
        with contextlib.suppress(duckdb.Error):
            connection.close()


def create_stored(
    connection: duckdb.DuckDBPyConnection, found: Contents, prefix: str, tables: Collection[str] | None = None
) -> None:
    """Create schema `stored`: the store's tables (None: all) over files whose paths begin with `prefix`.

    They are macros, `stored.features()`: a second view of each table would show every column twice in the catalog.
    """
    connection.execute(f"CREATE SCHEMA {SCHEMA}")
    create_table(connection, f"{SCHEMA}.superseded", found.snapshot.superseded)
    for name in stored_names(found):
        if tables is None or name in tables:
            sql = stored_sql(found, name, prefix)
            connection.execute(f"CREATE MACRO {SCHEMA}.{identifier(name)}() AS TABLE {sql}")


def stored_names(found: Contents) -> tuple[str, ...]:
    """The tables of schema `stored`."""
    return (*CATALOG_VIEWS, *(f"features_{name}" for name in found.feature_sets), *MEASURED_VIEWS)


def stored_sql(found: Contents, name: str, prefix: str) -> str:
    """A SELECT of a table of schema `stored`."""
    return (measured_sql if name in MEASURED_VIEWS else catalog_sql)(found, name, prefix)


def create_views(
    connection: duckdb.DuckDBPyConnection,
    found: Contents,
    prefix: str,
    *,
    portable: bool = False,
    describe: bool = True,
    views: Collection[str] = VIEWS,
) -> None:
    """Create views and the macros people use, over the relations of schema `stored`.

    describe: with a comment on every view and column; DuckDB takes a quarter of a second to note 600 of them.
    portable: `mel_db` in SQL alone (slower), for a database that is opened without us.
    """
    if portable:
        connection.execute(read_sql("portable", "mel_db"))
    else:
        register_mel_db(connection, found.store.spec)
    create_table(connection, "feature_columns", comments.feature_columns(found))
    create_table(connection, f"{SCHEMA}.spec", comments.spec_rows(found.store.spec))
    tables = {name: as_table(stored_sql(found, name, prefix)) for name in stored_names(found)}
    straight = {f"{SCHEMA}.{name}()": scan for name, scan in tables.items() if scan}
    for name in views:
        sql = read_sql("views", name)
        connection.execute(functools.reduce(lambda text, pair: text.replace(*pair), straight.items(), sql))
    for name in (f"features_{name}" for name in found.feature_sets):
        view = identifier(name)
        connection.execute(f"CREATE VIEW {view} AS FROM {tables[name] or f'{SCHEMA}.{view}()'}")
    for name in MACROS:
        connection.execute(read_sql("macros", name))
    if describe:
        connection.execute(";".join(comments.statements(found, views)))


def create_table(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """Copy an Arrow table into the connection's own memory as table `name`."""
    connection.register("arrow_rows", rows)
    connection.execute(f"CREATE TABLE {name} AS FROM arrow_rows")
    connection.unregister("arrow_rows")


def read_sql(folder: str, name: str) -> str:
    """The text of `warehouse/<folder>/<name>.sql`."""
    return resources.files("warehouse").joinpath("sql", folder, f"{name}.sql").read_text("utf-8")


def register_mel_db(connection: duckdb.DuckDBPyConnection, spec: Spec) -> None:
    """Register `mel_db(mel BLOB) -> FLOAT[]`: the dB values of a stored mel spectrogram, band-major, as one list."""

    def mel_db(column: pa.Array) -> pa.Array:
        mels = [arrays.decode_mel(v.as_buffer(), spec.n_mels).ravel() for v in column]
        offsets = np.cumsum([0, *(m.size for m in mels)], dtype=np.int32)
        values = np.concatenate([np.empty(0, np.float32), *mels])
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))

    connection.create_function("mel_db", mel_db, ["BLOB"], "FLOAT[]", type="arrow")  # type: ignore[call-overload]
