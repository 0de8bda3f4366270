"""TFRecord framing, both ways, without TensorFlow.

A record is: length (uint64), masked CRC32C of the length (uint32), the payload, masked CRC32C of the payload (uint32);
all little-endian. `frame` writes it, `unframe` reads it. Source: tensorflow/core/lib/io/record_writer.h and, for the
mask, tensorflow/core/lib/hash/crc32c.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import google_crc32c

HEADER_BYTES, FOOTER_BYTES = 12, 4
OVERHEAD = HEADER_BYTES + FOOTER_BYTES  # bytes that framing adds to a payload
_HEADER = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8


class DamagedRecord(ValueError):
    """A record whose checksum does not match, or that ends early. `offset` is where it starts in the file."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"record at byte {offset}: {what}")
        self.offset = offset


def masked_crc(*parts: bytes) -> int:
    """CRC32C of `parts` in a row, rotated right by 15 bits and offset, as TFRecord stores it (0 to 2**32 - 1)."""
    crc = 0
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def frame(*payload: bytes) -> bytes:
    """The record that carries `payload`, given whole or in parts: its length + OVERHEAD bytes."""
    length = _LENGTH.pack(sum(map(len, payload)))
    return b"".join((length, _CRC.pack(masked_crc(length)), *payload, _CRC.pack(masked_crc(*payload))))


def unframe(data: bytes, *, skip_damaged: bool = False) -> Iterator[bytes]:
    """Yield the payloads of a whole TFRecord file's bytes.

    Raises DamagedRecord at the first record that is not sound. With skip_damaged such records are left out: a bad
    payload costs that record; after a bad length the next sound record is searched for.
    """
    at, end = 0, len(data)
    while at < end:
        try:
            payload = _read(data, at)
        except DamagedRecord:
            if not skip_damaged:
                raise
            at = _after_damage(data, at)
            continue
        yield payload
        at += len(payload) + OVERHEAD


def _read(data: bytes, at: int) -> bytes:
    length = _length(data, at)
    if length is None:
        raise DamagedRecord(at, "the checksum of its length does not match")
    start = at + _HEADER.size
    payload = data[start : start + length]
    if len(payload) < length or start + length + _CRC.size > len(data):
        raise DamagedRecord(at, f"{length} bytes announced, the file ends after {len(data) - start}")
    if _CRC.unpack_from(data, start + length)[0] != masked_crc(payload):
        raise DamagedRecord(at, f"the checksum of its {length} bytes does not match")
    return payload


def _length(data: bytes, at: int) -> int | None:
    """Length that the header at `at` announces; None where its checksum does not match."""
    if at + _HEADER.size > len(data):
        return None
    length, crc = _HEADER.unpack_from(data, at)
    return int(length) if crc == masked_crc(data[at : at + _LENGTH.size]) else None


def _after_damage(data: bytes, at: int) -> int:
    """Where to go on after the damaged record at `at`: behind it if its length is sound, else at the next header."""
    length = _length(data, at)
    if length is not None:
        return at + OVERHEAD + length
    candidates = range(at + 1, len(data) - OVERHEAD + 1)
    return next((i for i in candidates if _length(data, i) is not None), len(data))
