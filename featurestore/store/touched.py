"""Modification times of files whose content did not change, in `touched.parquet`: a build need not hash them again.

Rows of a batch are never rewritten, so a time that moved since is kept here. The times are a hint and never proof.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from featurestore.store import parquet
from featurestore.store.store import TOUCHED, Store

_SCHEMA = pa.schema([("track_id", pa.int64()), ("source_hash", pa.string()), ("source_mtime_ns", pa.int64())])


def remember(store: Store, unchanged: Iterable[tuple[int, str, int | None]]) -> None:
    """Keep the new modification times of files whose content did not change.

    Parameters
    ----------
    store : Store
        Where to keep them.
    unchanged : iterable of (int, str, int or None)
        (track_id, hash of the content, modification time in nanoseconds).
    """
    rows = {t: {"track_id": t, "source_hash": h, "source_mtime_ns": m} for t, h, m in unchanged}
    if not rows:
        return
    merged = {r["track_id"]: r for r in read(store).to_pylist()} | rows
    table = pa.Table.from_pylist([merged[t] for t in sorted(merged)], schema=_SCHEMA)
    parquet.write(store.fs, store.path(TOUCHED), table, "touched")


def read(store: Store) -> pa.Table:
    """The modification times that `remember` kept.

    Parameters
    ----------
    store : Store
        Where they are kept.

    Returns
    -------
    pa.Table
        track_id, source_hash, source_mtime_ns. Empty where there are none, or where the file is damaged: they only
        save a build some hashing.
    """
    import pyarrow.parquet as pq

    try:
        with store.fs.open(store.path(TOUCHED), "rb") as f:
            return pq.read_table(f).cast(_SCHEMA)
    except (OSError, pa.ArrowException):
        return _SCHEMA.empty_table()
