"""Which record goes into which shard, and in which order: a seeded permutation that depends on nothing else.

Runs of RUN neighbouring keys of the store, whatever their splits, are dealt to tasks; the keys of one task and split
are one shard, shuffled. The store keeps neighbours in one row group: a task reads stretches of it once and writes what
it found there as one training, one validation and one test shard.
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
    """One shard to be.

    Parameters
    ----------
    task : int
        Shards of the same task, one of each split at most, are read from the same stretches of the store.
    split : {"training", "validation", "test"}
    index, of : int
        Its number among the shards of the split, and how many they are.
    track_ids, excerpts, artists, labels : ndarray of int64, shape (n,)
        In the order of its records.
    """

    task: int
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

    def numbers(self, record: int) -> dict[str, int]:
        """What a record says beside its array.

        Parameters
        ----------
        record : int
            Its number in the shard, from 0.

        Returns
        -------
        dict of int
            track_id, excerpt, artist and label.
        """
        columns = {"track_id": self.track_ids, "excerpt": self.excerpts, "artist": self.artists, "label": self.labels}
        return {name: int(values[record]) for name, values in columns.items()}


def classes_of(examples: pa.Table) -> tuple[str, ...]:
    """The genres that a classifier can learn.

    Parameters
    ----------
    examples : pyarrow.Table
        With genre and split.

    Returns
    -------
    tuple of str
        Those of the training split, sorted.

    Raises
    ------
    MissingInput
        Where there are fewer than two.
    """
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
    """Deal examples to shards.

    Parameters
    ----------
    examples : pyarrow.Table
        track_id, excerpt, genre, split, artist.
    classes : tuple of str
        Examples of another genre are left out.
    record_bytes : int
        Size of a record.
    shards : int or None
        Number of tasks, and so of shards in each split that has records enough; None keeps every shard at about
        100 MB or below.
    seed : int

    Returns
    -------
    list of ShardPlan
        Training, then validation, then test.
    """
    number = {genre: i for i, genre in enumerate(classes)}
    rows = examples.sort_by([("track_id", "ascending"), ("excerpt", "ascending")])
    labels = np.array([number.get(g, -1) for g in rows["genre"].to_pylist()], np.int64)
    ids, excerpts, artists = (np.asarray(rows[c].to_numpy(), np.int64) for c in ("track_id", "excerpt", "artist"))
    splits = np.array(rows["split"].to_pylist())
    known = np.flatnonzero(labels >= 0)
    largest = max(int(np.count_nonzero(splits[known] == split)) for split in schemas.SPLITS)
    tasks = min(largest, shards or math.ceil(largest * record_bytes / TARGET_BYTES))
    rng = np.random.default_rng(seed)
    dealt = [known[part] for part in _deal(len(known), tasks, rng)]
    out: list[ShardPlan] = []
    for split in schemas.SPLITS:
        found = [(task, part[splits[part] == split]) for task, part in enumerate(dealt)]
        parts = [(task, rng.permutation(part)) for task, part in found if len(part)]
        out += [
            ShardPlan(task, split, i, len(parts), ids[p], excerpts[p], artists[p], labels[p])
            for i, (task, p) in enumerate(parts)
        ]
    return out


def _deal(n: int, tasks: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices 0..n-1 in `tasks` parts, run by run, whose sizes differ by RUN at most; each part in ascending order."""
    run = max(1, min(RUN, n // (4 * tasks)))  # few records: better mixed than quickly read
    runs = -(-n // run)
    parts = np.array_split(rng.permutation(runs), tasks)
    return [np.flatnonzero(np.isin(np.arange(n) // run, part)) for part in parts]
