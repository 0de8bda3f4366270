"""Audio in, mono excerpts out.

libsndfile reads first (WAV, FLAC, Ogg, Opus, MP3 ...); what it refuses goes to `ffmpeg` where the machine has one,
else becomes an AudioError. Samples are never padded, and memory does not grow with the length of the file: only
the excerpts are read, block by block, mixed to mono and resampled (soxr HQ, librosa's own) on the way.

Where the excerpts lie. One excerpt is the centre of the track; N excerpts are the centres of N equal parts. In a
track too short for that they lie evenly from its start to its end and overlap, by half at most: a shorter track gives
fewer, at least one. The length announced by a header places them, nothing more: if fewer samples come out, the file
is measured and they are placed again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

import numpy as np

from featurestore.audio import ffmpeg, quiet
from featurestore.errors import AudioError
from featurestore.spec import Spec

FULL_SCALE = 32767 / 32768  # the largest 16-bit sample: at or above it a sample counts as clipped
SILENCE = 1e-3  # -60 dB full scale
SHORT_TOLERANCE_S = 0.1  # MP3 clips cut to 30 s lose a few 26 ms frames: FMA's own last 29.98 s
BLOCK_SAMPLES = 1 << 22  # 16 MB
PIECE_FRAMES = 1 << 14
SNIFF_BYTES = 64
# (name, offset, first bytes): containers that only the fallback reads, and those that libsndfile should have read
FOREIGN = (
    ("MP4 (AAC or ALAC)", 4, b"ftyp"),
    ("Windows Media", 0, b"\x30\x26\xb2\x75"),
    ("Matroska or WebM", 0, b"\x1a\x45\xdf\xa3"),
    ("AAC (ADTS)", 0, b"\xff\xf1"),
    ("AAC (ADTS)", 0, b"\xff\xf9"),
    ("Monkey's Audio", 0, b"MAC "),
    ("WavPack", 0, b"wvpk"),
    ("Musepack", 0, b"MPCK"),
    ("True Audio", 0, b"TTA1"),
)
KNOWN = (
    ("WAV", 0, b"RIFF"),
    ("FLAC", 0, b"fLaC"),
    ("Ogg", 0, b"OggS"),
    ("AIFF", 0, b"FORM"),
    ("MP3", 0, b"ID3"),
    ("MP3", 0, b"\xff\xfb"),
    ("MP3", 0, b"\xff\xf3"),
)


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """One decoded stretch of a track.

    excerpt          0-based number within the track
    y                float32 (n,), mono mean of the channels at spec.sample_rate, full scale 1.0
    start_s          where it starts in the source, in seconds
    duration_s       measured length in the source, in seconds
    native_rate      Hz, channels, decoder, decoder_version: of the source and what read it
    peak, rms        of y
    clipped_share    share of the source's samples (all channels) at or above full scale, 0 to 1
    silence_share    share of y below -60 dB full scale, 0 to 1
    short            decoded to over 0.1 s less than spec.excerpt_seconds
    """

    excerpt: int
    y: np.ndarray
    start_s: float
    duration_s: float
    native_rate: int
    channels: int
    decoder: str
    decoder_version: str
    peak: float
    rms: float
    clipped_share: float
    silence_share: float
    short: bool


class Reader(Protocol):
    """What a decoder offers: facts about the stream, and its samples from any frame on."""

    name: str
    version: str
    rate: int
    channels: int
    frames: int  # announced, not to be trusted

    def blocks(self, start: int, count: int | None) -> Iterator[np.ndarray]:
        """Yield float32 (n, channels) from frame `start`: `count` frames (None: all), fewer where the file ends."""


def decode(source: str | os.PathLike[str] | BinaryIO, spec: Spec) -> list[Excerpt]:
    """Read the excerpts that `spec` asks for from a path or a seekable binary file object.

    Raises AudioError: stage "open" (missing, unreadable, empty, not_audio, unsupported) or "decode" (no_audio,
    truncated, too_short, non_finite, unreadable, timeout).
    """
    import soundfile

    with contextlib.ExitStack() as stack:
        reader, label = _open(source, stack)
        try:
            return _read_excerpts(reader, spec, label)
        except (OSError, soundfile.LibsndfileError) as error:
            kind = "unreadable" if isinstance(error, OSError) else "truncated"
            raise AudioError("decode", kind, f"{label}: {reader.name} stopped while reading: {error}") from None


def excerpt_starts(frames: int, length: int, excerpts: int) -> list[int]:
    """First frames of the excerpts of `length` frames in a track of `frames`.

    The centres of equal parts; where they would overlap, evenly from start to end, sharing half with a neighbour at
    most (so three of 10 s fit a 30 s clip that lost its last 20 ms). At least one: a shorter track starts at 0.
    """
    spare = max(0, frames - length)
    n = max(1, min(excerpts, 1 + 2 * spare // length))
    if n > 1 and n * length > frames:
        return [round(i * spare / (n - 1)) for i in range(n)]
    return [max(0, round((i + 0.5) / n * frames - length / 2)) for i in range(n)]


def _read_excerpts(reader: Reader, spec: Spec, label: str) -> list[Excerpt]:
    length = max(1, round(spec.excerpt_seconds * reader.rate))
    starts = excerpt_starts(reader.frames, length, spec.excerpts)
    takes = [_take(reader, start, length, spec, label) for start in starts]
    if any(t.frames < min(length, reader.frames) for t in takes):
        # the header promised more than there is: measure, and place the excerpts in what there is
        frames = takes[0].frames if starts == [0] else sum(len(b) for b in reader.blocks(0, None))
        placed = excerpt_starts(frames, length, spec.excerpts)
        if placed != starts:
            starts, takes = placed, [_take(reader, start, length, spec, label) for start in placed]
    _require_samples(reader, takes, spec, label)
    return [_excerpt(reader, i, *st, spec) for i, st in enumerate(zip(starts, takes, strict=True))]


@dataclasses.dataclass(frozen=True)
class _Take:
    y: np.ndarray
    frames: int  # read from the source
    clipped: int  # samples, over all channels


def _take(reader: Reader, start: int, length: int, spec: Spec, label: str) -> _Take:
    """Read `length` frames from `start`, mixed to mono and resampled block by block."""
    import soxr

    from featurestore.audio.mixing import mix

    same_rate = reader.rate == spec.sample_rate
    stream = None if same_rate else soxr.ResampleStream(reader.rate, spec.sample_rate, 1, "float32", "HQ")
    parts, frames, clipped = [], 0, 0
    for block in _pieces(reader.blocks(start, length)):
        mono, at_full_scale, broken = mix(block, np.float32(FULL_SCALE))
        if broken:
            at = (start + frames + int(np.flatnonzero(~np.isfinite(mono))[0])) / reader.rate
            raise AudioError("decode", "non_finite", f"{label}: NaN or infinite sample at {at:.3f} s")
        frames += len(block)
        clipped += at_full_scale
        parts.append(mono if stream is None else stream.resample_chunk(mono))
    if stream is not None:
        parts.append(stream.resample_chunk(np.empty(0, np.float32), last=True))
    y = np.concatenate(parts) if parts else np.empty(0, np.float32)
    return _Take(y[: spec.excerpt_samples], frames, clipped)


def _pieces(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same samples in pieces that stay in the processor's cache from mixing to resampling."""
    for block in blocks:
        for first in range(0, len(block), PIECE_FRAMES):
            yield block[first : first + PIECE_FRAMES]


def _require_samples(reader: Reader, takes: list[_Take], spec: Spec, label: str) -> None:
    fewest = min(take.y.size for take in takes)
    if fewest >= spec.hop_length:
        return
    seconds = max(take.frames for take in takes) / reader.rate
    if reader.frames > 2 * max(take.frames for take in takes) and reader.frames > reader.rate // 10:
        text = f"{label}: announces {reader.frames / reader.rate:.2f} s, {seconds:.3f} s decode"
        raise AudioError("decode", "truncated", text)
    if not fewest:
        raise AudioError("decode", "no_audio", f"{label}: {reader.name} opens it and finds no samples")
    need = spec.hop_length / spec.sample_rate
    raise AudioError("decode", "too_short", f"{label}: {seconds:.4f} s decode; one hop needs {need:.4f} s")


def _excerpt(reader: Reader, number: int, start: int, take: _Take, spec: Spec) -> Excerpt:
    y, duration = take.y, take.frames / reader.rate
    return Excerpt(
        excerpt=number,
        y=y,
        start_s=start / reader.rate,
        duration_s=duration,
        native_rate=reader.rate,
        channels=reader.channels,
        decoder=reader.name,
        decoder_version=reader.version,
        peak=float(max(y.max(), -y.min())),
        rms=float(np.sqrt(np.square(y).mean(dtype=np.float64))),
        clipped_share=take.clipped / (take.frames * reader.channels),
        silence_share=float(np.mean(np.abs(y) < SILENCE)),
        short=spec.excerpt_seconds - duration > SHORT_TOLERANCE_S,
    )


class _SoundFileReader:
    """libsndfile, its MP3 (mpg123) included: exact to the sample at any start.

    The frames of an MP3 borrow bits from those before, so what follows a seek is wrong for up to some tenths of a
    second (variable bit rate) and is read a second ahead. soundfile itself seeks after every read: each block of an
    MP3 starts anew.
    """

    name = "libsndfile"

    def __init__(self, file: Any, version: str) -> None:
        self._file, self.version = file, version
        self.rate, self.channels = int(file.samplerate), int(file.channels)
        self.frames = int(file.frames)
        self._lead = self.rate if file.format == "MP3" else 0

    def blocks(self, start: int, count: int | None) -> Iterator[np.ndarray]:
        """See Reader."""
        at, end = start, self.frames if count is None else min(start + count, self.frames)
        block = max(1, BLOCK_SAMPLES // self.channels)
        while at < end:
            lead, wanted = min(at, self._lead), min(end - at, block)
            with quiet.libraries():
                self._file.seek(at - lead)
                data = self._file.read(lead + wanted, dtype="float32", always_2d=True)[lead:]
            if len(data):
                yield data
            if len(data) < wanted:
                return
            at += wanted


def _open(source: str | os.PathLike[str] | BinaryIO, stack: contextlib.ExitStack) -> tuple[Reader, str]:
    """The first decoder that reads the source, and what to call the source in messages."""
    import soundfile

    label = os.fspath(source) if isinstance(source, str | os.PathLike) else str(getattr(source, "name", "stream"))
    head, size = _look(source, label)
    if not size:
        raise AudioError("open", "empty", f"{label}: the file is empty (0 bytes)")
    try:
        # soundfile would encode a path strictly, and refuse names that are not UTF-8
        place = os.fsencode(source) if isinstance(source, str | os.PathLike) else source
        with quiet.libraries():
            file = stack.enter_context(soundfile.SoundFile(place))
        return _SoundFileReader(file, soundfile.__libsndfile_version__.removeprefix("libsndfile-")), label
    except (soundfile.LibsndfileError, TypeError):
        binary = ffmpeg.find()
        if binary is None:
            raise _refused(label, head, size) from None
    return ffmpeg.FfmpegReader(binary, _as_path(source, stack), label), label


def _look(source: str | os.PathLike[str] | BinaryIO, label: str) -> tuple[bytes, int]:
    """The first bytes of the source and its size. Raises AudioError (missing, unreadable)."""
    try:
        if not isinstance(source, str | os.PathLike):
            size = source.seek(0, os.SEEK_END)
            source.seek(0)
            head = source.read(SNIFF_BYTES)
            source.seek(0)
            return head, size
        if not os.path.exists(source):
            raise AudioError("open", "missing", f"{label}: no such file")
        if not os.path.isfile(source):
            raise AudioError("open", "unreadable", f"{label}: not a regular file")
        with open(source, "rb") as file:
            return file.read(SNIFF_BYTES), os.path.getsize(source)
    except FileNotFoundError:
        raise AudioError("open", "missing", f"{label}: no such file") from None
    except OSError as error:
        raise AudioError("open", "unreadable", f"{label}: {error.strerror or error}") from None


def _refused(label: str, head: bytes, size: int) -> AudioError:
    """Why libsndfile refused a file that no fallback can take, judged by its first bytes."""
    for name, offset, magic in FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            text = f"{label}: {name}, which libsndfile does not read; install ffmpeg to decode it"
            return AudioError("open", "unsupported", text)
    for name, offset, magic in KNOWN:
        if head[offset : offset + len(magic)] == magic:
            text = f"{label}: begins as {name}, but no audio follows in its {size} bytes"
            return AudioError("open", "truncated", text)
    # for a path libsndfile says "does not exist or is not a regular file", which is known to be wrong here
    text = f"{label}: no decoder recognises it (first bytes {head[:12]!r})"
    return AudioError("open", "not_audio", text)


def _as_path(source: str | os.PathLike[str] | BinaryIO, stack: contextlib.ExitStack) -> str:
    """A path that another process can read: that of the source, or of a temporary copy."""
    if isinstance(source, str | os.PathLike):
        return os.path.abspath(os.fspath(source))
    copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="decode-"))  # noqa: SIM115 (the stack closes it)
    source.seek(0)
    shutil.copyfileobj(source, copy)
    copy.flush()
    return copy.name
