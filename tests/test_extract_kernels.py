"""The steps inside the extractor, each against the librosa function that its docstring names."""

from __future__ import annotations

import warnings

import librosa
import numpy as np
import pytest
import scipy.stats

from featurestore.audio.mixing import mix
from featurestore.extract import chroma, constantq, contrast, dynamics, rhythm, statistics, stft, tuning
from featurestore.extract.zcr import zero_crossing_rate

RATE = 22050
pytestmark = pytest.mark.filterwarnings("ignore:n_fft=.* is too large")  # librosa, of short signals


def tones(seconds: float = 1.5, rate: int = RATE, cents: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    y = 1e-3 * rng.standard_normal(t.size)
    for note in (48, 55, 64, 67, 76):
        y += 0.1 * np.sin(2 * np.pi * 440 * 2 ** ((note - 69 + cents / 100) / 12) * t)
    return y.astype(np.float32)


def spectrogram(y: np.ndarray, n_fft: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes (bins, frames), and the powers as stft.blocks keeps them."""
    power = np.empty((stft.n_blocks(len(y), hop), 1 + n_fft // 2, stft.LANES), np.float32)
    parts = [b.magnitude[:, : b.frames].copy() for b in stft.blocks(y, n_fft, hop, power)]
    return np.concatenate(parts, axis=1), power


# lengths with an odd and an even number of radix-2 factors, others, and hops that do not divide them
@pytest.mark.parametrize(
    ("n_fft", "hop"), [(2048, 512), (1024, 256), (64, 16), (128, 50), (4096, 4096), (1000, 250), (2500, 441), (66, 33)]
)
def test_stft(n_fft: int, hop: int) -> None:
    y = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    expected = np.abs(librosa.stft(y, n_fft=n_fft, hop_length=hop))
    found, power = spectrogram(y, n_fft, hop)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * expected.max())
    kept = power.transpose(1, 0, 2).reshape(1 + n_fft // 2, -1)[:, : expected.shape[1]]
    np.testing.assert_allclose(kept, expected**2, rtol=1e-5, atol=1e-6 * expected.max())


def test_the_transform_keeps_what_float32_would_lose() -> None:
    # a full-scale sine and a hum 150 dB below it, in bins far apart
    t = np.arange(RATE) / RATE
    y = np.sin(2 * np.pi * 8000 * t).astype(np.float32)
    found, _ = spectrogram(y, 2048, 512)
    expected = np.abs(librosa.stft(y.astype(np.float64), dtype=np.complex128))
    np.testing.assert_allclose(20 * np.log10(found[5:100, 10]), 20 * np.log10(expected[5:100, 10]), atol=0.01)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rate", [RATE, 16000])
def test_tuning(seed: int, rate: int) -> None:
    # partials of all strengths, each with a tuning of its own: which of them count decides the answer
    rng = np.random.default_rng(seed)
    hz = np.exp(rng.uniform(np.log(160), np.log(3900), 40))
    y = (10 ** rng.uniform(-2, 0, 40) @ np.sin(2 * np.pi * np.outer(hz, np.arange(rate)) / rate)).astype(np.float32)
    assert tuning.cqt_tuning(y, rate) == librosa.estimate_tuning(y=y, sr=rate, bins_per_octave=12)
    power = np.empty((stft.n_blocks(len(y), 512), 1025, stft.LANES), np.float32)
    peaks = tuning.Peaks(rate, 2048)
    for block in stft.blocks(y, 2048, 512, power):
        peaks.add(block, block.magnitude.max(axis=0))
    S = np.abs(librosa.stft(y))
    assert peaks.magnitude_tuning() == librosa.estimate_tuning(S=S, sr=rate, bins_per_octave=12)
    assert peaks.power_tuning() == librosa.estimate_tuning(S=S**2, sr=rate, bins_per_octave=12)


@pytest.mark.parametrize("cents", [-37.0, 0.0, 45.0])
def test_tuning_in_cents(cents: float) -> None:
    assert tuning.cqt_tuning(tones(cents=cents), RATE) == pytest.approx(cents / 100, abs=0.06)


def test_no_peaks_no_tuning() -> None:
    assert tuning.cqt_tuning(np.zeros(5000, np.float32), RATE) == 0.0


# early downsampling at 44,100 and 96,000; hops that can be halved six times, twice, never
@pytest.mark.parametrize(("rate", "hop"), [(22050, 512), (44100, 512), (96000, 1024), (22050, 100), (22050, 441)])
@pytest.mark.parametrize("bend", [0.0, -0.31])
def test_constant_q(rate: int, hop: int, bend: float) -> None:
    y = tones(1.0, rate)
    expected = np.abs(librosa.cqt(y, sr=rate, hop_length=hop, tuning=bend)).reshape(7, 12, -1).sum(axis=0)
    found = constantq.pitch_classes(y, rate, hop, bend)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


def test_constant_q_has_librosas_frames_where_they_differ_from_the_stfts() -> None:
    y = tones(1.0, 44100)[:1023]
    assert constantq.pitch_classes(y, 44100, 512, 0.0).shape[1] == librosa.cqt(y, sr=44100).shape[1] == 3


@pytest.mark.parametrize(("rate", "octaves"), [(4000, 5), (8000, 6), (8800, 7), (22050, 7)])
def test_octaves_that_fit_below_nyquist(rate: int, octaves: int) -> None:
    assert constantq.fitting_octaves(rate) == octaves
    lowest = librosa.note_to_hz("C1")
    y = tones(0.5, rate)
    librosa.cqt(y, sr=rate, fmin=lowest, n_bins=12 * octaves, tuning=0.0, hop_length=128)  # librosa agrees
    if octaves < 7:
        with pytest.raises(librosa.ParameterError, match="Nyquist"):
            librosa.cqt(y, sr=rate, fmin=lowest, n_bins=12 * octaves + 12, tuning=0.49, hop_length=128)


def test_chroma_of_cens_and_tonnetz() -> None:
    classes = np.random.default_rng(0).random((12, 150), np.float32) ** 4
    cens = librosa.feature.chroma_cens(C=classes, bins_per_octave=12, n_octaves=1)
    np.testing.assert_allclose(chroma.chroma_cens(classes), cens, atol=1e-6)
    np.testing.assert_allclose(chroma.tonnetz(cens), librosa.feature.tonnetz(chroma=cens), atol=1e-6)
    np.testing.assert_allclose(
        chroma.chroma_cqt(classes), librosa.feature.chroma_cqt(C=classes, bins_per_octave=12, n_octaves=1), atol=1e-6
    )


@pytest.mark.parametrize(("rate", "n_fft"), [(22050, 2048), (44100, 2048), (16000, 1024), (22050, 512)])
def test_contrast(rate: int, n_fft: int) -> None:
    S = (np.random.default_rng(0).random((1 + n_fft // 2, stft.LANES), np.float32) ** 3).astype(np.float32)
    peak, valley = np.empty((2, 7, stft.LANES), np.float32)
    contrast.extremes(S, contrast.bands(rate, n_fft), 0, peak, valley)
    expected = librosa.feature.spectral_contrast(S=S, sr=rate)
    np.testing.assert_allclose(contrast.contrast(peak, valley, rate), expected, atol=1e-4)


def test_contrast_of_an_fft_too_short_for_the_lowest_bands() -> None:
    peak, valley = np.empty((2, 7, stft.LANES), np.float32)
    contrast.extremes(np.ones((33, stft.LANES), np.float32), contrast.bands(44100, 64), 0, peak, valley)
    assert np.isfinite(contrast.contrast(peak, valley, 44100)).all()


@pytest.mark.parametrize("frames", [9, 10, 200])
@pytest.mark.parametrize("order", [1, 2])
def test_delta(frames: int, order: int) -> None:
    x = np.random.default_rng(0).standard_normal((20, frames)).astype(np.float32)
    np.testing.assert_allclose(dynamics.delta(x, order), librosa.feature.delta(x, order=order), atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_delta_of_few_frames_repeats_the_first_and_last(frames: int) -> None:
    x = np.random.default_rng(0).standard_normal((20, frames)).astype(np.float32)
    np.testing.assert_allclose(dynamics.delta(x, 1), librosa.feature.delta(x, mode="nearest"), atol=1e-5)


def test_flatness_and_flux_across_blocks() -> None:
    y = tones(2.0)
    power = np.empty((stft.n_blocks(len(y), 512), 1025, stft.LANES), np.float32)
    S = np.abs(librosa.stft(y))
    moving = dynamics.Dynamics(1025, S.shape[1])
    for block in stft.blocks(y, 2048, 512, power):
        moving.add(block)
    assert S.shape[1] > 2 * stft.LANES
    np.testing.assert_allclose(moving.flatness, librosa.feature.spectral_flatness(S=S), rtol=1e-4)
    np.testing.assert_allclose(moving.flux[0], np.linalg.norm(np.diff(S, axis=1), axis=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("rate", "hop", "frames"), [(22050, 512, 900), (44100, 512, 50), (16000, 160, 3000), (22050, 4096, 7)]
)
def test_tempo(rate: int, hop: int, frames: int) -> None:
    rng = np.random.default_rng(0)
    period = 60 / 97 * rate / hop
    onset = (np.maximum(0, np.cos(2 * np.pi * np.arange(frames) / period)) ** 8 + 0.3 * rng.random(frames)).astype(
        np.float32
    )
    expected = librosa.feature.tempo(onset_envelope=onset, sr=rate, hop_length=hop)
    assert rhythm.tempo(onset, rate, hop) == pytest.approx(expected[0], rel=1e-9)


def test_tempo_without_onsets_is_the_priors() -> None:
    onset = np.zeros(300, np.float32)
    expected = librosa.feature.tempo(onset_envelope=onset, sr=RATE, hop_length=512)
    assert rhythm.tempo(onset, RATE, 512) == pytest.approx(expected[0])
    assert rhythm.tempo(np.ones(5, np.float32), 4000, 32768) == 0.0  # frames eight seconds apart


@pytest.mark.parametrize(
    ("n_fft", "hop", "frames"), [(2048, 512, 100), (1024, 1024, 40), (2048, 512, 3), (4096, 256, 5)]
)
def test_onset_strength(n_fft: int, hop: int, frames: int) -> None:
    mel_db = np.random.default_rng(0).normal(-40, 10, (40, frames)).astype(np.float32)
    expected = librosa.onset.onset_strength(S=mel_db, sr=RATE, n_fft=n_fft, hop_length=hop)
    np.testing.assert_allclose(rhythm.onset_strength(mel_db, n_fft, hop)[0], expected, atol=1e-4)


@pytest.mark.parametrize(("frame", "hop", "n"), [(2048, 512, 30000), (1000, 441, 9999), (64, 64, 63), (2048, 512, 100)])
def test_zero_crossings(frame: int, hop: int, n: int) -> None:
    y = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    y[: n // 3] *= 1e-11  # nearer to zero than librosa's threshold
    y[n // 2 :: 7] = 0
    expected = librosa.feature.zero_crossing_rate(y, frame_length=frame, hop_length=hop)
    np.testing.assert_allclose(zero_crossing_rate(y, frame, hop), expected, atol=1e-7)


@pytest.mark.parametrize("frames", [1, 2, 7, 100])
def test_statistics(frames: int) -> None:
    x = np.random.default_rng(0).gamma(2.0, 3.0, (5, frames)).astype(np.float32)
    names = ("mean", "std", "skew", "kurtosis", "median", "min", "max")
    found = dict(zip(names, statistics.statistics(x, names), strict=True))
    wide = x.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skew, kurtosis = scipy.stats.skew(wide, axis=1), scipy.stats.kurtosis(wide, axis=1)
    expected = (wide.mean(1), wide.std(1), skew, kurtosis, np.median(wide, 1), wide.min(1), wide.max(1))
    for name, value in zip(names, expected, strict=True):
        np.testing.assert_allclose(found[name], np.nan_to_num(value), rtol=1e-9, atol=1e-12, err_msg=name)


def test_statistics_of_rows_that_only_rounding_moves() -> None:
    x = np.full((1, 100), 0.1, np.float32)
    x[0, ::3] = np.nextafter(np.float32(0.1), np.float32(1))
    found = statistics.statistics(x, ("skew", "kurtosis"))
    assert found.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_mix(channels: int) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (1000, channels)).astype(np.float32)
    mono, clipped, broken = mix(x, np.float32(0.9))
    np.testing.assert_allclose(mono, librosa.to_mono(x.T), atol=1e-7)
    assert (clipped, broken) == (int((np.abs(x) >= 0.9).sum()), 0)
    x[5, 0] = np.nan
    assert mix(x, np.float32(0.9))[2] == 1
