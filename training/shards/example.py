"""`tf.train.Example` as bytes, both ways, without TensorFlow or protobuf.

    Example   {Features features = 1}         Features {map<string, Feature> feature = 1}
    Feature   {BytesList bytes_list = 1 | FloatList float_list = 2 | Int64List int64_list = 3}
    BytesList {repeated bytes value = 1}      FloatList, Int64List {repeated value = 1, packed}

`encode` writes the features in the order of their names, so its bytes equal those of protobuf's deterministic
serialisation. Source: tensorflow/core/example/example.proto and feature.proto; protobuf.dev, "Encoding".
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

_LEN = 2  # wire type of length-delimited fields
_FIELD1 = b"\x0a"  # field 1, length-delimited
_FIELD2 = b"\x12"  # field 2, length-delimited
_INT64_LIST = b"\x1a"  # field 3, length-delimited
_BYTES, _FLOATS, _INTS = 1, 2, 3


def encode(features: Mapping[str, bytes | Sequence[int]]) -> bytes:
    """The bytes of an Example with a bytes feature for each `bytes` and an int64 list for each sequence of integers."""
    return b"".join(encode_parts(features))


def encode_parts(features: Mapping[str, bytes | Sequence[int]]) -> list[bytes]:
    """`encode` in parts, to be written one after the other: what is large is not copied."""
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


def decode(data: bytes) -> dict[str, list[bytes] | np.ndarray]:
    """Name -> list of bytes, float32 array or int64 array, of any Example. Raises ValueError on other bytes."""
    out: dict[str, list[bytes] | np.ndarray] = {}
    try:
        for features in _fields(data).get(1, []):
            for entry in _fields(features).get(1, []):
                parts = _fields(entry)
                name = parts.get(1, [b""])[-1].decode()
                out[name] = _feature(_fields(parts.get(2, [b""])[-1]))
    except (IndexError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"not a tf.train.Example: {error}") from None
    return out


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


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _fields(data: bytes) -> dict[int, list[bytes]]:
    """Field number -> values of a message; numbers become eight bytes, so that a caller sees one kind of value."""
    out: dict[int, list[bytes]] = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _LEN:
            size, at = _read_varint(data, at)
        elif wire == 0:
            value, at = _read_varint(data, at)
            out.setdefault(number, []).append((value & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little"))
            continue
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"not a tf.train.Example: wire type {wire}")
        if at + size > len(data):
            raise ValueError("not a tf.train.Example: it ends early")
        out.setdefault(number, []).append(data[at : at + size])
        at += size
    return out


def _feature(lists: Mapping[int, list[bytes]]) -> list[bytes] | np.ndarray:
    if _FLOATS in lists:
        return np.frombuffer(b"".join(_fields(lists[_FLOATS][-1]).get(1, [])), "<f4")
    if _INTS in lists:
        return _integers(lists[_INTS][-1])
    return _fields(lists[_BYTES][-1]).get(1, []) if _BYTES in lists else []


def _integers(message: bytes) -> np.ndarray:
    """The int64 list of a message, packed or not."""
    values: list[int] = []
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        if key & 7 == _LEN:
            size, at = _read_varint(message, at)
            stop = at + size
            while at < stop:
                value, at = _read_varint(message, at)
                values.append(_signed(value))
        else:
            value, at = _read_varint(message, at)
            values.append(_signed(value))
    return np.array(values, np.int64)
