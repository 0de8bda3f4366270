"""What is left to do: the resume rule.

A track is done if a current row (an excerpt, or a known failure) was measured with the store's spec from a file of
the same content. Same size and modification time is the quick answer; where only the time differs, the worker hashes
the file and leaves it if the content is the recorded one. That a file of the store exists proves nothing.
"""

from __future__ import annotations

import dataclasses
import os

from featurestore import datasets
from featurestore.datasets import Collection
from featurestore.measure.task import MISSING, Item
from featurestore.store import files, touched
from featurestore.store.snapshot import Snapshot
from featurestore.store.store import Store

_COLUMNS = ["track_id", "batch", "spec", "source_bytes", "source_mtime_ns", "source_hash"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a build is to do.

    Attributes
    ----------
    items : tuple of Item
        Files to look at, by track id.
    tracks : int
        Tracks of the collection with a file.
    done : int
        Of these, measured before.
    """

    items: tuple[Item, ...]
    tracks: int
    done: int


@dataclasses.dataclass(frozen=True)
class _Known:
    """What the store says of a track: the file it was measured from, and whether that failed."""

    size: int
    mtime_ns: int | None
    hash: str
    failed: bool


def plan(
    store: Store | None,
    collection: Collection,
    snapshot: Snapshot | None = None,
    *,
    force: bool = False,
    retry: bool = False,
    limit: int | None = None,
) -> Plan:
    """Compare the collection's files with the store.

    Parameters
    ----------
    store : Store or None
        None: there is none yet.
    collection : Collection
        Its tracks, and where their files are.
    snapshot : Snapshot, optional
        The store as it is to be read; the default is as it is now.
    force : bool
        Measure everything again.
    retry : bool
        Measure the known failures again.
    limit : int, optional
        Keep only the first tracks of what is to do.

    Returns
    -------
    Plan
    """
    known = _known(store, snapshot or store.snapshot()) if store and not force else {}
    items, done, present = [], 0, _files(collection)
    for item in present:
        row = known.get(item.track_id)
        if row is None or (row.failed and retry) or row.size != item.size:
            items.append(item)
        elif row.mtime_ns == item.mtime_ns:
            done += not row.failed
        else:
            items.append(dataclasses.replace(item, known_hash=row.hash))
    return Plan(tuple(items[:limit]), len(present), done)


def _known(store: Store, snapshot: Snapshot) -> dict[int, _Known]:
    times = {t: (h, m) for t, h, m in zip(*touched.read(store).to_pydict().values(), strict=True)}
    since, fingerprint = store.values_since, store.spec.fingerprint
    known = {}
    for table in ("excerpts", "failures"):
        rows = store.read_current(table, _COLUMNS, snapshot)
        for track, batch, spec, size, mtime, digest in zip(*rows.to_pydict().values(), strict=True):
            if spec != fingerprint or batch < since:
                continue
            if times.get(track, ("", 0))[0] == digest != "":
                mtime = times[track][1]
            known[track] = _Known(size, mtime, digest, table == "failures")
    return known


def _files(collection: Collection) -> list[Item]:
    """Every track of the collection that has a file, with the file's size and time as they are now."""
    audio = collection.audio
    if audio is None:
        return []
    rows = collection.tracks.select(["track_id", "path"]).to_pydict()
    pairs = sorted((t, p) for t, p in zip(rows["track_id"], rows["path"], strict=True) if p is not None)
    fs, root = files.resolve(audio)
    listing = {} if files.is_local(fs) else fs.find(root, detail=True)
    items = []
    for track_id, path in pairs:
        source = datasets.audio_path(audio, path)
        size, mtime_ns = _local(source) if files.is_local(fs) else _remote(listing.get(f"{root}/{path}"))
        items.append(Item(track_id, path, source, size, mtime_ns))
    return items


def _local(source: str) -> tuple[int, int | None]:
    """(bytes, modification time in nanoseconds) of a file of this machine."""
    try:
        found = os.stat(source)
    except OSError:
        return MISSING, None
    return found.st_size, found.st_mtime_ns


def _remote(info: dict[str, object] | None) -> tuple[int, int | None]:
    """The same of what a filesystem lists."""
    if info is None:
        return MISSING, None
    when = info.get("LastModified") or info.get("mtime") or info.get("updated") or info.get("created")
    stamp = when.timestamp() if hasattr(when, "timestamp") else when if isinstance(when, int | float) else None
    return int(info["size"]), None if stamp is None else int(stamp * 1e9)  # type: ignore[call-overload]
