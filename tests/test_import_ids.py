"""Ids of a table as the names that they are, and columns that are no features."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore import datasets
from featurestore.__main__ import main as featurestore
from featurestore.catalog import merge
from featurestore.catalog.import_features import import_table
from featurestore.datasets import paths
from featurestore.errors import UsageError
from featurestore.spec import Spec
from featurestore.store.store import Store
from tests.import_cases import read, write


def labelled(tmp_path: Path, ids: list[str], name: str = "new") -> dict[int, str]:
    """{track id: title} of the tracks that a table with these ids and a label brings into a new store."""
    rows = "".join(f'"{text}",{i / 7},{"ab"[i % 2]}\n' for i, text in enumerate(ids))
    table = write(tmp_path / f"{name}.csv", "file,x,label\n" + rows)
    url = str(tmp_path / name)
    report = import_table(url, "mine", table, id_column="file", label_column="label")
    assert (report.matched, report.tracks_added) == (len(ids), len(ids))
    again = import_table(url, "mine", table, id_column="file", label_column="label")
    assert (again.matched, again.tracks_added) == (len(ids), 0)
    tracks = Store.open(url).read_catalog("tracks")
    assert {row["track_id"] for row in read(url, "mine")} == set(tracks["track_id"].to_pylist())
    return dict(zip(tracks["track_id"].to_pylist(), tracks["title"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    "ids",
    [
        [f"{i % 100:02d}/{i}.mp3" for i in range(200, 220)],
        [f"cd{i // 10}/s{i % 10}.wav" for i in range(20)],
        [*(f"Dr. Who {i}" for i in range(5)), *(f"M.E.R.C. Music - {i}" for i in range(5))],
        [f"{genre}.{i:05d}" for genre in ("blues", "rock") for i in range(5)],
        [str(10**19 + i) for i in range(5)],
        ["02. Song", "2.7", "²", "000002.wav", "2", "00003", "1e5"],
    ],
    ids=["numbers with a suffix", "two folders", "dots", "no suffix", "twenty digits", "odd ones"],
)
def test_every_id_is_a_track_of_its_own(tmp_path: Path, ids: list[str]) -> None:
    assert len(labelled(tmp_path, ids)) == len(ids)


def test_ids_of_earlier_stores_stay(tmp_path: Path) -> None:
    tracks = labelled(tmp_path, ["blues.00000.wav", "7", "08"])
    assert tracks == {paths.track_id("mine", "blues.00000"): "blues.00000", 7: "7", 8: "08"}


def test_a_name_that_begins_with_a_number_is_no_number(url: str, tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "file,x\n02. Song,1\n2.7,2\n14/3.mp3,3\n")
    with pytest.raises(UsageError, match=r"no track of the catalog has: 3 \(02\. Song, 14/3\.mp3, 2\.7\)"):
        import_table(url, "mine", table, id_column="file")


def test_tracks_of_a_labelled_table_are_found_by_the_next(tmp_path: Path) -> None:
    labelled(tmp_path, ["s1.wav", "s2.wav"])
    url = str(tmp_path / "new")
    import_table(url, "more", write(tmp_path / "more.csv", "file,y\ns2.au,5\n"), id_column="file")
    assert read(url, "more") == [{"track_id": paths.track_id("mine", "s2"), "y": 5.0}]
    # with labels of its own a table speaks of its own tracks, whatever others are called
    own = write(tmp_path / "own.csv", "file,y,label\ns2.au,5,a\n")
    assert import_table(url, "own", own, id_column="file", label_column="label").tracks_added == 1
    with pytest.raises(UsageError, match=r"several tracks of the catalog have the file name 's2\.au'"):
        import_table(url, "more", str(tmp_path / "more.csv"), id_column="file")


def test_an_index_and_a_count_of_rows_are_no_features(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{i},{i},{40 - i},{i / 7},{i + 1},{i + 5}\n" for i in range(40))
    table = write(tmp_path / "t.csv", ",Unnamed: 0,track_id,a,n,b\n" + rows)
    assert featurestore(["import-features", "--set", "mine", table, "--store", url]) == 0
    out = capsys.readouterr().out
    assert "columns left out (numbers of rows): the one without a name, Unnamed: 0, n" in out
    assert list(read(url, "mine")[0]) == ["track_id", "a", "b"]


def test_a_column_that_says_the_label_in_numbers_is_no_feature(tmp_path: Path) -> None:
    genres = ["jazz", "pop", "rock"]
    rows = "".join(f"s{i}.wav,{i % 3 * 10},{i % 3 // 2},{i % 4},{genres[i % 3]}\n" for i in range(60))
    table = write(tmp_path / "t.csv", "file,code,loud,beats,genre\n" + rows)
    report = import_table(str(tmp_path / "s"), "mine", table, id_column="file", label_column="genre")
    assert report.left_out == {"code": "the label in numbers"}
    assert report.columns == 2


def test_a_feature_called_like_a_key_is_renamed(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(tmp_path / "t.csv", "track_id,Excerpt,a\n1,7,2\n")
    assert featurestore(["import-features", "--set", "mine", table, "--store", url]) == 0
    assert "column Excerpt is excerpt_2 in the set: the name is a key of the store" in capsys.readouterr().out
    assert read(url, "mine") == [{"track_id": 1, "excerpt_2": 7.0, "a": 2.0}]


def test_spellings_of_a_label_are_one_genre(tmp_path: Path) -> None:
    rows = "".join(f"s{i}.wav,{i / 7},{genre}\n" for i, genre in enumerate(["Rock", "Rock", "rock", "ROCK ", ""]))
    url = str(tmp_path / "s")
    import_table(
        url, "mine", write(tmp_path / "t.csv", "file,x,label\n" + rows), id_column="file", label_column="label"
    )
    tracks = Store.open(url).read_catalog("tracks")
    assert sorted(tracks["genre"].to_pylist(), key=str) == [None, "Rock", "Rock", "Rock", "Rock"]
    assert Store.open(url).read_catalog("genres")["title"].to_pylist() == ["Rock"]


def test_fmas_clips_are_found_by_name_among_others(tmp_path: Path) -> None:
    music = tmp_path / "music"
    (music / "jazz").mkdir(parents=True)
    (music / "jazz" / "000007.mp3").write_bytes(b"x")
    store = Store.create(str(tmp_path / "s"), Spec())
    merge.update(store, datasets.load("folders", audio=str(music)))
    track = store.read_catalog("tracks")["track_id"][0].as_py()
    import_table(store.url, "mine", write(tmp_path / "t.csv", "file,x\n000007.mp3,1\n"), id_column="file")
    assert read(store.url, "mine") == [{"track_id": track, "x": 1.0}], "a file of that name comes before FMA's number"
