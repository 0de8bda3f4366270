"""Audio in, mono excerpts out.

libsndfile reads first (WAV, FLAC, Ogg, Opus, MP3 ...); what it refuses, also in the middle, goes to `ffmpeg` where
the machine has one, else becomes an AudioError. Samples are never padded, and memory does not grow with the length
of the file: only the excerpts are read, block by block, mixed to mono and resampled (soxr HQ, librosa's own) on the
way.

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
import stat
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

import numpy as np

from featurestore.audio import ffmpeg, formats, libsndfile
from featurestore.errors import AudioError
from featurestore.spec import Spec

FULL_SCALE = 32767 / 32768  # the largest 16-bit sample: at or above it a sample counts as clipped
SILENCE = 1e-3  # -60 dB full scale
SHORT_TOLERANCE_S = 0.1  # MP3 clips cut to 30 s lose a few 26 ms frames: FMA's own last 29.98 s
PIECE_FRAMES = 1 << 14


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """One decoded stretch of a track.

    Attributes
    ----------
    excerpt : int
        0-based number within the track.
    y : np.ndarray
        float32 (n,): mean of the channels at spec.sample_rate, full scale 1.0.
    start_s, duration_s : float
        Where it starts in the source and how long it is there, measured in seconds.
    native_rate, channels : int
        Hz and number of channels of the source.
    decoder, decoder_version : str
        What read it.
    peak, rms : float
        Of y.
    clipped_share : float
        Share of the source's samples (all channels) at or above full scale, 0 to 1.
    silence_share : float
        Share of y below -60 dB full scale, 0 to 1.
    short : bool
        Decoded to over 0.1 s less than spec.excerpt_seconds.
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
    """What a decoder offers: facts about the stream, and its samples from any frame on.

    Attributes
    ----------
    name, version : str
        The decoder, as `excerpts.decoder` and `excerpts.decoder_version` name it.
    rate, channels : int
        Sampling rate in Hz, and number of channels.
    frames : int
        Length that the file announces, in frames; it may be wrong.
    """

    name: str
    version: str
    rate: int
    channels: int
    frames: int  # announced, not to be trusted

    def blocks(self, start: int, count: int | None) -> Iterator[np.ndarray]:
        """Yield the samples block by block.

        Parameters
        ----------
        start : int
            First frame, from 0.
        count : int or None
            How many frames; None for all that follow.

        Yields
        ------
        np.ndarray
            float32 (n, channels), full scale 1.0; fewer frames than asked for where the file ends.
        """


def decode(
    source: str | os.PathLike[str] | BinaryIO, spec: Spec, *, block_samples: int = libsndfile.BLOCK_SAMPLES
) -> list[Excerpt]:
    """Read the excerpts that `spec` asks for.

    Parameters
    ----------
    source : str, os.PathLike or binary file object
        A path, or a seekable file.
    spec : Spec
        Which excerpts, at which rate.
    block_samples : int
        Samples that are read at once, over all channels.

    Returns
    -------
    list of Excerpt
        At least one, in the order of the file.

    Raises
    ------
    AudioError
        stage "open" (missing, unreadable, empty, not_audio, unsupported) or "decode" (no_audio, truncated, too_short,
        non_finite, unreadable, timeout).
    """
    import soundfile

    label = os.fspath(source) if isinstance(source, str | os.PathLike) else str(getattr(source, "name", "stream"))
    with open_audio(source, label) as file:
        head, size = file.read(formats.SNIFF_BYTES), file.seek(0, os.SEEK_END)
        file.seek(0)
    if not size:
        raise AudioError("open", "empty", f"{label}: the file is empty (0 bytes)")
    opened = False
    try:
        with libsndfile.opened(source, block_samples) as reader:
            opened = True
            return _read_excerpts(reader, spec, label)
    except OSError as error:
        raise AudioError("decode", "unreadable", f"{label}: libsndfile stopped while reading: {error}") from None
    except soundfile.LibsndfileError as error:
        binary = shutil.which("ffmpeg")
        if binary is None and opened:
            raise AudioError("decode", "truncated", f"{label}: libsndfile stopped while reading: {error}") from None
        if binary is None:
            raise formats.refused(label, head, size) from None
    with _path(source) as path:
        return _read_excerpts(ffmpeg.FfmpegReader(binary, path, label), spec, label)


@contextlib.contextmanager
def open_audio(source: str | os.PathLike[str] | BinaryIO, label: str) -> Iterator[Any]:
    """Open a file for reading; what is no regular file is never opened, for a FIFO would wait for ever.

    Parameters
    ----------
    source : str, os.PathLike or binary file object
        A path of this machine, or a seekable file, which is yielded as it is and stays open.
    label : str
        What messages call it.

    Yields
    ------
    binary file object
        From the beginning of the file.

    Raises
    ------
    AudioError
        missing, or unreadable: also where reading fails within the block.
    """
    try:
        if not isinstance(source, str | os.PathLike):
            source.seek(0)
            yield source
            return
        if not stat.S_ISREG(os.stat(source).st_mode):
            raise AudioError("open", "unreadable", f"{label}: not a regular file")
        with open(source, "rb") as file:
            yield file
    except FileNotFoundError:
        raise AudioError("open", "missing", f"{label}: no such file") from None
    except OSError as error:
        raise AudioError("open", "unreadable", f"{label}: {error.strerror or error}") from None


@contextlib.contextmanager
def _path(source: str | os.PathLike[str] | BinaryIO) -> Iterator[str]:
    """A path that another process can read: that of the source, or of a temporary copy."""
    if isinstance(source, str | os.PathLike):
        yield os.path.abspath(os.fspath(source))
        return
    with tempfile.NamedTemporaryFile(prefix="decode-") as copy:
        source.seek(0)
        shutil.copyfileobj(source, copy)
        copy.flush()
        yield copy.name


def excerpt_starts(frames: int, length: int, excerpts: int) -> list[int]:
    """Where the excerpts of a track begin.

    The centres of equal parts; where they would overlap, evenly from start to end, sharing half with a neighbour at
    most (so three of 10 s fit a 30 s clip that lost its last 20 ms). At least one: a shorter track starts at 0.

    Parameters
    ----------
    frames, length : int
        Of the track, and of an excerpt, in frames of the source.
    excerpts : int
        How many are wanted.

    Returns
    -------
    list of int
        First frames, in ascending order.

    Examples
    --------
    >>> excerpt_starts(frames=120, length=30, excerpts=2)
    [15, 75]
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
