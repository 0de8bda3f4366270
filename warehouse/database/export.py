"""A DuckDB database file of views over a store, for programs that know DuckDB and nothing of us."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

import duckdb

from featurestore.errors import UsageError
from featurestore.store import files, places
from featurestore.store.store import Store
from warehouse.database.connection import failure, interruptible, open_store
from warehouse.database.fill import fill
from warehouse.database.sql import literal, read_sql
from warehouse.database.views import Contents, contents


@dataclasses.dataclass(frozen=True)
class Written:
    """A database file that was written: its path, how many tables and views it has, how it is opened."""

    path: str
    views: int
    how: str


def write_database(
    store: Store | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    absolute: bool = False,
    force: bool = False,
) -> Written:
    """Write a DuckDB database over a store, for programs that know DuckDB and nothing of us. It is written atomically.

    Small tables and the vectors of `similar_tracks` are in the file; features, mel and wave are views over the store's
    files, and `mel_db` is plain SQL. It shows the store as it is now: write it again when the store has changed.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.
    path : str or path
        A local file.
    absolute : bool
        The views name the store's files relative to the folder of `path` (a remote store: by URL), so that the two can
        move together; the file is opened from that folder. True: they name them by absolute paths, so that the file is
        opened from anywhere (DBeaver, a notebook) while the store stays where it is.
    force : bool
        Replace a file that is there.

    Returns
    -------
    Written

    Raises
    ------
    UsageError
        If `path` exists and force is not given, or lies inside the store.
    FeatureStoreError
        If it cannot be written.

    Examples
    --------
    >>> write_database(store, folder / "music.duckdb").views
    15
    """
    target = os.path.abspath(os.fspath(path))
    if os.path.exists(target) and not force:
        raise UsageError(f"{target} exists", "Give --force to replace it, or name another file.")
    found = contents(open_store(store))
    places.refuse_inside(target, "the database", found.store.url)
    folder = os.path.dirname(target)
    root = _root(found, None if absolute else folder)
    try:
        with files.replacing(files.resolve(folder)[0], target) as temporary, contextlib.ExitStack() as stack:
            stack.callback(Path(f"{temporary}.wal").unlink, missing_ok=True)
            views = _write(found, temporary, folder, root)
    except duckdb.Error as error:
        raise failure(error) from None
    return Written(target, views, _how(found, target, absolute))


def _root(found: Contents, folder: str | None) -> str:
    """The store as the views name it: relative to `folder` where one is given, absolute otherwise; or its URL."""
    if not files.is_local(found.store.fs):
        return str(found.store.fs.unstrip_protocol(found.store.root))
    return os.path.relpath(found.store.root, folder) if folder else os.path.abspath(found.store.root)


def _write(found: Contents, path: str, folder: str, root: str) -> int:
    """Fill the database file `path`, which will lie in `folder`, for a store at `root`; returns the number of views."""
    with contextlib.closing(duckdb.connect(path)) as connection:
        connection.execute(f"SET TimeZone = 'UTC'; SET file_search_path = {literal(folder)}")
        if not files.is_local(found.store.fs):
            connection.register_filesystem(found.store.fs)
        kinds = interruptible(connection, lambda: fill(connection, found, f"{root}/", copied=["vectors"]))
        connection.execute(read_sql("portable/mel_db"))
        return len(kinds)


def _how(found: Contents, target: str, absolute: bool) -> str:
    folder, name = os.path.split(target)
    if not files.is_local(found.store.fs):
        return f"Open it with a DuckDB that can read {found.store.url}."
    if absolute:
        return f"Open it from anywhere, as long as the store stays at {os.path.abspath(found.store.root)}."
    elsewhere = f"elsewhere SET file_search_path = {literal(folder)} first, or write it with --absolute"
    return f"Open it from its folder (cd {folder} && duckdb {name}); {elsewhere}."
