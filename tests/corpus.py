"""A corpus of broken and unusual audio, made here; and small files of every kind for mutation."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import soundfile

SOUND = ("8-bit.wav", "192-kHz.wav", "6-channels.wav", "3-hours.wav")  # unusual, and to be measured
ENCODED = (("mp3", "MP3", None), ("ogg", "OGG", "VORBIS"), ("flac", "FLAC", None), ("wav", "WAV", "PCM_16"))
KILOBYTE = 1024


def tone(seconds: float, rate: int = 16000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """float64 (n, channels): a tone in noise."""
    n = int(seconds * rate)
    noise = np.random.default_rng(seed).normal(0, 0.05, (n, channels))
    return 0.3 * np.sin(2 * np.pi * 330 * np.arange(n) / rate)[:, None] + noise


def encoded(format: str, subtype: str | None, seconds: float = 1.3, rate: int = 16000) -> bytes:
    """A sound file's bytes."""
    file = io.BytesIO()
    soundfile.write(file, tone(seconds, rate), rate, format=format, subtype=subtype)
    return file.getvalue()


def broken_audio(folder: Path) -> Path:
    """Write the corpus below `folder`: the kinds of SOUND, whole and cut files, and files that are no audio."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    id3 = b"ID3\x04\x00\x00\x00\x00\x02\x00" + b"TIT2\x00\x00\x00\x04\x00\x00\x03abc" + bytes(242)
    for name, data in (
        ("empty.mp3", b""),
        ("header-only.wav", encoded("WAV", "PCM_16")[:44]),
        ("header-only.flac", b"fLaC"),
        ("header-only.ogg", encoded("OGG", "VORBIS")[:58]),
        ("id3-only.mp3", id3),
        ("zeros.mp3", bytes(65536)),
        ("random.mp3", rng.bytes(65536)),
        ("random.flac", b"fLaC" + rng.bytes(30000)),
        ("page.mp3", b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 40),
        ("lying.wav", struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 0x7FFFFFF0, b"WAVE", b"fmt ", 16, 1, 65535, 0xFFFFFFFF,
                                  0xFFFFFFFF, 65535, 16, b"data", 0x7FFFFFFF) + bytes(64)),
    ):  # fmt: skip
        (folder / name).write_bytes(data)
    for suffix, format, subtype in ENCODED:
        data = encoded(format, subtype)
        for end in range(KILOBYTE, len(data), KILOBYTE):
            (folder / f"cut-{end // KILOBYTE:02d}.{suffix}").write_bytes(data[:end])
    soundfile.write(folder / "8-bit.wav", tone(1.3), 16000, subtype="PCM_U8")
    soundfile.write(folder / "192-kHz.wav", tone(0.3, 192_000), 192_000)
    soundfile.write(folder / "6-channels.wav", tone(1.3, channels=6), 16000)
    for name, value in (("nan.wav", np.nan), ("infinite.wav", np.inf)):
        y = tone(1.3)
        y[len(y) // 2 :] = value
        soundfile.write(folder / name, y, 16000, subtype="FLOAT")
    soundfile.write(folder / "one-sample.wav", np.array([0.5]), 16000)
    three_hours(folder / "3-hours.wav")
    return folder


def three_hours(path: Path, rate: int = 4000) -> None:
    """A WAV file of three hours that takes no room: a header, and a hole for the samples."""
    size = 3 * 3600 * rate * 2
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16,
                         b"data", size)  # fmt: skip
    with path.open("wb") as f:
        f.write(header)
        f.truncate(len(header) + size)
