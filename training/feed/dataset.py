"""A set of shards, checked and at hand on the local disk.

What the sidecar promises is verified before anything is read: every shard is there, has its size and its SHA-256.
A remote set is copied once. Bit rot costs the records it hit: they are counted, left out, and the run says how many.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import gzip
import hashlib
import os
import posixpath
import tempfile
import zlib
from collections.abc import Mapping
from typing import Any

from featurestore import schemas
from featurestore.errors import MissingInput
from featurestore.store import files
from featurestore.store.store import Store
from training.shards import records
from training.shards.sidecar import NAME, DataMismatch, Shard, Sidecar, content_fingerprint, require_spec

AGAIN = "Export again with `python -m training.export_tfrecords --force`, or copy the folder again."
CHECK = (
    "Run again with --verify hash: it counts damaged records and leaves them out. Or copy or export the shard again."
)
MOST_LOST = 0.5  # of a shard's records; beyond that it is not bit rot


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The shards of a data set. paths: split -> local files; lost: split -> damaged records that are left out."""

    url: str
    sidecar: Sidecar
    paths: Mapping[str, tuple[str, ...]]
    lost: Mapping[str, int]
    keeps: Any = None  # a temporary folder that must live as long as this

    def records(self, split: str) -> int:
        """Sound records of a split."""
        return self.sidecar.records(split) - self.lost[split]

    def require(self, *splits: str) -> None:
        """Raise MissingInput if one of these splits has no record."""
        for split in splits:
            if not self.records(split):
                raise MissingInput(
                    f"{self.url}: the {split} split has no records (split scheme {self.sidecar.scheme!r})",
                    "Look with `python -m featurestore splits`; export another scheme with --scheme, or add tracks.",
                )

    def damaged(self) -> DataMismatch:
        """The error for records that could not be read while they were needed: which shard, and what to do."""
        return DataMismatch(f"{_first_damage(self) or self.url + ': a shard could not be read'}", CHECK)

    def notes(self) -> list[str]:
        """One line for each split that lost records."""
        return [f"{self.url}: {n} damaged records of the {s} split are left out" for s, n in self.lost.items() if n]


def folder_of(url: str, kind: str) -> str:
    """The data set's folder: `url` itself where it holds a sidecar, else the folder of that kind in it."""
    fs, root = files.resolve(url)
    if fs.exists(posixpath.join(root, NAME)):
        return url
    return f"{url.rstrip('/')}/{kind}"


def open_data(url: str, *, store: Store | None = None, verify: str = "hash", cache: str | None = None) -> DataSet:
    """Open and check the data set in the folder `url` (a path or an fsspec URL).

    verify: "hash" reads every shard once and compares SHA-256; "size" trusts shards of the right size.
    store: the store that the shards must come from; None leaves that unchecked. A remote set is copied to `cache`
    (None: a folder of the user's cache). Raises MissingInput (no data set, a shard is missing) or DataMismatch.
    """
    sidecar = Sidecar.read(url)
    if store is not None:
        require_store(sidecar, store, url)
    fs, root = files.resolve(url)
    if not files.is_local(fs):
        root = _localise(fs, root, sidecar, cache)
    folder = tempfile.TemporaryDirectory(prefix="tfrecords-")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        checked = list(pool.map(lambda s: _check(root, s, sidecar, verify, folder.name), sidecar.shards))
    paths = {s: tuple(p for shard, p, _ in checked if shard.split == s) for s in schemas.SPLITS}
    lost = {s: sum(n for shard, _, n in checked if shard.split == s) for s in schemas.SPLITS}
    return DataSet(url, sidecar, paths, lost, folder)


def require_store(sidecar: Sidecar, store: Store, url: str) -> None:
    """Raise DataMismatch unless the shards hold what `store` holds now: same spec, same rows, labels and splits."""
    from training.shards.export import examples_of

    require_spec(sidecar, store.spec, here=f"store {store.url}", there=url)
    examples = examples_of(
        store, kind=sidecar.kind, scheme=sidecar.scheme, subset=sidecar.subset, feature_set=sidecar.feature_set
    )
    found = content_fingerprint(store, examples)
    if found != sidecar.store["content"]:
        raise DataMismatch(
            f"{url}: made from other rows than store {store.url} has now "
            f"(fingerprint {sidecar.store['content']}, the store has {found})",
            "Export again with `python -m training.export_tfrecords`; for shards made elsewhere say --store none.",
        )


def _check(root: str, shard: Shard, sidecar: Sidecar, verify: str, folder: str) -> tuple[Shard, str, int]:
    """(shard, path to read, records lost); the path is that of a mended copy where records are damaged."""
    path = os.path.join(root, shard.name)
    if not os.path.isfile(path):
        raise MissingInput(f"{path}: the shard is missing (its sidecar names {shard.records} records)", AGAIN)
    size = os.path.getsize(path)
    if size != shard.bytes:
        raise DataMismatch(f"{path}: expected {shard.bytes} bytes, found {size}; the shard is not complete", AGAIN)
    if verify == "size":
        return shard, path, 0
    with open(path, "rb") as f:
        data = f.read()
    if hashlib.sha256(data).hexdigest() == shard.sha256:
        return shard, path, 0
    return _mend(path, data, shard, sidecar, folder)


def _first_damage(data: DataSet) -> str | None:
    """Shard, place and kind of the first damage on the disk now; None where all is sound."""
    for path in (p for paths in data.paths.values() for p in paths):
        try:
            with open(path, "rb") as f:
                content = f.read()
            if data.sidecar.compression == "gzip":
                content = gzip.decompress(content)
            collections.deque(records.unframe(content), maxlen=0)
        except (OSError, EOFError, zlib.error, records.DamagedRecord) as error:
            return f"{path}: the shard is damaged ({error})"
    return None


def _mend(path: str, data: bytes, shard: Shard, sidecar: Sidecar, folder: str) -> tuple[Shard, str, int]:
    """A copy of the shard without its damaged records."""
    if sidecar.compression != "none":
        raise DataMismatch(f"{path}: the compressed shard is damaged (its SHA-256 differs)", AGAIN)
    sound = list(records.unframe(data, skip_damaged=True))
    lost = shard.records - len(sound)
    if lost <= 0:
        raise DataMismatch(f"{path}: not the shard that its sidecar describes (its SHA-256 differs)", AGAIN)
    if lost > MOST_LOST * shard.records:
        raise DataMismatch(f"{path}: {lost} of {shard.records} records are damaged", AGAIN)
    mended = os.path.join(folder, shard.name)
    with open(mended, "wb") as f:
        f.writelines(map(records.frame, sound))
    return shard, mended, lost


def _localise(fs: Any, root: str, sidecar: Sidecar, cache: str | None) -> str:
    """Copy what is not there yet to the cache folder of this data set; returns that folder."""
    base = cache or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "music-feature-store"
    )
    folder = os.path.join(base, f"{sidecar.kind}-{sidecar.plan}")
    local, _ = files.resolve(folder)

    def copy(shard: Shard) -> None:
        target = os.path.join(folder, shard.name)
        if os.path.isfile(target) and os.path.getsize(target) == shard.bytes:
            return
        try:
            data = fs.cat_file(posixpath.join(root, shard.name))
        except FileNotFoundError:
            raise MissingInput(f"{posixpath.join(root, shard.name)}: the shard is missing", AGAIN) from None
        files.write_bytes(local, target, data)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(copy, sidecar.shards))
    return folder
