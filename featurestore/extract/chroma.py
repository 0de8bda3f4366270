"""Pitch classes: chroma of the spectrum, of the constant-Q transform, CENS and tonnetz."""

from __future__ import annotations

import functools

import numpy as np

from featurestore.extract.kernel import KERNEL
from featurestore.extract.shape import SILENCE_FLOOR, silence_magnitude

N_CHROMA = 12
CENS_STEPS = (0.4, 0.2, 0.1, 0.05)  # each passed adds a quarter
CENS_SMOOTHING = 41  # frames
# Resampling leaves 1e-7 in float32 next to loud music, and about 1e-22 further on
_CQT_FLOOR = 10 * SILENCE_FLOOR  # a sine of amplitude a has about 10 a in the summed magnitudes of its class


def chroma_stft(power: np.ndarray, frames: int, sample_rate: int, n_fft: int, tuning: float) -> np.ndarray:
    """Equal to librosa.feature.chroma_stft(S=power, sr=, tuning=).

    Parameters
    ----------
    power : np.ndarray
        float32 (blocks, bins, LANES), as `stft.blocks` fills it.
    frames : int
        Frames of the signal.
    sample_rate, n_fft : int
        Hz, and samples of a frame.
    tuning : float
        Fractions of a semitone in [-0.5, 0.5).

    Returns
    -------
    np.ndarray
        float32 (12, frames), C first; the maximum of a frame is 1, and 0 in silence.
    """
    bank = _bank(sample_rate, n_fft, tuning)
    raw = np.ascontiguousarray(np.matmul(bank, power).transpose(1, 0, 2)).reshape(N_CHROMA, -1)[:, :frames]
    return _peak_normalized(raw, silence_magnitude(n_fft) ** 2)


def chroma_cqt(pitch_classes: np.ndarray) -> np.ndarray:
    """Equal to librosa.feature.chroma_cqt(C=, bins_per_octave=12).

    Parameters
    ----------
    pitch_classes : np.ndarray
        float32 (12, frames), as `constantq.pitch_classes` gives them.

    Returns
    -------
    np.ndarray
        float32 (12, frames), C first; the maximum of a frame is 1, and 0 in silence.
    """
    return _peak_normalized(pitch_classes, _CQT_FLOOR)


def chroma_cens(pitch_classes: np.ndarray) -> np.ndarray:
    """Equal to librosa.feature.chroma_cens(C=, bins_per_octave=12).

    Parameters
    ----------
    pitch_classes : np.ndarray
        float32 (12, frames), as `constantq.pitch_classes` gives them.

    Returns
    -------
    np.ndarray
        float32 (12, frames), C first; the Euclidean length of a frame is 1, and 0 in silence.
    """
    silent = pitch_classes.max(axis=0) < _CQT_FLOOR
    total = pitch_classes.sum(axis=0)
    share = pitch_classes / np.where(silent, np.float32(np.inf), total)
    steps = np.zeros_like(share)
    for step in CENS_STEPS:
        steps += (share > np.float32(step)) * np.float32(0.25)
    smooth = _smooth(steps, _cens_window())
    length = np.sqrt(np.square(smooth, dtype=np.float64).sum(axis=0))
    return (smooth / np.where(length > 0, length, 1)).astype(np.float32)


def tonnetz(chroma: np.ndarray) -> np.ndarray:
    """Equal to librosa.feature.tonnetz(chroma=).

    Parameters
    ----------
    chroma : np.ndarray
        float32 (12, frames).

    Returns
    -------
    np.ndarray
        float32 (6, frames) in [-1, 1]: x and y of fifths, of minor thirds and of major thirds; 0 in silence.
    """
    total = chroma.sum(axis=0, dtype=np.float64)
    return (_tonnetz_basis() @ (chroma / np.where(total > 0, total, 1))).astype(np.float32)


def _peak_normalized(chroma: np.ndarray, floor: float) -> np.ndarray:
    """Each frame divided by its maximum; 0 where that is at most `floor`."""
    peak = chroma.max(axis=0)
    return chroma / np.where(peak > floor, peak, np.float32(np.inf))


@functools.lru_cache(maxsize=100)  # librosa's tunings are hundredths of a semitone
def _bank(sample_rate: int, n_fft: int, tuning: float) -> np.ndarray:
    """librosa.filters.chroma: float32 (12, bins). Calling that one would compile kernels that nothing here uses.

    A Gaussian around each pitch class, as wide as the distance of two bins; bins count less the further they lie
    from 880 Hz. The bin of 0 Hz has a place of its own, an octave and a half below the first.
    """
    hz = np.arange(1, n_fft) * (sample_rate / n_fft)
    semitones = N_CHROMA * np.log2(hz * 16 / (440.0 * 2 ** (tuning / N_CHROMA)))  # above A0
    semitones = np.concatenate([semitones[:1] - 1.5 * N_CHROMA, semitones])
    width = np.append(np.maximum(np.diff(semitones), 1), 1)
    distance = np.remainder(semitones - np.arange(N_CHROMA)[:, None] + 6, N_CHROMA) - 6
    bank = np.exp(-2 * (distance / width) ** 2)
    bank *= np.exp(-0.5 * ((semitones / N_CHROMA - 5) / 2) ** 2) / np.sqrt(np.square(bank).sum(axis=0))
    return np.ascontiguousarray(np.roll(bank, -3, axis=0)[:, : 1 + n_fft // 2], np.float32)


@functools.lru_cache(maxsize=1)
def _cens_window() -> np.ndarray:
    angle = 2 * np.pi * np.arange(CENS_SMOOTHING + 2) / (CENS_SMOOTHING + 1)
    window = 0.5 - 0.5 * np.cos(angle)  # symmetric Hann, its end points 0
    return window / window.sum()


@functools.lru_cache(maxsize=1)
def _tonnetz_basis() -> np.ndarray:
    """Harte, Sandler, Gasser 2006: angles of fifths, minor thirds and major thirds; float64 (6, 12)."""
    angle = np.multiply.outer([7 / 6, 7 / 6, 3 / 2, 3 / 2, 2 / 3, 2 / 3], np.arange(N_CHROMA))
    angle[::2] -= 0.5  # sine
    return np.array([1, 1, 1, 1, 0.5, 0.5])[:, None] * np.cos(np.pi * angle)


@KERNEL
def _smooth(rows, window):  # type: ignore[no-untyped-def]
    """scipy.ndimage.convolve(rows, window[None], mode="constant") for a symmetric window."""
    width, frames = rows.shape
    half = window.shape[0] // 2
    out = np.zeros((width, frames), np.float32)
    total = np.empty(frames)
    for r in range(width):
        total[:] = 0
        for i in range(window.shape[0]):
            shift = i - half
            for t in range(max(0, -shift), min(frames, frames - shift)):
                total[t] += window[i] * rows[r, t + shift]
        for t in range(frames):
            out[r, t] = total[t]
    return out
