"""Copies of what is read most, beside the batches: all current features in one file, and the warehouse's index.

A query opens every file it reads, and each footer of 518 columns costs it 1.7 ms: over the 41 files of 106,574 tracks
that is more than reading the values. So a build gathers the features (2 kB an excerpt, where its mel takes 250) in one
more file, named by the fingerprint of the snapshot they were gathered from: a reader of that snapshot uses it, any
other reads the batches. It is never stale, writers owe it nothing, and it may be deleted at any time; the next build or
`compact` makes it again. An index, which only `warehouse.index` makes, has the same rule; here is what it is called.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import posixpath
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import schemas
from featurestore.store import files
from featurestore.store.store import GATHERED, INDEX, Snapshot, Store

_DIGITS = 32  # of a checksum, in a name
_INDEX_FORMAT = b"1"  # another for tables of other columns
MAX_BYTES = 8e9  # a million rows take 2 GB; far beyond, the copy costs more than the footers it saves


def name(snapshot: Snapshot) -> str:
    """Path, relative to the store, of the file that holds the features of `snapshot`."""
    return f"{GATHERED}/features-{snapshot.fingerprint[:_DIGITS]}.parquet"


def find(store: Store, snapshot: Snapshot) -> str | None:
    """Path, relative to the store, of the gathered features of `snapshot`; None where there are none."""
    path = name(snapshot)
    return path if path in names(store) else None


def names(store: Store) -> list[str]:
    """Paths, relative to the store, of every gathered file."""
    return [f"{GATHERED}/{stem}.parquet" for stem in sorted(files.stems(store.fs, store.path(GATHERED), ".parquet"))]


def write(store: Store, snapshot: Snapshot) -> bool:
    """Gather the features of `snapshot`, unless that is done, or of no use. The caller holds the lock.

    Of no use: one batch without superseded rows is such a file already. Returns whether a file was written.
    """
    single = len(snapshot.batches) < 2 and not len(snapshot.superseded)
    if single or find(store, snapshot) or _bytes(store, snapshot) > MAX_BYTES:
        return False
    schema = schemas.measured_schema("features", store.spec)
    with files.parquet_stream(store.fs, store.path(name(snapshot)), schema, "features") as out:
        for part in _blocks(store, snapshot, schema):
            out.write_table(part)
    return True


def stale(store: Store, snapshot: Snapshot, grace_s: float) -> list[str]:
    """Paths, relative to the store, of copies that were replaced at least `grace_s` seconds ago.

    A file of features was replaced when the next was written, the last by that of `snapshot` or by its newest batch; an
    index by the newest batch or by new labels.
    """
    limit = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=grace_s)
    batch = [f"excerpts/{snapshot.batches[-1]}.parquet"] if snapshot.batches else []
    current = find(store, snapshot)
    written = sorted((_modified(store, path), path) for path in names(store) if path != current)
    last = [_modified(store, path) for path in ([current] if current else batch)] or [limit]
    replaced = [when for when, _ in written[1:]] + last
    gone = [path for (_, path), when in zip(written, replaced, strict=False) if when <= limit]
    index = find_index(store, snapshot)
    others = [path for path in index_names(store) if path != index]
    changed = [path for path in (*batch, "catalog/tracks.parquet") if store.fs.exists(store.path(path))]
    if others and max((_modified(store, path) for path in changed), default=limit) <= limit:
        gone += others
    return gone


def _modified(store: Store, path: str) -> dt.datetime:
    return files.modified(store.fs, store.path(path))


def find_index(store: Store, snapshot: Snapshot) -> str | None:
    """Path, relative to the store, of the index of its tracks and of `snapshot`; None where there is none."""
    paths = index_names(store)
    key = _index_key(store, snapshot) if paths else ""
    return next((path for path in paths if path.startswith(key)), None)


def index_names(store: Store) -> list[str]:
    """Paths, relative to the store, of every index."""
    return [f"{INDEX}/{stem}.duckdb" for stem in sorted(files.stems(store.fs, store.path(INDEX), ".duckdb"))]


def index_name(store: Store, snapshot: Snapshot, made: str) -> str:
    """Path, relative to the store, for the index of `snapshot` that lies in the local file `made`."""
    with open(made, "rb") as f:
        return f"{_index_key(store, snapshot)}{hashlib.file_digest(f, 'sha256').hexdigest()[:_DIGITS]}.duckdb"


def index_damage(path: str, data: bytes) -> str | None:
    """What is wrong with the bytes of an index: their checksum is in its name."""
    named = posixpath.basename(path).removesuffix(".duckdb").rpartition("-")[2]
    found = hashlib.sha256(data).hexdigest()[:_DIGITS]
    return None if found == named else f"checksum: named {named[:12]}…, its bytes give {found[:12]}…"


def _index_key(store: Store, snapshot: Snapshot) -> str:
    """How the path of an index of these rows and tracks begins."""
    seal = b""
    if store.fs.exists(path := store.catalog_path("tracks")):
        with store.fs.open(path, "rb") as f:
            seal = (pq.read_metadata(f).metadata or {}).get(files.SEAL.encode(), b"")
    key = hashlib.sha256(snapshot.fingerprint.encode() + seal + _INDEX_FORMAT).hexdigest()
    return f"{INDEX}/{key[:_DIGITS]}-"


def _bytes(store: Store, snapshot: Snapshot) -> int:
    sizes = files.sizes(store.fs, store.path("features"))
    return sum(sizes.get(f"{batch}.parquet", 0) for batch in snapshot.batches)


def _blocks(store: Store, snapshot: Snapshot, schema: pa.Schema) -> Iterator[pa.Table]:
    """The current rows, batch after batch, in tables of a row group each (the last may be shorter)."""
    held, rows = [schema.empty_table()], 0
    for batch in snapshot.batches:
        held.append(store.current_rows("features", batch, None, snapshot))
        rows += len(held[-1])
        if rows >= files.DEFAULT_ROW_GROUP_ROWS:
            table = pa.concat_tables(held)
            whole = rows - rows % files.DEFAULT_ROW_GROUP_ROWS
            yield table.slice(0, whole)
            held, rows = [table.slice(whole)], rows - whole
    if rows:
        yield pa.concat_tables(held)
