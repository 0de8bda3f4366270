"""How one array becomes the bytes of a record, and a mel spectrogram an image.

A record holds an array time-first: mel (n_frames, n_mels) in dB, wave (n_samples,) at full scale, features
(n_columns,). Time-first, so that a shorter excerpt is a shorter run of bytes and a reader can pad it at the end.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from featurestore.errors import UsageError
from featurestore.spec import Spec

DTYPES = ("float16", "uint8", "float32")
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
        if self.dtype == "uint8":
            array = np.clip(np.rint((array - self.low) * np.float32(1 / self.step)), 0, 255)
        return np.ascontiguousarray(array, _NUMPY[self.dtype]).tobytes()

    def decode(self, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
        """The float32 array of `shape` that `encode` wrote (for uint8 within half a step)."""
        array = np.frombuffer(data, _NUMPY[self.dtype]).reshape(shape).astype(np.float32)
        return array * np.float32(self.step) + np.float32(self.low) if self.dtype == "uint8" else array


def resize(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """A float32 image (height, width) of a 2-D array: bilinear, averaging where it shrinks (no aliasing).

    Equals tf.image.resize(method="bilinear", antialias=True) to rounding.
    """
    rows, columns = array.shape
    across = _weights(columns, width).T
    return np.asarray(_sparse_weights(rows, height) @ np.ascontiguousarray(array, np.float32)) @ across


@functools.lru_cache(maxsize=256)
def _weights(source: int, target: int) -> np.ndarray:
    """float32 (target, source): each row weighs the inputs under a triangle of the output pixel's width."""
    scale = source / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / width
    triangle = np.maximum(0.0, 1.0 - distance)
    return (triangle / triangle.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.lru_cache(maxsize=256)
def _sparse_weights(source: int, target: int) -> Any:
    import scipy.sparse

    # a thousand frames become 224 columns and each column sees a dozen of them: dense would be three times slower
    return scipy.sparse.csr_matrix(_weights(source, target))
