"""How one array becomes the bytes of a record, and a mel spectrogram an image.

A record holds an array time-first: mel (n_frames, n_mels) in dB, wave (n_samples,) at full scale, features
(n_columns,). Time-first, so that a shorter excerpt is a shorter run of bytes and a reader can pad it at the end.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from featurestore.errors import UsageError
from featurestore.spec import Spec

DEFAULT_DTYPE = {"mel": "float16", "wave": "float16", "features": "float32"}
_NUMPY = {"float16": "<f2", "uint8": "|u1", "float32": "<f4"}
MEL_RANGE_DB = 160.0


@dataclasses.dataclass(frozen=True)
class Encoding:
    """dtype on disk; uint8 spreads `low` to `high` over 256 steps and clips what lies outside."""

    dtype: str
    low: float
    high: float

    @classmethod
    def of(cls, kind: str, dtype: str | None, spec: Spec) -> Encoding:
        """The encoding of a kind; dtype None is the kind's default. Raises UsageError where the two do not fit.

        uint8 spans 160 dB below what a full-scale sine can reach (a step of 0.63 dB), and -1 to 1 for waveforms.
        """
        dtype = dtype or DEFAULT_DTYPE[kind]
        if kind == "features" and dtype != "float32":
            raise UsageError(
                f"features are exported as float32, found --dtype {dtype}",
                "Their columns differ in scale by orders of magnitude; leave --dtype out.",
            )
        top = 20 * float(np.log10(spec.n_fft / 2))
        low, high = (-1.0, 1.0) if kind == "wave" else (round(top - MEL_RANGE_DB, 3), round(top, 3))
        return cls(dtype, low, high)

    @property
    def itemsize(self) -> int:
        """Bytes of one value."""
        return np.dtype(_NUMPY[self.dtype]).itemsize

    @property
    def step(self) -> float:
        """Distance of two neighbouring uint8 values, in the unit of the array."""
        return (self.high - self.low) / 255.0

    def encode(self, array: np.ndarray) -> bytes:
        """Little-endian bytes of a float array, row-major."""
        from training.shards import kernels

        values = np.ascontiguousarray(array, np.float32).ravel()
        out = np.empty(values.size, _NUMPY[self.dtype])
        if self.dtype == "uint8":
            kernels.to_steps(values, np.float32(self.low), np.float32(1 / self.step), out)
        elif self.dtype == "float16":
            kernels.to_halves(values, values.view(np.uint32), out.view(np.uint16))
        else:
            out[:] = values
        return out.tobytes()

    def decode(self, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
        """The float32 array of `shape` that `encode` wrote (for uint8 within half a step)."""
        stored = np.frombuffer(data, _NUMPY[self.dtype])
        out = np.empty(stored.size, np.float32)
        if self.dtype == "float16":
            from training.shards import kernels

            kernels.from_halves(stored.view(np.uint16), out.view(np.uint32), out)
        else:
            out[:] = stored
        if self.dtype == "uint8":
            out *= np.float32(self.step)
            out += np.float32(self.low)
        return out.reshape(shape)


def resize(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """A float32 image (height, width) of a 2-D float32 or float16 array: bilinear, averaging where it shrinks.

    Equals tf.image.resize(method="bilinear", antialias=True) to rounding. Fastest where array.T is contiguous, as a
    mel spectrogram of the store is, time first.
    """
    from training.shards import kernels

    rows, columns = array.shape
    out = np.empty((height, width), np.float32)
    halves = array.dtype == np.float16
    source = np.ascontiguousarray(array.T, np.float16 if halves else np.float32)
    across, shares = _taps(columns, width)
    kernels.resample(
        source.view(np.uint16) if halves else source,
        *_padded_taps(rows, height),
        across,
        np.ascontiguousarray(shares.T),
        out,
    )
    return out


def _weights(source: int, target: int) -> np.ndarray:
    """float32 (target, source): each row weighs the inputs under a triangle of the output pixel's width."""
    scale = source / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / width
    triangle = np.maximum(0.0, 1.0 - distance)
    return (triangle / triangle.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.lru_cache(maxsize=256)
def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """`_weights` without its zeros: the first input of each output uint32 (target,), its weights (target, taps)."""
    weights = _weights(source, target)
    seen = weights > 0
    first, last = seen.argmax(axis=1), source - seen[:, ::-1].argmax(axis=1)
    taps = int((last - first).max())
    first = np.minimum(first, source - taps)
    return first.astype(np.uint32), np.take_along_axis(weights, first[:, None] + np.arange(taps), axis=1)


@functools.lru_cache(maxsize=256)
def _padded_taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """`_taps` for rows: first as int64, and weights padded by zeros to what the kernel applies at once."""
    from training.shards import kernels

    first, weights = _taps(source, target)
    return first.astype(np.int64), np.pad(weights, ((0, 0), (0, -weights.shape[1] % kernels.GROUP)))
