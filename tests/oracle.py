"""The features through librosa's own public functions, called with the right `sr`: what ours must equal.

Nothing here is clever: every feature is one call that a reader can check against librosa's documentation. Rows are
float32 as librosa returns them; statistics are numpy's and scipy's on those rows in float64 (scipy works in the
precision of its input, and float32 third and fourth moments lose digits), 0 for the undefined moments of a
constant row. Values that librosa has no answer for (see docs/features.md) are left to the callers.
"""

from __future__ import annotations

import warnings

import librosa
import numpy as np
import scipy.stats

from featurestore import registry
from featurestore.spec import Spec


def rows(y: np.ndarray, spec: Spec) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Frame features (name -> (width, frames)) and scalars of `y`, and the mel spectrogram in dB."""
    sr, n_fft, hop = spec.sample_rate, spec.n_fft, spec.hop_length
    S = np.abs(librosa.stft(y, n_fft=n_fft, hop_length=hop))
    P = S**2
    mel_db = librosa.power_to_db(librosa.feature.melspectrogram(S=P, sr=sr, n_mels=spec.n_mels))
    octaves = constant_q_octaves(sr)
    C = np.abs(librosa.cqt(y, sr=sr, hop_length=hop, n_bins=12 * octaves, tuning=None))
    cqt_chroma = {"C": C, "bins_per_octave": 12, "n_octaves": octaves}
    out = {
        "chroma_stft": librosa.feature.chroma_stft(S=P, sr=sr, n_fft=n_fft),
        "chroma_cqt": librosa.feature.chroma_cqt(**cqt_chroma),
        "chroma_cens": librosa.feature.chroma_cens(**cqt_chroma),
        "mfcc": padded(librosa.feature.mfcc(S=mel_db, n_mfcc=20), 20),
        "rms": librosa.feature.rms(S=S, frame_length=n_fft),
        "spectral_centroid": librosa.feature.spectral_centroid(S=S, sr=sr),
        "spectral_bandwidth": librosa.feature.spectral_bandwidth(S=S, sr=sr),
        "spectral_contrast": padded(librosa.feature.spectral_contrast(S=S, sr=sr, n_bands=contrast_bands(sr)), 7),
        "spectral_rolloff": librosa.feature.spectral_rolloff(S=S, sr=sr),
        "zcr": librosa.feature.zero_crossing_rate(y, frame_length=n_fft, hop_length=hop),
    }
    out["tonnetz"] = librosa.feature.tonnetz(chroma=out["chroma_cens"])
    out |= _rhythm(mel_db, spec) | _timbre(out["mfcc"], S, P)
    return out, mel_db


def _rhythm(mel_db: np.ndarray, spec: Spec) -> dict[str, np.ndarray]:
    sr, hop = spec.sample_rate, spec.hop_length
    onset = librosa.onset.onset_strength(S=mel_db, sr=sr, n_fft=spec.n_fft, hop_length=hop)
    tempo = librosa.feature.tempo(onset_envelope=onset, sr=sr, hop_length=hop)
    r = librosa.autocorrelate(onset.astype(np.float64) - onset.mean(dtype=np.float64))
    bpm = librosa.tempo_frequencies(len(r), sr=sr, hop_length=hop)
    at = r[(bpm >= 30) & (bpm <= 300)]
    clarity = np.clip(at.max() / r[0], 0, 1) if at.size and r[0] > 0 else 0.0
    return {"onset_strength": onset[None], "tempo": tempo[None], "pulse_clarity": np.array([[clarity]])}


def _timbre(mfcc: np.ndarray, S: np.ndarray, P: np.ndarray) -> dict[str, np.ndarray]:
    mode = "interp" if mfcc.shape[1] >= 9 else "nearest"
    flux = np.linalg.norm(np.diff(S.astype(np.float64), axis=1), axis=0)
    return {
        "mfcc_delta": librosa.feature.delta(mfcc, order=1, mode=mode),
        "mfcc_delta2": librosa.feature.delta(mfcc, order=2, mode=mode),
        "spectral_flatness": librosa.feature.spectral_flatness(S=S),
        "spectral_flux": flux[None] if flux.size else np.zeros((1, 1)),
    }


def statistics(x: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """(len(names), width) statistics over the frames of x (width, frames)."""
    x = np.asarray(x, np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns about constant rows, whose moments become 0
        skew, kurtosis = scipy.stats.skew(x, axis=1), scipy.stats.kurtosis(x, axis=1)
    flat = x.std(axis=1) <= 1e-6 * np.abs(x).max(axis=1)
    every = {
        "mean": x.mean(axis=1),
        "std": x.std(axis=1),
        "skew": np.where(flat, 0.0, skew),
        "kurtosis": np.where(flat, 0.0, kurtosis),
        "median": np.median(x, axis=1),
        "min": x.min(axis=1),
        "max": x.max(axis=1),
        "value": x[:, 0],
    }
    return np.stack([every[name] for name in names])


def features(y: np.ndarray, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """float64 (n_columns,) in the order of registry.column_names(spec.groups), and the mel in dB."""
    found, mel_db = rows(y, spec)
    chosen = [f for f in registry.FEATURES if f.group in spec.groups]
    return np.concatenate([statistics(found[f.name], f.statistics).ravel() for f in chosen]), mel_db


def constant_q_octaves(sr: int) -> int:
    """Whole octaves from C1, at most 7, that librosa.cqt accepts below Nyquist."""
    for octaves in range(7, 0, -1):
        freqs = librosa.cqt_frequencies(12 * octaves, fmin=librosa.note_to_hz("C1") * 2 ** (0.5 / 12))
        alpha = librosa.filters._relative_bandwidth(freqs=freqs)
        if librosa.filters.wavelet_lengths(freqs=freqs, sr=sr, alpha=alpha)[1] <= sr / 2:
            return octaves
    raise ValueError(sr)


def contrast_bands(sr: int) -> int:
    """Octave bands above 200 Hz, at most 6, that librosa.feature.spectral_contrast accepts below Nyquist."""
    return max(n for n in range(1, 7) if 200 * 2 ** (n - 1) < sr / 2)


def padded(x: np.ndarray, width: int) -> np.ndarray:
    """x (n, frames) with rows of zeros up to `width`."""
    return np.pad(x, ((0, width - len(x)), (0, 0)))
