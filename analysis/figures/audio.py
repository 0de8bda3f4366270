"""Pictures of one stored track: mel spectrogram, chromagram, and the spectral centroid over the waveform."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.figures.base import COLOURS, figure
from featurestore.spec import Spec


def track(title: str, mel: np.ndarray, wave: np.ndarray | None, spec: Spec) -> Any:
    """An excerpt, from its stored mel spectrogram and waveform window.

    Parameters
    ----------
    title : str
    mel : (bands, frames)
        Mel spectrogram in dB.
    wave : (n,) float32 or None
        Samples at the spec's rate; without them only the spectrogram is drawn.
    spec : Spec
        The numbers they were measured with.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from librosa import display

    time: dict[str, Any] = {"sr": spec.sample_rate, "hop_length": spec.hop_length, "x_axis": "time"}
    fig, axes = figure(9, 3.4 if wave is None else 8.4, 1 if wave is None else 3, 1)
    top = axes[0, 0]
    image = display.specshow(mel, y_axis="mel", cmap="magma", ax=top, fmax=spec.sample_rate / 2, **time)
    top.set_title("mel spectrogram (stored)", loc="left", fontsize=10)
    fig.colorbar(image, ax=top, label="dB")
    if wave is not None:
        chroma, centroid = describe(wave, spec)
        middle, bottom = axes[1:, 0]
        image = display.specshow(chroma, y_axis="chroma", cmap="cividis", vmin=0, vmax=1, ax=middle, **time)
        middle.set_title("chromagram, computed from the stored window", loc="left", fontsize=10)
        fig.colorbar(image, ax=middle, label="share of the strongest")
        display.waveshow(wave, sr=spec.sample_rate, color="#9AA5B1", ax=bottom)
        _centroid(bottom, centroid, spec)
    fig.suptitle(title, fontsize=11)
    return fig


def describe(wave: np.ndarray, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Chroma and spectral centroid of a waveform, by librosa under the spec's numbers.

    Parameters
    ----------
    wave : (n,) float32
        Samples at the spec's rate.
    spec : Spec

    Returns
    -------
    chroma : (12, frames)
        0 to 1.
    centroid : (frames,)
        In Hz.
    """
    import librosa

    framing: dict[str, Any] = {"sr": spec.sample_rate, "hop_length": spec.hop_length}
    framing["n_fft"] = min(spec.n_fft, len(wave))
    chroma = librosa.feature.chroma_stft(y=wave, tuning=0.0, **framing)
    return chroma, librosa.feature.spectral_centroid(y=wave, **framing)[0]


def _centroid(ax: Any, centroid: np.ndarray, spec: Spec) -> None:
    ax.set_ylabel("sample (full scale 1)")
    ax.set_title("spectral centroid over the waveform, computed from the stored window", loc="left", fontsize=10)
    above = ax.twinx()
    above.plot(np.arange(len(centroid)) * spec.hop_length / spec.sample_rate, centroid, color=COLOURS[3], lw=1.8)
    above.set_ylabel("spectral centroid (Hz)", color=COLOURS[3])
    above.set_ylim(0, max(1.0, 1.1 * float(centroid.max())))
    above.spines["top"].set_visible(False)
