"""Timbre as it moves: cepstral deltas, spectral flatness and flux."""

from __future__ import annotations

import functools
import math

import numpy as np

from featurestore.extract.kernel import KERNEL
from featurestore.extract.stft import LANES, Block

DELTA_WIDTH = 9
_AMIN = 1e-10
_RUN = 8  # powers multiplied before one logarithm: 1e-10 ** 8 and 1e38 ** 8 both fit a float64


def delta(mfcc: np.ndarray, order: int) -> np.ndarray:
    """Equal to librosa.feature.delta(mfcc, order=order), with mode="nearest" below nine frames.

    Parameters
    ----------
    mfcc : np.ndarray
        float32 (width, frames).
    order : int
        1 for the change per frame, 2 for the change of that.

    Returns
    -------
    np.ndarray
        float32, the shape of `mfcc`.
    """
    half, frames = DELTA_WIDTH // 2, mfcc.shape[1]
    edges = ((0, 0), (half, half))
    source = np.pad(mfcc, edges, mode="edge") if frames < DELTA_WIDTH else mfcc
    inner = np.zeros((len(mfcc), source.shape[1] - 2 * half), np.float32)
    for i, tap in enumerate(_delta_taps(order)):
        inner += tap * source[:, i : i + inner.shape[1]]
    # the polynomial through the first nine frames has one derivative of its own degree, and so have the last nine
    return inner if source is not mfcc else np.pad(inner, edges, mode="edge")


class Dynamics:
    """Spectral flatness and flux of one block after another.

    Parameters
    ----------
    bins, frames : int
        Of the whole spectrogram. Blocks are added in order, because the flux needs the last frame of the block before.
    """

    def __init__(self, bins: int, frames: int) -> None:
        self.flatness = np.empty((1, frames), np.float32)
        self._flux = np.empty((1, frames), np.float32)
        self._before = np.zeros(bins, np.float32)

    def add(self, block: Block) -> None:
        """Measure librosa.feature.spectral_flatness(S=magnitude), and the Euclidean distance from the frame before.

        Parameters
        ----------
        block : Block
            The next block.
        """
        found = np.empty((2, LANES), np.float32)
        _flatness_flux(block.power, block.magnitude, self._before, found)
        self.flatness[0, block.span] = found[0, : block.frames]
        self._flux[0, block.span] = found[1, : block.frames]

    @property
    def flux(self) -> np.ndarray:
        """float32 (1, frames - 1): norm of numpy.diff(magnitude); (1, 1) of 0 for a single frame."""
        return np.ascontiguousarray(self._flux[:, 1:]) if self._flux.shape[1] > 1 else np.zeros((1, 1), np.float32)


@functools.lru_cache(maxsize=2)
def _delta_taps(order: int) -> np.ndarray:
    """float32 (9,): the derivative of this order of the polynomial of this degree nearest to nine samples."""
    t = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    fit = np.linalg.pinv(np.vander(t, order + 1, increasing=True))
    return (math.factorial(order) * fit[order]).astype(np.float32)


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
