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

from featurestore.extract.stft import KERNEL

OCTAVES = 7
BINS = 12
_HIGHEST_TUNING = 0.5  # semitones
_SPARSITY = 0.01
_CHUNK_BYTES = 1 << 23  # frames gathered at a time: long filters would otherwise take hundreds of megabytes


@dataclasses.dataclass(frozen=True)
class Octave:
    """Filters of one octave at the rate it is measured at.

    halve    whether the signal is halved once more before this octave
    hop      samples between frames at this rate
    filters  float32 (length, 24): real parts of the twelve filters, then imaginary parts
    scale    float32 (12,): from filter response to librosa's magnitude
    """

    halve: bool
    hop: int
    filters: np.ndarray
    scale: np.ndarray


def pitch_classes(y: np.ndarray, sample_rate: int, hop: int, tuning: float) -> np.ndarray:
    """float32 (12, frames): |librosa.cqt(y, sr=, hop_length=, tuning=)| summed over octaves, C first.

    Frames are librosa's: now and then one more than the STFT has. A rate too low for seven octaves has fewer.
    """
    early, octaves = _plan(sample_rate, hop, tuning)
    signal = _decimate(y, early) if early > 1 else y
    total: np.ndarray | None = None
    for octave in octaves:
        if octave.halve:
            signal = _decimate(signal, 2)
        n_frames = 1 + len(signal) // octave.hop
        total = np.zeros((n_frames, BINS), np.float32) if total is None else total[:n_frames]
        length = len(octave.filters)
        chunk = min(n_frames, max(1, _CHUNK_BYTES // (4 * length)))
        frames = np.empty((chunk, length), np.float32)
        for first in range(0, n_frames, chunk):
            part = total[first : first + chunk]
            _gather(signal, first, octave.hop, frames)
            _add_magnitudes(frames[: len(part)] @ octave.filters, octave.scale, part)
    assert total is not None
    return np.ascontiguousarray(total.T)


@functools.lru_cache(maxsize=16)
def fitting_octaves(sample_rate: int) -> int:
    """Octaves from C1 (at most 7, 0 if none) whose filters stay below Nyquist at any tuning."""
    for octaves in range(OCTAVES, 0, -1):
        if _lengths(_frequencies(octaves, _HIGHEST_TUNING), sample_rate)[1] <= sample_rate / 2:
            return octaves
    return 0


@functools.lru_cache(maxsize=100)  # librosa's tunings are hundredths of a semitone
def _plan(sample_rate: int, hop: int, tuning: float) -> tuple[int, tuple[Octave, ...]]:
    """How often the signal is thinned out before the first octave, and the octaves from the top down."""
    n = fitting_octaves(sample_rate)
    freqs = _frequencies(n, tuning)
    early = _early_factor(sample_rate, hop, freqs)
    rate, hop = sample_rate / early, hop // early
    lengths = _lengths(freqs, rate)[0]
    octaves: list[Octave] = []
    gain, halve, filters = np.sqrt(early), False, None
    for i in range(n):
        own = slice(BINS * (n - 1 - i), BINS * (n - i))
        if filters is None or not halve:
            filters = _filters(freqs, own, rate)
        octaves.append(Octave(halve, hop, filters, (gain / np.sqrt(lengths[own])).astype(np.float32)))
        halve = hop % 2 == 0  # librosa stops halving at an odd hop and takes longer filters
        if halve:
            # sqrt(2) for the energy that halving drops, and sqrt(2) for the shorter filters
            hop, rate, gain = hop // 2, rate / 2, gain * 2
    return early, tuple(octaves)


def _frequencies(octaves: int, tuning: float) -> np.ndarray:
    import librosa

    lowest = librosa.note_to_hz("C1") * 2.0 ** (tuning / BINS)
    return librosa.cqt_frequencies(BINS * octaves, fmin=lowest, bins_per_octave=BINS)


def _lengths(freqs: np.ndarray, rate: float) -> tuple[np.ndarray, float]:
    """Length of each filter in samples, and the frequency where the highest one ends."""
    from librosa import filters

    return filters.wavelet_lengths(freqs=freqs, sr=rate, alpha=filters._relative_bandwidth(freqs=freqs))


def _early_factor(sample_rate: int, hop: int, freqs: np.ndarray) -> int:
    """librosa's early downsampling: a power of two that leaves room above the top and divides the hop."""
    top = _lengths(freqs, sample_rate)[1]
    room = max(0, int(np.ceil(np.log2(sample_rate / 2 / top)) - 1) - 1)
    twos = (hop & -hop).bit_length() - 1
    return 2 ** min(room, max(0, twos - len(freqs) // BINS + 1))


def _filters(freqs: np.ndarray, own: slice, rate: float) -> np.ndarray:
    """Time-domain equal of librosa's sparsified spectral filters: float32 (length, 24)."""
    import scipy.fft
    from librosa import filters, util

    alpha = filters._relative_bandwidth(freqs=freqs)[own]
    basis, lengths = filters.wavelet(freqs=freqs[own], sr=rate, pad_fft=True, alpha=alpha)  # type: ignore[arg-type]
    n = basis.shape[1]
    spectra = scipy.fft.fft(basis * (lengths[:, None] / n), axis=1)[:, : n // 2 + 1]
    kept = util.sparsify_rows(spectra, quantile=_SPARSITY, dtype=np.complex64).toarray()
    # response = sum_k kept[k] rfft(frame)[k] = sum_i frame[i] fft(kept padded to n)[i]
    response = scipy.fft.fft(kept.astype(np.complex128), n=n, axis=1)
    return np.ascontiguousarray(np.concatenate([response.real, response.imag]).T.astype(np.float32))


def _decimate(y: np.ndarray, factor: int) -> np.ndarray:
    """librosa.resample(y, orig_sr=factor, target_sr=1, res_type="soxr_hq") without its gain."""
    import soxr

    out = soxr.resample(y, factor, 1, "soxr_hq")
    length = -(-len(y) // factor)
    return out[:length] if len(out) >= length else np.pad(out, (0, length - len(out)))


@KERNEL
def _gather(signal, first, hop, frames):  # type: ignore[no-untyped-def]
    """Centred frames of the zero-padded signal, one a row: those of librosa.stft with pad_mode="constant"."""
    length = frames.shape[1]
    for t in range(frames.shape[0]):
        start = (first + t) * hop - length // 2
        if start >= 0 and start + length <= signal.shape[0]:
            for i in range(length):
                frames[t, i] = signal[start + i]
        else:
            for i in range(length):
                at = start + i
                frames[t, i] = signal[at] if 0 <= at < signal.shape[0] else np.float32(0)


@KERNEL
def _add_magnitudes(response, scale, total):  # type: ignore[no-untyped-def]
    """total[t, b] += |response[t, b] + i response[t, 12 + b]| * scale[b]."""
    for t in range(total.shape[0]):
        for b in range(BINS):
            re, im = response[t, b], response[t, BINS + b]
            total[t, b] += np.sqrt(re * re + im * im) * scale[b]
