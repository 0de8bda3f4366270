"""Samples to the bytes of a tagged audio file, the same bytes every time.

libsndfile gives each Ogg stream a random serial number; it is replaced by one that the caller chooses.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

CONTAINERS = {
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
    "opus": ("OGG", "OPUS"),
}
RATES = {
    "mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "opus": (8000, 12000, 16000, 24000, 48000),
}
BLOCK_FRAMES = 1 << 16  # libsndfile's Vorbis encoder keeps a whole block on the stack: an entire clip overflows it
_PAGE = struct.Struct("<4sBBqIIIB")
_CHECKSUM_AT = 22
_REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def encode(samples: np.ndarray, sample_rate: int, format: str, tags: dict[str, str], serial: int) -> bytes:
    """Encode samples as a tagged audio file.

    Parameters
    ----------
    samples : numpy.ndarray, shape (n, channels), float32
        Between -1 and 1.
    sample_rate : int
        In Hz; one of `RATES` where the format has a list.
    format : str
        A key of `CONTAINERS`.
    tags : dict of str
        By soundfile's names (title, artist, album, genre ...). ASCII only: libsndfile writes ID3v2.3 text as Latin-1
        and would garble the rest.
    serial : int
        Serial number of an Ogg stream.

    Returns
    -------
    bytes
        The file.
    """
    import soundfile

    container, subtype = CONTAINERS[format]
    out = io.BytesIO()
    with soundfile.SoundFile(
        out, "w", samplerate=sample_rate, channels=samples.shape[1], format=container, subtype=subtype
    ) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        for start in range(0, len(samples), BLOCK_FRAMES):
            file.write(samples[start : start + BLOCK_FRAMES])
    return with_serial(out.getvalue(), serial) if container == "OGG" else out.getvalue()


def with_serial(data: bytes, serial: int) -> bytes:
    """Replace the serial number in an Ogg file of one stream, and make its page checksums right (RFC 3533).

    Parameters
    ----------
    data : bytes
    serial : int

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        What is no Ogg page.
    """
    out = bytearray(data)
    at = 0
    while at < len(out):
        magic, version, flags, granule, _, page, _, n_segments = _PAGE.unpack_from(out, at)
        if magic != b"OggS":
            raise ValueError(f"not an Ogg page at byte {at}")
        body = at + _PAGE.size + n_segments
        end = body + sum(out[at + _PAGE.size : body])
        _PAGE.pack_into(out, at, magic, version, flags, granule, serial, page, 0, n_segments)
        struct.pack_into("<I", out, at + _CHECKSUM_AT, _ogg_crc(out[at:end]))
        at = end
    return bytes(out)


def _ogg_crc(page: bytes | bytearray) -> int:
    """Ogg's CRC-32: zlib's polynomial with the bits the other way round, starting from 0 and not inverted."""
    reversed_crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reversed_crc:032b}"[::-1], 2)
