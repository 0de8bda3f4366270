"""Finding files: each once, whatever the folder holds, with a name that leads back to it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import datasets
from featurestore.datasets import demo, folders, paths
from featurestore.datasets.scan import audio_files, scan
from featurestore.errors import FeatureStoreError, MissingInput, UsageError


def fill(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return str(root)


def warning(found: tuple[str, ...], text: str) -> str:
    (one,) = [w for w in found if text in w]
    return one


def test_genre_is_the_first_folder(tmp_path: Path) -> None:
    audio = fill(tmp_path, "rock/a.mp3", "rock/live/b.FLAC", "jazz/a.mp3", "loose.wav", "jazz/cover.jpg", "notes.txt")
    found = datasets.load("folders", audio=audio)
    rows = {r["path"]: r for r in found.tracks.to_pylist()}
    assert {p: r["genre"] for p, r in rows.items()} == {
        "rock/a.mp3": "rock",
        "rock/live/b.FLAC": "rock",
        "jazz/a.mp3": "jazz",
        "loose.wav": None,
    }
    assert found.audio == audio
    assert found.tracks["track_id"].to_pylist() == sorted(paths.track_id("folders", p) for p in rows)
    genres = {g["title"]: g["genre_id"] for g in found.genres.to_pylist()}
    assert rows["rock/a.mp3"]["genre_ids"] == [genres["rock"]]
    assert all(g["genre_id"] == g["top_level_id"] >= 10_000 for g in found.genres.to_pylist())
    assert "2 (jazz/cover.jpg, notes.txt)" in warning(found.warnings, "not audio by their suffix")
    assert "1 of 4" in warning(found.warnings, "have no genre")


@pytest.mark.parametrize(
    ("path", "genre"),
    [
        ("blues.00012.wav", "blues"),
        ("genres_original/hiphop/hiphop.00000.wav", "hiphop"),
        ("test/jazz.00054.au", "jazz"),
        ("My Songs/track.00001.mp3", "My Songs"),
        ("chanson.00001.mp3", "chanson"),
        ("loose.mp3", None),
    ],
)
def test_gtzan_names(path: str, genre: str | None) -> None:
    assert folders.genre_of(path) == genre


def test_spellings_of_a_folder_are_one_genre(tmp_path: Path) -> None:
    composed, split = unicodedata.normalize("NFC", "Música"), unicodedata.normalize("NFD", "Música")
    audio = fill(tmp_path, *(f"{g}/{i}.wav" for i, g in enumerate(["Rock", "rock", "ROCK", "Rock ", composed, split])))
    found = datasets.load("folders", audio=audio)
    assert sorted(found.tracks["genre"].to_pylist()) == [composed, composed, "Rock", "Rock", "Rock", "Rock"]
    assert sorted(found.genres["title"].to_pylist()) == [composed, "Rock"]


def test_files_and_folders_named_become_files(tmp_path: Path) -> None:
    audio = fill(tmp_path, "m/b.mp3", "m/a.FLAC", "m/notes.txt", "m/.hidden.mp3", "loose.xyz")
    assert audio_files([f"{audio}/loose.xyz", f"{audio}/m"]) == [
        f"{audio}/{n}" for n in ("loose.xyz", "m/a.FLAC", "m/b.mp3")
    ]
    with pytest.raises(MissingInput, match="no such file or folder"):
        audio_files([f"{audio}/none"])


def test_gtzan_comes_with_a_warning(tmp_path: Path) -> None:
    gtzan = fill(tmp_path / "g", "blues/blues.00000.wav", "blues/blues.00001.wav", "rock/rock.00000.wav")
    assert folders.GTZAN_WARNING in datasets.load("folders", audio=gtzan).warnings
    other = fill(tmp_path / "o", "blues/a.wav", "rock/rock.00000.wav")
    assert folders.GTZAN_WARNING not in datasets.load("folders", audio=other).warnings


def test_an_id_depends_on_the_path_alone(tmp_path: Path) -> None:
    one = datasets.load("folders", audio=fill(tmp_path / "a", "rock/a.mp3", "rock/b.mp3")).tracks
    other = datasets.load("folders", audio=fill(tmp_path / "elsewhere", "jazz/x.mp3", "rock/b.mp3")).tracks
    ids = {r["path"]: r["track_id"] for r in one.to_pylist()}
    assert {r["path"]: r["track_id"] for r in other.to_pylist()}["rock/b.mp3"] == ids["rock/b.mp3"]
    assert len(set(ids.values())) == 2
    # a golden value: ids in existing stores must never change
    assert paths.track_id("folders", "rock/a.mp3") == 6928940060188418


@given(st.text(max_size=40))
def test_ids_are_clear_of_fma_and_exact_in_a_float(text: str) -> None:
    number = paths.stable_id(text)
    assert 1 << 32 <= number < 1 << 53
    assert int(float(number)) == number


@given(st.binary(min_size=1, max_size=30).filter(lambda b: b"\0" not in b))
def test_every_file_name_survives_the_catalog(name: bytes) -> None:
    stored = paths.encode_name(os.fsdecode(name))
    stored.encode("utf-8")
    assert os.fsencode(paths.decode_name(stored)) == name


def test_a_name_that_is_not_utf8_leads_back_to_its_file(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/rock"
    os.mkdir(raw)
    for name in (b"caf\xe9.mp3", "café.mp3".encode(), b"back\\slash.mp3"):
        with open(raw + b"/" + name, "wb") as f:
            f.write(name)
    found = datasets.load("folders", audio=str(tmp_path)).tracks["path"].to_pylist()
    assert sorted(found) == ["rock/back\\x5cslash.mp3", "rock/caf\\xe9.mp3", "rock/café.mp3"]
    for stored in found:
        with open(datasets.audio_path(str(tmp_path), stored), "rb") as f:
            assert f.read() in (b"caf\xe9.mp3", "café.mp3".encode(), b"back\\slash.mp3")


def test_links_and_loops_give_each_file_once(tmp_path: Path) -> None:
    audio = fill(tmp_path / "music", "rock/a.mp3", "rock/b.mp3")
    outside = fill(tmp_path / "outside", "c.mp3")
    root = Path(audio)
    (root / "rock" / "loop").symlink_to(root)
    (root / "aaa").symlink_to(root / "rock")  # sorts before the real folder
    (root / "aaa.mp3").symlink_to(root / "rock" / "a.mp3")
    (root / "jazz").symlink_to(outside)
    (root / "rock" / "dead.mp3").symlink_to(root / "nowhere.mp3")
    os.link(root / "rock" / "b.mp3", root / "rock" / "z-again.mp3")
    found = scan(audio)
    assert found.paths == ("jazz/c.mp3", "rock/a.mp3", "rock/b.mp3")
    assert "2 (aaa, rock/loop)" in warning(found.warnings, "folders reached twice")
    assert "2 (aaa.mp3, rock/z-again.mp3)" in warning(found.warnings, "already found")
    assert "rock/dead.mp3" in warning(found.warnings, "lead nowhere")


def test_what_is_hidden_or_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = fill(tmp_path, "rock/a.mp3", "locked/b.mp3", ".trash/c.mp3", "rock/._a.mp3")
    real = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # the tests may run as root, who can read everything
    found = scan(audio)
    assert found.paths == ("rock/a.mp3",)
    assert "1 (locked)" in warning(found.warnings, "cannot be read (Permission denied)")
    assert "2 (.trash, rock/._a.mp3)" in warning(found.warnings, "hidden")


def test_a_bucket_is_scanned_too() -> None:
    fs = fsspec.filesystem("memory")
    for name in ("rock/a.mp3", "rock/cover.png", "jazz/b.ogg", ".cache/x.mp3"):
        fs.pipe_file(f"/scan-bucket/music/{name}", b"x")
    found = datasets.load("folders", audio="memory://scan-bucket/music/")
    assert sorted(found.tracks["path"].to_pylist()) == ["jazz/b.ogg", "rock/a.mp3"]
    assert datasets.audio_path("s3://bucket/music/", "rock/a.mp3") == "s3://bucket/music/rock/a.mp3"


def test_wrong_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="does not exist"):
        datasets.load("folders", audio=str(tmp_path / "none"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(MissingInput, match="is a file"):
        datasets.load("tags", audio=str(tmp_path / "file"))
    with pytest.raises(MissingInput, match=r"no audio file[\s\S]*1 \(file\)"):
        datasets.load("folders", audio=str(tmp_path))
    with pytest.raises(UsageError, match="needs --audio"):
        datasets.load("folders")
    with pytest.raises(UsageError, match="--subset is for the dataset fma"):
        datasets.load("folders", audio=str(tmp_path), subset="small")
    with pytest.raises(UsageError, match="takes no --metadata"):
        datasets.load("tags", audio=str(tmp_path), metadata=str(tmp_path))


def test_two_paths_with_one_id_are_never_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "stable_id", lambda text: 1 << 40)
    with pytest.raises(FeatureStoreError, match="same track id"):
        datasets.load("folders", audio=fill(tmp_path, "a/x.mp3", "b/y.mp3"))


def test_demo_is_read_from_where_pip_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(demo.PACKAGE)
    found = datasets.load("demo")
    assert len(found.tracks) == 28
    assert found.tracks["genre"].value_counts().to_pylist()
    assert sorted(found.genres["title"].to_pylist()) == ["Calm", "Energetic", "Happy", "Nostalgic", "Tender"]
    assert found.tracks["artist"].null_count == 28
    assert found.audio is not None
    assert all(os.path.isfile(datasets.audio_path(found.audio, p)) for p in found.tracks["path"].to_pylist())
    with pytest.raises(UsageError, match="takes no --audio"):
        datasets.load("demo", audio="x")


def test_demo_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PACKAGE", "no_such_package_of_music")
    with pytest.raises(MissingInput, match=r"pip install 'music-feature-store\[demo\]'"):
        datasets.load("demo")
