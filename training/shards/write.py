"""The shards of one task: arrays of their records from the store, their bytes, and what they add to the normalisation.

A task reads its stretches of the store once, in order, and puts each array where its shard's permutation wants it.
"""

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
from featurestore.store import files
from featurestore.store.store import OWN_SET, Store
from training.shards import example, records
from training.shards.encoding import Encoding, resize
from training.shards.moments import Moments
from training.shards.plan import ShardPlan
from training.shards.sidecar import Shard

BATCH = 16  # arrays from the store at once: few enough that their memory is used again and again


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
    """All that a process needs to write the shards that are read together."""

    store: str
    folder: str
    recipe: Recipe
    plans: tuple[ShardPlan, ...]
    keep: bool  # an export with the same choices was interrupted here: take the shards that are there


@dataclasses.dataclass(frozen=True)
class Done:
    """A shard that is written, its sums, and whether it was there before."""

    shard: Shard
    moments: Moments
    kept: bool


def arrays_of(store: Store, recipe: Recipe, keys: pa.Table) -> Iterator[np.ndarray]:
    """Yield the array of each key (track_id, excerpt), in order, time first (see training.encoding).

    float32, or float16 for a spectrogram that the store keeps so and that is not resized.
    """
    if recipe.kind == "mel":
        for mels in warehouse.iter_mels(store, keys=keys, batch_size=BATCH, stored=True):
            for mel in mels.mels:
                yield resize(mel.T, recipe.image, recipe.image) if recipe.image else mel.T
    elif recipe.kind == "wave":
        for waves in warehouse.iter_waves(store, keys=keys):
            yield from waves.waves
    else:
        yield from _feature_rows(store, recipe, keys)


def _feature_rows(store: Store, recipe: Recipe, keys: pa.Table) -> Iterator[np.ndarray]:
    matrix = warehouse.matrix(store, features=recipe.feature_set or OWN_SET, scheme=recipe.scheme, subset=recipe.subset)
    row = {k: i for i, k in enumerate(zip(matrix.track_ids.tolist(), matrix.excerpts.tolist(), strict=True))}
    for key in zip(keys["track_id"].to_pylist(), keys["excerpt"].to_pylist(), strict=True):
        yield np.asarray(matrix.X[row[key]], np.float32)


def encode_record(data: bytes, shape: tuple[int, ...], **numbers: int) -> bytes:
    """The framed tf.train.Example of one encoded array: features array, shape and the numbers (label, track_id ...)."""
    features = {"array": data, "shape": shape, **{name: [value] for name, value in numbers.items()}}
    return records.frame(*example.encode_parts(features))


def write_shards(task: Task) -> list[Done]:
    """Write the shards of a task, in the order of its plans, or take finished ones that an interrupted export left.

    Raises FeatureStoreError where one cannot be written; no part of it is seen by a reader then.
    """
    fs, root = files.resolve(task.folder)
    finished = {p.name: _finished(fs, root, p, task.recipe) if task.keep else None for p in task.plans}
    missing = [p for p in task.plans if finished[p.name] is None]
    made = dict(zip([p.name for p in missing], _make(task, missing), strict=True))
    done = []
    for plan in task.plans:
        found = finished[plan.name]
        if found is None:
            parts, moments = made.pop(plan.name)
            if task.recipe.compression == "gzip":
                parts = [gzip.compress(b"".join(parts), 6, mtime=0)]
            files.write_bytes(fs, posixpath.join(root, plan.name), parts)
        else:
            parts, moments = [found], _moments_of(found, plan, task.recipe)
        done.append(Done(_described(plan, parts), moments, found is not None))
    return done


def _described(plan: ShardPlan, parts: list[bytes]) -> Shard:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return Shard(plan.name, plan.split, len(plan.labels), sum(map(len, parts)), digest.hexdigest())


def _make(task: Task, plans: list[ShardPlan]) -> list[tuple[list[bytes], Moments]]:
    """The framed records and the moments of each plan."""
    made: list[tuple[list[bytes], Moments]] = [([b""] * len(p.labels), Moments.none()) for p in plans]
    keys, places = _read_order(plans)
    arrays = arrays_of(Store.open(task.store), task.recipe, keys) if plans else iter(())
    for (which, at), array in zip(places.tolist(), arrays, strict=True):
        plan, (framed, moments) = plans[which], made[which]
        data = task.recipe.encoding.encode(array)
        _count(moments, plan, task.recipe, data, array.shape)
        framed[at] = encode_record(data, array.shape, **plan.numbers(at))
    return made


def _read_order(plans: list[ShardPlan]) -> tuple[pa.Table, np.ndarray]:
    """The keys of all plans by (track_id, excerpt), as the store is read fastest, and (plan, record) (n, 2) of each."""
    tracks, excerpts = (
        np.concatenate([np.zeros(0, np.int64), *(getattr(p, c) for p in plans)]) for c in ("track_ids", "excerpts")
    )
    places = [np.stack([np.full(len(p.labels), i), np.arange(len(p.labels))], axis=1) for i, p in enumerate(plans)]
    order = np.lexsort((excerpts, tracks))
    keys = pa.table({"track_id": tracks[order], "excerpt": excerpts[order].astype(np.int16)})
    return keys, np.concatenate([np.empty((0, 2), np.int64), *places])[order]


def _count(moments: Moments, plan: ShardPlan, recipe: Recipe, data: bytes, shape: tuple[int, ...]) -> None:
    moments.see(shape)
    if plan.split == "training":
        # the values on disk, not those from the store: a resumed export must find the same numbers
        moments.add(recipe.kind, recipe.encoding.decode(data, shape))


def _finished(fs: Any, root: str, plan: ShardPlan, recipe: Recipe) -> bytes | None:
    """The bytes of the shard where it is there, sound and complete."""
    try:
        data: bytes = fs.cat_file(posixpath.join(root, plan.name))
        n = sum(1 for _ in records.unframe(_plain(data, recipe)))
    except (OSError, EOFError, ValueError):
        return None
    return data if n == len(plan.labels) else None


def _moments_of(data: bytes, plan: ShardPlan, recipe: Recipe) -> Moments:
    """The moments of a finished shard, added up in the order in which `_make` does."""
    moments = Moments.none()
    payloads = list(records.unframe(_plain(data, recipe)))
    for _, at in _read_order([plan])[1].tolist():
        features = example.decode(payloads[at])
        _count(moments, plan, recipe, bytes(features["array"][0]), tuple(int(n) for n in features["shape"]))
    return moments


def _plain(data: bytes, recipe: Recipe) -> bytes:
    return gzip.decompress(data) if recipe.compression == "gzip" else data
