"""Merging collections into a store: by track id, atomically, and only what changed."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from featurestore import datasets, schemas
from featurestore.__main__ import main as featurestore
from featurestore.catalog import merge
from featurestore.datasets import Collection
from featurestore.datasets.collection import genre_ids, genre_table
from featurestore.errors import StoreDamaged
from featurestore.spec import Spec
from featurestore.store import parquet
from featurestore.store.store import Store
from featurestore.terminal.cli import run


def collection(rows: list[dict[str, object]], name: str = "one", audio: str | None = "/music") -> Collection:
    tracks = schemas.from_rows([{"dataset": name, **r} for r in rows], schemas.TRACKS)
    genres = genre_table(genre_ids(str(g) for g in tracks["genre"].drop_null().to_pylist()))
    return Collection(name, audio, None, tracks, genres, ("noted",))


def rows(n: int, first: int = 1) -> list[dict[str, object]]:
    return [
        {"track_id": i, "path": f"{i}.mp3", "genre": "A" if i % 2 else "B", "genre_ids": [i % 2], "title": f"t{i}"}
        for i in range(first, first + n)
    ]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(str(tmp_path / "s"), Spec())


def contents(store: Store) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (Path(store.root) / "catalog").iterdir()}


def test_a_first_update_writes_everything(store: Store) -> None:
    report = merge.update(store, collection(rows(50)))
    assert (report.tracks, report.with_audio, report.added, report.changed, report.genres) == (50, 50, 50, 0, 2)
    assert report.splits == {s: {"training": 32, "validation": 8, "test": 10} for s in ("artist", "random")}
    assert report.warnings == ("noted",)
    assert store.catalog_names() == ("datasets", "genres", "splits", "tracks")
    assert store.read_catalog("tracks")["track_id"].to_pylist() == list(range(1, 51))
    (dataset,) = store.read_catalog("datasets").to_pylist()
    assert (dataset["dataset"], dataset["audio"], dataset["n_tracks"]) == ("one", "/music", 50)


def test_an_update_that_changes_nothing_writes_nothing(store: Store) -> None:
    merge.update(store, collection(rows(20)))
    before = contents(store)
    report = merge.update(store, collection(rows(20)))
    assert (report.added, report.changed, report.absent) == (0, 0, 0)
    assert contents(store) == before


def test_rows_are_merged_by_id(store: Store) -> None:
    merge.update(store, collection(rows(10)))
    splits = merge.read_splits(store, "artist")
    changed = [{**r, "title": "new"} if r["track_id"] == 3 else r for r in rows(8, first=3)]
    changed = [{**r, "genre_ids": [5, 6]} if r["track_id"] == 4 else r for r in changed]
    report = merge.update(store, collection([*changed, *rows(5, first=50)]))
    assert (report.tracks, report.added, report.changed, report.absent) == (13, 5, 2, 2)
    tracks = {r["track_id"]: r for r in store.read_catalog("tracks").to_pylist()}
    assert sorted(tracks) == [*range(1, 11), *range(50, 55)]
    assert (tracks[1]["title"], tracks[3]["title"], tracks[4]["genre_ids"]) == ("t1", "new", [5, 6])
    assert merge.read_splits(store, "artist").items() > splits.items()


def test_two_collections_live_side_by_side(store: Store) -> None:
    merge.update(store, collection(rows(10)))
    report = merge.update(store, collection(rows(10, first=100), name="two", audio="/elsewhere"))
    assert (report.added, report.absent) == (10, 0)
    found = {r["dataset"]: (r["audio"], r["n_tracks"]) for r in store.read_catalog("datasets").to_pylist()}
    assert found == {"one": ("/music", 10), "two": ("/elsewhere", 10)}
    assert len(store.read_catalog("genres")) == 2


def test_labels_alone_leave_the_audio_where_it_was(store: Store) -> None:
    merge.update(store, collection(rows(3)))
    labels = [{"track_id": i, "genre": "C"} for i in range(1, 5)]
    report = merge.update(store, collection(labels, audio=None))
    assert (report.added, report.with_audio, report.changed) == (1, 3, 3)
    found = store.read_catalog("tracks", ["path", "genre"]).to_pylist()
    assert [r["path"] for r in found] == ["1.mp3", "2.mp3", "3.mp3", None]
    assert {r["genre"] for r in found} == {"C"}
    assert store.read_catalog("datasets")["audio"].to_pylist() == ["/music"]


def test_another_folder_for_the_same_data_set_is_remarked(store: Store) -> None:
    merge.update(store, collection(rows(3)))
    report = merge.update(store, collection(rows(3, first=2), audio="/new"))
    assert any("1 tracks of one were catalogued from /music" in w for w in report.warnings)
    assert not any(
        "catalogued from" in w for w in merge.update(store, collection(rows(3, first=2), audio="/new")).warnings
    )


def test_a_store_of_an_older_version_gets_the_new_columns(store: Store) -> None:
    old = schemas.from_rows([{"dataset": "one", **r} for r in rows(3)], schemas.TRACKS).drop_columns(
        ["url", "explicit"]
    )
    parquet.write(store.fs, store.catalog_path("tracks"), old, "tracks")
    report = merge.update(store, collection(rows(4)))
    assert (report.added, report.changed) == (1, 0)
    assert store.read_catalog("tracks").schema.equals(schemas.TRACKS)


def test_a_folder_whose_name_is_not_utf8_is_catalogued(tmp_path: Path, store: Store) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/m\xfcsik")
    os.makedirs(os.path.join(folder, "rock"))
    with open(os.path.join(folder, "rock", "a.mp3"), "wb") as f:
        f.write(b"x")
    found = datasets.load("folders", audio=folder)
    merge.update(store, found)
    assert store.read_catalog("datasets")["audio"].to_pylist()[0].endswith("m\\xfcsik")
    assert os.path.isfile(datasets.audio_path(folder, found.tracks["path"].to_pylist()[0]))


def test_the_command_makes_a_store_of_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("rock/a.mp3", "rock/b.mp3", "jazz/c.ogg"):
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(name.encode())
    url = str(tmp_path / "s")
    assert featurestore(["catalog", "--dataset", "folders", "--audio", str(tmp_path / "m"), "--store", url]) == 0
    out = capsys.readouterr().out
    assert "3 tracks of folders: 3 new, 0 changed; 3 with an audio file, 2 genres" in out
    assert Store.open(url).batches() == ()
    assert (
        run(lambda argv: featurestore(argv), ["catalog", "--dataset", "folders", "--audio", "/none", "--store", url])
        == 1
    )
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("table", ["tracks", "genres", "splits", "datasets"])
def test_a_damaged_table_is_mended_by_doing_what_the_message_says(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rock/a.mp3", "rock/b.mp3", "jazz/c.ogg"):
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(name.encode())
    url = str(tmp_path / "s")
    again = ["catalog", "--dataset", "folders", "--audio", str(tmp_path / "m"), "--store", url]
    assert featurestore(again) == 0
    before = Store.open(url).read_catalog(table)
    (tmp_path / "s" / "catalog" / f"{table}.parquet").write_text("hello")
    capsys.readouterr()
    for command in (again, ["build", *again[1:]], ["splits", "--store", url]):
        if command[0] != "splits" or table in ("tracks", "splits"):
            assert run(featurestore, command) == 1
            assert "`python -m featurestore verify --repair`, then build or catalog" in capsys.readouterr().err
    assert run(featurestore, ["verify", "--repair", "--store", url]) == 0
    assert f"dropped: catalog/{table}.parquet" in capsys.readouterr().err
    assert run(featurestore, again) == 0
    after = Store.open(url).read_catalog(table)
    kept = [c for c in before.column_names if c != "updated_at"]
    assert after.select(kept).equals(before.select(kept))


def test_a_damaged_feature_set_is_mended_by_doing_what_the_message_says(store: Store, tmp_path: Path) -> None:
    merge.update(store, collection(rows(3)))
    (tmp_path / "t.csv").write_text("track_id,a\n1,2\n2,3\n")
    again = ["import-features", "--set", "mine", str(tmp_path / "t.csv"), "--store", store.url]
    assert featurestore(again) == 0
    (Path(store.root) / "catalog" / "features_mine.parquet").write_text("hello")
    with pytest.raises(StoreDamaged, match="import-features --set mine TABLE"):
        store.read_catalog("features_mine")
    assert featurestore(again) == 0
    assert len(store.read_catalog("features_mine")) == 2


def test_a_metadata_folder_whose_name_is_not_utf8_is_catalogued(store: Store) -> None:
    found = dataclasses.replace(collection(rows(3)), metadata=os.fsdecode(b"/m\xe9ta"))
    merge.update(store, found)
    assert store.read_catalog("datasets")["metadata"].to_pylist() == [r"/m\xe9ta"]


def test_real_metadata_makes_a_store_without_audio(shared_data: Path, store: Store) -> None:
    report = merge.update(store, datasets.load("fma", metadata=str(shared_data / "fma_metadata")))
    assert (report.tracks, report.with_audio, report.genres) == (24983, 0, 16)
    assert report.splits["official"] == {"training": 19907, "validation": 2504, "test": 2572}
    assert [(r.set, r.matched, r.columns) for r in report.feature_sets] == [("fma", 1999, 140), ("echonest", 5250, 8)]
    assert store.feature_sets() == ("echonest", "fma")
