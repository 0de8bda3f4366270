"""How far the recording is tuned from A440, from the peaks of its spectrum.

librosa fills arrays of the spectrogram's size with interpolated pitches and then keeps the peaks; here only the
peaks are ever looked at, with the same numbers.
"""

from __future__ import annotations

import numpy as np

from featurestore.extract import stft
from featurestore.extract.kernel import KERNEL
from featurestore.extract.stft import LANES, Block

LOWEST_HZ, HIGHEST_HZ = 150.0, 4000.0
THRESHOLD = 0.1  # of the loudest bin of the frame
CQT_N_FFT, CQT_HOP = 2048, 512  # librosa.cqt estimates its tuning with these whatever its own hop
RESOLUTION = 100  # hundredths of a semitone


class Peaks:
    """Spectral peaks of all blocks so far: their pitch in Hz and their height, in magnitude and in power.

    Parameters
    ----------
    sample_rate, n_fft : int
        Hz, and samples of a frame.
    """

    def __init__(self, sample_rate: int, n_fft: int) -> None:
        self._bin_hz = sample_rate / n_fft
        freq = np.arange(1 + n_fft // 2) * self._bin_hz
        inside = np.flatnonzero((freq >= LOWEST_HZ) & (freq < min(HIGHEST_HZ, sample_rate / 2)))
        self._low, self._high = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (1, 1)
        self._magnitude: list[np.ndarray] = []
        self._power: list[np.ndarray] = []

    def add(self, block: Block, loudest: np.ndarray) -> None:
        """Find the peaks of a block.

        Parameters
        ----------
        block : Block
            The next block.
        loudest : np.ndarray
            float32 (LANES,): the largest magnitude of each frame.
        """
        room = LANES * ((self._high - self._low) // 2 + 1)
        in_magnitude, in_power = np.empty((2, room), np.float32), np.empty((2, room), np.float32)
        n, m = _peaks(
            block.power, block.magnitude, loudest, block.frames, self._low, self._high, self._bin_hz,
            in_magnitude, in_power,
        )  # fmt: skip
        self._magnitude.append(in_magnitude[:, :n])
        self._power.append(in_power[:, :m])

    def magnitude_tuning(self) -> float:
        """librosa.estimate_tuning(S=magnitude, bins_per_octave=12).

        Returns
        -------
        float
            Fractions of a semitone in [-0.5, 0.5).
        """
        return _tuning(np.concatenate(self._magnitude, axis=1))

    def power_tuning(self) -> float:
        """librosa.estimate_tuning(S=power, bins_per_octave=12), as librosa.feature.chroma_stft calls it.

        Returns
        -------
        float
            Fractions of a semitone in [-0.5, 0.5).
        """
        return _tuning(np.concatenate(self._power, axis=1))


def cqt_tuning(y: np.ndarray, sample_rate: int) -> float:
    """librosa.estimate_tuning(y=y, sr=sample_rate, bins_per_octave=12), from an STFT of its own (2048, 512).

    Parameters
    ----------
    y : np.ndarray
        float32 (n,) signal.
    sample_rate : int
        Hz.

    Returns
    -------
    float
        Fractions of a semitone in [-0.5, 0.5).
    """
    power = np.empty((stft.n_blocks(len(y), CQT_HOP), 1 + CQT_N_FFT // 2, LANES), np.float32)
    peaks = Peaks(sample_rate, CQT_N_FFT)
    for block in stft.blocks(y, CQT_N_FFT, CQT_HOP, power):
        peaks.add(block, block.magnitude.max(axis=0))
    return peaks.magnitude_tuning()


def _tuning(peaks: np.ndarray) -> float:
    """librosa.pitch_tuning of the peaks (2, n: Hz, height) at least as high as the median one; 0.0 without peaks."""
    pitch, height = peaks
    if not pitch.size:
        return 0.0
    pitch = pitch[height >= np.median(height)]
    residual = np.mod(12 * np.log2(pitch / (440.0 / 16)), 1.0)
    residual[residual >= 0.5] -= 1.0
    counts, edges = np.histogram(residual, np.linspace(-0.5, 0.5, RESOLUTION + 1))
    return float(edges[np.argmax(counts)])


@KERNEL
def _peaks(power, magnitude, loudest, frames, low, high, bin_hz, in_magnitude, in_power):  # type: ignore[no-untyped-def]
    """librosa.piptrack at its own local maxima, of the magnitude and of the power spectrum. Returns both counts.

    The same bins are maxima of both, but fewer powers exceed a tenth of the largest.
    """
    n, m = 0, 0
    faint = np.empty(LANES, np.float32)
    for f in range(LANES):
        faint[f] = np.float32(THRESHOLD) * loudest[f]
    for k in range(low, high):
        above = 0
        for f in range(LANES):
            above += magnitude[k, f] > faint[f]
        if above == 0:
            continue
        for f in range(frames):
            s, left, right = magnitude[k, f], magnitude[k - 1, f], magnitude[k + 1, f]
            if s > faint[f] and s > left and s >= right:
                shift, height = _parabola(left, s, right)
                in_magnitude[0, n] = (k + shift) * bin_hz
                in_magnitude[1, n] = height
                n += 1
                p = power[k, f]
                if p > np.float32(THRESHOLD) * (loudest[f] * loudest[f]):
                    shift, height = _parabola(power[k - 1, f], p, power[k + 1, f])
                    in_power[0, m] = (k + shift) * bin_hz
                    in_power[1, m] = height
                    m += 1
    return n, m


@KERNEL
def _parabola(left, top, right):  # type: ignore[no-untyped-def]
    """Offset and height of the vertex through three points: librosa's parabolic interpolation."""
    curve = np.float64(right) + left - 2.0 * top
    slope = (np.float64(right) - left) / 2
    shift = np.float32(0) if abs(slope) >= abs(curve) else np.float32(-slope / curve)
    return shift, top + np.float32(0.5) * ((right - left) / np.float32(2)) * shift
