"""Level and shape of the spectrum of a frame: RMS, centroid, bandwidth and roll-off in one pass over the cache."""

from __future__ import annotations

import numpy as np

from featurestore.extract.kernel import KERNEL
from featurestore.extract.stft import LANES, Block

# A frame without a bin above what white noise of this RMS has (-144 dB full scale, below the last bit of 24-bit
# audio) is silent: what is left there is rounding residue, and its shape means nothing.
SILENCE_FLOOR = 2.0**-24
ROLLOFF = 0.85
_RMS, _CENTROID, _BANDWIDTH, _ROLLOFF, _LOUDEST = range(5)


def silence_magnitude(n_fft: int) -> float:
    """Largest STFT magnitude of a frame that counts as silent.

    Parameters
    ----------
    n_fft : int
        Samples of a frame.

    Returns
    -------
    float
    """
    return SILENCE_FLOOR * (3 / 8 * n_fft) ** 0.5  # the mean square of a Hann window is 3/8


def shape(block: Block, n_fft: int, bin_hz: float, cumulative: np.ndarray) -> np.ndarray:
    """Level and shape of the spectrum of each frame of a block.

    Equal to librosa.feature.rms(S=, frame_length=n_fft), spectral_centroid, spectral_bandwidth and
    spectral_rolloff(S=, sr=).

    Parameters
    ----------
    block : Block
        Power and magnitude.
    n_fft : int
        Samples of a frame.
    bin_hz : float
        Hz between two bins.
    cumulative : np.ndarray
        float32, the shape of the block's arrays: room for intermediate sums, overwritten.

    Returns
    -------
    np.ndarray
        float32 (5, LANES): RMS, centroid, bandwidth, roll-off (the three in Hz, and 0 in a silent frame), and the
        largest magnitude.
    """
    out = np.empty((5, LANES), np.float32)
    _shape(block.power, block.magnitude, cumulative, n_fft, bin_hz, silence_magnitude(n_fft), out)
    return out


@KERNEL
def _shape(power, magnitude, cumulative, n_fft, bin_hz, floor, out):  # type: ignore[no-untyped-def]
    """rms, spectral_centroid, spectral_bandwidth, spectral_rolloff of librosa.feature, and the maximum over bins.

    Sums run in float32 over 32 bins and in float64 over those, near the exact value; the cumulative sum that
    decides the roll-off is float32 in bin order, as numpy's is, so that ties fall the same way.
    """
    bins = power.shape[0]
    sum0, sum1, sum2, energy = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    running = np.zeros(LANES, np.float32)
    loudest = np.zeros(LANES, np.float32)
    part0, part1 = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    part2, centre = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for k0 in range(0, bins, 32):
        part0[:] = 0
        part1[:] = 0
        part2[:] = 0
        for k in range(k0, min(k0 + 32, bins)):
            weight = np.float32(0.5) if k == 0 or k == bins - 1 else np.float32(1)
            offset = np.float32(k - k0)
            for f in range(LANES):
                s = magnitude[k, f]
                part0[f] += s
                part1[f] += s * offset
                part2[f] += weight * power[k, f]
                running[f] += s
                cumulative[k, f] = running[f]
                loudest[f] = max(loudest[f], s)
        for f in range(LANES):
            sum0[f] += part0[f]
            sum1[f] += part1[f] + np.float64(k0) * part0[f]
            energy[f] += part2[f]
    for f in range(LANES):
        centre[f] = sum1[f] / sum0[f] if loudest[f] > floor else 0.0
    for k0 in range(0, bins, 32):
        part2[:] = 0
        for k in range(k0, min(k0 + 32, bins)):
            for f in range(LANES):
                distance = np.float32(k) - centre[f]
                part2[f] += magnitude[k, f] * distance * distance
        for f in range(LANES):
            sum2[f] += part2[f]
    below = np.zeros(LANES, np.int32)
    threshold = np.empty(LANES, np.float32)
    for f in range(LANES):
        threshold[f] = np.float32(ROLLOFF) * running[f]
    for k in range(bins):
        for f in range(LANES):
            below[f] += np.int32(cumulative[k, f] < threshold[f])
    for f in range(LANES):
        out[_RMS, f] = np.sqrt(2 * energy[f]) / n_fft
        out[_LOUDEST, f] = loudest[f]
        out[_CENTROID, f] = 0.0
        out[_BANDWIDTH, f] = 0.0
        out[_ROLLOFF, f] = 0.0
        if loudest[f] > floor:
            out[_CENTROID, f] = sum1[f] / sum0[f] * bin_hz
            out[_BANDWIDTH, f] = np.sqrt(sum2[f] / sum0[f]) * bin_hz
            out[_ROLLOFF, f] = below[f] * bin_hz
