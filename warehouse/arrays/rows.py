"""Where rows lie: keys of a Parquet file, and the place of one set of keys in another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.errors import REPAIR, StoreDamaged
from featurestore.store import files
from featurestore.store.store import Store

_EXCERPTS = 1 << 15  # more than an int16 excerpt number can be

Keys = tuple[np.ndarray, np.ndarray]  # track_id int64, excerpt int64


@contextlib.contextmanager
def open_parquet(store: Store, path: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file of the store. Raises StoreDamaged where it is missing or broken."""
    try:
        # Arrow's own file reads without holding Python's lock
        with contextlib.ExitStack() as stack:
            source = path if files.is_local(store.fs) else stack.enter_context(store.fs.open(path, "rb"))
            yield stack.enter_context(pq.ParquetFile(source))
    except (OSError, pa.ArrowException) as error:
        raise StoreDamaged(f"{path}: {error}", REPAIR) from None


def key_arrays(table: pa.Table) -> Keys:
    """The keys of a table; a table without excerpts (an imported set) holds excerpt 0 of each track."""
    tracks = table["track_id"].to_numpy()
    if "excerpt" not in table.column_names:
        return tracks, np.zeros(len(tracks), np.int64)
    return tracks, table["excerpt"].to_numpy().astype(np.int64)


def read_keys(parquet: pq.ParquetFile, groups: Sequence[int]) -> Keys:
    """The keys of these row groups, in stored order."""
    names = [n for n in ("track_id", "excerpt") if n in parquet.schema_arrow.names]
    return key_arrays(parquet.read_row_groups(list(groups), names))


def positions(needles: Keys, haystack: Keys) -> np.ndarray:
    """For each needle its index in the haystack, -1 where it is absent. Keys in the haystack are unique."""
    if not len(haystack[0]):
        return np.full(len(needles[0]), -1)
    if all(np.array_equal(a, b) for a, b in zip(needles, haystack, strict=True)):
        return np.arange(len(needles[0]))
    tracks, code = np.unique(haystack[0], return_inverse=True)
    numbers = code * _EXCERPTS + haystack[1]
    order = np.argsort(numbers, kind="stable")
    track = np.minimum(np.searchsorted(tracks, needles[0]), len(tracks) - 1)
    wanted = track * _EXCERPTS + needles[1]
    slot = order[np.minimum(np.searchsorted(numbers, wanted, sorter=order), len(order) - 1)]
    return np.where((tracks[track] == needles[0]) & (numbers[slot] == wanted), slot, -1)
