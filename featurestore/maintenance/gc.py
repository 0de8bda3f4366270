"""Remove what no reader can see: files that a crash left behind, and what newer batches and copies replaced.

What was replaced is kept for a grace period, because a reader that took its snapshot before still reads it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from featurestore.store import files, gathered, lock
from featurestore.store.store import Snapshot, Store

GRACE_S = 3600.0


@dataclasses.dataclass(frozen=True)
class GcReport:
    """leftovers: files of batches that were never committed; batches: replaced batches that were removed;
    copies: replaced files of gathered features that were removed; waiting: replaced batches within the grace period;
    bytes: freed."""

    leftovers: int
    batches: int
    copies: int
    waiting: int
    bytes: int


def gc(store_url: str, *, grace_s: float = GRACE_S, dry_run: bool = False) -> GcReport:
    """Remove leftovers, and replaced batches older than `grace_s` seconds. Raises MissingStore, StoreBusy.

    dry_run counts, and removes nothing.
    """
    store = Store.open(store_url)
    with lock.hold(store.fs, store.root, "gc"):
        paths = store.leftovers()
        snapshot = store.snapshot()
        ready = retired_since(store, snapshot, grace_s)
        copies = gathered.stale(store, snapshot, grace_s)
        freed = sum(int(store.fs.size(p)) for p in [*paths, *map(store.path, copies)]) + _bytes(store, ready)
        if not dry_run:
            remove_leftovers(store)
            remove_replaced(store, snapshot, grace_s)
        return GcReport(len(paths), len(ready), len(copies), len(snapshot.retired) - len(ready), freed)


def remove_leftovers(store: Store) -> None:
    """Remove files that no committed batch owns. The caller holds the lock."""
    for path in store.leftovers():
        files.remove(store.fs, path)


def remove_replaced(store: Store, snapshot: Snapshot, grace_s: float) -> None:
    """Remove batches and gathered features that were replaced longer than `grace_s` ago. The caller holds the lock."""
    for path in gathered.stale(store, snapshot, grace_s):
        files.remove(store.fs, store.path(path))
    for batch in retired_since(store, snapshot, grace_s):
        store.remove_batch(batch)


def retired_since(store: Store, snapshot: Snapshot, grace_s: float) -> list[str]:
    """Batches with nothing left to show, whose every replacement was committed at least `grace_s` seconds ago."""
    if not snapshot.retired:
        return []
    owner: dict[int, str] = {}
    for batch in snapshot.batches:
        owner |= dict.fromkeys(store.track_ids(batch).tolist(), batch)
    committed: dict[str, dt.datetime] = {}
    limit = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=grace_s)
    ready = []
    for batch in snapshot.retired:
        replacements = {owner[t] for t in store.track_ids(batch).tolist() if t in owner}
        for name in replacements - committed.keys():
            committed[name] = files.modified(store.fs, store.batch_path("excerpts", name))
        if all(committed[name] <= limit for name in replacements):
            ready.append(batch)
    return ready


def _bytes(store: Store, batches: list[str]) -> int:
    from featurestore.maintenance.compact import batch_bytes

    sizes = batch_bytes(store)
    return sum(sizes.get(b, 0) for b in batches)
