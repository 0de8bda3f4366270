"""How one array becomes the bytes of a record, and a mel spectrogram an image.

A record holds an array, time first: mel (n_frames, n_mels) in dB, wave (n_samples,) at full scale, features
(n_columns,). So a shorter excerpt is a shorter run of bytes, and a reader can pad it at the end.
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
    """The dtype of a record's array on disk.

    Parameters
    ----------
    dtype : {"float16", "uint8", "float32"}
        Little-endian on disk.
    low, high : float
        uint8 spreads this range (dB, or 1 at full scale) over its 256 steps and clips what lies outside.
    """

    dtype: str
    low: float
    high: float

    @classmethod
    def of(cls, kind: str, dtype: str | None, spec: Spec) -> Encoding:
        """The encoding of a kind of record.

        Parameters
        ----------
        kind : {"mel", "wave", "features"}
        dtype : str or None
            None takes the kind's own: float16, and float32 for features.
        spec : Spec
            Of the store. uint8 spans 160 dB below what a full-scale sine can reach (a step of 0.63 dB), and -1 to 1
            for waveforms.

        Returns
        -------
        Encoding

        Raises
        ------
        UsageError
            Where the dtype does not fit the kind.
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
    def scale(self) -> tuple[float, float]:
        """(factor, offset): a stored number times the factor, plus the offset, is in the unit of the array."""
        return ((self.high - self.low) / 255.0, self.low) if self.dtype == "uint8" else (1.0, 0.0)

    def encode(self, array: np.ndarray) -> bytes:
        """The bytes of an array.

        Parameters
        ----------
        array : ndarray of float32 or float16, any shape

        Returns
        -------
        bytes
            Row-major.
        """
        from training.shards import kernels

        if array.dtype == self.dtype:
            return np.ascontiguousarray(array).tobytes()
        values = as_float32(array).ravel()
        if self.dtype == "float32":
            return values.tobytes()
        out = np.empty(values.size, _NUMPY[self.dtype])
        if self.dtype == "uint8":
            factor, low = self.scale
            kernels.to_steps(values, np.float32(low), np.float32(1 / factor), out)
        else:
            kernels.to_halves(values, values.view(np.uint32), out.view(np.uint16))
        return out.tobytes()


def as_float32(array: np.ndarray) -> np.ndarray:
    """An array as float32, row-major.

    Parameters
    ----------
    array : ndarray of float32 or float16, any shape

    Returns
    -------
    ndarray of float32, the same shape
        The array itself where it is that already.
    """
    from training.shards import kernels

    if array.dtype != np.float16:
        return np.ascontiguousarray(array, np.float32)
    out = np.empty(array.shape, np.float32)
    halves = np.ascontiguousarray(array).view(np.uint16)
    kernels.from_halves(halves.ravel(), out.view(np.uint32).ravel(), out.ravel())
    return out


def resize(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image of a spectrogram: bilinear, averaging where it shrinks.

    Equals tf.image.resize(method="bilinear", antialias=True) to rounding.

    Parameters
    ----------
    array : ndarray of float32 or float16, shape (frames, bands)
        Fastest where array.T is contiguous, as a mel spectrogram of the store is, time first.
    height, width : int
        Pixels of the image.

    Returns
    -------
    ndarray of float32, shape (height, width)
    """
    from training.shards import kernels

    rows, columns = array.shape
    out = np.empty((height, width), np.float32)
    across, shares = _taps(columns, width)
    kernels.resample(as_float32(array), *_taps(rows, height), across, np.ascontiguousarray(shares.T), out)
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
