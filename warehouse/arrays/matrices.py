"""The design matrix of a feature set: one contiguous float32 array, filled row group by row group.

DuckDB decides which rows (splits, labels, superseded batches); pyarrow reads their values straight into place, so
that the extra memory is a few row groups whatever the size of the store.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import registry
from featurestore.errors import REPAIR, MissingInput, StoreDamaged, UsageError
from featurestore.store.store import OWN_SET, Store, default_scheme
from warehouse.arrays.keys import artist_groups, open_contents, require_table, select_keys
from warehouse.arrays.rows import key_arrays, open_parquet, positions, read_keys
from warehouse.database.views import Contents, catalog_schema

_ROWS, _COLUMNS = 4096, 64  # transposed at a time: a block of a megabyte stays in the cache


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
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reader = _Reader(found.store, columns, pool)
        if whole := _whole_file(found, features):
            reader.start(whole, 0)  # while DuckDB looks up the rows
        keys = select_keys(found, features=features, scheme=scheme, split=split, subset=subset, labelled=labelled)
        X = np.empty((len(keys), len(columns)), np.float32)
        for path, rows in [(whole, np.arange(len(keys)))] if whole else _files(found, keys):
            _fill(reader, path, keys, rows, X)
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
    return tuple(
        f.name for f in catalog_schema(found, f"features_{features}") if f.name != "track_id" and _is_number(f.type)
    )


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _whole_file(found: Contents, features: str) -> str | None:
    """Path of the one file that holds every row of a feature set; None where batches do."""
    if features != OWN_SET:
        return found.store.catalog_path(f"features_{features}")
    return None


def _files(found: Contents, keys: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
    """(path, positions in `keys` of its rows) of each batch that holds some of them."""
    batch = keys["batch"].combine_chunks().dictionary_encode()
    codes = batch.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(batch.dictionary) + 1))
    for i, name in enumerate(batch.dictionary.to_pylist()):
        yield found.store.batch_path("features", name), order[starts[i] : starts[i + 1]]


class _Reader:
    """Row groups of Parquet files, float32 columns, each read while the one before is used."""

    def __init__(self, store: Store, columns: tuple[str, ...], pool: concurrent.futures.Executor) -> None:
        self.store, self._columns, self._pool = store, columns, pool
        self._ahead: dict[tuple[str, int], concurrent.futures.Future[list[np.ndarray]]] = {}

    def start(self, path: str, group: int, metadata: pq.FileMetaData | None = None) -> None:
        """Begin to read a row group, unless that was begun."""
        if (path, group) not in self._ahead:
            self._ahead[path, group] = self._pool.submit(self._read, path, group, metadata)

    def take(self, path: str, group: int) -> list[np.ndarray]:
        """The columns of a row group that was begun, (rows,) each."""
        return self._ahead.pop((path, group)).result()

    def _read(self, path: str, group: int, metadata: pq.FileMetaData | None) -> list[np.ndarray]:
        with open_parquet(self.store, path, metadata=metadata, once=True) as parquet:
            table = parquet.read_row_group(group, list(self._columns))
        return [_float32(table[name]) for name in self._columns]


def _fill(reader: _Reader, path: str, keys: pa.Table, rows: np.ndarray, X: np.ndarray) -> None:
    """Copy the values of `keys[rows]`, all in the file at `path`, into X[rows]."""
    with open_parquet(reader.store, path) as parquet:
        metadata, groups = parquet.metadata, range(parquet.num_row_groups)
        slots = positions(read_keys(parquet, groups), key_arrays(keys.take(rows)))
    starts = np.cumsum([0, *(metadata.row_group(g).num_rows for g in groups)])
    parts = {g: starts[g] + np.flatnonzero(slots[starts[g] : starts[g + 1]] >= 0) for g in groups}
    wanted = [g for g in groups if len(parts[g])]
    for g, following in itertools.zip_longest(wanted, wanted[1:]):
        reader.start(path, g, metadata)
        if following is not None:
            reader.start(path, following, metadata)
        _copy(reader.take(path, g), parts[g] - starts[g], rows[slots[parts[g]]], X)
    filled = sum(map(len, parts.values()))
    if filled != len(rows):
        raise StoreDamaged(f"{path}: expected {len(rows)} of the rows that excerpts lists, found {filled}", REPAIR)


def _copy(values: list[np.ndarray], source: np.ndarray, target: np.ndarray, X: np.ndarray) -> None:
    """X[target] = values[:, source], transposed in blocks."""
    for start in range(0, len(source), _ROWS):
        rows, to = (_as_slice(index[start : start + _ROWS]) for index in (source, target))
        for first in range(0, len(values), _COLUMNS):
            block = np.stack([column[rows] for column in values[first : first + _COLUMNS]], axis=0)
            X[to, first : first + _COLUMNS] = block.T


def _as_slice(index: np.ndarray) -> np.ndarray | slice:
    # neighbouring rows, the usual case, are copied without an index array
    first, last = int(index[0]), int(index[-1])
    straight = last - first == len(index) - 1 and bool((np.diff(index) == 1).all())
    return slice(first, last + 1) if straight else index


def _float32(column: pa.ChunkedArray) -> np.ndarray:
    """The column as float32 (n,), NULL as NaN."""
    return column.cast(pa.float32(), safe=False).to_numpy()
