"""One excerpt, every feature: each intermediate is computed once and handed on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from featurestore import registry
from featurestore.extract import chroma, constantq, contrast, dynamics, mel, rhythm, stft, tuning
from featurestore.extract.shape import shape
from featurestore.extract.statistics import statistics
from featurestore.extract.zcr import zero_crossing_rate
from featurestore.spec import Spec


def features_and_mel(y: np.ndarray, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Measure a signal: its frame features, summarised over frames.

    Parameters
    ----------
    y : np.ndarray
        float32 (n,) signal at `spec.sample_rate`.
    spec : Spec
        The numbers to measure with.

    Returns
    -------
    tuple of (np.ndarray, np.ndarray)
        float32 (n_columns,) in the order of `registry.columns(spec.groups)`, and the mel spectrogram in dB, float32
        (n_mels, frames).
    """
    rows, mel_db = frame_features(y, spec)
    chosen = [f for f in registry.FEATURES if f.group in spec.groups]
    values = [_summary(rows[f.name], f.statistics) for f in chosen]
    return np.concatenate(values).astype(np.float32), mel_db


def _summary(rows: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    return rows[:, 0] if names == registry.SCALAR else statistics(rows, names).ravel()


def frame_features(y: np.ndarray, spec: Spec) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Measure the features of every frame of a signal.

    Parameters
    ----------
    y : np.ndarray
        float32 (n,) signal at `spec.sample_rate`.
    spec : Spec
        The numbers to measure with.

    Returns
    -------
    tuple of (dict of str to np.ndarray, np.ndarray)
        By feature, float32 (width, frames): a scalar has one frame, the flux one fewer than the others. And the mel
        spectrogram in dB, float32 (n_mels, frames).
    """
    sr, n_fft, hop = spec.sample_rate, spec.n_fft, spec.hop_length
    frames = spec.n_frames(len(y))
    power = np.empty((stft.n_blocks(len(y), hop), 1 + n_fft // 2, stft.LANES), np.float32)
    peaks = tuning.Peaks(sr, n_fft)
    moving = dynamics.Dynamics(power.shape[1], frames) if "timbre_dynamics" in spec.groups else None
    rows, mel_power = _spectral(y, spec, power, peaks, moving)
    rows["zcr"] = zero_crossing_rate(y, n_fft, hop)
    rows["chroma_stft"] = chroma.chroma_stft(power, frames, sr, n_fft, peaks.power_tuning())
    same = (n_fft, hop) == (tuning.CQT_N_FFT, tuning.CQT_HOP)
    rows |= _harmonic(y, spec, peaks.magnitude_tuning() if same else tuning.cqt_tuning(y, sr))
    mel_db = mel.power_to_db(mel_power)
    rows["mfcc"] = mel.mfcc(mel_db)
    if moving is not None:
        rows["mfcc_delta"] = dynamics.delta(rows["mfcc"], 1)
        rows["mfcc_delta2"] = dynamics.delta(rows["mfcc"], 2)
        rows["spectral_flatness"], rows["spectral_flux"] = moving.flatness, moving.flux
    if "rhythm" in spec.groups:
        rows |= _rhythm(mel_db, spec)
    return rows, mel_db


def _spectral(
    y: np.ndarray, spec: Spec, power: np.ndarray, peaks: tuning.Peaks, moving: dynamics.Dynamics | None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What is read from the spectrogram block by block; fills `power`, `peaks` and `moving` on the way."""
    sr, n_fft, hop = spec.sample_rate, spec.n_fft, spec.hop_length
    frames, padded = spec.n_frames(len(y)), len(power) * stft.LANES
    weights, edges = mel.filter_bank(sr, n_fft, spec.n_mels)
    bands = contrast.bands(sr, n_fft)
    mel_power = np.empty((spec.n_mels, padded), np.float32)
    peak, valley = np.empty((2, len(bands), padded), np.float32)
    shapes = np.empty((4, frames), np.float32)
    scratch = np.empty(power.shape[1:], np.float32)
    for block in stft.blocks(y, n_fft, hop, power):
        found = shape(block, n_fft, sr / n_fft, scratch)
        shapes[:, block.span] = found[:4, : block.frames]
        peaks.add(block, found[4])
        mel.project(block.power, weights, edges, block.first, mel_power)
        contrast.extremes(block.magnitude, bands, block.first, peak, valley)
        if moving is not None:
            moving.add(block)
    names = ("rms", "spectral_centroid", "spectral_bandwidth", "spectral_rolloff")
    rows = {name: row[None] for name, row in zip(names, shapes, strict=True)}
    rows["spectral_contrast"] = contrast.contrast(peak[:, :frames], valley[:, :frames], sr)
    return rows, np.ascontiguousarray(mel_power[:, :frames])


def _harmonic(y: np.ndarray, spec: Spec, cqt_tuning: float) -> Mapping[str, np.ndarray]:
    """The features of the constant-Q transform."""
    classes = constantq.pitch_classes(y, spec.sample_rate, spec.hop_length, cqt_tuning)
    cens = chroma.chroma_cens(classes)
    return {"chroma_cqt": chroma.chroma_cqt(classes), "chroma_cens": cens, "tonnetz": chroma.tonnetz(cens)}


def _rhythm(mel_db: np.ndarray, spec: Spec) -> Mapping[str, np.ndarray]:
    onset = rhythm.onset_strength(mel_db, spec.n_fft, spec.hop_length)
    tempo = rhythm.tempo(onset[0], spec.sample_rate, spec.hop_length)
    clarity = rhythm.pulse_clarity(onset[0], spec.sample_rate, spec.hop_length)
    return {"onset_strength": onset, "tempo": np.array([[tempo]]), "pulse_clarity": np.array([[clarity]])}
