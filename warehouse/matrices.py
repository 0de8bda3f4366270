"""The design matrix of a feature set: one contiguous float32 array, filled row group by row group.

DuckDB decides which rows (splits, labels, superseded batches); pyarrow reads their values straight into place, so
that the extra memory is a few row groups whatever the size of the store.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from featurestore import registry
from featurestore.errors import MissingInput, StoreDamaged, UsageError
from featurestore.store import OWN_SET, REPAIR, Store, default_scheme
from warehouse.comments import imported_schema
from warehouse.keys import artist_groups, open_contents, require_table, select_keys
from warehouse.relations import Contents
from warehouse.rows import key_arrays, open_parquet, positions, read_keys

_ROWS = 2048  # rows transposed at a time: a block of all columns stays near the cache


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Rows of a feature set, ordered by (track_id, excerpt).

    X          (n, d) float32, C-contiguous; finite for `librosa`, an imported set may hold NaN
    y          (n,) object: genre as str, None where unlabelled
    groups     (n,) int64: artist; a track whose artist is unknown is a group of its own
    track_ids  (n,) int64
    excerpts   (n,) int16; 0 for imported sets, which have one row per track
    columns    d column names, in stored order
    scheme     the split scheme the rows were chosen by; None where no split was asked for
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
    """The values of a feature set as a `Matrix`.

    features  `librosa` (measured here) or an imported set
    split     training, validation or test, of `scheme` (default: the store's default scheme); None: every row
    groups    feature groups ("fma", "rhythm"), features ("mfcc") or columns ("mfcc_mean_01") to keep; None: all
    subset    FMA subset, the smaller ones included
    labelled  only tracks with a genre

    Raises UsageError for an unknown name, MissingInput where the store lacks the set, the split or any such row.
    """
    found = open_contents(store)
    columns = select_columns(found, features, groups)
    if split is not None and scheme is None:
        scheme = default_scheme(found.store)
    keys = select_keys(found, features=features, scheme=scheme, split=split, subset=subset, labelled=labelled)
    X = np.empty((len(keys), len(columns)), np.float32)
    for path, rows in _files(found, features, keys):
        _fill(found.store, path, columns, keys, rows, X)
    return Matrix(
        X=X,
        y=keys["genre"].to_numpy(zero_copy_only=False),
        groups=artist_groups(keys),
        track_ids=keys["track_id"].to_numpy(),
        excerpts=keys["excerpt"].to_numpy(),
        columns=columns,
        scheme=scheme,
    )


def select_columns(found: Contents, features: str, groups: Sequence[str] | None) -> tuple[str, ...]:
    """Columns of a feature set that belong to any of `groups`, in stored order.

    Raises UsageError naming what could be chosen, MissingInput where the store lacks the set.
    """
    names = _set_columns(found, features)
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


def _set_columns(found: Contents, features: str) -> tuple[str, ...]:
    if features == OWN_SET:
        require_table(found, "features")
        return registry.column_names(found.store.spec.groups)
    if features not in found.feature_sets:
        sets = ", ".join((OWN_SET, *found.feature_sets))
        raise MissingInput(
            f"store {found.store.url} has no feature set {features!r}; it has {sets}",
            "Add one with `python -m featurestore import-features --set NAME TABLE`.",
        )
    return tuple(f.name for f in imported_schema(found, features) if f.name != "track_id" and _is_number(f.type))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _files(found: Contents, features: str, keys: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
    """(path, positions in `keys` of its rows) of each file that holds some of them."""
    if features != OWN_SET:
        yield found.store.catalog_path(f"features_{features}"), np.arange(len(keys))
        return
    batch = keys["batch"].combine_chunks().dictionary_encode()
    codes = batch.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(batch.dictionary) + 1))
    for i, name in enumerate(batch.dictionary.to_pylist()):
        yield found.store.batch_path("features", name), order[starts[i] : starts[i + 1]]


def _fill(store: Store, path: str, columns: tuple[str, ...], keys: pa.Table, rows: np.ndarray, X: np.ndarray) -> None:
    """Copy the values of `keys[rows]`, all in the file at `path`, into X[rows]."""
    wanted = key_arrays(keys.take(rows))
    filled = 0
    with open_parquet(store, path, once=True) as parquet:
        for group in range(parquet.num_row_groups):
            slots = positions(read_keys(parquet, [group]), wanted)
            hit = np.flatnonzero(slots >= 0)
            if len(hit):
                _copy(parquet.read_row_group(group, list(columns)), columns, hit, rows[slots[hit]], X)
                filled += len(hit)
    if filled != len(rows):
        raise StoreDamaged(f"{path}: expected {len(rows)} of the rows that excerpts lists, found {filled}", REPAIR)


def _copy(values: pa.Table, columns: tuple[str, ...], source: np.ndarray, target: np.ndarray, X: np.ndarray) -> None:
    """X[target] = values[source], transposed in blocks."""
    arrays = [_float32(values[name]) for name in columns]
    for start in range(0, len(source), _ROWS):
        rows = _as_slice(source[start : start + _ROWS])
        X[_as_slice(target[start : start + _ROWS])] = np.stack([a[rows] for a in arrays], axis=0).T


def _as_slice(index: np.ndarray) -> np.ndarray | slice:
    # neighbouring rows, the usual case, are copied without an index array
    first, last = int(index[0]), int(index[-1])
    straight = last - first == len(index) - 1 and bool((np.diff(index) == 1).all())
    return slice(first, last + 1) if straight else index


def _float32(column: pa.ChunkedArray) -> np.ndarray:
    """The column as float32 (n,), NULL as NaN."""
    return column.cast(pa.float32(), safe=False).to_numpy()
