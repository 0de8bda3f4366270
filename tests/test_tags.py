"""Labels from the files' own tags, in every container that carries them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from featurestore import datasets
from featurestore.datasets import tags
from featurestore.datasets.artists import artist_groups, normalise

TAGS = {"title": "Night Train", "artist": "The Örchids", "album": "Lines", "genre": "Jazz", "date": "2007"}


def vorbis(path: Path, **values: str) -> None:
    """A short tagged file, as libsndfile writes it (Ogg, FLAC)."""
    with sf.SoundFile(path, "w", samplerate=8000, channels=1) as f:
        for name, value in values.items():
            setattr(f, name, value)
        f.write(np.zeros(800))


def id3(path: Path, **frames: str) -> None:
    """An ID3v2.3 tag (UTF-16 frames) and no audio."""
    body = b""
    for name, text in frames.items():
        data = b"\x01" + text.encode("utf-16")
        body += name.encode() + struct.pack(">IH", len(data), 0) + data
    size = bytes((len(body) >> s) & 0x7F for s in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\x00\x00" + size + body)


def atom(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name + body


def mp4(path: Path, **values: str) -> None:
    """An MP4 file with iTunes metadata and no audio."""
    items = [
        atom(b"\xa9" + name.encode(), atom(b"data", struct.pack(">II", 1, 0), text.encode()))
        for name, text in values.items()
    ]
    meta = atom(b"meta", bytes(4), atom(b"ilst", *items))
    path.write_bytes(atom(b"ftyp", b"M4A \0\0\0\0") + atom(b"moov", atom(b"udta", meta)))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    vorbis(tmp_path / "a.ogg", **TAGS)
    vorbis(tmp_path / "b.flac", **{**TAGS, "title": "Other", "artist": "the  örchids "})
    id3(tmp_path / "c.mp3", TIT2="Three", TPE1="Solo", TALB="Lines", TCON="(17)", TYER="1999", TRCK="3/12", TPOS="1/2")
    mp4(tmp_path / "d.m4a", nam="Four", ART="Solo", alb="Else", gen="jazz", day="2011-02-03T00:00:00Z")
    vorbis(tmp_path / "e.ogg", artist="Nobody's Genre")
    (tmp_path / "f.mp3").write_text("not music at all")
    (tmp_path / "g.wav").write_bytes(b"")
    return tmp_path


def test_every_container_gives_its_labels(library: Path) -> None:
    found = datasets.load("tags", audio=str(library))
    rows = {r["path"]: r for r in found.tracks.to_pylist()}
    names = ("title", "artist", "album", "genre", "year", "number", "disc_number")
    assert {p: tuple(r[n] for n in names) for p, r in rows.items()} == {
        "a.ogg": ("Night Train", "The Örchids", "Lines", "Jazz", 2007, None, None),
        "b.flac": ("Other", "the  örchids", "Lines", "Jazz", 2007, None, None),
        "c.mp3": ("Three", "Solo", "Lines", "Rock", 1999, 3, 1),
        "d.m4a": ("Four", "Solo", "Else", "Jazz", 2011, None, None),
        "e.ogg": ("e", "Nobody's Genre", None, None, None, None, None),
        "f.mp3": ("f", None, None, None, None, None, None),
        "g.wav": ("g", None, None, None, None, None, None),
    }
    assert rows["a.ogg"]["artist_id"] == rows["b.flac"]["artist_id"] != rows["c.mp3"]["artist_id"]
    assert rows["a.ogg"]["album_id"] == rows["b.flac"]["album_id"] != rows["c.mp3"]["album_id"]
    assert rows["e.ogg"]["genre_ids"] == []
    assert sorted(found.genres["title"].to_pylist()) == ["Jazz", "Rock"]


def test_files_without_labels_are_kept_and_reported(library: Path) -> None:
    warnings = datasets.load("tags", audio=str(library)).warnings
    assert any("without a genre" in w and "3 (e.ogg, f.mp3, g.wav)" in w for w in warnings)
    assert any("tags cannot be read" in w and "f.mp3" in w and "e.ogg" not in w for w in warnings)


@pytest.mark.parametrize(
    ("values", "genres"),
    [
        (["Rock; Pop"], ["Rock", "Pop"]),
        (["Rock / Pop", "Jazz"], ["Rock", "Pop", "Jazz"]),
        (["Hip-Hop/Rap"], ["Hip-Hop/Rap"]),
        (["Folk, World, & Country"], ["Folk, World, & Country"]),
        ([" "], []),
        (["Rock", "Rock"], ["Rock"]),
    ],
)
def test_several_genres(values: list[str], genres: list[str]) -> None:
    assert tags.labels_of({"genre": values}, "x.mp3")["genres"] == genres


@pytest.mark.parametrize(
    ("text", "genres"),
    [
        ("(17)", ["Rock"]),
        ("(139)", ["Crossover"]),
        ("(143)", ["Salsa"]),
        ("155", ["Downtempo"]),
        ("(191)", ["Psybient"]),
        ("(51)(39)", ["Techno-Industrial", "Noise"]),
        ("(4)Eurodisco", ["Disco", "Eurodisco"]),
        ("(255)", []),
        ("Rock", ["Rock"]),
    ],
)
def test_numbers_of_genres_have_their_names(tmp_path: Path, text: str, genres: list[str]) -> None:
    id3(tmp_path / "a.mp3", TCON=text)
    found = tags.read_tags(str(tmp_path), "a.mp3")
    assert found is not None
    assert found.get("genre", []) == genres


def test_the_old_tag_at_the_end_of_a_file_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    sf.write(path, np.zeros(8000), 8000, format="MP3")
    path.write_bytes(path.read_bytes() + b"TAG" + b"Title".ljust(124, b"\0") + bytes([155]))
    assert tags.read_tags(str(tmp_path), "a.mp3") == {"title": ["Title"], "genre": ["Downtempo"]}


@pytest.mark.parametrize(("suffix", "form"), [("wav", "WAV"), ("aiff", "AIFF")])
def test_texts_in_chunks_are_read(tmp_path: Path, suffix: str, form: str) -> None:
    with sf.SoundFile(tmp_path / f"a.{suffix}", "w", 8000, 1, format=form) as file:
        file.title, file.artist = "Night Train", "The Örchids"
        file.write(np.zeros(800))
    found = tags.read_tags(str(tmp_path), f"a.{suffix}")
    assert found is not None
    assert (found["title"], found["artist"]) == (["Night Train"], ["The Örchids"])


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp3")
    assert tags.read_tags(str(tmp_path), "a.mp3") is None
    vorbis(tmp_path / "b.ogg", **TAGS)
    found = datasets.load("tags", audio=str(tmp_path))
    assert found.tracks["path"].to_pylist() == ["b.ogg"]
    assert any("pipes, sockets and devices ignored: 1 (a.mp3)" in w for w in found.warnings)


def test_the_most_common_spelling_names_a_genre(tmp_path: Path) -> None:
    for i, genre in enumerate(["hip hop", "Hip Hop", "Hip Hop", "HIP HOP"]):
        vorbis(tmp_path / f"{i}.ogg", genre=genre)
    assert set(datasets.load("tags", audio=str(tmp_path)).tracks["genre"].to_pylist()) == {"Hip Hop"}


def test_names_of_artists_are_compared_by_what_they_say() -> None:
    assert normalise("  The\tÖRCHIDS ") == normalise("the örchids") == "the örchids"
    assert normalise("ＡＢＣ") == "abc"
    assert normalise("Various Artists") == normalise(None) == ""


def test_artists_group_the_tracks(library: Path) -> None:
    tracks = datasets.load("tags", audio=str(library)).tracks
    path = dict(zip(tracks["track_id"].to_pylist(), tracks["path"].to_pylist(), strict=True))
    groups: dict[int | None, set[str]] = {}
    for track, group in zip(path, artist_groups(tracks).tolist(), strict=True):
        groups.setdefault(group if group >= 0 else None, set()).add(path[track])
    unknown = groups.pop(None)
    assert sorted(map(sorted, groups.values())) == [["a.ogg", "b.flac"], ["c.mp3", "d.m4a"], ["e.ogg"]]
    assert unknown == {"f.mp3", "g.wav"}


def test_real_files_have_their_tags(shared_data: Path) -> None:
    rows = {r["path"]: r for r in datasets.load("tags", audio=str(shared_data / "music")).tracks.to_pylist()}
    vibe = rows["Kevin_MacLeod_-_Vibe_Ace.ogg"]
    assert (vibe["title"], vibe["artist"], vibe["genre"], vibe["year"]) == ("Vibe Ace", "Kevin MacLeod", "Jazz", 2011)
    assert rows["Brahms_-_Hungarian_Dance_5.ogg"]["genre"] is None
