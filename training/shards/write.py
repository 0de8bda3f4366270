"""The shards of one task: arrays of their records from the store, their bytes, and what they add to the normalisation.

A task reads its stretches of the store once, in order, and puts each array where its shard's permutation wants it. When
its shards are written it leaves a receipt beside them, from which an interrupted export goes on.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import posixpath
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

import warehouse
from featurestore.store import files
from featurestore.store.store import OWN_SET, Store
from training.shards import records
from training.shards.encoding import Encoding, resize
from training.shards.moments import Moments
from training.shards.plan import ShardPlan
from training.shards.sidecar import Shard

BATCH = 16  # arrays from the store at once: few enough that their memory is used again and again


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to export and how: every choice but where to; as in `training.shards.export.export`."""

    kind: str
    scheme: str
    subset: str | None
    feature_set: str | None
    dtype: str
    low: float
    high: float
    image: int | None
    compression: str
    seed: int

    @property
    def encoding(self) -> Encoding:
        """How an array becomes a record's bytes."""
        return Encoding(self.dtype, self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Task:
    """All that a process needs to write the shards that are read together.

    Parameters
    ----------
    store, folder : str
        URLs: where arrays come from, where shards go.
    recipe : Recipe
    plans : tuple of ShardPlan
    receipt : str
        Name of the file that says that the task is done.
    keep : bool
        An export with the same choices was interrupted here: take the shards that a receipt vouches for.
    """

    store: str
    folder: str
    recipe: Recipe
    plans: tuple[ShardPlan, ...]
    receipt: str
    keep: bool


@dataclasses.dataclass(frozen=True)
class Done:
    """The shards of a task that are written, the sums of its training records, and whether they were there before."""

    shards: tuple[Shard, ...]
    moments: Moments
    kept: bool = False

    def to_json(self) -> bytes:
        """Give the content of the receipt.

        Returns
        -------
        bytes
        """
        return json.dumps([[dataclasses.asdict(s) for s in self.shards], self.moments.as_dict()]).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Done:
        """Read a receipt.

        Parameters
        ----------
        data : bytes

        Returns
        -------
        Done
            With `kept` true.

        Raises
        ------
        ValueError, TypeError, KeyError
            Where the bytes are something else.
        """
        shards, moments = json.loads(data)
        return cls(tuple(Shard(**s) for s in shards), Moments.from_dict(moments), True)


def write_shards(task: Task) -> Done:
    """Write the shards of a task, or take finished ones that an interrupted export left.

    Parameters
    ----------
    task : Task

    Returns
    -------
    Done

    Raises
    ------
    FeatureStoreError
        Where a shard cannot be written; no part of it is seen by a reader then.
    """
    fs, root = files.resolve(task.folder)
    found = _finished(fs, root, task) if task.keep else None
    if found is not None:
        return found
    framed, moments = _make(task)
    shards = []
    for plan, parts in zip(task.plans, framed, strict=True):
        if task.recipe.compression == "gzip":
            parts = [gzip.compress(b"".join(parts), 6, mtime=0)]
        files.write_bytes(fs, posixpath.join(root, plan.name), parts)
        shards.append(_described(plan, parts))
    done = Done(tuple(shards), moments)
    files.write_bytes(fs, posixpath.join(root, task.receipt), done.to_json())
    return done


def _finished(fs: Any, root: str, task: Task) -> Done | None:
    """What the task's receipt says, where every shard it names is there and sound."""
    try:
        done = Done.from_json(fs.cat_file(posixpath.join(root, task.receipt)))
        sound = all(_described(p, [fs.cat_file(posixpath.join(root, p.name))]) in done.shards for p in task.plans)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return done if sound else None


def _described(plan: ShardPlan, parts: list[bytes]) -> Shard:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return Shard(plan.name, plan.split, len(plan.labels), sum(map(len, parts)), digest.hexdigest())


def _make(task: Task) -> tuple[list[list[bytes]], Moments]:
    """The framed records of each plan, and the moments of the training records."""
    framed, moments = [[b""] * len(p.labels) for p in task.plans], Moments.none()
    keys, places = _read_order(task.plans)
    arrays = _arrays(Store.open(task.store), task.recipe, keys)
    for (which, record), array in zip(places.tolist(), arrays, strict=True):
        plan = task.plans[which]
        moments.see(array.shape)
        if plan.split == "training":
            moments.add(task.recipe.kind, array)
        framed[which][record] = encode_record(task.recipe.encoding.encode(array), array.shape, **plan.numbers(record))
    return framed, moments


def encode_record(data: bytes, shape: tuple[int, ...], **numbers: int) -> bytes:
    """The framed `tf.train.Example` of one array.

    Parameters
    ----------
    data : bytes
        The encoded array.
    shape : tuple of int
        Of the array.
    **numbers : int
        What the record says beside it: label, track_id and so on.

    Returns
    -------
    bytes
    """
    features = {"array": data, "shape": shape, **{name: [value] for name, value in numbers.items()}}
    return records.frame(*records.example(features))


def _arrays(store: Store, recipe: Recipe, keys: pa.Table) -> Iterator[np.ndarray]:
    """Yield the array of each key (track_id, excerpt), time first: float32, or float16 as the store has it."""
    if recipe.kind == "mel":
        for mels in warehouse.iter_mels(store, keys=keys, batch_size=BATCH, stored=True):
            for mel in mels.mels:
                yield resize(mel.T, recipe.image, recipe.image) if recipe.image else mel.T
    elif recipe.kind == "wave":
        for waves in warehouse.iter_waves(store, keys=keys):
            yield from waves.waves
    else:
        yield from _feature_vectors(store, recipe, keys)


def _feature_vectors(store: Store, recipe: Recipe, keys: pa.Table) -> Iterator[np.ndarray]:
    matrix = warehouse.matrix(store, features=recipe.feature_set or OWN_SET, scheme=recipe.scheme, subset=recipe.subset)
    row = {k: i for i, k in enumerate(zip(matrix.track_ids.tolist(), matrix.excerpts.tolist(), strict=True))}
    for key in zip(keys["track_id"].to_pylist(), keys["excerpt"].to_pylist(), strict=True):
        yield matrix.X[row[key]]


def _read_order(plans: tuple[ShardPlan, ...]) -> tuple[pa.Table, np.ndarray]:
    """The keys of all plans by (track_id, excerpt), as the store is read fastest, and (plan, record) (n, 2) of each."""
    tracks, excerpts = (np.concatenate([getattr(p, c) for p in plans]) for c in ("track_ids", "excerpts"))
    places = [np.stack([np.full(len(p.labels), i), np.arange(len(p.labels))], axis=1) for i, p in enumerate(plans)]
    order = np.lexsort((excerpts, tracks))
    keys = pa.table({"track_id": tracks[order], "excerpt": excerpts[order].astype(np.int16)})
    return keys, np.concatenate(places)[order]
