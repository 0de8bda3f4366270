"""Shards into batches with tf.data: for training an endless shuffled stream, for evaluation every window in order.

The order of a training epoch and its augmentation depend on the seed and the number of the epoch or step alone, so a
resumed run sees the data that the interrupted one would have seen (bit by bit with deterministic=True; otherwise
parallel reading may swap neighbours).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from training.backend import tensorflow
from training.feed import augment as augmentation
from training.feed.augment import Augment
from training.shards.check import DataSet, record_files
from training.shards.sidecar import Sidecar

CYCLE = 16  # shards read at once
SHUFFLE_BYTES = 512_000_000
CACHE_SHARE = 0.25  # of the machine's memory


@dataclasses.dataclass(frozen=True)
class Keys:
    """Who the records of a split are, in the order in which `load(training=False)` delivers them.

    Parameters
    ----------
    track_ids, excerpts, artists, labels : ndarray of int64, shape (n,)
    """

    track_ids: np.ndarray
    excerpts: np.ndarray
    artists: np.ndarray
    labels: np.ndarray


def windows_of(sidecar: Sidecar, window: int | None) -> int:
    """How many windows cover the longest record.

    Parameters
    ----------
    sidecar : Sidecar
    window : int or None
        Frames or samples; None where records are read whole.

    Returns
    -------
    int
    """
    return 1 if window is None else math.ceil(sidecar.shape[0] / window)


def steps_per_epoch(data: DataSet, batch_size: int, split: str = "training") -> int:
    """Batches that show every record of a split once.

    Parameters
    ----------
    data : DataSet
    batch_size : int
    split : str

    Returns
    -------
    int
        The last batch is filled from the next shuffle.
    """
    return math.ceil(data.records(split) / batch_size)


def load(
    data: DataSet,
    split: str,
    *,
    batch_size: int,
    window: int | None = None,
    training: bool = False,
    epochs: tuple[int, int] = (0, 1),
    augment: Augment | None = None,
    class_weights: np.ndarray | None = None,
    seed: int = 0,
    deterministic: bool = False,
    cache: bool | None = None,
    limit: int | None = None,
    cast: bool = True,
) -> Any:
    """Batches (x, y) or, for training, (x, y, w) of a split.

    For training: random windows, shuffled, augmented, with sample weights; every batch is full. Otherwise all windows
    of each record in order, `windows_of` of them, evenly spaced; the last batch is filled up by starting over, so cut
    the scores to the records.

    Parameters
    ----------
    data : DataSet
    split : str
    batch_size : int
        Records of a batch.
    window : int or None
        Frames or samples seen at once; None for whole records.
    training : bool
    epochs : (int, int)
        For training, the epochs [first, last).
    augment : Augment or None
    class_weights : ndarray of float, shape (classes,), or None
        Sample weight of each class.
    seed : int
    deterministic : bool
    cache : bool or None
        Keep the split in memory; None does so if it fits into a quarter of the machine's.
    limit : int or None
        Take the first records only.
    cast : bool
        False leaves x in the dtype on disk (float16, or uint8 steps), which the device casts; features are cast.

    Returns
    -------
    tf.data.Dataset
        x is float32, unless cast is False: (batch, window, bands) for mel, (batch, window) for waves, (batch, columns)
        for features; outside training (batch * windows, ...). y is float32, one-hot. w is float32 (batch,).
    """
    tf = tensorflow()
    augment = (augment or Augment()) if training else Augment()
    reader = _Reader(data.sidecar, window, cast or data.sidecar.kind == "features")
    options = tf.data.Options()
    options.deterministic = deterministic or not training
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    strings = functools.partial(_strings, data, split, deterministic=options.deterministic)
    keep = _fits_memory(data, split) if cache is None else cache
    if training:
        stream = _epochs(data, split, strings, batch_size, epochs, seed, keep)
        first = epochs[0] * steps_per_epoch(data, batch_size, split)
        weights = np.ones(len(data.sidecar.classes)) if class_weights is None else class_weights

        def prepare(step: Any, batch: Any) -> Any:
            return reader.training(batch, augment, weights, tf.stack([tf.cast(seed, tf.int64), step]))

        out = stream.batch(batch_size, drop_remainder=True).enumerate(first)
        out = out.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
    else:
        n = min(limit or data.records(split), data.records(split))
        stream = strings().take(n)
        stream = (stream.cache() if keep else stream).repeat().take(math.ceil(n / batch_size) * batch_size)
        out = stream.batch(batch_size, drop_remainder=True).map(reader.windows, num_parallel_calls=tf.data.AUTOTUNE)
    return out.with_options(options).prefetch(tf.data.AUTOTUNE)


def keys(data: DataSet, split: str, limit: int | None = None) -> Keys:
    """The keys and labels of a split's records.

    Parameters
    ----------
    data : DataSet
    split : str
    limit : int or None
        Of the first records only.

    Returns
    -------
    Keys

    Raises
    ------
    DataMismatch
        Where a record cannot be read.
    """
    tf = tensorflow()
    wanted = {n: tf.io.FixedLenFeature([], tf.int64) for n in ("track_id", "excerpt", "artist", "label")}
    batches = _strings(data, split, deterministic=True).batch(256).map(lambda b: tf.io.parse_example(b, wanted))
    try:
        parts = list(batches.as_numpy_iterator())
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
        raise data.damaged() from None
    columns = (np.concatenate([np.zeros(0, np.int64), *(p[n] for p in parts)])[:limit] for n in wanted)
    return Keys(*columns)


def _fits_memory(data: DataSet, split: str) -> bool:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return sum(s.bytes for s in data.sidecar.of_split(split)) < CACHE_SHARE * memory


def _strings(data: DataSet, split: str, *, deterministic: bool, order: Any = None) -> Any:
    """The serialised records of a split, several shards at once, some records of each in turn.

    `order` permutes the shards. Records travel between threads `data.read_bytes` at a time: one by one, the threads
    would spend more on waking each other than on reading. Damage that `data` has counted is left out.
    """
    tf = tensorflow()
    some = max(1, data.read_bytes // _record_bytes(data, split))
    paths = tf.constant(data.paths[split])

    def blocks(path: Any) -> Any:
        records = record_files(path, data.sidecar.compression)
        return (records.ignore_errors() if data.lost[split] else records).batch(some)

    return (
        tf.data.Dataset.from_tensor_slices(paths if order is None else tf.gather(paths, order))
        .interleave(
            blocks,
            cycle_length=min(CYCLE, len(data.paths[split])),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=deterministic,
        )
        .unbatch()
    )


def _record_bytes(data: DataSet, split: str) -> int:
    """Bytes of a record on disk, on average; at least 1."""
    return max(1, sum(s.bytes for s in data.sidecar.of_split(split)) // max(1, data.records(split)))


def _epochs(
    data: DataSet,
    split: str,
    strings: Callable[..., Any],
    batch_size: int,
    epochs: tuple[int, int],
    seed: int,
    keep: bool,
) -> Any:
    """Serialised records, epoch after epoch in one stream, so that nothing stops at an epoch's end."""
    tf = tensorflow()
    buffer = min(data.records(split), max(256, SHUFFLE_BYTES // _record_bytes(data, split)))
    take = steps_per_epoch(data, batch_size, split) * batch_size
    cached = strings().cache() if keep else None

    def epoch(number: Any) -> Any:
        source = cached
        if source is None:
            shards = tf.range(len(data.paths[split]))
            source = strings(order=tf.random.experimental.stateless_shuffle(shards, [seed, number]))
        # of this function's graph alone: tf.data compares (seed, our seed) with (0, 0), and ours is a tensor
        tf.random.set_seed(1)
        return source.shuffle(buffer, seed=number + 1_000_003 * seed).repeat().take(take)

    return tf.data.Dataset.range(*epochs).flat_map(epoch)


class _Reader:
    """Serialised batches into arrays, for one data set and window."""

    def __init__(self, sidecar: Sidecar, window: int | None, cast: bool) -> None:
        self.sidecar, self.window, self.cast = sidecar, window, cast
        self.windows_per_record = windows_of(sidecar, window)

    def _parse(self, batch: Any) -> tuple[Any, Any, Any]:
        """x in the dtype on disk (B, *shape), padded behind; valid steps (B,) int64; labels (B,) int64."""
        tf = tensorflow()
        shape = self.sidecar.shape
        features = tf.io.parse_example(
            batch,
            {
                "array": tf.io.FixedLenFeature([], tf.string),
                "label": tf.io.FixedLenFeature([], tf.int64),
                "shape": tf.io.FixedLenFeature([len(shape)], tf.int64),
            },
        )
        whole = self.sidecar.image or self.sidecar.kind == "features"  # all of one length: nothing to pad
        size = None if whole else int(np.prod(shape)) * self.sidecar.encoding.itemsize
        if self.sidecar.dtype == "float16":  # TensorFlow pads no float16: read the bits, then name them
            flat = tf.bitcast(tf.io.decode_raw(features["array"], tf.uint16, fixed_length=size), tf.float16)
        else:
            flat = tf.io.decode_raw(features["array"], self.sidecar.dtype, fixed_length=size)
        return tf.reshape(flat, [-1, *shape]), features["shape"][:, 0], features["label"]

    def _float(self, x: Any) -> Any:
        if not self.cast:
            return x
        tf = tensorflow()
        x = tf.cast(x, tf.float32)
        if self.sidecar.kind == "features":  # an imported set may lack values: the training mean stands in
            mean = tf.constant(self.sidecar.normalisation["mean"], tf.float32)
            return tf.where(tf.math.is_finite(x), x, mean)
        factor, offset = self.sidecar.encoding.scale
        return x * factor + offset if self.sidecar.dtype == "uint8" else x

    def _one_hot(self, labels: Any) -> Any:
        return tensorflow().one_hot(labels, len(self.sidecar.classes))

    def training(self, batch: Any, augment: Augment, class_weights: np.ndarray, seed: Any) -> tuple[Any, Any, Any]:
        """One random window of each record, augmented: (x, y, w)."""
        tf = tensorflow()
        x, lengths, labels = self._parse(batch)
        if self.window is not None:
            x = augmentation.crop(x, lengths, self.window, augmentation.random_offsets(lengths, self.window, seed))
        x, y = self._float(x), self._one_hot(labels)
        w = tf.gather(tf.constant(class_weights, tf.float32), labels)
        if augment.masks and self.sidecar.kind == "mel":
            x = augmentation.mask(x, self._mean(x.dtype), augment, augmentation.fold(seed, 1))
        if augment.mixup:
            x, y, w = augmentation.mixup(x, y, w, augment.mixup, augmentation.fold(seed, 2))
        return x, y, w

    def _mean(self, dtype: Any) -> Any:
        """The training mean of each band as a tensor of `dtype`: for uint8 the nearest step."""
        mean = np.asarray(self.sidecar.normalisation["mean"], np.float32)
        if dtype == "uint8":
            mean = np.frombuffer(self.sidecar.encoding.encode(mean), np.uint8)
        return tensorflow().constant(mean.astype(dtype.as_numpy_dtype))

    def windows(self, batch: Any) -> tuple[Any, Any]:
        """Every window of each record, one record after the other: (x, y)."""
        tf = tensorflow()
        x, lengths, labels = self._parse(batch)
        y = self._one_hot(labels)
        if self.window is None:
            return self._float(x), y
        count = self.windows_per_record
        room = tf.cast(tf.maximum(lengths - self.window, 0), tf.float32)
        shares = tf.linspace(0.0, 1.0, count) if count > 1 else tf.constant([0.5])
        offsets = tf.cast(tf.round(room[:, None] * shares[None, :]), tf.int64)
        parts = [augmentation.crop(x, lengths, self.window, offsets[:, i]) for i in range(count)]
        x = tf.reshape(tf.stack(parts, axis=1), [-1, self.window, *self.sidecar.shape[1:]])
        return self._float(x), tf.repeat(y, count, axis=0)
