"""The whole path as a user walks it: audio files in five formats -> store -> SQL -> studies -> shards -> a network."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.synthesize import synthesize

# 8 to 96 kHz, mono and stereo
SOURCES = {"wav": (8000, 1), "ogg": (22050, 1), "mp3": (44100, 2), "opus": (48000, 2), "flac": (96000, 2)}
GENRES, ARTISTS = 3, 5
TRACKS = GENRES * ARTISTS * len(SOURCES)


class User:
    """Types commands in a folder of their own, with one default store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def types(self, *words: str, exit_code: int = 0) -> str:
        """Run `python -m WORDS`; standard output. No command may print a traceback."""
        environment = {**os.environ, "FEATURESTORE": str(self.folder / "store")}
        done = subprocess.run(
            [sys.executable, "-m", *words],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment,
            timeout=280,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == exit_code, done.stderr
        self.messages = done.stderr
        return done.stdout

    def asks(self, sql: str) -> list[dict[str, str]]:
        """Rows of a query, through the command."""
        return list(csv.DictReader(io.StringIO(self.types("warehouse", sql, "--format", "csv"))))


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    folder = tmp_path_factory.mktemp("user")
    for format, (rate, channels) in SOURCES.items():
        synthesize(
            str(folder / "music" / format),
            tracks=GENRES * ARTISTS,
            genres=GENRES,
            format=format,
            seconds=3.0,
            sample_rate=rate,
            channels=channels,
            artists_per_genre=ARTISTS,
        )
    user = User(folder)
    spec = ("--excerpt-seconds", "2.5", "--n-mels", "48", "--wave-seconds", "1")
    user.types("featurestore", "build", "--dataset", "tags", "--audio", "music", *spec)
    return user


def test_every_file_is_measured_as_what_it_is(user: User) -> None:
    rows = user.asks(
        "SELECT regexp_extract(path, '[a-z0-9]+$') AS format, native_rate, channels, count(*) AS n, "
        "max(abs(duration_s - 2.5)) AS off, count(DISTINCT genre) AS genres FROM excerpts JOIN "
        "(SELECT track_id, genre FROM tracks) USING (track_id) GROUP BY ALL"
    )
    assert {r["format"]: (int(r["native_rate"]), int(r["channels"])) for r in rows} == SOURCES
    assert all(int(r["n"]) == GENRES * ARTISTS and int(r["genres"]) == GENRES for r in rows)
    assert all(float(r["off"]) < 0.05 for r in rows)


def test_build_again_decodes_nothing(user: User) -> None:
    output = user.types("featurestore", "build", "--dataset", "tags", "--audio", "music")
    assert "nothing to do" in output + user.messages


def test_no_artist_is_in_two_splits(user: User) -> None:
    crossing = user.asks(
        "SELECT artist FROM tracks JOIN splits USING (track_id) WHERE scheme = 'artist' "
        "GROUP BY artist HAVING count(DISTINCT split) > 1"
    )
    assert crossing == []
    splits = user.asks("SELECT split, count(*) AS n FROM splits WHERE scheme = 'artist' GROUP BY split")
    assert {r["split"] for r in splits} == {"training", "validation", "test"}
    assert sum(int(r["n"]) for r in splits) == TRACKS


def test_studies(user: User) -> None:
    """Genres of the synthetic collection differ plainly, so a working study is far above chance (1/3)."""
    user.types("analysis.pca_study", "--map-tracks", "0", "--frames", "none")
    results = _csv(user.folder / "reports" / "pca_study" / "results.csv")
    assert results
    user.types("analysis.compare", "--models", "logistic,majority")
    rows = {r["model"]: r for r in _csv(user.folder / "reports" / "compare" / "results.csv")}
    assert float(rows["logistic"]["accuracy"]) > 0.6
    assert float(rows["majority"]["accuracy"]) < 0.5
    assert list((user.folder / "reports").rglob("*.png"))


def test_deep_learning(user: User) -> None:
    user.types("training.export_tfrecords")
    user.types("training.fit", "cnn", "--epochs", "6", "--width", "8")
    output = user.types("training.evaluate", "cnn", "--format", "json")
    assert json.loads(output)
    files = sorted((user.folder / "music" / "mp3").rglob("*.mp3"))[:2]
    answers = json.loads(user.types("training.predict", "cnn", *map(str, files), "--format", "json"))
    assert len(answers) == 2
    known = {r["genre"] for r in user.asks("SELECT DISTINCT genre FROM tracks")}
    assert all(a["genre"] in known | {"unknown"} for a in answers)
    assert (user.folder / "models" / "cnn" / "model.keras").exists()


def test_broken_files_cost_nobody_else(user: User, tmp_path: Path) -> None:
    """Four bad files beside good ones: exit 3, one row each with its reason; replaced, only they are decoded."""
    music = tmp_path / "music" / "rock"
    music.mkdir(parents=True)
    good = sorted((user.folder / "music" / "mp3").rglob("*.mp3"))[:3]
    for i, path in enumerate(good):
        shutil.copy(path, music / f"good{i}.mp3")
    (music / "empty.mp3").write_bytes(b"")
    (music / "text.mp3").write_text("This is no music.\n" * 40)
    (music / "cut.mp3").write_bytes(good[0].read_bytes()[:300])
    (music / "silent.wav").write_bytes(_wav_without_samples())
    stranger = User(tmp_path)
    build = ("featurestore", "build", "--dataset", "folders", "--audio", "music", "--excerpt-seconds", "2")
    stranger.types(*build, exit_code=3)
    failures = {Path(r["path"]).name: r["message"] for r in stranger.asks("SELECT path, message FROM failures")}
    assert set(failures) == {"empty.mp3", "text.mp3", "cut.mp3", "silent.wav"}
    assert all(failures.values())
    assert len(stranger.asks("SELECT track_id FROM features")) == 3

    spare = {".mp3": good[0], ".wav": next((user.folder / "music" / "wav").rglob("*.wav"))}
    for name in failures:
        shutil.copy(spare[Path(name).suffix], music / name)
    output = stranger.types(*build) + stranger.messages
    assert "4 of 7 tracks decoded" in output
    assert stranger.asks("SELECT * FROM failures") == []


@pytest.mark.parametrize(
    ("words", "exit_code", "says"),
    [
        (("featurestore", "build", "--dataset", "folders", "--audio", "nowhere"), 1, "nowhere"),
        (("featurestore", "build", "--dataset", "million_songs"), 2, "million_songs"),
        (("featurestore", "status", "--store", "nowhere"), 1, "build"),
        (("warehouse", "SELECT * FROM tracks", "--store", "nowhere"), 1, "build"),
        (("warehouse", "SELEKT 1"), 1, "SELEKT"),
        (("warehouse", "SELECT genr FROM tracks"), 1, "genre"),
        (("analysis.compare", "--store", "nowhere"), 1, "build"),
        (("analysis.pca_study", "--features", "nobodys"), 1, "import-features"),
        (("training.export_tfrecords", "--store", "nowhere"), 1, "build"),
        (("training.fit", "cnn", "--data", "nowhere"), 1, "export_tfrecords"),
        (("training.predict", "nobody", "x.mp3"), 1, "fit"),
    ],
)
def test_wrong_input_gets_a_message(user: User, words: tuple[str, ...], exit_code: int, says: str) -> None:
    user.types(*words, exit_code=exit_code)
    assert says in user.messages


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def _wav_without_samples() -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.SoundFile(out, "w", 44100, 1, format="WAV").close()
    return out.getvalue()
