"""A set of shards, checked and at hand on the local disk.

What the sidecar promises is verified before anything is read: every shard is there, has its size and its SHA-256.
A remote set is copied once. Bit rot costs what follows it in its shard: those records are counted, left out by tf.data,
and the run says how many.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import posixpath
from collections.abc import Mapping
from typing import Any

from featurestore import schemas
from featurestore.errors import MissingInput
from featurestore.store import files
from featurestore.store.store import Store
from training.backend import tensorflow
from training.shards.examples import examples_of
from training.shards.sidecar import NAME, DataMismatch, Shard, Sidecar, require_spec

AGAIN = "Export again with `python -m training.export_tfrecords --force`, or copy the folder again."
READ_BYTES = 1_000_000
MOST_LOST = 0.5  # of a split's records; beyond that a run would not be of this data set


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The shards of a data set.

    Parameters
    ----------
    url : str
    sidecar : Sidecar
    paths : mapping
        Split to local files.
    lost : mapping
        Split to damaged records that are left out.
    read_bytes : int
        Bytes of one shard that are read before the next one has its turn; the order of records depends on it.
    """

    url: str
    sidecar: Sidecar
    paths: Mapping[str, tuple[str, ...]]
    lost: Mapping[str, int]
    read_bytes: int = READ_BYTES

    def records(self, split: str) -> int:
        """Count the sound records of a split.

        Parameters
        ----------
        split : {"training", "validation", "test"}

        Returns
        -------
        int
        """
        return self.sidecar.records(split) - self.lost[split]

    def require(self, *splits: str) -> None:
        """Check that splits can be used.

        Raises
        ------
        MissingInput
            If one of them has no record.
        """
        for split in splits:
            if not self.records(split):
                raise MissingInput(
                    f"{self.url}: the {split} split has no records (split scheme {self.sidecar.scheme!r})",
                    "Look with `python -m featurestore splits`; export another scheme with --scheme, or add tracks.",
                )

    def damaged(self) -> DataMismatch:
        """Make the error for a record that could not be read while it was needed.

        Returns
        -------
        DataMismatch
            To be raised; it names the first shard whose bytes changed, and what to do.
        """
        local = {os.path.basename(p): p for paths in self.paths.values() for p in paths}
        broken = [local[s.name] for s in self.sidecar.shards if files.digest(local[s.name]) != s.sha256]
        return DataMismatch(
            f"{broken[0] if broken else self.url}: the shard is damaged",
            "Run again with --verify hash: it counts damaged records and leaves them out. Or get the shard again.",
        )

    def notes(self) -> list[str]:
        """Say what is left out.

        Returns
        -------
        list of str
            One line for each split that lost records.
        """
        return [f"{self.url}: {n} damaged records of the {s} split are left out" for s, n in self.lost.items() if n]


def folder_of(url: str, kind: str) -> str:
    """The folder of a data set.

    Parameters
    ----------
    url : str
        The folder itself, or the one above the folders of each kind.
    kind : {"mel", "wave", "features"}

    Returns
    -------
    str
    """
    fs, root = files.resolve(url)
    return url if fs.exists(posixpath.join(root, NAME)) else f"{url.rstrip('/')}/{kind}"


def open_data(url: str, *, store: Store | None = None, verify: str = "hash", cache: str | None = None) -> DataSet:
    """Open and check a data set.

    Parameters
    ----------
    url : str
        Its folder, a path or an fsspec URL.
    store : Store or None
        The store that the shards must come from; None leaves that unchecked.
    verify : {"hash", "size"}
        Read every shard once and compare SHA-256, or trust shards of the right size.
    cache : str or None
        Where a remote set is copied to; None is a folder of the user's cache.

    Returns
    -------
    DataSet

    Raises
    ------
    MissingInput
        No data set, or a shard is missing.
    DataMismatch
        Shards, sidecar and store do not belong together, or too much is damaged.
    """
    sidecar = Sidecar.read(url)
    if store is not None:
        _require_store(sidecar, store, url)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        checked = list(pool.map(lambda s: _checked(url, s, sidecar, verify, cache), sidecar.shards))
    split_of = [(shard.split, path, lost) for shard, (path, lost) in zip(sidecar.shards, checked, strict=True)]
    paths = {s: tuple(path for split, path, _ in split_of if split == s) for s in schemas.SPLITS}
    lost = {s: sum(n for split, _, n in split_of if split == s) for s in schemas.SPLITS}
    for split, n in lost.items():
        if n > MOST_LOST * sidecar.records(split):
            raise DataMismatch(f"{url}: {n} of {sidecar.records(split)} {split} records are damaged", AGAIN)
    return DataSet(url, sidecar, paths, lost)


def _require_store(sidecar: Sidecar, store: Store, url: str) -> None:
    """Raise DataMismatch unless the shards hold what `store` holds now: same spec, values, labels and splits."""
    require_spec(sidecar, store.spec, here=f"store {store.url}", there=url)
    found = examples_of(
        store, kind=sidecar.kind, scheme=sidecar.scheme, subset=sidecar.subset, feature_set=sidecar.feature_set
    ).fingerprint
    if found != sidecar.store["content"]:
        raise DataMismatch(
            f"{url}: made from other rows than store {store.url} has now "
            f"(fingerprint {sidecar.store['content']}, the store has {found})",
            "Export again with `python -m training.export_tfrecords`; for shards made elsewhere say --store none.",
        )


def _checked(url: str, shard: Shard, sidecar: Sidecar, verify: str, cache: str | None) -> tuple[str, int]:
    """(local path, records lost) of a shard that is there and has its size."""
    fs, root = files.resolve(url)
    if files.is_local(fs):
        path = os.path.join(root, shard.name)
    else:
        path = _local_copy(fs, root, shard, _cache_folder(sidecar, cache), verify)
    if not os.path.isfile(path):
        raise MissingInput(f"{path}: the shard is missing (its sidecar names {shard.records} records)", AGAIN)
    size = os.path.getsize(path)
    if size != shard.bytes:
        raise DataMismatch(f"{path}: expected {shard.bytes} bytes, found {size}; the shard is not complete", AGAIN)
    if verify == "size" or files.digest(path) == shard.sha256:
        return path, 0
    lost = shard.records - _readable(path, sidecar.compression)
    if lost <= 0:
        raise DataMismatch(f"{path}: not the shard that its sidecar describes (its SHA-256 differs)", AGAIN)
    return path, lost


def _readable(path: str, compression: str) -> int:
    """Records that TensorFlow reads before a shard's first damage."""
    records = record_files([path], compression).ignore_errors()
    return int(records.reduce(0, lambda n, _: n + 1).numpy())


def record_files(paths: Any, compression: str) -> Any:
    """A tf.data.Dataset of the serialised records of some files.

    Parameters
    ----------
    paths : list of str, or a string tensor
    compression : {"none", "gzip"}

    Returns
    -------
    tf.data.TFRecordDataset
    """
    return tensorflow().data.TFRecordDataset(paths, compression_type="GZIP" if compression == "gzip" else "")


def _cache_folder(sidecar: Sidecar, cache: str | None) -> str:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache or os.path.join(home, "music-feature-store"), f"{sidecar.kind}-{sidecar.plan}")


def _local_copy(fs: Any, root: str, shard: Shard, folder: str, verify: str) -> str:
    """The path of a shard's copy; fetched where it is missing, cut or, if hashes are verified, damaged."""
    path = os.path.join(folder, shard.name)
    whole = os.path.isfile(path) and os.path.getsize(path) == shard.bytes
    if whole and (verify == "size" or files.digest(path) == shard.sha256):
        return path
    source = posixpath.join(root, shard.name)
    try:
        files.write_bytes(files.resolve(folder)[0], path, fs.cat_file(source))
    except FileNotFoundError:
        raise MissingInput(f"{source}: the shard is missing", AGAIN) from None
    return path
