"""Every column against librosa's own functions, on synthetic signals and on real recordings."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from featurestore.audio.decode import decode
from featurestore.extract import extract
from featurestore.registry import column_names
from featurestore.spec import Spec
from tests import oracle

# The contract of docs/features.md: relative error, or error in units of the column's spread over clips where the
# value is near zero. No column needs more.
TOLERANCE = 1e-3

SPECS = {
    "default": Spec(),
    "44100": Spec(sample_rate=44100),
    "16000": Spec(sample_rate=16000, n_fft=1024, hop_length=256, n_mels=64),
    "not a power of two": Spec(sample_rate=22050, n_fft=1000, hop_length=250, n_mels=40),
    "odd hop": Spec(sample_rate=32000, n_fft=2048, hop_length=441, n_mels=96),
    "no room for seven octaves": Spec(sample_rate=8000, n_fft=512, hop_length=128, n_mels=40),
}


def signals(sample_rate: int, seconds: float = 3.0) -> list[np.ndarray]:
    """Ten signals that differ in pitch, tuning, noise, rhythm and level, as music does."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    out = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        y = 10 ** rng.uniform(-4, -1) * rng.standard_normal(t.size)  # a noise floor of its own
        for note in rng.integers(36, 84, 6):
            f = 440 * 2 ** ((note - 69 + rng.uniform(-0.3, 0.3)) / 12)
            begin, rate = rng.uniform(0, seconds), rng.uniform(1, 6)
            envelope = np.where(t > begin, np.exp(-rate * (t - begin)), np.exp(3 * (t - begin)))
            for harmonic in range(1, 6):
                if harmonic * f < sample_rate / 2:
                    y += envelope / harmonic * np.sin(2 * np.pi * harmonic * f * t + rng.uniform(0, 6))
        beat = 60 / rng.uniform(70, 180)
        y += 0.5 * np.exp(-60 * (t % beat)) * rng.standard_normal(t.size)
        out.append((0.1 * rng.uniform(0.2, 1) * y).astype(np.float32))
    return out


def errors(clips: list[np.ndarray], spec: Spec) -> dict[str, float]:
    """Largest error of each column over the clips, in the terms of TOLERANCE; checks the mel on the way."""
    ours, theirs = [], []
    for y in clips:
        found = extract(y, spec)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # librosa mentions empty filters and short signals
            expected, mel = oracle.features(y, spec)
        assert found.features.dtype == found.mel.dtype == np.float32
        np.testing.assert_allclose(found.mel, mel, atol=2e-3)
        ours.append(found.features.astype(np.float64))
        theirs.append(expected)
    difference = np.abs(np.array(ours) - theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = difference / np.abs(theirs)
        of_spread = difference / np.std(theirs, axis=0)
    error = np.where(difference == 0, 0, np.fmin(relative, of_spread))
    return dict(zip(column_names(spec.groups), error.max(axis=0), strict=True))


def beyond_tolerance(found: dict[str, float]) -> dict[str, float]:
    return {name: error for name, error in found.items() if not error <= TOLERANCE}


@pytest.mark.parametrize("name", SPECS)
def test_every_column_equals_librosa_on_synthetic_signals(name: str) -> None:
    spec = SPECS[name]
    found = errors(signals(spec.sample_rate), spec)
    assert len(found) == len(column_names(spec.groups))
    assert beyond_tolerance(found) == {}


@pytest.mark.parametrize("name", ["default", "44100"])
def test_every_column_equals_librosa_on_real_recordings(shared_data: Path, name: str) -> None:
    spec = SPECS[name]
    files = sorted((shared_data / "fma_small" / "clips" / "000").glob("*.mp3"))
    files += sorted((shared_data / "music").glob("*.ogg"))
    assert beyond_tolerance(errors([decode(path, spec)[0].y for path in files], spec)) == {}


def test_the_518_columns_of_fma() -> None:
    spec = Spec(groups=("fma",))
    (y, *_) = signals(22050, 1.0)
    alone, every = extract(y, spec), extract(y, Spec())
    assert alone.features.shape == (518,)
    np.testing.assert_array_equal(alone.features, every.features[:518])
    assert every.features.shape == (len(column_names(Spec().groups)),)


@pytest.mark.parametrize("groups", [("fma", "rhythm"), ("fma", "timbre_dynamics")])
def test_a_group_is_the_same_alone(groups: tuple[str, ...]) -> None:
    (y, *_) = signals(22050, 1.0)
    every = dict(zip(column_names(Spec().groups), extract(y, Spec()).features, strict=True))
    found = dict(zip(column_names(groups), extract(y, Spec(groups=groups)).features, strict=True))
    assert found == {name: every[name] for name in found}


def test_same_samples_same_bytes() -> None:
    (y, *_) = signals(22050, 1.0)
    a, b = extract(y, Spec()), extract(y.copy(), Spec())
    assert a.features.tobytes() == b.features.tobytes()
    assert a.mel.tobytes() == b.mel.tobytes()
