"""Which record goes into which shard, and in which order: a seeded permutation that depends on nothing else.

Runs of RUN neighbouring keys are dealt to the shards together and shuffled inside their shard. The store keeps
neighbours in one row group, so a shard is read almost without decompressing what belongs to another.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pyarrow as pa

from featurestore import schemas
from featurestore.errors import MissingInput

RUN = 8
TARGET_BYTES = 100_000_000


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """One shard to be: int64 track_ids, excerpts, artists and labels (n,) in the order of its records."""

    split: str
    index: int
    of: int
    track_ids: np.ndarray
    excerpts: np.ndarray
    artists: np.ndarray
    labels: np.ndarray

    @property
    def name(self) -> str:
        """`training-00003-of-00016-400.tfrec`; the record count is last."""
        return f"{self.split}-{self.index:05d}-of-{self.of:05d}-{len(self.labels)}.tfrec"

    def numbers(self, at: int) -> dict[str, int]:
        """What record `at` says beside its array."""
        columns = {"track_id": self.track_ids, "excerpt": self.excerpts, "artist": self.artists, "label": self.labels}
        return {name: int(values[at]) for name, values in columns.items()}

    @property
    def read_order(self) -> np.ndarray:
        """Indices of the records by (track_id, excerpt): the order in which the store is read fastest."""
        return np.lexsort((self.excerpts, self.track_ids))


def classes_of(examples: pa.Table) -> tuple[str, ...]:
    """The genres of the training split, sorted. Raises MissingInput where there are fewer than two."""
    training = examples.filter(pa.compute.equal(examples["split"], "training"))
    classes = tuple(sorted(g for g in training["genre"].unique().to_pylist() if g is not None))
    if len(classes) < 2:
        found = f"one genre ({classes[0]})" if classes else "no labelled track"
        raise MissingInput(
            f"the training split has {found}; a classifier needs at least two genres",
            "Look with `python -m featurestore splits`; name another split scheme with --scheme.",
        )
    return classes


def plan_shards(
    examples: pa.Table, classes: tuple[str, ...], *, record_bytes: int, shards: int | None, seed: int
) -> list[ShardPlan]:
    """Deal the examples (track_id, excerpt, genre, split, artist) to shards: training, then validation, then test.

    shards is the number for the training split (None: about 100 MB each); the other splits get shards of that size.
    Examples of a genre outside `classes` are left out.
    """
    number = {genre: i for i, genre in enumerate(classes)}
    out: list[ShardPlan] = []
    per_shard = max(1, TARGET_BYTES // max(1, record_bytes))
    for at, split in enumerate(schemas.SPLITS):
        rows = examples.filter(pa.compute.equal(examples["split"], split)).sort_by(
            [("track_id", "ascending"), ("excerpt", "ascending")]
        )
        labels = np.array([number.get(g, -1) for g in rows["genre"].to_pylist()], np.int64)
        ids, excerpts, artists = (
            np.asarray(rows[c].to_numpy(), np.int64)[labels >= 0] for c in ("track_id", "excerpt", "artist")
        )
        labels = labels[labels >= 0]
        if shards is not None and split == "training":
            per_shard = max(1, math.ceil(len(labels) / shards))
        parts = _deal(len(labels), math.ceil(len(labels) / per_shard), np.random.default_rng([seed, at]))
        out += [
            ShardPlan(split, i, len(parts), ids[p], excerpts[p], artists[p], labels[p]) for i, p in enumerate(parts)
        ]
    return out


def _deal(n: int, shards: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices 0..n-1 in `shards` shuffled parts whose sizes differ by less than RUN."""
    if not n:
        return []
    run = max(1, min(RUN, n // (4 * shards)))  # few records: better mixed than quickly read
    runs = np.array_split(np.arange(n), math.ceil(n / run))
    order = np.concatenate([runs[i] for i in rng.permutation(len(runs))])
    return [rng.permutation(part) for part in np.array_split(order, shards)]
