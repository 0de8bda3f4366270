"""Remove what no reader can see: files that a crash left behind, and what newer batches replaced.

What was replaced is kept for a grace period, because a reader that took its snapshot before still reads it. Only files
of the store's own names are removed, in a folder that is a store (see `store.places`), under the store's lock.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from featurestore.store import files, lock, places
from featurestore.store.snapshot import Snapshot
from featurestore.store.store import Store

GRACE_S = 3600.0


@dataclasses.dataclass(frozen=True)
class GcReport:
    """What was removed.

    Parameters
    ----------
    leftovers : int
        Files of batches that were never committed, and temporary files.
    batches : int
        Replaced batches.
    derived : int
        Databases that the warehouse made from what the store held before.
    waiting : int
        Replaced batches within the grace period, which stay.
    bytes : int
        Freed.
    """

    leftovers: int
    batches: int
    derived: int
    waiting: int
    bytes: int


def gc(store_url: str, *, grace_s: float = GRACE_S, dry_run: bool = False, break_lock: bool = False) -> GcReport:
    """Remove what no reader can see.

    Parameters
    ----------
    store_url : str
        Path or URL of the store.
    grace_s : float
        How many seconds what was replaced is kept for readers that began before.
    dry_run : bool
        Count, and remove nothing.
    break_lock : bool
        Take the lock from whoever has it; for an object store whose builder died.

    Returns
    -------
    GcReport

    Raises
    ------
    MissingStore, StoreBusy, StoreDamaged, FeatureStoreError
    """
    store = Store.open(store_url)
    if break_lock:
        lock.break_lock(store.fs, store.root)
    with lock.hold(store.fs, store.root, "gc") as held:
        store = store.locked(held)
        paths = store.leftovers()
        snapshot = store.snapshot()
        ready = retired_since(store, snapshot, grace_s)
        derived = replaced_databases(store)
        sizes = store.batch_bytes()
        freed = sum(int(store.fs.size(p)) for p in [*paths, *derived]) + sum(sizes.get(b, 0) for b in ready)
        if not dry_run:
            remove_leftovers(store)
            remove_replaced(store, snapshot, grace_s)
        return GcReport(len(paths), len(ready), len(derived), len(snapshot.retired) - len(ready), freed)


def remove_leftovers(store: Store) -> None:
    """Remove files that no committed batch owns.

    Parameters
    ----------
    store : Store
        Opened under its lock.

    Raises
    ------
    StoreBusy
        The lock was lost meanwhile.
    """
    store.require_lock()
    for path in store.leftovers():
        files.remove(store.fs, path)


def remove_replaced(store: Store, snapshot: Snapshot, grace_s: float) -> None:
    """Remove what newer batches and databases replaced.

    Parameters
    ----------
    store : Store
        Opened under its lock.
    snapshot : Snapshot
        As it is now.
    grace_s : float
        Seconds for which replaced batches stay; replaced databases go at once.

    Raises
    ------
    StoreBusy
        The lock was lost meanwhile.
    """
    store.require_lock()
    for path in replaced_databases(store):
        files.remove(store.fs, path)
    for batch in retired_since(store, snapshot, grace_s):
        store.remove_batch(batch)


def retired_since(store: Store, snapshot: Snapshot, grace_s: float) -> list[str]:
    """Find the batches with nothing left to show, which a snapshot taken some time ago did not show either.

    Parameters
    ----------
    store : Store
        The store.
    snapshot : Snapshot
        As it is now.
    grace_s : float
        How many seconds ago.

    Returns
    -------
    list of str
        Names of batches.
    """
    if not snapshot.retired:
        return []
    limit = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=grace_s)
    old = [b for b in store.batches() if files.modified(store.fs, store.batch_path("excerpts", b)) <= limit]
    return list(store.snapshot(old).retired)


def replaced_databases(store: Store) -> list[str]:
    """Find all derived databases but the newest. They are on disks only, where a reader keeps what it has open.

    Parameters
    ----------
    store : Store
        The store.

    Returns
    -------
    list of str
        Paths, as the store's filesystem spells them.
    """
    folder = store.path(places.DERIVED)
    found = [n for n in files.names(store.fs, folder) if places.DERIVED_FILE.fullmatch(n)]
    paths = sorted((store.path(places.DERIVED, n) for n in found), key=lambda p: files.modified(store.fs, p))
    return paths[:-1]
