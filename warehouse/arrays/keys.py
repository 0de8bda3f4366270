"""Which rows: the keys of a feature set by split, subset and label, and the batch whose files hold each of them.

A key is (track_id, excerpt). Rows are ordered by key wherever nothing else is said.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import duckdb
import pyarrow as pa

from featurestore import schemas
from featurestore.catalog import splits
from featurestore.errors import MissingInput, UsageError
from featurestore.store.store import OWN_SET, Store, default_scheme
from warehouse.database import derived
from warehouse.database.connection import connect, open_store
from warehouse.database.sql import identifier, read_sql
from warehouse.database.views import SCHEMA

MEASURED_TABLES = ("features", "mel", "wave")


def examples(
    store: Store | str | os.PathLike[str],
    *,
    scheme: str,
    split: str | None = None,
    subset: str | None = None,
    table: str = "mel",
) -> pa.Table:
    """The labelled keys that can be exported from a measured table, ordered by key.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.
    scheme : str
        Split scheme: official, artist or random. Only tracks that have a split in it are listed.
    split : str, optional
        training, validation or test; all of them where none is given.
    subset : str, optional
        FMA subset, the smaller ones included.
    table : str
        features, mel or wave.

    Returns
    -------
    pyarrow.Table
        track_id int64, excerpt int16, genre string, split string.

    Raises
    ------
    UsageError
        For an unknown name.
    MissingInput
        If the store has no such split or nothing of that table.

    Examples
    --------
    >>> examples(store, scheme="artist", split="test").slice(0, 2).to_pylist()  # doctest: +NORMALIZE_WHITESPACE
    [{'track_id': 16, 'excerpt': 0, 'genre': 'Ambient', 'split': 'test'},
     {'track_id': 17, 'excerpt': 0, 'genre': 'Blues', 'split': 'test'}]
    """
    if table not in MEASURED_TABLES:
        raise UsageError(f"no table {table!r} to export", f"Expected one of {', '.join(MEASURED_TABLES)}.")
    with open_snapshot(store) as (opened, connection):
        require_table(opened, table)
        rows = select_keys(opened, connection, scheme=scheme, split=split, subset=subset, labelled=True)
    return rows.select(["track_id", "excerpt", "genre", "split"])


@contextlib.contextmanager
def open_snapshot(store: Store | str | os.PathLike[str]) -> Iterator[tuple[Store, duckdb.DuckDBPyConnection]]:
    """Open a store and a connection that runs SQL of ours: it is not locked, and it is closed when the block ends.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.

    Yields
    ------
    (Store, duckdb.DuckDBPyConnection)

    Raises
    ------
    FeatureStoreError
        What `connect` raises.
    """
    opened = open_store(store)
    with contextlib.closing(connect(opened, read_only=False)) as connection:
        yield opened, connection


def require_table(store: Store, table: str) -> None:
    """Make sure that the store has measured rows, and waveforms where those are asked for.

    Parameters
    ----------
    store : Store
    table : str
        features, mel or wave.

    Raises
    ------
    MissingInput
        If nothing was measured, or `table` is wave and the store keeps none.
    """
    if table == "wave" and not store.spec.wave_samples:
        raise MissingInput(
            f"store {store.url} keeps no waveforms (spec: wave_seconds is 0)",
            "Build a store that does: `python -m featurestore build --wave-seconds 3 --store PATH ...`.",
        )
    if not store.batches():
        raise MissingInput(
            f"store {store.url} has no {table} rows: nothing was measured yet",
            "Measure audio with `python -m featurestore build --dataset NAME --audio DIR`.",
        )


def select_keys(
    store: Store,
    connection: duckdb.DuckDBPyConnection,
    *,
    features: str = OWN_SET,
    scheme: str | None,
    split: str | None,
    subset: str | None,
    labelled: bool,
) -> pa.Table:
    """The keys of a feature set that belong to a split, a subset and a label.

    Parameters
    ----------
    store : Store
    connection : duckdb.DuckDBPyConnection
        One that shows this store.
    features : str
        `librosa` (measured here) or an imported set.
    scheme : str or None
        Split scheme; only tracks that have a split in it are listed. None is the store's default where a split is asked
        for, and no scheme at all otherwise.
    split : str or None
        training, validation or test; None for all.
    subset : str or None
        FMA subset, the smaller ones included.
    labelled : bool
        Only tracks with a genre.

    Returns
    -------
    pyarrow.Table
        track_id int64, excerpt int16, batch string (NULL for an imported set), genre string, artist_group int64, split
        string; ordered by key.

    Raises
    ------
    UsageError
        For an unknown split, scheme or subset.
    MissingInput
        If the store has no such split or no such row.
    """
    _check_choice("split", split, schemas.SPLITS)
    _check_choice("scheme", scheme, schemas.SCHEMES)
    _check_choice("subset", subset, schemas.SUBSETS)
    if split is not None and scheme is None:
        scheme = default_scheme(store)
    parameters = {
        "scheme": scheme,
        "split": split,
        "subsets": None if subset is None else list(schemas.SUBSETS[: schemas.SUBSETS.index(subset) + 1]),
        "labelled": labelled,
    }
    sql = read_sql("keys").replace("{located}", _located_sql(features))
    rows = connection.sql(sql, params=parameters).to_arrow_table()
    if not len(rows):
        _explain_nothing(store, features, scheme, split, subset, labelled)
    return rows


def locate_keys(store: Store, connection: duckdb.DuckDBPyConnection, keys: pa.Table) -> pa.Table:
    """The rows of `select_keys` that belong to given keys of the measured set.

    Parameters
    ----------
    store : Store
    connection : duckdb.DuckDBPyConnection
        One that shows this store, made by `open_snapshot`.
    keys : pyarrow.Table
        With track_id and excerpt, in any order, repeated ones too.

    Returns
    -------
    pyarrow.Table
        As `select_keys`, one row for each row of `keys`, in their order.

    Raises
    ------
    UsageError
        If `keys` lacks a column.
    MissingInput
        If the store does not hold one of them.
    """
    absent = {"track_id", "excerpt"} - set(keys.column_names)
    if absent:
        raise UsageError(
            f"keys lack the column {' and '.join(sorted(absent))}; found {', '.join(keys.column_names) or 'none'}",
            "Take them from warehouse.examples(...).",
        )
    rows = select_keys(store, connection, scheme=None, split=None, subset=None, labelled=False)
    connection.register("held", rows)
    connection.register("asked", keys.select(["track_id", "excerpt"]).append_column("place", [range(len(keys))]))
    joined = "SELECT h.* FROM asked AS a LEFT JOIN held AS h USING (track_id, excerpt) ORDER BY a.place"
    found = connection.sql(joined).to_arrow_table()
    if found["batch"].null_count:
        key = keys.slice(found["batch"].is_null().index(True).as_py(), 1).to_pylist()[0]
        raise MissingInput(
            f"store {store.url} holds no excerpt {key['excerpt']} of track {key['track_id']}",
            "Take the keys from warehouse.examples(...) on the same store.",
        )
    return found


def _located_sql(features: str) -> str:
    if features == OWN_SET:
        return f"{derived.NAME}.{SCHEMA}.places"
    name = identifier(f"features_{features}")
    return f"(SELECT track_id, 0::SMALLINT AS excerpt, NULL::VARCHAR AS batch FROM {name})"


def _check_choice(what: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise UsageError(f"unknown {what} {value!r}", f"Expected one of {', '.join(choices)}.")


def _explain_nothing(
    store: Store, features: str, scheme: str | None, split: str | None, subset: str | None, labelled: bool
) -> None:
    if scheme is not None and scheme not in store.read_catalog("splits", ["scheme"])["scheme"].unique().to_pylist():
        raise MissingInput(
            f"store {store.url} has no splits of scheme {scheme!r}",
            splits.advice(scheme),
        )
    asked = {"split": split, "scheme": scheme, "subset": subset}
    limits = [f"{k} {v}" for k, v in asked.items() if v is not None] + (["labelled"] if labelled else [])
    raise MissingInput(
        f"store {store.url} has no rows of feature set {features!r} that are {', '.join(limits) or 'current'}",
        "See what it holds with `python -m featurestore status`; labels come from `python -m featurestore catalog`.",
    )
