"""The constant-Q transform folded to twelve pitch classes, octave by octave.

Seven octaves from C1. The highest is measured at a rate a little above twice its top; each lower one after halving
the signal, so that one set of twelve filters serves all octaves. librosa holds the filters in the frequency domain
and multiplies spectra; here the same (sparsified) filters are taken back to the time domain, where one matrix
product per octave gives all frames.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy.fft

from featurestore.extract.stft import hann

OCTAVES = 7
BINS = 12
C1 = 440.0 * 2.0 ** (-45 / BINS)  # Hz
_Q = (2.0 ** (2 / BINS) + 1) / (2.0 ** (2 / BINS) - 1)  # librosa's frequency over bandwidth
_HANN_BANDWIDTH = 1.50018310546875  # bins, of librosa.filters.window_bandwidth("hann")
_HIGHEST_TUNING = 0.5  # semitones
_SPARSITY = 0.01
_CHUNK_BYTES = 1 << 23  # frames gathered at a time: long filters would otherwise take hundreds of megabytes


@dataclasses.dataclass(frozen=True)
class Octave:
    """Filters of one octave at the rate it is measured at.

    Parameters
    ----------
    halve : bool
        Whether the signal is halved once more before this octave.
    hop : int
        Samples between frames at this rate.
    filters : np.ndarray
        float32 (length, 24): real parts of the twelve filters, then imaginary parts.
    scale : np.ndarray
        float32 (12,): from filter response to librosa's magnitude.
    """

    halve: bool
    hop: int
    filters: np.ndarray
    scale: np.ndarray


def pitch_classes(y: np.ndarray, sample_rate: int, hop: int, tuning: float) -> np.ndarray:
    """|librosa.cqt(y, sr=, hop_length=, tuning=)| summed over octaves.

    Parameters
    ----------
    y : np.ndarray
        float32 (n,) signal.
    sample_rate, hop : int
        Hz, and samples between frames. A rate too low for seven octaves has fewer.
    tuning : float
        Fractions of a semitone in [-0.5, 0.5).

    Returns
    -------
    np.ndarray
        float32 (12, frames), C first. Frames are librosa's: now and then one more than the STFT has.
    """
    early, octaves = _plan(sample_rate, hop, tuning)
    signal = _decimate(y, early) if early > 1 else y
    total: np.ndarray | None = None
    for octave in octaves:
        if octave.halve:
            signal = _decimate(signal, 2)
        n_frames = 1 + len(signal) // octave.hop
        total = np.zeros((n_frames, BINS), np.float32) if total is None else total[:n_frames]
        _add_magnitudes(signal, octave, total)
    assert total is not None
    return np.ascontiguousarray(total.T)


def _add_magnitudes(signal: np.ndarray, octave: Octave, total: np.ndarray) -> None:
    """Add the magnitudes of an octave to (frames, 12): of the frames of librosa.stft with pad_mode="constant"."""
    length = len(octave.filters)
    padded = np.pad(signal, (length // 2, length))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[:: octave.hop]
    chunk = max(1, _CHUNK_BYTES // (4 * length))
    for first in range(0, len(total), chunk):
        part = total[first : first + chunk]
        response = np.square(np.ascontiguousarray(frames[first : first + len(part)]) @ octave.filters)
        part += np.sqrt(response[:, :BINS] + response[:, BINS:]) * octave.scale


@functools.lru_cache(maxsize=16)
def fitting_octaves(sample_rate: int) -> int:
    """Number of octaves from C1 whose filters stay below Nyquist at any tuning.

    Parameters
    ----------
    sample_rate : int
        Hz.

    Returns
    -------
    int
        0 to 7.

    Examples
    --------
    >>> fitting_octaves(22050)
    7
    """
    for octaves in range(OCTAVES, 0, -1):
        if _top(_frequencies(octaves, _HIGHEST_TUNING)) <= sample_rate / 2:
            return octaves
    return 0


@functools.lru_cache(maxsize=100)  # librosa's tunings are hundredths of a semitone
def _plan(sample_rate: int, hop: int, tuning: float) -> tuple[int, tuple[Octave, ...]]:
    """How often the signal is thinned out before the first octave, and the octaves from the top down."""
    n = fitting_octaves(sample_rate)
    freqs = _frequencies(n, tuning)
    early = _early_factor(sample_rate, hop, freqs)
    rate, hop = sample_rate / early, hop // early
    lengths = _lengths(freqs, rate)
    octaves: list[Octave] = []
    gain, halve, filters = np.sqrt(early), False, None
    for i in range(n):
        own = slice(BINS * (n - 1 - i), BINS * (n - i))
        if filters is None or not halve:
            filters = _filters(freqs[own], rate)
        octaves.append(Octave(halve, hop, filters, (gain / np.sqrt(lengths[own])).astype(np.float32)))
        halve = hop % 2 == 0  # librosa stops halving at an odd hop and takes longer filters
        if halve:
            # sqrt(2) for the energy that halving drops, and sqrt(2) for the shorter filters
            hop, rate, gain = hop // 2, rate / 2, gain * 2
    return early, tuple(octaves)


def _frequencies(octaves: int, tuning: float) -> np.ndarray:
    """librosa.cqt_frequencies from C1: Hz."""
    return C1 * 2.0 ** (tuning / BINS) * 2.0 ** (np.arange(BINS * octaves) / BINS)


def _lengths(freqs: np.ndarray, rate: float) -> np.ndarray:
    """librosa.filters.wavelet_lengths: length of each filter in samples."""
    return _Q * rate / freqs


def _top(freqs: np.ndarray) -> float:
    """The frequency where the highest filter ends."""
    return float(freqs[-1] * (1 + 0.5 * _HANN_BANDWIDTH / _Q))


def _early_factor(sample_rate: int, hop: int, freqs: np.ndarray) -> int:
    """librosa's early downsampling: a power of two that leaves room above the top and divides the hop."""
    room = max(0, int(np.ceil(np.log2(sample_rate / 2 / _top(freqs))) - 1) - 1)
    twos = (hop & -hop).bit_length() - 1
    return 2 ** min(room, max(0, twos - len(freqs) // BINS + 1))


def _filters(freqs: np.ndarray, rate: float) -> np.ndarray:
    """Time-domain equal of librosa's sparsified spectral filters: float32 (length, 24).

    They are those of librosa.filters.wavelet, which would compile kernels that nothing here uses: complex sines under
    a Hann window, their magnitudes summing to one.
    """
    lengths = _lengths(freqs, rate)
    n = int(2.0 ** np.ceil(np.log2(lengths.max())))
    basis = np.zeros((BINS, n), np.complex64)
    for row, freq, length in zip(basis, freqs, lengths, strict=True):
        t = np.arange(-length // 2, length // 2)
        sine = np.exp(2j * np.pi * freq / rate * t) * hann(len(t))
        first = (n - len(t)) // 2
        row[first : first + len(t)] = sine / np.abs(sine).sum()
    spectra = scipy.fft.fft(basis * (lengths[:, None] / n), axis=1)[:, : n // 2 + 1]
    # response = sum_k kept[k] rfft(frame)[k] = sum_i frame[i] fft(kept padded to n)[i]
    response = scipy.fft.fft(_without_faint(spectra).astype(np.complex128), n=n, axis=1)
    return np.ascontiguousarray(np.concatenate([response.real, response.imag]).T.astype(np.float32))


def _without_faint(spectra: np.ndarray) -> np.ndarray:
    """librosa.util.sparsify_rows: complex64; the smallest values of a row, a hundredth of its sum, are 0."""
    magnitude = np.abs(spectra)
    ordered = np.sort(magnitude, axis=1)
    share = np.cumsum(ordered / magnitude.sum(axis=1, keepdims=True), axis=1)
    least = np.take_along_axis(ordered, np.argmin(share < _SPARSITY, axis=1)[:, None], axis=1)
    return np.where(magnitude >= least, spectra, 0).astype(np.complex64)


def _decimate(y: np.ndarray, factor: int) -> np.ndarray:
    """librosa.resample(y, orig_sr=factor, target_sr=1, res_type="soxr_hq") without its gain."""
    import soxr

    out = soxr.resample(y, factor, 1, "soxr_hq")
    length = -(-len(y) // factor)
    return out[:length] if len(out) >= length else np.pad(out, (0, length - len(out)))
