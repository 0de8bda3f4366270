"""Merge small batches into few large ones, and drop superseded rows.

The merged batch is a new generation that holds the current rows of the old ones, so it supersedes them the moment it
is committed; before that moment it does not exist. Nothing is removed here: a reader that looked before goes on
reading the old batches until `gc` removes them, an hour later by default. A kill at any point costs only the work.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import pyarrow as pa

from featurestore import schemas
from featurestore.errors import FeatureStoreError
from featurestore.maintenance import gc
from featurestore.store import lock, parquet
from featurestore.store.snapshot import Snapshot
from featurestore.store.store import Store
from featurestore.terminal import progress

TARGET_MB = 1024  # about 2,600 clips with mel and wave: 41 files of each table for FMA's 106,574
AUTO_BATCHES = 48  # a build merges when more small batches than this have gathered: queries open each of them
_AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class CompactReport:
    """What was merged.

    Parameters
    ----------
    merged, made : int
        Batches that were read, and batches that were written.
    dropped : int
        Superseded rows of `excerpts` left behind.
    batches : int
        How many batches a reader opens now.
    bytes : int
        Of the batches written.
    """

    merged: int
    made: int
    dropped: int
    batches: int
    bytes: int


def compact(store_url: str, *, target_mb: float = TARGET_MB, dry_run: bool = False) -> CompactReport:
    """Merge the store's small batches.

    Parameters
    ----------
    store_url : str
        Path or URL of the store.
    target_mb : float
        Size of a merged batch in megabytes.
    dry_run : bool
        Count what would be merged, and write nothing.

    Returns
    -------
    CompactReport

    Raises
    ------
    MissingStore, StoreBusy, StoreDamaged, FeatureStoreError
    """
    store = Store.open(store_url)
    if dry_run:
        groups = plan(store, store.snapshot(), target_mb)
        return CompactReport(sum(map(len, groups)), len(groups), 0, 0, 0)
    with lock.hold(store.fs, store.root, "compact") as held:
        store = store.locked(held)
        gc.remove_leftovers(store)
        return merge(store, held, target_mb)


def is_untidy(store: Store, snapshot: Snapshot, auto_batches: int = AUTO_BATCHES) -> bool:
    """Say whether `tidy` has work after a build that measures nothing: one before it was killed, or the hour is over.

    Parameters
    ----------
    store : Store
        The store.
    snapshot : Snapshot
        As it is now.
    auto_batches : int
        How many small batches are left alone.

    Returns
    -------
    bool
    """
    return len(snapshot.batches) > auto_batches or bool(gc.retired_since(store, snapshot, gc.GRACE_S))


def tidy(store: Store, held: lock.Lock, auto_batches: int = AUTO_BATCHES) -> tuple[str, ...]:
    """What a build does at its end: merge many small batches, and remove what was replaced long ago.

    Parameters
    ----------
    store : Store
        The store.
    held : lock.Lock
        Its lock.
    auto_batches : int
        How many small batches are left alone.

    Returns
    -------
    tuple of str
        Warnings; what was measured is safe in any case.
    """
    try:
        snapshot = store.snapshot()
        if sum(map(len, plan(store, snapshot, TARGET_MB))) > auto_batches:
            merge(store, held, TARGET_MB)
            snapshot = store.snapshot()
        gc.remove_replaced(store, snapshot, gc.GRACE_S)
    except FeatureStoreError as error:
        return (f"all tracks are stored, but their batches could not be merged: {error.message}",)
    return ()


def plan(store: Store, snapshot: Snapshot, target_mb: float) -> list[list[str]]:
    """Choose the batches to merge: small ones, and those with superseded rows.

    Parameters
    ----------
    store : Store
        The store.
    snapshot : Snapshot
        As it is now.
    target_mb : float
        Size of a merged batch in megabytes; a batch is small up to half of it.

    Returns
    -------
    list of list of str
        Names of batches, a list for each that is to be written.
    """
    sizes = store.batch_bytes()
    stale = set(snapshot.superseded["batch"].to_pylist())
    target = target_mb * 1e6
    groups: list[list[str]] = []
    room = 0.0
    for batch in snapshot.batches:
        size = sizes.get(batch, 0)
        # older values must stay recognisable by their batch name
        if batch < store.values_since or (size > target / 2 and batch not in stale):
            continue
        if not groups or size > room:
            groups.append([])
            room = target
        groups[-1].append(batch)
        room -= size
    return [g for g in groups if len(g) > 1 or g[0] in stale]


def merge(store: Store, held: lock.Lock, target_mb: float) -> CompactReport:
    """Write the batches that `plan` asks for.

    Parameters
    ----------
    store : Store
        Opened under its lock.
    held : lock.Lock
        The lock.
    target_mb : float
        Size of a merged batch in megabytes.

    Returns
    -------
    CompactReport

    Raises
    ------
    StoreBusy
        The lock was lost meanwhile.
    StoreDamaged, FeatureStoreError
        A batch cannot be read, or the store cannot be written.
    """
    before = store.snapshot()
    groups = plan(store, before, target_mb)
    generation = store.next_generation()
    kept = 0
    with progress.bar("merging batches", sum(map(len, groups))) as bar:
        for i, group in enumerate(groups):
            kept += _merge_group(store, before, group, f"{generation:06d}-{i:05d}", held.token)
            bar.advance(len(group))
    made = [f"{generation:06d}-{i:05d}" for i in range(len(groups))]
    sizes = store.batch_bytes()
    was = sum(len(store.read_batch("excerpts", b, ["track_id"])) for g in groups for b in g)
    return CompactReport(
        sum(map(len, groups)), len(made), was - kept, len(store.snapshot().batches), sum(sizes[b] for b in made)
    )


def _merge_group(store: Store, snapshot: Snapshot, group: Sequence[str], name: str, token: str) -> int:
    """Write the current rows of `group` as batch `name`; returns the number of excerpts.

    The arrays pass through batch by batch; what is scanned is sorted by track.
    """
    tables: dict[str, pa.Table | Iterable[pa.Table]] = {}
    for table in schemas.MEASURED:
        parts = functools.partial(store.current_rows, table, columns=None, snapshot=snapshot)
        tables[table] = map(parts, group) if table in parquet.ROW_GROUP_ROWS else _sorted(map(parts, group), name)
    store.write_batch(name, tables, lambda: lock.require(store.fs, store.root, token))
    return len(tables["excerpts"])  # type: ignore[arg-type]


def _sorted(parts: Iterable[pa.Table], name: str) -> pa.Table:
    rows = _concatenated(parts)
    if "batch" in rows.column_names:
        at = rows.column_names.index("batch")
        rows = rows.set_column(at, "batch", pa.array([name] * len(rows), pa.string()))
    return rows.sort_by([(k, "ascending") for k in ("track_id", "excerpt") if k in rows.column_names])


def _concatenated(parts: Iterable[pa.Table]) -> pa.Table:
    # 400 parts of 666 columns are 266,400 chunks, which take up ten times what is in them
    held: list[pa.Table] = []
    for part in parts:
        held.append(part)
        if len(held) == _AT_ONCE:
            held = [pa.concat_tables(held).combine_chunks()]
    return pa.concat_tables(held)
