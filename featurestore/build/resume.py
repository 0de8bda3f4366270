"""What is left to do: the resume rule.

A track is done if a current row (an excerpt, or a known failure) was measured with the store's spec from a file of
the same content. Same size and modification time is the quick answer; where only the time differs, the worker hashes
the file and leaves it if the content is the recorded one. That a file of the store exists proves nothing.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable

import pyarrow as pa

from featurestore import datasets
from featurestore.datasets import Collection
from featurestore.measure.task import MISSING, Item
from featurestore.store import files, parquet
from featurestore.store.snapshot import Snapshot
from featurestore.store.store import TOUCHED, Store

_TOUCHED = pa.schema([("track_id", pa.int64()), ("source_hash", pa.string()), ("source_mtime_ns", pa.int64())])


@dataclasses.dataclass(frozen=True)
class Plan:
    """items: what to look at, by track id; tracks: those of the collection with a file; done: of these, measured;
    failed: of these, known failures that are left alone."""

    items: tuple[Item, ...]
    tracks: int
    done: int
    failed: int


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
    """Compare the collection's files with the store (None: there is none yet), as `snapshot` shows it (None: now).

    force measures everything again, retry the known failures too; limit keeps the first tracks of what is to do.
    """
    known = _known(store, snapshot or store.snapshot()) if store and not force else {}
    items, done, failed = [], 0, 0
    found = _files(collection)
    for item in found:
        row = known.get(item.track_id)
        if row is None or (row.failed and retry) or row.size != item.size:
            items.append(item)
        elif row.mtime_ns == item.mtime_ns:
            done, failed = done + (not row.failed), failed + row.failed
        else:
            items.append(dataclasses.replace(item, known_hash=row.hash))
    return Plan(tuple(items[:limit]), len(found), done, failed)


def remember(store: Store, unchanged: Iterable[tuple[int, str, int | None]]) -> None:
    """Keep the new modification times of files whose content did not change: (track_id, hash, mtime)."""
    rows = {t: {"track_id": t, "source_hash": h, "source_mtime_ns": m} for t, h, m in unchanged}
    if not rows:
        return
    merged = {r["track_id"]: r for r in read_touched(store).to_pylist()} | rows
    table = pa.Table.from_pylist([merged[t] for t in sorted(merged)], schema=_TOUCHED)
    parquet.write(store.fs, store.path(TOUCHED), table, "touched")


def read_touched(store: Store) -> pa.Table:
    """The modification times that `remember` kept; empty where there are none (or they are damaged: only a hint)."""
    import pyarrow.parquet as pq

    try:
        with store.fs.open(store.path(TOUCHED), "rb") as f:
            return pq.read_table(f).cast(_TOUCHED)
    except (OSError, pa.ArrowException):
        return _TOUCHED.empty_table()


def _known(store: Store, snapshot: Snapshot) -> dict[int, _Known]:
    touched = {t: (h, m) for t, h, m in zip(*read_touched(store).to_pydict().values(), strict=True)}
    since, fingerprint = store.values_since, store.spec.fingerprint
    known = {}
    columns = ["track_id", "batch", "spec", "source_bytes", "source_mtime_ns", "source_hash"]
    for table in ("excerpts", "failures"):
        rows = store.read_current(table, columns, snapshot)
        for track, batch, spec, size, mtime, digest in zip(*rows.to_pydict().values(), strict=True):
            if spec != fingerprint or batch < since:
                continue
            if touched.get(track, ("", 0))[0] == digest != "":
                mtime = touched[track][1]
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
    if files.is_local(fs):
        return [_local(t, p, datasets.audio_path(audio, p)) for t, p in pairs]
    listing = fs.find(root, detail=True)
    return [_remote(t, p, datasets.audio_path(audio, p), listing.get(f"{root}/{p}")) for t, p in pairs]


def _local(track_id: int, path: str, source: str) -> Item:
    try:
        found = os.stat(source)
    except OSError:
        return Item(track_id, path, source, MISSING, None)
    return Item(track_id, path, source, found.st_size, found.st_mtime_ns)


def _remote(track_id: int, path: str, source: str, info: dict[str, object] | None) -> Item:
    if info is None:
        return Item(track_id, path, source, MISSING, None)
    when = info.get("LastModified") or info.get("mtime") or info.get("updated") or info.get("created")
    stamp = when.timestamp() if hasattr(when, "timestamp") else when if isinstance(when, int | float) else None
    return Item(track_id, path, source, int(info["size"]), None if stamp is None else int(stamp * 1e9))  # type: ignore[call-overload]
