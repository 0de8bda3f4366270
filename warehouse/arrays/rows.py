"""Where rows lie: keys of a Parquet file, and the place of one set of keys in another."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_EXCERPTS = 1 << 15  # more than an int16 excerpt number can be

Keys = tuple[np.ndarray, np.ndarray]  # track_id int64, excerpt int64


def key_arrays(table: pa.Table) -> Keys:
    """The keys of a table with track_id and excerpt."""
    return table["track_id"].to_numpy(), table["excerpt"].to_numpy().astype(np.int64)


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
