"""TFRecord bytes without TensorFlow: framing, Example messages, array encodings, the deal of records to shards."""

from __future__ import annotations

import re
import struct

import numpy as np
import pyarrow as pa
import pytest

from featurestore.errors import MissingInput, UsageError
from featurestore.spec import Spec
from tests.training_cases import decode
from training.shards import kernels, records
from training.shards.encoding import Encoding, resize
from training.shards.moments import Moments
from training.shards.plan import RUN, classes_of, plan_shards

SPEC = Spec()


def test_crc_of_the_standard_check_string() -> None:
    # RFC 3720, appendix B.4: CRC32C of 32 zero bytes is 0x8A9136AA; then TFRecord's rotation and offset
    crc = 0x8A9136AA
    assert records.masked_crc(bytes(32)) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_frame_adds_its_overhead() -> None:
    assert len(records.frame(b"ab", b"c")) == 3 + records.OVERHEAD
    assert records.frame(b"ab", b"c") == records.frame(b"abc")


def test_example_of_known_bytes() -> None:
    # by hand, from the wire format: Example{1: Features{1: entry{1: "a", 2: Feature{3: Int64List{1: [300]}}}}}
    assert b"".join(records.example({"a": [300]})) == bytes.fromhex(
        "0a0d 0a0b 0a0161 1206 1a04 0a02 ac02".replace(" ", "")
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.035), ("uint8", 160 / 255 / 2 + 1e-4), ("float32", 0)])
def test_mel_encodings_keep_their_promise(dtype: str, tolerance: float) -> None:
    encoding = Encoding.of("mel", dtype, SPEC)
    mel = np.linspace(-99, 59, 4 * 6, dtype=np.float32).reshape(4, 6)
    data = encoding.encode(mel)
    assert len(data) == mel.size * encoding.itemsize
    assert np.abs(decode(encoding, data, (4, 6)) - mel).max() <= tolerance


def test_bytes_are_little_endian_and_row_major() -> None:
    data = Encoding.of("wave", "float32", SPEC).encode(np.array([1.0, -2.0], np.float32))
    assert data == struct.pack("<2f", 1.0, -2.0)


def test_uint8_clips_what_lies_outside() -> None:
    encoding = Encoding.of("wave", "uint8", SPEC)
    assert encoding.encode(np.array([-9.0, -1.0, 1.0, 9.0], np.float32)) == bytes([0, 0, 255, 255])


def test_halves_are_ieees_own() -> None:
    """Every float16, what lies half-way to the next, and the floats beside that; NumPy rounds as IEEE 754 says."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    with np.errstate(invalid="ignore"):
        middles = (halves[:-1] + halves[1:]) / 2
    values = np.concatenate([halves, *(np.nextafter(middles, np.float32(to)) for to in (-np.inf, np.inf)), middles])
    values = np.concatenate([values, np.float32([65519.9, 65520, 1e38, -1e38, 1e-45, -1e-8])])
    out = np.empty(len(values), np.uint16)
    kernels.to_halves(values, values.view(np.uint32), out)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float16)
    assert np.array_equal(out.view(np.float16), expected, equal_nan=True)
    known = ~np.isnan(expected)
    assert np.array_equal(out[known], expected.view(np.uint16)[known])  # also the sign of zero
    back = np.empty(1 << 16, np.float32)
    kernels.from_halves(np.arange(1 << 16, dtype=np.uint16), back.view(np.uint32), back)
    assert np.array_equal(back, halves, equal_nan=True)


def test_features_are_float32_only() -> None:
    with pytest.raises(UsageError, match="float32, found --dtype uint8"):
        Encoding.of("features", "uint8", SPEC)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1292, 128), (224, 224)), ((50, 13), (224, 9)), ((3, 2), (7, 5)), ((40, 30), (40, 30)), ((1, 1), (4, 4))],
)
def test_resize_is_a_product_with_triangles(shape: tuple[int, int], size: tuple[int, int]) -> None:
    array = np.random.default_rng(0).normal(-40, 12, shape).astype(np.float32)

    def triangles(source: int, target: int) -> np.ndarray:
        scale = source / target
        away = np.abs((np.arange(source) + 0.5)[None, :] - ((np.arange(target) + 0.5) * scale)[:, None])
        weights = np.maximum(0.0, 1.0 - away / max(scale, 1.0))
        return weights / weights.sum(axis=1, keepdims=True)

    expected = triangles(shape[0], size[0]) @ array @ triangles(shape[1], size[1]).T
    for source in (array, np.asfortranarray(array)):
        assert np.allclose(resize(source, *size), expected, atol=1e-4)
    short = np.asfortranarray(array.astype(np.float16))
    assert np.array_equal(resize(short, *size), resize(short.astype(np.float32), *size))


def test_resize_keeps_constants_and_lines() -> None:
    assert np.allclose(resize(np.full((431, 128), -37.0), 224, 224), -37.0, atol=1e-4)
    # a ramp stays a ramp away from its ends, at the new pixel centres
    ramp = np.repeat(np.arange(100.0)[:, None], 8, axis=1)
    expected = (np.arange(50) + 0.5) * 2 - 0.5
    assert np.allclose(resize(ramp, 50, 8)[2:-2, 3], expected[2:-2], atol=1e-4)


def test_moments_merge_to_those_of_all() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(-40, 12, (n, 5)).astype(np.float32) for n in (7, 20, 3)]
    total = Moments.none()
    for part in parts:
        own = Moments.none()
        own.add("mel", part)
        own.see(part.shape)
        total.merge(own)
    every = np.concatenate(parts)
    found = total.normalisation()
    assert np.allclose(found["mean"], every.mean(axis=0), rtol=1e-5)
    assert np.allclose(found["std"], every.std(axis=0), rtol=1e-4)
    assert total.longest == (20, 5)


def test_moments_ignore_missing_values_and_constants() -> None:
    moments = Moments.none()
    for row in ([1.0, 5.0], [np.nan, 5.0], [3.0, 5.0]):
        moments.add("features", np.array(row, np.float32))
    assert moments.normalisation() == {"mean": [2.0, 5.0], "std": [1.0, 1.0]}


def _examples(n: int) -> pa.Table:
    return pa.table(
        {
            "track_id": np.arange(n),
            "excerpt": np.zeros(n, np.int16),
            "genre": ["A" if i % 3 else "B" for i in range(n)],
            "split": ["training" if i % 4 else "test" for i in range(n)],
            "artist": np.arange(n) // 2,
        }
    )


def test_every_record_is_dealt_once_in_a_seeded_order() -> None:
    examples = _examples(400)
    plans = plan_shards(examples, ("A", "B"), record_bytes=1000, shards=3, seed=5)
    again = plan_shards(examples, ("A", "B"), record_bytes=1000, shards=3, seed=5)
    other = plan_shards(examples, ("A", "B"), record_bytes=1000, shards=3, seed=6)
    for split, kept in (("training", lambda i: i % 4), ("test", lambda i: not i % 4)):
        ids = np.concatenate([p.track_ids for p in plans if p.split == split])
        assert sorted(ids) == [i for i in range(400) if kept(i)]
        assert np.array_equal(ids, np.concatenate([p.track_ids for p in again if p.split == split]))
        assert not np.array_equal(ids, np.concatenate([p.track_ids for p in other if p.split == split]))
    # neighbours are dealt together but do not stay neighbours
    first = plans[0].track_ids
    assert np.mean(np.abs(np.diff(first)) < 4) < 0.3
    assert re.fullmatch(r"training-00000-of-00003-\d+\.tfrec", plans[0].name)
    assert plans[0].name.endswith(f"-{len(plans[0].labels)}.tfrec")
    assert all((p.labels == (p.track_ids % 3 == 0)).all() for p in plans)
    assert all((p.artists == p.track_ids // 2).all() for p in plans)


def test_shards_are_about_100_mb() -> None:
    plans = plan_shards(_examples(400), ("A", "B"), record_bytes=1_000_000, shards=None, seed=0)
    training = [len(p.labels) for p in plans if p.split == "training"]
    assert sum(training) == 300
    assert len(training) == 3
    assert max(training) - min(training) <= RUN


def test_the_shards_of_a_task_come_from_the_same_stretches() -> None:
    """So that the store's row groups are read once: a task's keys, of all splits, are whole runs of neighbours."""
    plans = plan_shards(_examples(400), ("A", "B"), record_bytes=1000, shards=3, seed=5)
    for task in range(3):
        ids = np.concatenate([p.track_ids for p in plans if p.task == task])
        runs, counts = np.unique(ids // RUN, return_counts=True)
        assert (counts == RUN).all()
        assert len(runs) in (16, 17)


def test_two_genres_are_needed() -> None:
    with pytest.raises(MissingInput, match=r"one genre \(A\)"):
        classes_of(_examples(30).set_column(2, "genre", [["A"] * 30]))
    with pytest.raises(MissingInput, match="no labelled track"):
        classes_of(_examples(30).set_column(3, "split", [["test"] * 30]))
