"""The fallback decoder: an `ffmpeg` binary, where the machine has one, read through a pipe.

ffmpeg writes Sun AU with 32-bit floats, because its header is six integers that carry the native rate and channels
and may leave the length open, as a pipe must.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import IO

import numpy as np

from featurestore.errors import AudioError

BLOCK_BYTES = 1 << 19
TIMEOUT_S = 300.0  # for one excerpt
_AU_HEADER = struct.Struct(">4s5I")  # magic, offset of the samples, bytes, encoding, rate, channels
_AU_FLOAT32 = 6
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d\.\d+)")


class FfmpegReader:
    """Samples of the first audio stream of `path`. Raises AudioError("open", ...) where ffmpeg finds none.

    Everything before an excerpt is decoded and dropped: ffmpeg's own seeking lands up to a packet away.
    """

    name = "ffmpeg"

    def __init__(self, binary: str, path: str, label: str) -> None:
        self._binary, self._path, self._label = binary, path, label
        self.version = _version(binary)
        with tempfile.TemporaryFile() as log:
            process = self._start(0, log, verbosity="info")
            try:
                header = _Pipe(process, label).read(_AU_HEADER.size)
            finally:
                _stop(process)
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
        """Yield float32 (n, channels) from frame `start`: `count` frames (None: all), fewer where the file ends."""
        with tempfile.TemporaryFile() as log:
            process = self._start(start, log)
            try:
                pipe = _Pipe(process, self._label)
                offset = _AU_HEADER.unpack(pipe.read(_AU_HEADER.size) or bytes(_AU_HEADER.size))[1]
                pipe.read(max(0, offset - _AU_HEADER.size))
                width = 4 * self.channels
                left = count
                while left is None or left > 0:
                    frames = BLOCK_BYTES // width if left is None else min(left, BLOCK_BYTES // width)
                    data = pipe.read(frames * width)
                    whole = len(data) // width
                    if whole:
                        raw = np.frombuffer(data, ">f4", whole * self.channels)
                        yield raw.astype(np.float32).reshape(whole, self.channels)
                    if whole < frames:
                        return
                    left = None if left is None else left - whole
            finally:
                _stop(process)

    def _start(self, first: int, log: IO[bytes], verbosity: str = "error") -> subprocess.Popen[bytes]:
        trim = ["-af", f"atrim=start_sample={first}"] if first else []
        command = [self._binary, "-hide_banner", "-nostdin", "-threads", "1", "-v", verbosity]
        command += ["-i", f"file:{self._path}", "-map", "0:a:0", *trim, "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL)


class _Pipe:
    """Reads what a process writes, until TIMEOUT_S after its start."""

    def __init__(self, process: subprocess.Popen[bytes], label: str) -> None:
        assert process.stdout is not None
        self._fd = process.stdout.fileno()
        self._label = label
        self._deadline = time.monotonic() + TIMEOUT_S

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer at the end. Raises AudioError("decode", "timeout")."""
        parts, left = [], size
        while left:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, self._deadline - time.monotonic()))
            if not ready:
                text = f"{self._label}: ffmpeg gave no more samples within {TIMEOUT_S:g} s"
                raise AudioError("decode", "timeout", text)
            part = os.read(self._fd, left)
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def find() -> str | None:
    """The ffmpeg on PATH, or None."""
    return shutil.which("ffmpeg")


def _version(binary: str) -> str:
    first = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=30).stdout.split("\n")[0]
    match = re.match(r"ffmpeg version (\S+)", first)
    return match[1] if match else "unknown"


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdout is not None:
        process.stdout.close()
    process.kill()
    process.wait()


def _refused(label: str, log: str) -> AudioError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    reason = lines[-1] if lines else "no message"
    if "matches no streams" in log or "does not contain any stream" in log:
        return AudioError("open", "no_audio", f"{label}: a container without an audio stream (ffmpeg: {reason})")
    kind = "truncated" if "moov atom not found" in log else "not_audio"
    return AudioError("open", kind, f"{label}: neither libsndfile nor ffmpeg reads it (ffmpeg: {reason})")
