"""Spectral contrast: peaks against valleys in octave bands."""

from __future__ import annotations

import functools

import numpy as np

from featurestore.extract.kernel import KERNEL
from featurestore.extract.mel import power_to_db
from featurestore.extract.stft import LANES

LOWEST_HZ = 200.0
BANDS = 7  # below 200 Hz, and six octaves above
QUANTILE = 0.02


def contrast(peak: np.ndarray, valley: np.ndarray, sample_rate: int) -> np.ndarray:
    """Equal to librosa.feature.spectral_contrast(S=, sr=).

    Parameters
    ----------
    peak, valley : np.ndarray
        float32 (7, frames) magnitudes, as `extremes` fills them.
    sample_rate : int
        Hz.

    Returns
    -------
    np.ndarray
        float32 (7, frames): dB of the peaks minus dB of the valleys. A band that begins at or above Nyquist is 0, where
        librosa refuses it.
    """
    fits = fitting_bands(sample_rate)
    out = np.zeros_like(peak)
    out[:fits] = power_to_db(peak[:fits]) - power_to_db(valley[:fits])
    return out


def fitting_bands(sample_rate: int) -> int:
    """Number of bands that begin below Nyquist.

    Parameters
    ----------
    sample_rate : int
        Hz.

    Returns
    -------
    int
        1 to 7.

    Examples
    --------
    >>> fitting_bands(22050), fitting_bands(8000)
    (7, 6)
    """
    return 1 + sum(LOWEST_HZ * 2**k < sample_rate / 2 for k in range(BANDS - 1))


@functools.lru_cache(maxsize=4)
def bands(sample_rate: int, n_fft: int) -> np.ndarray:
    """Edges of the bands as librosa draws them.

    A band takes one bin more below and gives its last one up, and the highest reaches Nyquist.

    Parameters
    ----------
    sample_rate, n_fft : int
        Hz, and samples of a frame.

    Returns
    -------
    np.ndarray
        int64 (7, 3): first bin, end bin, and how many bins make the peak and the valley; zeros for a band without bins.
    """
    freq = np.arange(1 + n_fft // 2) * (sample_rate / n_fft)
    out = np.zeros((BANDS, 3), np.int64)
    last = fitting_bands(sample_rate) - 1
    for band in range(last + 1):
        low, high = (0.0 if band == 0 else LOWEST_HZ * 2 ** (band - 1)), LOWEST_HZ * 2**band
        inside = np.flatnonzero((freq >= low) & (freq <= high))
        if not inside.size:  # a short FFT has no bin here
            continue
        begin = inside[0] - (1 if band else 0)
        end = len(freq) if band == last else inside[-1] + 1
        count = max(round(QUANTILE * (end - begin)), 1)
        out[band] = begin, (end if band == last else end - 1), count
    return out


@KERNEL
def extremes(magnitude, edges, first, peak, valley):  # type: ignore[no-untyped-def]
    """Mean of the largest and of the smallest bins of each band: the sorted means of librosa's spectral_contrast.

    Parameters
    ----------
    magnitude : np.ndarray
        float32 (bins, LANES), of a block.
    edges : np.ndarray
        int64 (7, 3), of `bands`.
    first : int
        The first frame of the block: the column to fill from.
    peak, valley : np.ndarray
        float32 (7, frames): receive the means.
    """
    most = 1
    for band in range(edges.shape[0]):
        most = max(most, edges[band, 2])
    kept = np.empty((most, LANES), np.float32)
    for band in range(edges.shape[0]):
        begin, end = edges[band, 0], edges[band, 1]
        count = min(edges[band, 2], end - begin)
        # spectra fall: from this end the largest, and from the other the smallest, come early
        _largest(magnitude, begin, end, np.int64(1), count, kept)
        for f in range(LANES):
            peak[band, first + f] = kept[:count, f].sum() / max(count, 1)
        _largest(magnitude, end - 1, begin - 1, np.int64(-1), count, kept)
        for f in range(LANES):
            valley[band, first + f] = -kept[:count, f].sum() / max(count, 1)


@KERNEL
def _largest(magnitude, begin, end, step, count, kept):  # type: ignore[no-untyped-def]
    """The `count` largest values of step * magnitude[begin:end:step] of each frame, sorted by insertion."""
    value, sign = np.empty(LANES, np.float32), np.float32(step)
    kept[:count] = np.float32(-3e38)
    for k in range(begin, end, step):
        enter = 0
        for f in range(LANES):
            value[f] = sign * magnitude[k, f]
            enter += value[f] > kept[count - 1, f]
        if enter == 0:
            continue
        for j in range(count):
            for f in range(LANES):
                old, new = kept[j, f], value[f]
                kept[j, f] = max(old, new)
                value[f] = min(old, new)
