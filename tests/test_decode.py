"""Decoding: the right samples, from the right place, and a clear word about every file that has none."""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import soxr

from featurestore.audio.decode import Excerpt, decode, excerpt_starts
from featurestore.errors import AudioError
from featurestore.spec import Spec

RATE = 8000
SPEC = Spec(sample_rate=RATE, excerpt_seconds=1.0)


@pytest.fixture(autouse=True)
def _no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    # whether this machine has an ffmpeg must not decide what the tests see
    monkeypatch.setenv("PATH", "")


def noise(seconds: float, channels: int = 1, rate: int = RATE, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels))
    return x.astype(np.float32)


def ramp(path: Path, seconds: float, rate: int = RATE) -> Path:
    """A float WAV whose sample i is i / 2^20: a sample says where it came from."""
    soundfile.write(path, np.arange(round(seconds * rate), dtype=np.float32) / 2**20, rate, subtype="FLOAT")
    return path


def first_frame(excerpt: Excerpt) -> int:
    return round(float(excerpt.y[0]) * 2**20)


def failure(source: object, spec: Spec = SPEC) -> AudioError:
    with pytest.raises(AudioError) as caught:
        decode(source, spec)  # type: ignore[arg-type]
    return caught.value


def test_stereo_becomes_the_mean_of_its_channels(tmp_path: Path) -> None:
    x = noise(1.0, channels=2)
    soundfile.write(tmp_path / "a.wav", x, RATE, subtype="FLOAT")
    (e,) = decode(tmp_path / "a.wav", SPEC)
    assert e.y.dtype == np.float32
    np.testing.assert_array_equal(e.y, (x[:, 0] + x[:, 1]) * np.float32(0.5))
    assert (e.channels, e.native_rate, e.decoder) == (2, RATE, "libsndfile")
    assert e.decoder_version[0].isdigit()


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    x = noise(0.5, channels)
    soundfile.write(tmp_path / "a.wav", x, RATE, subtype="FLOAT")
    np.testing.assert_allclose(decode(tmp_path / "a.wav", SPEC)[0].y, x.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("rate", [11025, 44100, 48000])
def test_resampling_in_pieces_is_soxr_hq_in_one(tmp_path: Path, rate: int) -> None:
    x = noise(1.5, rate=rate)[:, 0]
    soundfile.write(tmp_path / "a.wav", x, rate, subtype="FLOAT")
    spec = Spec(excerpt_seconds=1.5)
    (e,) = decode(tmp_path / "a.wav", spec)
    np.testing.assert_array_equal(e.y, soxr.resample(x, rate, 22050, "soxr_hq")[: spec.excerpt_samples])
    np.testing.assert_array_equal(e.y, librosa.load(tmp_path / "a.wav", sr=22050)[0][: len(e.y)])


def test_the_central_excerpt(tmp_path: Path) -> None:
    (e,) = decode(ramp(tmp_path / "a.wav", 5.0), SPEC)
    assert first_frame(e) == 2 * RATE
    assert (e.start_s, e.duration_s, len(e.y), e.short) == (2.0, 1.0, RATE, False)


def test_excerpts_are_centres_of_equal_parts(tmp_path: Path) -> None:
    found = decode(ramp(tmp_path / "a.wav", 6.0), Spec(sample_rate=RATE, excerpt_seconds=1.0, excerpts=3))
    assert [e.excerpt for e in found] == [0, 1, 2]
    assert [e.start_s for e in found] == [0.5, 2.5, 4.5]
    assert [first_frame(e) for e in found] == [RATE // 2, 5 * RATE // 2, 9 * RATE // 2]


@pytest.mark.parametrize(
    ("frames", "length", "excerpts", "starts"),
    [
        (100, 10, 1, [45]),
        (90, 10, 3, [10, 40, 70]),
        (30, 10, 3, [0, 10, 20]),
        (299, 100, 3, [0, 100, 199]),  # a clip that lost a little still gives three
        (20, 10, 9, [0, 5, 10]),  # half shared at most
        (19, 10, 9, [0, 9]),
        (14, 10, 2, [2]),
        (3, 3, 2, [0]),
        (2, 3, 9, [0]),
    ],
)
def test_where_excerpts_lie(frames: int, length: int, excerpts: int, starts: list[int]) -> None:
    assert excerpt_starts(frames, length, excerpts) == starts


def test_excerpts_share_half_at_most_and_stay_in_the_track() -> None:
    length = 50
    for frames, excerpts in itertools.product(range(5, 400), range(1, 12)):
        starts = excerpt_starts(frames, length, excerpts)
        assert all(b - a >= length // 2 for a, b in itertools.pairwise(starts))
        assert starts[0] >= 0
        assert frames < length or starts[-1] + length <= frames


def test_a_short_file_is_neither_padded_nor_silent_about_it(tmp_path: Path) -> None:
    (e,) = decode(ramp(tmp_path / "a.wav", 0.5), SPEC)
    assert (len(e.y), e.duration_s, e.start_s, e.short) == (RATE // 2, 0.5, 0.0, True)


def test_a_few_missing_mp3_frames_do_not_make_a_clip_short(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2.95), RATE)
    spec = Spec(sample_rate=RATE, excerpt_seconds=3.0)
    assert decode(tmp_path / "a.wav", spec)[0].short is False  # FMA's 30 s clips have 29.98 s
    soundfile.write(tmp_path / "a.wav", noise(2.85), RATE)
    assert decode(tmp_path / "a.wav", spec)[0].short is True


def test_levels(tmp_path: Path) -> None:
    left, right = np.zeros(RATE), np.zeros(RATE)
    left[: RATE // 4] = right[: RATE // 4] = 32767 / 32768  # a quarter clipped, in both channels
    left[RATE // 4 : RATE // 2] = 32767 / 32768  # and a quarter in one
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), RATE, subtype="PCM_16")
    (e,) = decode(tmp_path / "a.wav", SPEC)
    assert e.clipped_share == pytest.approx(3 / 8)
    assert e.peak == pytest.approx(32767 / 32768)
    assert e.rms == pytest.approx(np.sqrt((1 + 0.25) / 4), rel=1e-4)
    assert e.silence_share == pytest.approx(0.5)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_file_object_gives_what_its_path_gives(tmp_path: Path, format: str) -> None:
    path = tmp_path / "audio"
    soundfile.write(path, noise(3.0, 2), RATE, format=format)
    (a,) = decode(path, SPEC)
    with open(path, "rb") as file:
        (b,) = decode(file, SPEC)
    (c,) = decode(io.BytesIO(path.read_bytes()), SPEC)
    np.testing.assert_array_equal(a.y, b.y)
    np.testing.assert_array_equal(a.y, c.y)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_seeking_in_an_mp3_is_exact_to_the_sample(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(path, "w", 44100, 1, format="MP3", bitrate_mode=mode, compression_level=0.5) as file:
        file.write(np.sin(np.arange(44100 * 6) ** 1.3 / 300) * np.linspace(0.01, 0.8, 44100 * 6))
    whole, _ = soundfile.read(path, dtype="float32")
    for e in decode(path, Spec(sample_rate=44100, excerpt_seconds=1.0, excerpts=4)):
        start = round(e.start_s * 44100)
        np.testing.assert_allclose(e.y, whole[start : start + 44100], atol=1e-6)


def test_an_mp3_of_variable_bit_rate_is_the_same_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(path, "w", 44100, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5) as file:
        file.write(np.sin(np.arange(44100 * 3) ** 1.3 / 300) * np.linspace(0.01, 0.8, 44100 * 3))
    whole, _ = soundfile.read(path, dtype="float32")
    # soundfile itself gives other samples in such blocks
    (e,) = decode(path, Spec(sample_rate=44100, excerpt_seconds=3.0), block_samples=10000)
    np.testing.assert_allclose(e.y, whole, atol=1e-6)


def test_a_truncated_mp3_records_what_decodes(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(4.0, rate=44100), 44100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert soundfile.info(path).frames == 4 * 44100  # the header still promises all of it
    (e,) = decode(path, Spec(excerpt_seconds=4.0))
    assert e.short is True
    assert e.duration_s == pytest.approx(2.0, abs=0.1)
    assert len(e.y) == pytest.approx(e.duration_s * 22050, abs=2)


def test_a_header_that_promises_too_much_does_not_place_the_excerpt(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(8.0, rate=44100), 44100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    (e,) = decode(path, Spec(excerpt_seconds=1.0))  # the centre of 8 s is silence beyond the end
    assert e.start_s == pytest.approx(0.5, abs=0.1)
    assert (e.duration_s, e.short) == (1.0, False)


def test_only_the_excerpt_of_a_long_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.flac", noise(60.0), RATE)
    read, original = [], soundfile.SoundFile.read

    def counting(self: soundfile.SoundFile, frames: int = -1, **kwargs: object) -> np.ndarray:
        data = original(self, frames, **kwargs)
        read.append(len(data))
        return data

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    decode(tmp_path / "a.flac", SPEC)
    assert sum(read) == RATE


def test_blocks_are_bounded_and_join_without_a_seam(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(3.0, 2, 44100), 44100, subtype="FLOAT")
    spec = Spec(excerpt_seconds=3.0)
    (whole,) = decode(tmp_path / "a.wav", spec)
    (pieces,) = decode(tmp_path / "a.wav", spec, block_samples=1998)
    np.testing.assert_array_equal(pieces.y, whole.y)


# --- what cannot be decoded ---------------------------------------------------------------------------------------


def test_missing(tmp_path: Path) -> None:
    error = failure(tmp_path / "none.mp3")
    assert (error.stage, error.kind) == ("open", "missing")
    assert "none.mp3" in error.message


def test_a_folder_is_unreadable(tmp_path: Path) -> None:
    assert failure(tmp_path).kind == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = ramp(tmp_path / "a.wav", 1.0)
    path.chmod(0)
    assert failure(path).kind == "unreadable"


def test_a_source_that_fails_to_read() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    error = failure(Broken(b"RIFF" * 100))
    assert (error.stage, error.kind) == ("open", "unreadable")
    assert "Input/output error" in error.message


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("empty.mp3", b"", "empty"),
        ("text.mp3", b"this is a text, whatever its name says\n" * 200, "not_audio"),
        ("page.wav", b"<!DOCTYPE html><html>404</html>", "not_audio"),
        ("zeros.flac", bytes(5000), "not_audio"),
        ("song.m4a", b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00" + bytes(5000), "unsupported"),
        ("song.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(5000), "unsupported"),
        ("head.wav", b"RIFF\x24\x00\x00\x00WAVEfmt ", "truncated"),
        ("head.flac", b"fLaC\x00\x00", "truncated"),
    ],
)
def test_files_that_are_no_audio(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        error = failure(source)
        assert (error.stage, error.kind) == ("open", kind)
    assert name in failure(path).message
    if kind == "unsupported":
        assert "ffmpeg" in failure(path).message


def test_a_container_without_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    error = failure(tmp_path / "a.wav")
    assert (error.stage, error.kind) == ("decode", "no_audio")


def test_less_than_one_hop_is_too_short(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0)[: SPEC.hop_length - 1], RATE)
    assert failure(tmp_path / "a.wav").kind == "too_short"
    soundfile.write(tmp_path / "a.wav", noise(1.0)[: SPEC.hop_length], RATE)
    assert len(decode(tmp_path / "a.wav", SPEC)[0].y) == SPEC.hop_length


def test_an_mp3_of_which_nothing_decodes(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(4.0, rate=44100), 44100)
    path.write_bytes(path.read_bytes()[:900])  # the header frame and a scrap
    assert failure(path, Spec()).kind == "truncated"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(tmp_path: Path, value: float) -> None:
    x = noise(1.0, 2)
    x[RATE // 2, 1] = value
    soundfile.write(tmp_path / "a.wav", x, RATE, subtype="FLOAT")
    error = failure(tmp_path / "a.wav")
    assert (error.stage, error.kind) == ("decode", "non_finite")
    assert "0.500 s" in error.message


def test_real_clips(shared_data: Path) -> None:
    for path in sorted((shared_data / "fma_small" / "clips" / "000").glob("*.mp3")):
        (e,) = decode(path, Spec())
        assert e.duration_s == pytest.approx(30.0, abs=0.03)
        assert (e.short, e.native_rate, e.channels) == (False, 44100, 2)
        expected = librosa.load(path, sr=22050, offset=(round(e.start_s * 44100) + 0.5) / 44100, duration=30)[0]
        np.testing.assert_array_equal(e.y[:-1], expected[: len(e.y) - 1])
