"""Which measured rows still stand for their file, beside what the rows themselves say.

Two hints that are no rows: files whose modification time changed though their content did not, and the batch from
which on the values are those of the libraries in use.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from featurestore.store import files
from featurestore.store.store import Store

TOUCHED = "touched.parquet"
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
    merged = {r["track_id"]: r for r in touched(store).to_pylist()} | rows
    table = pa.Table.from_pylist([merged[t] for t in sorted(merged)], schema=_SCHEMA)
    files.write_parquet(store.fs, store.path(TOUCHED), table, "touched")


def touched(store: Store) -> pa.Table:
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


def values_since(store: Store) -> str:
    """The first batch whose values are those of the libraries in use (see `golden`).

    Parameters
    ----------
    store : Store
        The store.

    Returns
    -------
    str
        A prefix of batch names, to be compared as text; empty where every batch counts.
    """
    return str(store.manifest.get("values_since", ""))
