"""Rhythm from the mel spectrogram in dB: onset strength, tempo, pulse clarity."""

from __future__ import annotations

import numpy as np
import scipy.fft

from featurestore.extract.kernel import KERNEL
from featurestore.extract.stft import hann

START_BPM, MAX_BPM = 120.0, 320.0  # librosa.feature.tempo's prior: log-normal, one octave wide
WINDOW_S = 8.0
CLARITY_BPM = (30.0, 300.0)


def onset_strength(mel_db: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Equal to librosa.onset.onset_strength(S=mel_db, n_fft=, hop_length=).

    Parameters
    ----------
    mel_db : np.ndarray
        float32 (n_mels, frames) in dB.
    n_fft, hop : int
        Samples of a frame, and between two frames.

    Returns
    -------
    np.ndarray
        float32 (1, frames) in dB; 0 for a single frame.
    """
    frames = mel_db.shape[1]
    out = np.zeros((1, frames), np.float32)
    lag = 1 + n_fft // (2 * hop)  # the rise is known half a window late
    if frames > lag:
        rise = np.diff(mel_db[:, : frames - lag + 1], axis=1)
        out[0, lag:] = np.maximum(rise, 0, out=rise).mean(axis=0)
    return out


def tempo(onset: np.ndarray, sample_rate: int, hop: int) -> float:
    """Equal to librosa.feature.tempo(onset_envelope=onset, sr=, hop_length=).

    Parameters
    ----------
    onset : np.ndarray
        float32 (frames,), as `onset_strength` gives it.
    sample_rate, hop : int
        Hz, and samples between two frames.

    Returns
    -------
    float
        Beats per minute. Without onsets the prior alone decides (the lag nearest 120). 0.0 where frames are so far
        apart that no tempo below 320 has a lag of its own within eight seconds.
    """
    length = int(WINDOW_S * sample_rate) // hop
    if length < 2:
        return 0.0
    lags = np.arange(1, length)
    bpm = 60.0 * sample_rate / (hop * lags)
    prior = -0.5 * (np.log2(bpm) - np.log2(START_BPM)) ** 2
    prior[bpm >= MAX_BPM] = -np.inf
    if not np.isfinite(prior).any():
        return 0.0
    score = np.log1p(1e6 * _mean_tempogram(onset, length)[1:]) + prior
    return float(bpm[np.argmax(score)])


def pulse_clarity(onset: np.ndarray, sample_rate: int, hop: int) -> float:
    """Largest autocorrelation of the onset strength at a lag of 30 to 300 beats per minute.

    librosa.autocorrelate of the envelope less its mean, over its value at lag 0 (Lartillot et al. 2008).

    Parameters
    ----------
    onset : np.ndarray
        float32 (frames,), as `onset_strength` gives it.
    sample_rate, hop : int
        Hz, and samples between two frames.

    Returns
    -------
    float
        0 to 1: a steady click gives nearly 1, noise nearly 0; 0.0 without onsets.
    """
    x = onset - onset.mean(dtype=np.float64)
    n = scipy.fft.next_fast_len(2 * len(x) - 1, real=True)
    r = scipy.fft.irfft(np.abs(scipy.fft.rfft(x, n)) ** 2, n)[: len(x)]
    slowest, fastest = (60.0 * sample_rate / (hop * b) for b in CLARITY_BPM)
    at = r[max(1, int(np.ceil(fastest))) : int(slowest) + 1]
    if not at.size or r[0] <= 0:
        return 0.0
    return float(np.clip(at.max() / r[0], 0.0, 1.0))


def _mean_tempogram(onset: np.ndarray, length: int) -> np.ndarray:
    """librosa.feature.tempogram(onset_envelope=onset, win_length=length).mean(axis=1)."""
    ramped = np.pad(onset.astype(np.float64), length // 2, mode="linear_ramp", end_values=0)
    spectrum = scipy.fft.rfft(ramped[:length], 2 * length)
    total = _sliding_power(ramped, len(onset), hann(length), np.pad(spectrum.real, 2), np.pad(spectrum.imag, 2))
    return np.asarray(scipy.fft.irfft(total, 2 * length)[:length] / len(onset))


@KERNEL
def _sliding_power(x, frames, window, re, im):  # type: ignore[no-untyped-def]
    """Sum over frames of |rfft(x[t : t + n] * window, 2 n)|^2, each over its frame's energy; window is Hann's.

    That energy is the autocorrelation at lag 0, by which librosa.feature.tempogram normalises. A frame is the one
    before moved by a sample, so its transform (re, im: of the first frame, without window, two places of padding
    at either end) is that one's turned; the window is a sum over neighbouring bins. Length 2 n keeps the
    autocorrelation from wrapping around.
    """
    n = window.shape[0]
    cos, sin, sign = np.empty(n + 1), np.empty(n + 1), np.empty(n + 1)
    for k in range(n + 1):
        cos[k], sin[k], sign[k] = np.cos(np.pi * k / n), np.sin(np.pi * k / n), 1 - 2 * (k % 2)
    total = np.zeros(n + 1)
    for t in range(frames):
        energy = 0.0
        for i in range(n):
            v = x[t + i] * window[i]
            energy += v * v
        if energy > 0:
            for k in range(2):  # bins beyond either end are conjugates
                re[k], im[k] = re[4 - k], -im[4 - k]
                re[n + 4 - k], im[n + 4 - k] = re[n + k], -im[n + k]
            for k in range(n + 1):
                a = 0.5 * re[k + 2] - 0.25 * (re[k] + re[k + 4])
                b = 0.5 * im[k + 2] - 0.25 * (im[k] + im[k + 4])
                total[k] += (a * a + b * b) / energy
        if t + 1 < frames:
            out, new = x[t], x[t + n]
            for k in range(n + 1):
                r = re[k + 2] - out + sign[k] * new
                i = im[k + 2]
                re[k + 2] = r * cos[k] - i * sin[k]
                im[k + 2] = r * sin[k] + i * cos[k]
    return total
