"""Pictures of one stored track: mel spectrogram, chromagram, and the spectral centroid over the waveform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.figures.plots import COLOURS, figure
from featurestore.spec import Spec
from featurestore.store.store import Store

PITCHES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")


def track(store: Store, about: Mapping[str, Any]) -> Any:
    """The first excerpt of a track (track_id, genre, title), from its stored mel and waveform window."""
    import warehouse

    keys = pa.table({"track_id": pa.array([about["track_id"]], pa.int64()), "excerpt": pa.array([0], pa.int16())})
    mel = next(iter(warehouse.iter_mels(store, keys=keys))).mels[0]
    with_wave = store.spec.wave_samples > 0
    fig, axes = figure(9, 8.4 if with_wave else 3.4, 3 if with_wave else 1, 1)
    _spectrogram(fig, axes[0, 0], mel, store.spec)
    if with_wave:
        wave = next(iter(warehouse.iter_waves(store, keys=keys))).waves[0]
        chroma, centroid = describe(wave, store.spec)
        _chromagram(fig, axes[1, 0], chroma, len(wave), store.spec)
        _centroid(axes[2, 0], wave, centroid, store.spec)
    title = about["title"] or "untitled"
    fig.suptitle(f"track {about['track_id']}: {title[:60]} ({about['genre'] or 'no genre'})", fontsize=11)
    return fig


def describe(wave: np.ndarray, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """(chroma (12, frames) in 0 to 1, centroid (frames,) in Hz) of a waveform, by librosa under the spec's numbers."""
    import librosa

    n_fft = min(spec.n_fft, len(wave))
    framing: dict[str, Any] = {"n_fft": n_fft, "hop_length": spec.hop_length}
    chroma = librosa.feature.chroma_stft(y=wave, sr=spec.sample_rate, tuning=0.0, **framing)
    centroid = librosa.feature.spectral_centroid(y=wave, sr=spec.sample_rate, **framing)[0]
    return chroma, centroid


def _spectrogram(fig: Any, ax: Any, mel: np.ndarray, spec: Spec) -> None:
    import librosa

    n_mels, n_frames = mel.shape
    seconds = n_frames * spec.hop_length / spec.sample_rate
    extent = (0, seconds, -0.5, n_mels - 0.5)
    image = ax.imshow(mel, origin="lower", aspect="auto", cmap="magma", extent=extent, interpolation="nearest")
    at = np.linspace(0, n_mels - 1, 6).round().astype(int)
    hertz = librosa.mel_frequencies(n_mels=n_mels + 2, fmin=0, fmax=spec.sample_rate / 2)[1:-1]
    ax.set_yticks(at, [f"{hertz[i]:,.0f}" for i in at])
    ax.set_ylabel("mel band centre (Hz)")
    ax.set_xlabel("seconds of the excerpt")
    ax.set_title("mel spectrogram (stored)", loc="left", fontsize=10)
    fig.colorbar(image, ax=ax, label="dB")


def _chromagram(fig: Any, ax: Any, chroma: np.ndarray, n_samples: int, spec: Spec) -> None:
    extent = (0, n_samples / spec.sample_rate, -0.5, 11.5)
    image = ax.imshow(chroma, origin="lower", aspect="auto", cmap="cividis", extent=extent, vmin=0, vmax=1)
    ax.set_yticks(range(12), PITCHES, fontsize=8)
    ax.set_xlabel("seconds of the stored window (the centre of the excerpt)")
    ax.set_title("chromagram, computed from the stored window", loc="left", fontsize=10)
    fig.colorbar(image, ax=ax, label="share of the strongest")


def _centroid(ax: Any, wave: np.ndarray, centroid: np.ndarray, spec: Spec) -> None:
    t = np.arange(len(wave)) / spec.sample_rate
    ax.plot(t, wave, color="#9AA5B1", lw=0.5)
    ax.set_ylabel("sample (full scale 1)")
    ax.set_xlim(0, t[-1])
    ax.set_xlabel("seconds of the stored window")
    above = ax.twinx()
    above.plot(np.arange(len(centroid)) * spec.hop_length / spec.sample_rate, centroid, color=COLOURS[3], lw=1.8)
    above.set_ylabel("spectral centroid (Hz)", color=COLOURS[3])
    above.set_ylim(0, max(1.0, 1.1 * float(centroid.max())))
    above.spines["top"].set_visible(False)
    ax.set_title("spectral centroid over the waveform, computed from the stored window", loc="left", fontsize=10)
