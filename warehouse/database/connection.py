"""A DuckDB connection that shows one snapshot of a store, locked so that no statement can write.

What it shows is the database of the snapshot (see `derived`), attached read-only, and the function `mel_db`. Tables
that people create live in its own memory.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from featurestore.errors import REPAIR, FeatureStoreError, StoreDamaged, UsageError
from featurestore.spec import Spec
from featurestore.store import arrays, places
from featurestore.store.store import Store
from warehouse.database import derived
from warehouse.database.readonly import PREFIX, SnapshotFiles
from warehouse.database.sql import literal

T = TypeVar("T")
Parameters = Sequence[object] | Mapping[str, object] | None

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
# a snapshot's files never change: each footer is read once. No spilling: DuckDB would let a statement write to its
# folder for temporary files.
_SETTINGS = "SET TimeZone = 'UTC'; SET parquet_metadata_cache = true; SET temp_directory = ''"
# the file of an attached database stays allowed for reading and writing when external access ends, so the local file
# system is switched off as well
_LOCK = f"""
SET python_enable_replacements = false;
SET allowed_directories = ['{PREFIX}'];
SET enable_external_access = false;
SET disabled_filesystems = 'LocalFileSystem';
SET lock_configuration = true;
"""

_open: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()


def open_store(store: Store | str | os.PathLike[str]) -> Store:
    """The store that the caller named or already opened.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.

    Returns
    -------
    Store

    Raises
    ------
    MissingStore, SpecMismatch, StoreDamaged
        As `Store.open`.
    """
    return store if isinstance(store, Store) else Store.open(os.fspath(store))


def connect(
    store: Store | str | os.PathLike[str], *, read_only: bool = True, memory_limit: str | None = None
) -> duckdb.DuckDBPyConnection:
    """A new DuckDB connection that shows a store as views, tables and macros.

    It shows the store as it is now: batches committed later appear in the next connection. The first connection to a
    new state of a store on this machine's disk makes its database there, which takes seconds for 100,000 tracks.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.
    read_only : bool
        No statement can write a file, read one outside the store, load an extension or change a setting; tables made
        in the connection live in memory. With False it may do all that, and still never writes to the store.
    memory_limit : str, optional
        What the connection's statements may use, such as `4GB`; DuckDB's own default is 80 % of the machine's memory.

    Returns
    -------
    duckdb.DuckDBPyConnection

    Raises
    ------
    MissingStore, SpecMismatch, StoreDamaged
        If there is no such store, it is of another version, or a file of it cannot be read.
    UsageError
        If `memory_limit` is no size.

    Examples
    --------
    >>> with connect(store) as connection:
    ...     connection.execute("SELECT count(*) FROM tracks WHERE genre = 'Blues'").fetchall()
    [(8,)]
    """
    opened = open_store(store)
    connection = duckdb.connect(":memory:", config=_CONFIG)
    filesystem = SnapshotFiles(opened)
    # closed at exit: a function that outlives the interpreter makes DuckDB 2.0 print pages of leak messages
    _open.add(connection)
    connection.register_filesystem(filesystem)
    connection.execute(_SETTINGS)
    # in a notebook without ipywidgets the bar is off, and DuckDB refuses to hear of it
    if connection.execute("SELECT current_setting('enable_progress_bar')").fetchall()[0][0]:
        connection.execute("SET enable_progress_bar = false")
    try:
        interruptible(connection, lambda: derived.attach(connection, opened, filesystem))
    except duckdb.Error as error:
        raise StoreDamaged(str(failure(error)), REPAIR) from None
    _register_mel_db(connection, opened.spec)
    if memory_limit is not None:
        _limit_memory(connection, memory_limit)
    if read_only:
        connection.execute(_LOCK)
    return connection


def _limit_memory(connection: duckdb.DuckDBPyConnection, size: str) -> None:
    try:
        connection.execute(f"SET memory_limit = {literal(size)}")
    except duckdb.Error as error:
        raise UsageError(f"{size!r} is no amount of memory ({error})", "Write one such as 4GB.") from None


@atexit.register
def _close_all() -> None:
    for connection in list(_open):
        with contextlib.suppress(duckdb.Error):
            connection.close()


def query(store: Store | str | os.PathLike[str], sql: str, parameters: Parameters = None) -> pa.Table:
    """The rows of one or more SQL statements (of the last that returns rows), read-only. Ctrl-C ends it.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.
    sql : str
        DuckDB's SQL.
    parameters : sequence or mapping, optional
        Values of `$1` or `$name` in it.

    Returns
    -------
    pyarrow.Table
        The rows; a table without columns where no statement returns any.

    Raises
    ------
    FeatureStoreError
        With DuckDB's own pointer to the mistake in `sql`; and what `connect` raises.

    Examples
    --------
    >>> query(store, "SELECT genre, count(*) AS n FROM tracks GROUP BY genre ORDER BY genre").to_pylist()
    [{'genre': 'Ambient', 'n': 8}, {'genre': 'Blues', 'n': 8}, {'genre': 'Choral', 'n': 8}]
    >>> query(store, "SELECT genre FROM tracks WHERE track_id = $id", {"id": 2})["genre"][0].as_py()
    'Blues'
    """
    with contextlib.closing(connect(store)) as connection:
        try:
            return interruptible(connection, lambda: _fetch(connection, sql, parameters))
        except (duckdb.Error, RuntimeError) as error:
            raise failure(error) from None


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters) -> pa.Table:
    rows = relation(connection, sql, parameters)
    return pa.table({}) if rows is None else rows.to_arrow_table()


def relation(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters = None
) -> duckdb.DuckDBPyRelation | None:
    """The result of SQL, planned and not yet read.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
    sql : str
        One or more statements.
    parameters : sequence or mapping, optional
        Values of `$1` or `$name` in it.

    Returns
    -------
    duckdb.DuckDBPyRelation or None
        None where no statement has a result.

    Raises
    ------
    duckdb.Error
        With a pointer into `sql`.
    """
    try:
        return connection.sql(sql, params=parameters)
    except (duckdb.BinderException, duckdb.CatalogException):
        # what cannot be bound was not run; asked in this way, DuckDB adds the line and the place in it
        connection.execute(sql, parameters)
        raise


def interruptible(connection: duckdb.DuckDBPyConnection, work: Callable[[], T], timeout: float | None = None) -> T:
    """Run work that uses a connection in a thread of its own, so that Ctrl-C or a time limit can stop its query.

    In the thread that handles signals, Ctrl-C makes DuckDB raise RuntimeError, not always KeyboardInterrupt.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
    work : callable
        Takes no arguments.
    timeout : float, optional
        Seconds; no limit by default.

    Returns
    -------
    object
        What `work` returns.

    Raises
    ------
    FeatureStoreError
        If it took longer than `timeout`.
    KeyboardInterrupt
        At Ctrl-C, when the work has ended.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            if timeout is None or wait([future], timeout).done:
                return future.result()
        except KeyboardInterrupt:
            _stop(connection, future)
            raise
        _stop(connection, future)
    raise FeatureStoreError(f"stopped after {timeout:g} s", "Ask for less, or give it longer with --timeout.")


def _stop(connection: duckdb.DuckDBPyConnection, future: Future[T]) -> None:
    # before the query has begun there is nothing that an interrupt could stop: ask until it ends
    while not future.done():
        with contextlib.suppress(KeyboardInterrupt):
            connection.interrupt()
            wait([future], 0.1)


def failure(error: Exception) -> FeatureStoreError:
    """DuckDB's error as one of ours, with its pointer into the SQL and without Python's traceback.

    Parameters
    ----------
    error : Exception
        A duckdb.Error, or the RuntimeError of a function or file of ours that DuckDB called.

    Returns
    -------
    FeatureStoreError
        With advice, where there is any.
    """
    text = str(error).strip()
    # an error in a function or file of ours carries Python's traceback; its last line says what happened
    head, traceback, rest = text.partition("Traceback (most recent call last)")
    if traceback:
        lines = [line for line in re.split(r"\n\nLINE ", rest)[0].splitlines() if line and not line.startswith(" ")]
        text = (head + (lines[-1] if lines else rest)).strip()
    return FeatureStoreError(text, _advice(error, text))


def _advice(error: Exception, text: str) -> str:
    if isinstance(error, duckdb.PermissionException) or "PermissionError" in text:
        return "Nothing can be written from SQL here; keep a result with `python -m warehouse ... --output FILE`."
    if isinstance(error, duckdb.OutOfMemoryException):
        return "Ask for fewer rows or columns, or allow more with --memory-limit."
    if "Corrupt database" in text or f"/{places.DERIVED}/" in text:
        return f"Delete the folder {places.DERIVED} of the store: the next connection makes it again."
    return ""


def _register_mel_db(connection: duckdb.DuckDBPyConnection, spec: Spec) -> None:
    """Register `mel_db(mel BLOB) -> FLOAT[]`: the dB values of a stored mel spectrogram, band-major, as one list."""

    def mel_db(column: Any) -> Any:  # DuckDB evaluates the annotations
        mels = [arrays.decode_mel(v.as_buffer(), spec.n_mels).ravel() for v in column]
        offsets = np.cumsum([0, *(m.size for m in mels)], dtype=np.int32)
        values = np.concatenate([np.empty(0, np.float32), *mels])
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))

    connection.create_function("mel_db", mel_db, ["BLOB"], "FLOAT[]", type="arrow")  # type: ignore[call-overload]
