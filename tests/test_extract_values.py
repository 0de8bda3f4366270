"""Values known in closed form, and what silence, constants and scraps of audio give."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from featurestore.errors import AudioError
from featurestore.extract import extract, warm_up
from featurestore.registry import column_names
from featurestore.spec import Spec

SPEC = Spec()
RATE = SPEC.sample_rate


def values(y: np.ndarray, spec: Spec = SPEC) -> dict[str, float]:
    found = extract(np.asarray(y, np.float32), spec)
    assert np.isfinite(found.features).all()
    assert np.isfinite(found.mel).all()
    assert found.mel.shape == (spec.n_mels, spec.n_frames(len(y)))
    return dict(zip(column_names(spec.groups), map(float, found.features), strict=True))


def sine(hz: float, seconds: float = 2.0, amplitude: float = 0.5, rate: int = RATE) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("hz", [220.0, 440.0, 3000.0])
def test_a_sine_lies_where_it_is(hz: float) -> None:
    found = values(sine(hz))
    assert found["spectral_centroid_median_01"] == pytest.approx(hz, rel=0.01)
    assert found["spectral_rolloff_median_01"] == pytest.approx(hz, abs=2 * RATE / 2048)
    assert found["zcr_median_01"] == pytest.approx(2 * hz / RATE, rel=0.02)
    assert found["rms_median_01"] == pytest.approx(0.5 * np.sqrt(3 / 8) / np.sqrt(2), rel=1e-3)  # mean square of Hann
    assert found["spectral_flatness_median_01"] < 1e-3


@pytest.mark.parametrize(("hz", "pitch_class"), [(440.0, 10), (261.626, 1), (164.814, 5), (110.0, 10)])
def test_a_note_has_its_pitch_class(hz: float, pitch_class: int) -> None:
    found = values(sine(hz))
    for feature in ("chroma_stft", "chroma_cqt", "chroma_cens"):
        medians = [found[f"{feature}_median_{d:02d}"] for d in range(1, 13)]
        assert int(np.argmax(medians)) + 1 == pitch_class, feature
    assert found[f"chroma_cqt_max_{pitch_class:02d}"] == 1.0


def test_a_rate_too_low_for_seven_octaves_still_knows_the_note() -> None:
    spec = Spec(sample_rate=4000, n_fft=512, hop_length=128, n_mels=20)
    found = values(sine(220.0, rate=4000), spec)
    assert int(np.argmax([found[f"chroma_cqt_mean_{d:02d}"] for d in range(1, 13)])) + 1 == 10
    # octave bands that begin above Nyquist (2 kHz) are 0
    assert [found[f"spectral_contrast_max_{d:02d}"] for d in (6, 7)] == [0.0, 0.0]
    assert found["spectral_contrast_mean_02"] > 10


def test_white_noise_is_flat_and_centred() -> None:
    found = values(np.random.default_rng(0).normal(0, 0.1, 4 * RATE))
    assert found["spectral_centroid_mean_01"] == pytest.approx(RATE / 4, rel=0.02)
    assert found["spectral_rolloff_mean_01"] == pytest.approx(0.85 * RATE / 2, rel=0.02)
    assert found["spectral_flatness_mean_01"] == pytest.approx(np.exp(-np.euler_gamma), rel=0.02)  # exponential powers
    assert found["zcr_mean_01"] == pytest.approx(0.5, rel=0.02)
    assert found["pulse_clarity_value_01"] < 0.2


@pytest.mark.parametrize("bpm", [80.0, 120.0, 160.0])
def test_a_click_track_has_its_tempo(bpm: float) -> None:
    t = np.arange(20 * RATE) / RATE
    clicks = np.exp(-200 * (t % (60 / bpm))) * np.random.default_rng(0).normal(0, 0.3, t.size)
    found = values(clicks + np.random.default_rng(1).normal(0, 1e-3, t.size))
    assert found["tempo_value_01"] == pytest.approx(bpm, rel=0.03)
    assert found["pulse_clarity_value_01"] > 0.7


def test_flux_is_the_distance_between_frames() -> None:
    y = np.concatenate([np.zeros(RATE), sine(1000.0, 1.0)])
    found = values(y)
    assert found["spectral_flux_median_01"] == pytest.approx(0.0, abs=0.2)
    # from nothing to a steady sine: at least a frame's worth of its peak (amplitude * n_fft / 4) in a few steps
    assert found["spectral_flux_max_01"] > 0.5 * 2048 / 4 / 4


# --- silence, constants, scraps -----------------------------------------------------------------------------------

QUIET = ("chroma_stft", "chroma_cqt", "chroma_cens", "tonnetz", "rms", "spectral_centroid", "spectral_bandwidth")
QUIET += ("spectral_rolloff", "spectral_contrast", "zcr", "onset_strength", "pulse_clarity", "spectral_flux")
QUIET += ("mfcc_delta", "mfcc_delta2")


def test_silence() -> None:
    found = values(np.zeros(RATE))
    wrong = {name: v for name, v in found.items() if name.rsplit("_", 2)[0] in QUIET and abs(v) > 1e-4}
    assert wrong == {}
    assert found["spectral_flatness_mean_01"] == pytest.approx(1.0)
    assert found["mfcc_mean_01"] == pytest.approx(-100 * np.sqrt(128), rel=1e-5)  # the dB floor in all 128 bands
    np.testing.assert_allclose(extract(np.zeros(RATE, np.float32), SPEC).mel, -100, rtol=1e-6)


@pytest.mark.parametrize("level", [1e-29, 1e-12])
def test_rounding_residue_is_silence(level: float) -> None:
    # what a resampler leaves in digital silence; librosa normalises it to full-scale chroma
    found, silent = values(level * np.random.default_rng(0).standard_normal(RATE)), values(np.zeros(RATE))
    for shape in ("skew_01", "kurtosis_01"):  # the level of the residue still varies, however low
        for feature in ("rms", "spectral_flux"):
            del found[f"{feature}_{shape}"], silent[f"{feature}_{shape}"]
    assert found == pytest.approx(silent, abs=1e-9)


def test_the_silence_floor_lies_below_24_bits() -> None:
    rng = np.random.default_rng(0)
    audible = values(rng.choice([-1, 0, 1], RATE) * 2.0**-23)  # the last bit of 24, as dither leaves it
    assert audible["chroma_cqt_max_01"] > 0.1
    assert audible["spectral_centroid_mean_01"] == pytest.approx(RATE / 4, rel=0.05)
    below = values(rng.choice([-1, 0, 1], RATE) * 2.0**-28)
    assert below["chroma_cqt_max_01"] == below["chroma_stft_max_01"] == below["spectral_centroid_max_01"] == 0.0


def test_silence_inside_music_has_no_chroma() -> None:
    y = np.concatenate([sine(440.0, 2.0), np.zeros(4 * RATE)])
    found = values(y)
    assert found["chroma_stft_min_10"] == found["chroma_cqt_min_10"] == found["spectral_centroid_min_01"] == 0.0
    assert found["chroma_stft_median_10"] == found["chroma_cqt_median_10"] == 0.0


@pytest.mark.parametrize("level", [0.0, 0.5, -1.0])
def test_constant_samples(level: float) -> None:
    found = values(np.full(RATE, level))
    assert found["zcr_max_01"] == 0.0


def test_moments_of_a_constant_row_are_zero() -> None:
    found = values(sine(440.0, 3.0))
    assert found["chroma_cens_std_10"] < 0.01
    silent = values(np.zeros(RATE))
    assert {silent[f"mfcc_{s}_01"] for s in ("skew", "kurtosis")} == {0.0}
    assert silent["mfcc_std_01"] < 1e-6 * abs(silent["mfcc_mean_01"])  # a matrix product rounds its columns apart


@pytest.mark.parametrize("samples", [1, 2, 100, 511, 512, 2047, 4500])
@pytest.mark.parametrize("kind", ["noise", "silence", "click"])
def test_very_short_excerpts(samples: int, kind: str) -> None:
    y = np.zeros(samples)
    if kind == "noise":
        y = np.random.default_rng(0).normal(0, 0.1, samples)
    if kind == "click":
        y[samples // 2] = 1.0
    found = values(y)
    if samples < 512:  # one frame: nothing varies
        assert {v for name, v in found.items() if "_std_" in name or "_skew_" in name} == {0.0}
        assert found["spectral_flux_max_01"] == found["onset_strength_max_01"] == 0.0


@pytest.mark.parametrize(
    "spec",
    [
        Spec(sample_rate=4000, n_fft=64, hop_length=16, n_mels=8),
        Spec(sample_rate=192000, n_fft=4096, hop_length=4096, n_mels=32),
        Spec(sample_rate=44100, n_fft=64, hop_length=64),
        Spec(sample_rate=22050, n_fft=4096, hop_length=333, n_mels=20),
        Spec(sample_rate=4000, n_fft=32768, hop_length=32768, n_mels=16),
    ],
    ids=lambda s: f"{s.sample_rate}-{s.n_fft}-{s.hop_length}-{s.n_mels}",
)
@pytest.mark.filterwarnings("ignore:Empty filters detected")
def test_any_spec_gives_finite_values(spec: Spec) -> None:
    for samples in (1, 1000, 20000):
        values(np.random.default_rng(0).normal(0, 0.1, samples), spec)
    values(np.zeros(3000), spec)


@pytest.mark.parametrize("sample", [np.nan, np.inf, 1e30])
def test_what_overflows_is_an_error_and_not_a_value(sample: float) -> None:
    y = sine(440.0, 0.5).astype(np.float32)
    y[100] = sample
    with pytest.raises(AudioError) as caught:
        extract(y, SPEC)
    assert (caught.value.stage, caught.value.kind) == ("extract", "non_finite")


def test_no_samples_is_an_error() -> None:
    with pytest.raises(AudioError, match="no samples") as caught:
        extract(np.empty(0, np.float32), SPEC)
    assert caught.value.kind == "too_short"


def test_warm_up_takes_any_spec() -> None:
    warm_up(SPEC)
    warm_up(Spec(sample_rate=4000, n_fft=64, hop_length=16, n_mels=8, groups=("fma",)))


def test_importing_the_extractor_is_light() -> None:
    code = "import sys, featurestore.extract, featurestore.audio.decode; print({'librosa', 'numba'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
