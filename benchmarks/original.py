"""The original study's records, kept for comparison: every number as a float in a list.

A record is a tf.train.Example with `song` (the flattened array), `class` (one number) and `one_hot_class`, all float
lists. `encode` is written as the study wrote it, Python floats and all; `read` reads as it read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from training.backend import tensorflow


def encode(array: np.ndarray, label: int, classes: int) -> bytes:
    """The serialised Example of one array (any shape, float32)."""
    train = tensorflow().train
    one_hot = np.eye(classes)[label]

    def floats(values: list[float]) -> Any:
        return train.Feature(float_list=train.FloatList(value=values))

    features = {
        "song": floats(array.flatten().tolist()),
        "class": floats([float(label)]),
        "one_hot_class": floats(one_hot.tolist()),
    }
    return bytes(train.Example(features=train.Features(feature=features)).SerializeToString())


def write(path: str, examples: Iterable[tuple[np.ndarray, int]], classes: int) -> int:
    """Write (array, label) pairs to one TFRecord file; returns how many."""
    count = 0
    with tensorflow().io.TFRecordWriter(path) as writer:
        for array, label in examples:
            writer.write(encode(array, label, classes))
            count += 1
    return count


def read(paths: list[str], shape: tuple[int, ...], classes: int, batch_size: int) -> Any:
    """A tf.data.Dataset of batches (x float32 (batch, *shape), y float32 (batch, classes)), record by record."""
    tf = tensorflow()
    features = {
        "song": tf.io.FixedLenFeature(shape, tf.float32),
        "class": tf.io.FixedLenFeature([1], tf.float32),
        "one_hot_class": tf.io.FixedLenFeature([classes], tf.float32),
    }

    def parse(record: Any) -> tuple[Any, Any]:
        example = tf.io.parse_single_example(record, features)
        return example["song"], example["one_hot_class"]

    return tf.data.TFRecordDataset(paths).map(parse).batch(batch_size)


def read_batched(paths: list[str], shape: tuple[int, ...], classes: int, batch_size: int) -> Any:
    """The same records as `read`, parsed in whole batches and in parallel: what better code alone would buy."""
    tf = tensorflow()
    features = {
        "song": tf.io.FixedLenFeature(shape, tf.float32),
        "one_hot_class": tf.io.FixedLenFeature([classes], tf.float32),
    }

    def parse(batch: Any) -> tuple[Any, Any]:
        examples = tf.io.parse_example(batch, features)
        return examples["song"], examples["one_hot_class"]

    files = tf.data.Dataset.from_tensor_slices(paths)
    records = files.interleave(tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE)
    return records.batch(batch_size).map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
