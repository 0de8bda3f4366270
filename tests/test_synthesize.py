"""The synthetic collection: same bytes every time, tags that readers understand, genres and artists one can tell."""

from __future__ import annotations

import csv
import hashlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tinytag import TinyTag

from benchmarks.synthesize import STYLES, synthesize
from benchmarks.synthesize import __main__ as command
from benchmarks.synthesize.clips import plan, render
from benchmarks.synthesize.encoding import CONTAINERS, encode, with_serial
from benchmarks.synthesize.styles import SCALES
from featurestore.errors import FeatureStoreError, UsageError
from featurestore.terminal import cli

RATE = 22050


def collection(folder: Path, tracks: int = 4, **changes: object) -> dict[str, str]:
    """Render a tiny collection; {relative path: digest} of everything in it."""
    settings: dict[str, object] = {"genres": 2, "artists_per_genre": 2, "format": "wav", "seconds": 0.5}
    synthesize(str(folder), tracks=tracks, **{**settings, **changes})  # type: ignore[arg-type]
    return digests(folder)


def digests(folder: Path) -> dict[str, str]:
    found = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha1(p.read_bytes()).hexdigest() for p in found}


def samples(style: int, artist: int = 0, number: int = 0, seconds: float = 4.0) -> np.ndarray:
    return render(plan(0, style, artist, number), seconds=seconds, sample_rate=RATE, channels=1)[:, 0]


@pytest.mark.parametrize("format", CONTAINERS)
def test_files_are_the_same_bytes_whatever_the_jobs_and_carry_their_tags(tmp_path: Path, format: str) -> None:
    one = collection(tmp_path / "one", format=format, jobs=1)
    two = collection(tmp_path / "two", format=format, jobs=2)
    assert one == two
    name = f"Swing/swing-artist-01_0000.{format}"
    assert name in one
    tag = TinyTag.get(tmp_path / "one" / name)
    assert (tag.genre, tag.artist, tag.title) == ("Swing", "Swing Artist 01", "Swing 01-0000")
    rate = 48000 if format == "opus" else 44100
    with soundfile.SoundFile(tmp_path / "one" / name) as file:
        assert (file.frames, file.samplerate, file.channels) == (rate // 2, rate, 2)


def test_a_larger_collection_keeps_the_smaller_ones_files(tmp_path: Path) -> None:
    small = collection(tmp_path, tracks=4)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.wav")}
    report = synthesize(str(tmp_path), tracks=10, genres=2, artists_per_genre=2, format="wav", seconds=0.5)
    assert (report.rendered, report.existing, report.tracks, report.artists) == (6, 4, 10, 4)
    large = digests(tmp_path)
    assert {k: v for k, v in large.items() if k in small and k.endswith(".wav")} == {
        k: v for k, v in small.items() if k.endswith(".wav")
    }
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert "House/house-artist-00_0001.wav" in large  # the third round of two artists begins at number 1
    # and it is the collection that one run would have made
    assert large == collection(tmp_path / "at_once", tracks=10)


def test_a_lost_file_is_rendered_again_and_the_truth_keeps_every_row(tmp_path: Path) -> None:
    before = collection(tmp_path, tracks=4)
    (tmp_path / "House" / "house-artist-00_0000.wav").unlink()
    assert collection(tmp_path, tracks=1) == before
    rows = list(csv.DictReader((tmp_path / "truth.csv").open()))
    assert [r["path"] for r in rows] == sorted(p for p in before if p.endswith(".wav"))
    assert float(rows[0]["tempo"]) == plan(0, 0, 0, 0).tempo


def test_other_settings_in_the_same_folder_are_refused_by_name(tmp_path: Path) -> None:
    collection(tmp_path)
    with pytest.raises(UsageError, match=r"seed = 0; asked for 7"):
        collection(tmp_path, seed=7)
    with pytest.raises(UsageError, match=r"seconds = 0\.5; asked for 1\.0"):
        collection(tmp_path, seconds=1.0)
    (tmp_path / "synthetic.json").write_text("[")
    with pytest.raises(FeatureStoreError, match="not readable as settings"):
        collection(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genres": 99}, "genres: expected 1 to 12, found 99"),
        ({"seconds": float("nan")}, "seconds: expected 0.1 to 3600, found nan"),
        ({"seed": -1}, "seed: expected 0"),
        ({"channels": 6}, "channels: expected 1 to 2, found 6"),
        ({"format": "aiff"}, "format 'aiff' is not known"),
        ({"format": "opus", "sample_rate": 44100}, "opus cannot hold 44100 Hz"),
        ({"format": "mp3", "sample_rate": 96000}, "mp3 cannot hold 96000 Hz"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        collection(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_way_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(FeatureStoreError, match="is a file, expected a folder"):
        collection(tmp_path / "taken")


def test_every_style_is_well_formed() -> None:
    assert len({s.name for s in STYLES}) == len(STYLES)
    for style in STYLES:
        patterns = (style.kick, style.snare, style.hat, style.bass, style.chords, style.lead)
        assert {len(p) for p in patterns} == {style.steps}, style.name
        assert set("".join(patterns)) <= set("xo."), style.name
        assert style.scale in SCALES


@pytest.mark.parametrize("channels", [1, 2])
def test_rendered_samples_fit_full_scale(channels: int) -> None:
    y = render(plan(3, 1, 0, 0), seconds=1.5, sample_rate=8000, channels=channels)
    assert y.shape == (12000, channels)
    assert y.dtype == np.float32
    assert 0.05 < np.abs(y).max() < 1
    if channels == 2:
        assert np.abs(y[:, 0] - y[:, 1]).max() > 0.01  # the room differs between the ears


def test_seed_genre_artist_and_number_each_change_the_clip() -> None:
    clips = [plan(0, 1, 2, 3), plan(1, 1, 2, 3), plan(0, 2, 2, 3), plan(0, 1, 0, 3), plan(0, 1, 2, 0)]
    made = [render(c, seconds=1.0, sample_rate=8000, channels=1)[:, 0] for c in clips]
    for other in made[1:]:
        assert abs(np.corrcoef(made[0], other)[0, 1]) < 0.9


@pytest.mark.parametrize("number", range(3))
def test_the_tempo_is_the_one_stated(number: int) -> None:
    """A house clip has a kick on every beat: the low band's energy repeats after 60 / tempo seconds."""
    clip = plan(0, 0, 0, number)
    y = render(clip, seconds=16, sample_rate=RATE, channels=1)[:, 0]
    hop = RATE // 200
    energy = np.square(y[: len(y) // hop * hop]).reshape(-1, hop).mean(axis=1)
    onset = np.maximum(np.diff(np.sqrt(energy)), 0)
    onset -= onset.mean()
    correlation = np.correlate(onset, onset, "full")[len(onset) - 1 :]
    beat = 60 / clip.tempo * 200  # in hops
    near = np.arange(int(beat * 0.8), int(beat * 1.2))
    assert near[np.argmax(correlation[near])] == pytest.approx(beat, abs=1.5)


@pytest.mark.parametrize("artist", range(3))
def test_the_notes_are_those_of_the_stated_key_and_scale(artist: int) -> None:
    """An ambient clip has no drums: its power lies on the pitch classes of the scale, not on those a semitone up."""
    clip = plan(0, 4, artist, 0)
    y = render(clip, seconds=12, sample_rate=RATE, channels=1)[:, 0]
    power = np.abs(np.fft.rfft(y * np.hanning(len(y)))) ** 2
    hertz = np.fft.rfftfreq(len(y), 1 / RATE)
    band = (hertz > 100) & (hertz < 1000)
    midi = np.rint(69 + 12 * np.log2(hertz[band] / 440) - clip.tuning / 100).astype(int)
    scale = SCALES[STYLES[4].scale]
    share = [power[band][np.isin((midi - clip.key - up) % 12, scale)].sum() / power[band].sum() for up in (0, 1)]
    assert share[0] > 0.95
    assert share[1] < 0.80


def test_genres_can_be_learnt_and_a_random_split_flatters_because_artists_leak() -> None:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    keys = [(g, a, n) for g in range(4) for a in range(8) for n in range(4)]
    X = np.array([_bands(samples(*key)) for key in keys])
    y = np.array([key[0] for key in keys])
    artist = np.array([key[0] * 100 + key[1] for key in keys])
    model = make_pipeline(StandardScaler(), SVC(C=2))
    leaky = cross_val_score(model, X, y, cv=StratifiedKFold(4, shuffle=True, random_state=0)).mean()
    grouped = StratifiedGroupKFold(4, shuffle=True, random_state=0)
    honest = cross_val_score(model, X, y, cv=grouped, groups=artist).mean()
    assert honest > 0.25 + 0.15  # chance is 0.25
    assert honest < 0.95  # not trivial
    assert leaky > honest + 0.08


def _bands(y: np.ndarray) -> np.ndarray:
    """Mean and deviation of the log energy in 20 log-spaced bands over frames of 2,048 samples."""
    frames = y[: len(y) // 2048 * 2048].reshape(-1, 2048) * np.hanning(2048)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.geomspace(4, 1024, 21).astype(int)
    log = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-6)
    return np.concatenate([log.mean(axis=0), log.std(axis=0)])


@pytest.mark.parametrize("format", ["ogg", "opus"])
def test_replacing_an_ogg_serial_makes_a_valid_stream(format: str) -> None:
    container, subtype = CONTAINERS[format]
    noise = np.random.default_rng(0).normal(0, 0.1, (24000, 1)).astype(np.float32)
    out = io.BytesIO()
    soundfile.write(out, noise, 48000, format=container, subtype=subtype)
    original = out.getvalue()
    serial = struct.unpack_from("<I", original, 14)[0]
    assert with_serial(original, serial) == original  # our page checksums are libogg's own
    changed = with_serial(original, 77)
    assert changed != original
    a, b = soundfile.read(io.BytesIO(original))[0], soundfile.read(io.BytesIO(changed))[0]
    np.testing.assert_array_equal(a, b)
    assert encode(noise, 48000, format, {}, 77) == encode(noise, 48000, format, {}, 77)
    with pytest.raises(ValueError, match="not an Ogg page at byte 0"):
        with_serial(b"RIFF" + bytes(40), 1)


def test_the_command_renders_and_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my clips"
    arguments = [str(folder), "--tracks", "3", "--genres", "3", "--seconds", "0.2", "--format", "flac"]
    assert cli.run(command.main, [*arguments, "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "3 synthetic clips of 3 genres and 3 artists" in out
    assert f"next: python -m featurestore build --dataset tags --audio '{folder}'" in out
    assert len(list(folder.rglob("*.flac"))) == 3
    assert cli.run(command.main, [*arguments, "--seed", "5"]) == 2
    assert "seed = 0; asked for 5" in capsys.readouterr().err
