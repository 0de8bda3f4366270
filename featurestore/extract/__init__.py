"""The extractor: librosa's numbers, several times faster.

`extract` measures one decoded excerpt. One module per family of features; every kernel's docstring names the
librosa function that it equals, and the tests compare them. Importing this package is cheap: librosa, scipy and the
compiled kernels are loaded by the first call, or ahead of it by `warm_up`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from featurestore.errors import AudioError
from featurestore.registry import column_names
from featurestore.spec import Spec


@dataclasses.dataclass(frozen=True)
class Extraction:
    """The measured values of one excerpt.

    Parameters
    ----------
    features : np.ndarray
        float32 (n_columns,) in the order of `registry.column_names(spec.groups)`, all finite.
    mel : np.ndarray
        float32 (spec.n_mels, n_frames) in dB: librosa.power_to_db(melspectrogram, ref=1.0, amin=1e-10, top_db=80).
    """

    features: np.ndarray
    mel: np.ndarray


def extract(y: np.ndarray, spec: Spec) -> Extraction:
    """Measure every feature of a signal, and its mel spectrogram.

    Parameters
    ----------
    y : np.ndarray
        float32 (n,) mono signal at `spec.sample_rate`, full scale 1.0, at least one sample.
    spec : Spec
        The numbers to measure with.

    Returns
    -------
    Extraction

    Raises
    ------
    AudioError
        ("extract", "too_short") without samples; ("extract", "non_finite") where a value overflows, as it does for
        samples that are not finite or far beyond full scale.

    Examples
    --------
    >>> y = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050).astype(np.float32)
    >>> extract(y, Spec()).mel.shape
    (128, 44)
    """
    from featurestore.extract.pipeline import features_and_mel

    if not len(y):
        raise AudioError("extract", "too_short", "no samples to measure")
    with np.errstate(all="ignore"):  # what overflows is found below
        values, mel = features_and_mel(np.ascontiguousarray(y, np.float32), spec)
    if not (np.isfinite(values).all() and np.isfinite(mel).all()):
        bad = [name for name, v in zip(column_names(spec.groups), values, strict=True) if not np.isfinite(v)]
        text = f"{len(bad)} values are not finite ({', '.join(bad[:3]) or 'mel'}); samples reach {np.abs(y).max():g}"
        raise AudioError("extract", "non_finite", text)
    return Extraction(values, mel)


def warm_up(spec: Spec) -> None:
    """Load what the first excerpt of a process would wait for: librosa, filter banks, compiled kernels.

    Compiling takes seconds once per machine (numba keeps the machine code beside this package, or in its own
    cache directory where that is read-only): call this once before starting workers, then in each of them.

    Parameters
    ----------
    spec : Spec
        The numbers that excerpts will be measured with.
    """
    t = np.arange(2 * spec.n_fft + spec.sample_rate // 4) / spec.sample_rate
    extract(np.sin(2 * np.pi * 440 * t).astype(np.float32), spec)
