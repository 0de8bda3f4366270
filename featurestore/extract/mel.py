"""Mel spectrogram, its level in dB, and the cepstrum."""

from __future__ import annotations

import functools

import numpy as np
import scipy.fft

from featurestore.extract.kernel import KERNEL
from featurestore.extract.stft import LANES

TOP_DB = np.float32(80.0)
AMIN = np.float32(1e-10)
N_MFCC = 20


def power_to_db(x: np.ndarray) -> np.ndarray:
    """Equal to librosa.power_to_db(x, ref=1.0, amin=1e-10, top_db=80.0).

    Parameters
    ----------
    x : np.ndarray
        float32 power, of any shape.

    Returns
    -------
    np.ndarray
        float32 dB, at most 80 below the largest.
    """
    db = np.maximum(x, AMIN)
    np.log10(db, out=db)
    db *= np.float32(10.0)
    return np.maximum(db, db.max() - TOP_DB, out=db)


def mfcc(mel_db: np.ndarray) -> np.ndarray:
    """Equal to librosa.feature.mfcc(S=mel_db, n_mfcc=20).

    Parameters
    ----------
    mel_db : np.ndarray
        float32 (n_mels, frames) in dB.

    Returns
    -------
    np.ndarray
        float32 (20, frames); rows beyond the mel bands are 0.
    """
    return _dct(len(mel_db)) @ mel_db


@functools.lru_cache(maxsize=4)
def filter_bank(sample_rate: int, n_fft: int, n_mels: int) -> tuple[np.ndarray, np.ndarray]:
    """Equal to librosa.filters.mel: triangles between neighbours on Slaney's scale.

    Importing librosa's own would double the time that a worker takes to start.

    Parameters
    ----------
    sample_rate, n_fft, n_mels : int
        Hz, samples of a frame, and bands.

    Returns
    -------
    tuple of (np.ndarray, np.ndarray)
        float32 (n_mels, bins) weights, and int64 (n_mels, 2): the bins where each filter begins and ends.
    """
    corners = _slaney_hz(np.linspace(0, _slaney_mel(sample_rate / 2), n_mels + 2))
    ramps = np.subtract.outer(corners, np.arange(1 + n_fft // 2) * (sample_rate / n_fft))
    width = np.diff(corners)[:, None]
    weights = np.maximum(0, np.minimum(-ramps[:-2] / width[:-1], ramps[2:] / width[1:])).astype(np.float32)
    weights *= (2.0 / (corners[2:] - corners[:-2]))[:, None]  # every filter has the same area
    edges = np.zeros((n_mels, 2), np.int64)
    for m, row in enumerate(weights):
        at = np.flatnonzero(row)
        if at.size:  # more bands than bins leave some filters empty
            edges[m] = at[0], at[-1] + 1
    return np.ascontiguousarray(weights), edges


def _slaney_mel(hz: float) -> float:
    """Slaney's mel scale: linear up to 1 kHz, which is 15, and logarithmic above."""
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * float(np.log(hz / 1000) / np.log(6.4))


def _slaney_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))


@KERNEL
def project(power, weights, edges, first, out):  # type: ignore[no-untyped-def]
    """librosa.feature.melspectrogram(S=power) of one block.

    Parameters
    ----------
    power : np.ndarray
        float32 (bins, LANES), of a block.
    weights, edges : np.ndarray
        Of `filter_bank`.
    first : int
        The first frame of the block: the column to fill from.
    out : np.ndarray
        float32 (n_mels, frames): receives the mel power.
    """
    band = np.empty(LANES, np.float32)
    for m in range(weights.shape[0]):
        band[:] = 0
        for k in range(edges[m, 0], edges[m, 1]):
            w = weights[m, k]
            for f in range(LANES):
                band[f] += w * power[k, f]
        for f in range(LANES):
            out[m, first + f] = band[f]


@functools.lru_cache(maxsize=4)
def _dct(n_mels: int) -> np.ndarray:
    """Orthonormal DCT-II (20, n_mels) float32."""
    rows = scipy.fft.dct(np.eye(n_mels), axis=0, type=2, norm="ortho")[:N_MFCC]
    return np.pad(rows, ((0, N_MFCC - len(rows)), (0, 0))).astype(np.float32)
