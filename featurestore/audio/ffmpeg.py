"""The fallback decoder: an `ffmpeg` binary, where the machine has one, read through a pipe.

ffmpeg writes Sun AU with 32-bit floats, because its header is six integers that carry the native rate and channels
and may leave the length open, as a pipe must.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

import numpy as np

from featurestore.audio import children
from featurestore.errors import AudioError

BLOCK_BYTES = 1 << 19
TIMEOUT_S = 300.0  # for one excerpt
_AU_HEADER = struct.Struct(">4s5I")  # magic, offset of the samples, bytes, encoding, rate, channels
_AU_FLOAT32 = 6
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d\.\d+)")


class FfmpegReader:
    """Samples of the first audio stream of a file: see `decode.Reader`.

    Everything before an excerpt is decoded and dropped: ffmpeg's own seeking lands up to a packet away.

    Parameters
    ----------
    binary, path : str
        The ffmpeg to run, and the file to read.
    label : str
        What messages call the file.
    timeout_s : float
        Seconds that an ffmpeg may run.

    Raises
    ------
    AudioError
        "open", where ffmpeg finds no audio.
    """

    name = "ffmpeg"

    def __init__(self, binary: str, path: str, label: str, timeout_s: float = TIMEOUT_S) -> None:
        self._binary, self._path, self._label, self._timeout_s = binary, path, label, timeout_s
        self.version = _version(binary)
        with self._running(0, verbosity="info") as (samples, log):
            header = samples.read(_AU_HEADER.size)
            if len(header) < _AU_HEADER.size:
                samples.read()  # until it has ended, and said why
            log.seek(0)
            text = log.read().decode(errors="replace")
        if len(header) < _AU_HEADER.size:
            raise _refused(label, text)
        _, _, _, encoding, self.rate, self.channels = _AU_HEADER.unpack(header)
        if encoding != _AU_FLOAT32 or not self.rate or not self.channels:
            raise AudioError("open", "unsupported", f"{label}: ffmpeg gave no 32-bit float samples")
        found = _DURATION.search(text)
        seconds = int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None
        self.frames = round(seconds * self.rate) if seconds else sum(len(b) for b in self.blocks(0, None))

    def blocks(self, start: int, count: int | None) -> Iterator[np.ndarray]:
        """Yield the samples block by block: see `decode.Reader`.

        Parameters
        ----------
        start : int
            First frame, from 0.
        count : int or None
            How many frames; None for all that follow.

        Yields
        ------
        np.ndarray
            float32 (n, channels), full scale 1.0.

        Raises
        ------
        AudioError
            timeout, where ffmpeg runs longer than `timeout_s`.
        """
        width = 4 * self.channels
        left = float("inf") if count is None else count
        with self._running(start) as (samples, _):
            offset = _AU_HEADER.unpack(samples.read(_AU_HEADER.size) or bytes(_AU_HEADER.size))[1]
            samples.read(max(0, offset - _AU_HEADER.size))
            while left > 0:
                wanted = int(min(left, BLOCK_BYTES // width))
                data = samples.read(wanted * width)
                whole = len(data) // width
                if whole:
                    raw = np.frombuffer(data, ">f4", whole * self.channels)
                    yield raw.astype(np.float32).reshape(whole, self.channels)
                left = left - whole if whole == wanted else 0

    @contextlib.contextmanager
    def _running(self, first: int, verbosity: str = "error") -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """(Sun AU from frame `first`, messages) of an ffmpeg that is stopped with the block, or when its time is up."""
        trim = ["-af", f"atrim=start_sample={first}"] if first else []
        command = [self._binary, "-hide_banner", "-nostdin", "-threads", "1", "-v", verbosity]
        command += ["-i", f"file:{self._path}", "-map", "0:a:0", *trim, "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                preexec_fn=functools.partial(children.end_with, os.getpid()),
            )
            assert process.stdout is not None
            clock = threading.Timer(self._timeout_s, process.kill)
            clock.start()
            try:
                yield process.stdout, log
            finally:
                late = not clock.is_alive()
                clock.cancel()
                process.stdout.close()
                process.kill()
                process.wait()
        if late:
            text = f"{self._label}: ffmpeg gave no more samples within {self._timeout_s:g} s"
            raise AudioError("decode", "timeout", text)


def _version(binary: str) -> str:
    first = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=30).stdout.split("\n")[0]
    match = re.match(r"ffmpeg version (\S+)", first)
    return match[1] if match else "unknown"


def _refused(label: str, log: str) -> AudioError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    reason = lines[-1] if lines else "no message"
    if "matches no streams" in log or "does not contain any stream" in log:
        return AudioError("open", "no_audio", f"{label}: a container without an audio stream (ffmpeg: {reason})")
    kind = "truncated" if "moov atom not found" in log else "not_audio"
    return AudioError("open", kind, f"{label}: neither libsndfile nor ffmpeg reads it (ffmpeg: {reason})")
