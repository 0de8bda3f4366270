"""The bytes of a TFRecord file, written without TensorFlow or protobuf; TensorFlow reads them.

A record is: length (uint64), masked CRC32C of the length (uint32), the payload, masked CRC32C of the payload (uint32);
all little-endian. The payload is a `tf.train.Example`:

    Example   {Features features = 1}         Features {map<string, Feature> feature = 1}
    Feature   {BytesList bytes_list = 1 | Int64List int64_list = 3}
    BytesList {repeated bytes value = 1}      Int64List {repeated int64 value = 1, packed}

Sources: tensorflow/core/lib/io/record_writer.h, tensorflow/core/lib/hash/crc32c.h (the mask),
tensorflow/core/example/example.proto and feature.proto; protobuf.dev, "Encoding".
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping, Sequence

import google_crc32c

OVERHEAD = 16  # bytes that framing adds to a payload
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_FIELD1 = b"\x0a"  # field 1, length-delimited
_FIELD2 = b"\x12"  # field 2, length-delimited
_INT64_LIST = b"\x1a"  # field 3, length-delimited


def masked_crc(*parts: bytes) -> int:
    """CRC32C of some bytes, masked as TFRecord stores it.

    Parameters
    ----------
    *parts : bytes
        Taken in a row, without being joined.

    Returns
    -------
    int
        The checksum rotated right by 15 bits, plus 0xA282EAD8, modulo 2**32.
    """
    crc = 0
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def frame(*payload: bytes) -> bytes:
    """The record that carries a payload.

    Parameters
    ----------
    *payload : bytes
        The payload, whole or in parts.

    Returns
    -------
    bytes
        `OVERHEAD` bytes more than the payload.
    """
    length = _LENGTH.pack(sum(map(len, payload)))
    return b"".join((length, _CRC.pack(masked_crc(length)), *payload, _CRC.pack(masked_crc(*payload))))


def example(features: Mapping[str, bytes | Sequence[int]]) -> list[bytes]:
    """A serialised `tf.train.Example`, in parts that belong in a row: what is large is not copied.

    Parameters
    ----------
    features : mapping
        Name to bytes, which become a bytes list of one value, or to integers, which become an int64 list.

    Returns
    -------
    list of bytes
        Features are in the order of their names, so the bytes are those of protobuf's deterministic serialisation.
    """
    parts: list[bytes] = []
    for name in sorted(features):
        value = features[name]
        parts += _bytes_entry(name, value) if isinstance(value, bytes) else [_int64_entry(name, tuple(value))]
    return [_FIELD1, _varint(sum(map(len, parts))), *parts]


@functools.lru_cache(maxsize=1024)  # labels and shapes come again and again
def _int64_entry(name: str, values: tuple[int, ...]) -> bytes:
    return b"".join(_entry(name, _INT64_LIST, *_sized(_FIELD1, b"".join(map(_varint, values)))))


def _bytes_entry(name: str, value: bytes) -> list[bytes]:
    *head, data = _entry(name, _FIELD1, *_sized(_FIELD1, value))
    return [b"".join(head), data]


def _entry(name: str, kind: bytes, *content: bytes) -> tuple[bytes, ...]:
    """One entry of the map: `content`, the inside of a list of that kind, under its name."""
    size = sum(map(len, content))
    feature = _varint(len(kind) + len(_varint(size)) + size), kind, _varint(size), *content
    body = (*_sized(_FIELD1, name.encode()), _FIELD2, *feature)
    return _FIELD1, _varint(sum(map(len, body))), *body


def _sized(tag: bytes, value: bytes) -> tuple[bytes, bytes, bytes]:
    return tag, _varint(len(value)), value


def _varint(value: int) -> bytes:
    """Base-128 little-endian; a negative integer takes ten bytes (two's complement of 64 bits)."""
    if 0 <= value < 0x80:  # most of them
        return value.to_bytes()
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
