"""The short-time Fourier transform, 32 frames at a time, in a layout made for vector units.

A block holds LANES consecutive frames side by side: `power[k, f]` is bin k of frame f. Every kernel then does the
same arithmetic on 32 neighbours in memory, and a block of magnitudes stays in the cache while all of them read it.
The transform itself is scipy's in float64, as librosa's is: in float32 its rounding noise (-140 dB) moves the spectral
contrast of band-limited music by up to 2.8 dB.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import scipy.fft

from featurestore.extract.kernel import KERNEL

LANES = 32


@dataclasses.dataclass(frozen=True)
class Block:
    """Up to LANES neighbouring frames of a spectrogram.

    Parameters
    ----------
    first : int
        Number of the first frame in the signal.
    frames : int
        How many of the lanes hold a frame; what is in the others means nothing.
    power, magnitude : np.ndarray
        float32 (1 + n_fft // 2, LANES).
    """

    first: int
    frames: int
    power: np.ndarray
    magnitude: np.ndarray

    @property
    def span(self) -> slice:
        """The frames of this block among all frames."""
        return slice(self.first, self.first + self.frames)


def blocks(y: np.ndarray, n_fft: int, hop: int, power: np.ndarray) -> Iterator[Block]:
    """Yield |librosa.stft(y, n_fft=n_fft, hop_length=hop)| and its square, block by block.

    Parameters
    ----------
    y : np.ndarray
        float32 (n,) signal.
    n_fft, hop : int
        Samples of a frame, and between two frames.
    power : np.ndarray
        float32 (n_blocks(n, hop), 1 + n_fft // 2, LANES): receives the squares and keeps them.

    Yields
    ------
    Block
        Its magnitudes are valid until the next block.
    """
    n_frames = 1 + len(y) // hop
    padded = np.pad(y, (n_fft // 2, LANES * hop + n_fft))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    window = hann(n_fft)
    magnitude = np.empty(power.shape[1:], np.float32)
    for first, block in zip(range(0, n_frames, LANES), power, strict=True):
        _magnitudes(scipy.fft.rfft(frames[first : first + LANES] * window), block, magnitude)
        yield Block(first, min(LANES, n_frames - first), block, magnitude)


def n_blocks(n_samples: int, hop: int) -> int:
    """Blocks that hold the 1 + n_samples // hop frames of a signal.

    Parameters
    ----------
    n_samples, hop : int
        Samples of the signal, and between two frames.

    Returns
    -------
    int

    Examples
    --------
    >>> n_blocks(22050, 512)
    2
    """
    return -(-(1 + n_samples // hop) // LANES)


@functools.lru_cache(maxsize=32)
def hann(length: int) -> np.ndarray:
    """Periodic Hann window: scipy.signal.get_window("hann", length).

    Parameters
    ----------
    length : int
        Samples.

    Returns
    -------
    np.ndarray
        float64 (length,).
    """
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


@KERNEL
def _magnitudes(spectrum, power, magnitude):  # type: ignore[no-untyped-def]
    """numpy.abs of a complex64 spectrum (frames, bins), and its square, as lanes."""
    for f in range(spectrum.shape[0]):
        for k in range(spectrum.shape[1]):
            re = np.float32(spectrum[f, k].real)
            im = np.float32(spectrum[f, k].imag)
            power[k, f] = re * re + im * im
            magnitude[k, f] = np.sqrt(power[k, f])
