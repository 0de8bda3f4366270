"""Timbre as it moves: cepstral deltas, spectral flatness and flux."""

from __future__ import annotations

import functools

import numpy as np

from featurestore.extract.stft import KERNEL, LANES, Block

DELTA_WIDTH = 9
_AMIN = 1e-10
_RUN = 8  # powers multiplied before one logarithm: 1e-10 ** 8 and 1e38 ** 8 both fit a float64


def delta(mfcc: np.ndarray, order: int) -> np.ndarray:
    """librosa.feature.delta(mfcc, order=order), mode="nearest" below nine frames: float32, the shape of mfcc."""
    coefficients = _delta_matrix(order)
    half = DELTA_WIDTH // 2
    frames = mfcc.shape[1]
    short = frames < DELTA_WIDTH
    source = np.pad(mfcc, ((0, 0), (half, half)), mode="edge") if short else mfcc
    out = np.empty_like(mfcc)
    _convolve(source, coefficients[half], out if short else out[:, half : frames - half])
    if not short:
        out[:, :half] = mfcc[:, :DELTA_WIDTH] @ coefficients[:half].T
        out[:, -half:] = mfcc[:, -DELTA_WIDTH:] @ coefficients[-half:].T
    return out


class Dynamics:
    """Flatness and flux of one block after another; remembers the last frame of the block before."""

    def __init__(self, bins: int, frames: int) -> None:
        self.flatness = np.empty((1, frames), np.float32)
        self._flux = np.empty((1, frames), np.float32)
        self._before = np.zeros(bins, np.float32)

    def add(self, block: Block) -> None:
        """librosa.feature.spectral_flatness(S=magnitude), and the Euclidean distance from the frame before."""
        found = np.empty((2, LANES), np.float32)
        _flatness_flux(block.power, block.magnitude, self._before, found)
        self.flatness[0, block.span] = found[0, : block.frames]
        self._flux[0, block.span] = found[1, : block.frames]

    @property
    def flux(self) -> np.ndarray:
        """float32 (1, frames - 1): norm of numpy.diff(magnitude); (1, 1) of 0 for a single frame."""
        return np.ascontiguousarray(self._flux[:, 1:]) if self._flux.shape[1] > 1 else np.zeros((1, 1), np.float32)


@functools.lru_cache(maxsize=2)
def _delta_matrix(order: int) -> np.ndarray:
    """float32 (9, 9): row i gives the derivative at sample i of nine; the middle row is the filter everywhere else."""
    import librosa

    return librosa.feature.delta(np.eye(DELTA_WIDTH), order=order, width=DELTA_WIDTH).T.astype(np.float32)


@KERNEL
def _convolve(source, taps, out):  # type: ignore[no-untyped-def]
    """out[r, t] = sum over i of taps[i] source[r, t + i]."""
    for r in range(out.shape[0]):
        for t in range(out.shape[1]):
            total = np.float32(0)
            for i in range(DELTA_WIDTH):
                total += taps[i] * source[r, t + i]
            out[r, t] = total


@KERNEL
def _flatness_flux(power, magnitude, before, out):  # type: ignore[no-untyped-def]
    """spectral_flatness(S=, amin=1e-10, power=2), and the norm of the difference from the frame before.

    The geometric mean takes one logarithm for a run of bins: of the product of their powers.
    """
    bins = power.shape[0]
    logs, sums, product = np.zeros(LANES), np.zeros(LANES), np.empty(LANES)
    distance, part = np.zeros(LANES), np.empty(LANES, np.float32)
    for k0 in range(0, bins, _RUN):
        product[:] = 1.0
        part[:] = 0
        for k in range(k0, min(k0 + _RUN, bins)):
            last = before[k]
            before[k] = magnitude[k, LANES - 1]
            for f in range(LANES):
                p = max(np.float64(power[k, f]), _AMIN)
                product[f] *= p
                sums[f] += p
            for f in range(1, LANES):
                d = magnitude[k, f] - magnitude[k, f - 1]
                part[f] += d * d
            d = magnitude[k, 0] - last
            part[0] += d * d
        for f in range(LANES):
            distance[f] += part[f]
            logs[f] += np.log(product[f])
    for f in range(LANES):
        out[0, f] = np.exp(logs[f] / bins) / (sums[f] / bins)
        out[1, f] = np.sqrt(distance[f])
