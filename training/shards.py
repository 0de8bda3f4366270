"""One shard: the arrays of its records from the store, their bytes, and what they add to the normalisation."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import posixpath
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

import warehouse
from featurestore import files
from featurestore.store import OWN_SET, Store
from training import example, records
from training.encoding import Encoding, resize
from training.moments import Moments
from training.plan import ShardPlan
from training.sidecar import Shard


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to export and how: every choice but where to."""

    kind: str
    scheme: str
    subset: str | None
    feature_set: str | None
    encoding: Encoding
    image: int | None
    compression: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Task:
    """All that a process needs to write one shard."""

    store: str
    folder: str
    recipe: Recipe
    plan: ShardPlan
    keep: bool  # an export with the same choices was interrupted here: take the shard if it is there


@dataclasses.dataclass(frozen=True)
class Done:
    """A shard that is written, its sums, and whether it was there before."""

    shard: Shard
    moments: Moments
    kept: bool


def arrays_of(store: Store, recipe: Recipe, keys: pa.Table, split: str) -> Iterator[np.ndarray]:
    """Yield the float32 array of each key (track_id, excerpt), in order, time first (see training.encoding)."""
    if recipe.kind == "mel":
        for mels in warehouse.iter_mels(store, keys=keys):
            for mel in mels.mels:
                yield resize(mel.T, recipe.image, recipe.image) if recipe.image else mel.T
    elif recipe.kind == "wave":
        for waves in warehouse.iter_waves(store, keys=keys):
            yield from waves.waves
    else:
        yield from _feature_rows(store, recipe, keys, split)


def _feature_rows(store: Store, recipe: Recipe, keys: pa.Table, split: str) -> Iterator[np.ndarray]:
    matrix = warehouse.matrix(
        store, features=recipe.feature_set or OWN_SET, split=split, scheme=recipe.scheme, subset=recipe.subset
    )
    row = {k: i for i, k in enumerate(zip(matrix.track_ids.tolist(), matrix.excerpts.tolist(), strict=True))}
    for key in zip(keys["track_id"].to_pylist(), keys["excerpt"].to_pylist(), strict=True):
        yield np.asarray(matrix.X[row[key]], np.float32)


def encode_record(data: bytes, shape: tuple[int, ...], **numbers: int) -> bytes:
    """The framed tf.train.Example of one encoded array: features array, shape and the numbers (label, track_id ...)."""
    features = {"array": data, "shape": shape, **{name: [value] for name, value in numbers.items()}}
    return records.frame(example.encode(features))


def write_shard(task: Task) -> Done:
    """Write one shard, or take the finished one that an interrupted export left.

    Raises FeatureStoreError where it cannot be written; no part of it is seen by a reader then.
    """
    fs, root = files.resolve(task.folder)
    path = posixpath.join(root, task.plan.name)
    data = _finished(fs, path, task) if task.keep else None
    kept = data is not None
    if data is None:
        data, moments = _make(task)
        files.write_bytes(fs, path, data)
    else:
        moments = _moments_of(data, task)
    plan = task.plan
    shard = Shard(plan.name, plan.split, len(plan.labels), len(data), hashlib.sha256(data).hexdigest())
    return Done(shard, moments, kept)


def _make(task: Task) -> tuple[bytes, Moments]:
    plan, encoding = task.plan, task.recipe.encoding
    moments = Moments.none()
    order = plan.read_order
    keys = pa.table({"track_id": plan.track_ids[order], "excerpt": plan.excerpts[order].astype(np.int16)})
    framed: list[bytes] = [b""] * len(order)
    for at, array in zip(order, arrays_of(Store.open(task.store), task.recipe, keys, plan.split), strict=True):
        data = encoding.encode(array)
        _count(moments, task, data, array.shape)
        framed[at] = encode_record(data, array.shape, **plan.numbers(int(at)))
    out = b"".join(framed)
    return (gzip.compress(out, 6, mtime=0) if task.recipe.compression == "gzip" else out), moments


def _count(moments: Moments, task: Task, data: bytes, shape: tuple[int, ...]) -> None:
    moments.see(shape)
    if task.plan.split == "training":
        # the values on disk, not those from the store: a resumed export must find the same numbers
        moments.add(task.recipe.kind, task.recipe.encoding.decode(data, shape))


def _finished(fs: Any, path: str, task: Task) -> bytes | None:
    """The bytes of the shard where it is there, sound and complete."""
    try:
        data: bytes = fs.cat_file(path)
        n = sum(1 for _ in records.unframe(_plain(data, task)))
    except (OSError, EOFError, ValueError):
        return None
    return data if n == len(task.plan.labels) else None


def _moments_of(data: bytes, task: Task) -> Moments:
    """The moments of a finished shard, added up in the order in which `_make` does."""
    moments = Moments.none()
    payloads = list(records.unframe(_plain(data, task)))
    for at in task.plan.read_order:
        features = example.decode(payloads[at])
        _count(moments, task, bytes(features["array"][0]), tuple(int(n) for n in features["shape"]))
    return moments


def _plain(data: bytes, task: Task) -> bytes:
    return gzip.decompress(data) if task.recipe.compression == "gzip" else data
