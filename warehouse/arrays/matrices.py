"""The design matrix of a feature set: one contiguous float32 array, filled block by block.

DuckDB decides which rows (splits, labels, superseded batches) and hands over their values in blocks, which are copied
into place: the extra memory does not grow with the store.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa

from featurestore import registry
from featurestore.errors import REPAIR, MissingInput, StoreDamaged, UsageError
from featurestore.store.store import OWN_SET, Store, default_scheme
from warehouse.arrays.keys import open_snapshot, require_table, select_keys
from warehouse.database.connection import failure
from warehouse.database.sql import identifier
from warehouse.database.views import catalog_schema

_ROWS, _COLUMNS = 4096, 64  # transposed at a time: a block of a megabyte stays in the cache


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Rows of a feature set, ordered by (track_id, excerpt).

    Attributes
    ----------
    X : np.ndarray
        (n, d) float32, C-contiguous; finite for `librosa`, an imported set may hold NaN.
    y : np.ndarray
        (n,) object: genre as str, None where unlabelled.
    groups : np.ndarray
        (n,) int64: the artist, as `artist_group` in SQL; a track whose artist is unknown is a group of its own.
    track_ids : np.ndarray
        (n,) int64.
    excerpts : np.ndarray
        (n,) int16; 0 for imported sets, which have one row per track.
    columns : tuple of str
        d column names, in stored order.
    scheme : str or None
        The split scheme that the rows were chosen by; None where no split was asked for.

    Examples
    --------
    >>> matrix(store, groups=["tempo"]).columns
    ('tempo_value_01',)
    """

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    track_ids: np.ndarray
    excerpts: np.ndarray
    columns: tuple[str, ...]
    scheme: str | None


def matrix(
    store: Store | str | os.PathLike[str],
    *,
    features: str = OWN_SET,
    split: str | None = None,
    scheme: str | None = None,
    groups: Sequence[str] | None = None,
    subset: str | None = None,
    labelled: bool = True,
) -> Matrix:
    """The values of a feature set.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.
    features : str
        `librosa` (measured here) or an imported set.
    split : str, optional
        training, validation or test; every row where none is given.
    scheme : str, optional
        official, artist or random; the store's default scheme where a split is asked for and no scheme.
    groups : sequence of str, optional
        Feature groups ("fma", "rhythm"), features ("mfcc") or columns ("mfcc_mean_01") to keep; all by default.
    subset : str, optional
        FMA subset, the smaller ones included.
    labelled : bool
        Only tracks with a genre.

    Returns
    -------
    Matrix

    Raises
    ------
    UsageError
        For an unknown name.
    MissingInput
        If the store lacks the set, the split or any such row.

    Examples
    --------
    >>> m = matrix(store, split="training", scheme="artist", groups=["mfcc"])
    >>> m.X.shape, m.X.dtype, m.columns[0]
    ((18, 140), dtype('float32'), 'mfcc_mean_01')
    """
    with open_snapshot(store) as (opened, connection):
        columns = _select_columns(opened, features, groups)
        if split is not None and scheme is None:
            scheme = default_scheme(opened)
        keys = select_keys(
            opened, connection, features=features, scheme=scheme, split=split, subset=subset, labelled=labelled
        )
        X = _values(opened, connection, features, columns, keys)
    return Matrix(
        X=X,
        y=keys["genre"].to_numpy(zero_copy_only=False),
        groups=keys["artist_group"].to_numpy(),
        track_ids=keys["track_id"].to_numpy(),
        excerpts=keys["excerpt"].to_numpy(),
        columns=columns,
        scheme=scheme,
    )


def _select_columns(store: Store, features: str, groups: Sequence[str] | None) -> tuple[str, ...]:
    """Columns of a feature set that belong to any of `groups`, in stored order."""
    names = _set_columns(store, features)
    if groups is None:
        return names
    tags = {name: _tags(name) for name in names}
    known = set().union(*tags.values()) if tags else set()
    unknown = [g for g in groups if g not in known]
    if unknown or not groups:
        choices = sorted(known - set(names)) or sorted(names)
        raise UsageError(
            f"feature set {features!r} has nothing called {', '.join(map(repr, unknown)) or '(nothing was named)'}",
            f"Choose from {', '.join(choices)}, or name single columns.",
        )
    return tuple(name for name in names if tags[name] & set(groups))


def _tags(column: str) -> set[str]:
    feature = (registry.parse_column(column) or (column,))[0]
    known = registry.BY_NAME.get(feature)
    return {column, feature} | ({known.group} if known else set())


def _set_columns(store: Store, features: str) -> tuple[str, ...]:
    if features == OWN_SET:
        require_table(store, "features")
        return registry.column_names(store.spec.groups)
    if features not in store.feature_sets():
        sets = ", ".join((OWN_SET, *store.feature_sets()))
        raise MissingInput(
            f"store {store.url} has no feature set {features!r}; it has {sets}",
            "Add one with `python -m featurestore import-features --set NAME TABLE`.",
        )
    fields = catalog_schema(store, f"features_{features}")
    return tuple(f.name for f in fields if f.name != "track_id" and _is_number(f.type))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _values(
    store: Store, connection: duckdb.DuckDBPyConnection, features: str, columns: tuple[str, ...], keys: pa.Table
) -> np.ndarray:
    """The values (n, d) float32 of `keys`, whatever the order in which DuckDB finds them."""
    X = np.empty((len(keys), len(columns)), np.float32)
    own = features == OWN_SET
    table, using = ("features", "track_id, excerpt") if own else (identifier(f"features_{features}"), "track_id")
    wanted = pa.table({"place": np.arange(len(keys)), "track_id": keys["track_id"], "excerpt": keys["excerpt"]})
    connection.register("wanted", wanted)
    names = ", ".join(f"f.{identifier(name)}" for name in columns)
    missing = np.ones(len(keys), bool)
    # a thread holds a block of a quarter of a megabyte for each column; more would only keep what has been read
    connection.execute(f"SET threads = 2; SET memory_limit = '{500 + 2 * len(columns)}MB'")
    try:
        rows = connection.sql(f"SELECT w.place, {names} FROM {table} AS f JOIN wanted AS w USING ({using})")
        for batch in rows.to_arrow_reader(_ROWS):
            places = batch["place"].to_numpy()
            _copy(batch.columns[1:], places, X)
            missing[places] = False
    except duckdb.Error as error:
        raise StoreDamaged(str(failure(error)), REPAIR) from None
    if missing.any():
        key = keys.slice(int(missing.argmax()), 1).to_pylist()[0]
        raise StoreDamaged(
            f"{table}/{key['batch']}.parquet: no row of track {key['track_id']}, excerpt {key['excerpt']},"
            " which excerpts lists",
            REPAIR,
        )
    return X


def _copy(values: list[pa.Array], places: np.ndarray, X: np.ndarray) -> None:
    """X[places] = values, transposed in blocks; NULL becomes NaN."""
    target = slice(places[0], places[-1] + 1) if (np.diff(places) == 1).all() else places
    for first in range(0, len(values), _COLUMNS):
        columns = (_float32(column) for column in values[first : first + _COLUMNS])
        X[target, first : first + _COLUMNS] = np.stack(list(columns), axis=0).T


def _float32(column: pa.Array) -> np.ndarray:
    """The column as float32 (n,), NULL as NaN."""
    return column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
