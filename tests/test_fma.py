"""FMA's own files: every one of the 52 columns against a loader written as FMA's is, and what its clips lack."""

from __future__ import annotations

import ast
import csv
import datetime as dt
import random
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from featurestore import datasets, schemas
from featurestore.catalog import merge
from featurestore.datasets.fma import errata
from featurestore.datasets.fma import tracks as fma
from featurestore.errors import FeatureStoreError, MissingInput, UsageError
from featurestore.spec import Spec
from featurestore.store.store import Store

LISTS = [("track", "tags"), ("album", "tags"), ("artist", "tags"), ("track", "genres"), ("track", "genres_all")]
DATES = [
    *(("track", "date_created"), ("track", "date_recorded"), ("album", "date_created"), ("album", "date_released")),
    *(("artist", "date_created"), ("artist", "active_year_begin"), ("artist", "active_year_end")),
]
ALBUM = "comments date_created date_released engineer favorites id information listens producer tags title tracks type"
ARTIST = (
    "active_year_begin active_year_end associated_labels bio comments date_created favorites id latitude location "
    "longitude members name related_projects tags website wikipedia_page"
)
TRACK = (
    "bit_rate comments composer date_created date_recorded duration favorites genre_top genres genres_all information "
    "interest language_code license listens lyricist number publisher tags title"
)
COLUMNS = [
    *(("album", c) for c in ALBUM.split()),
    *(("artist", c) for c in ARTIST.split()),
    *(("set", "split"), ("set", "subset")),
    *(("track", c) for c in TRACK.split()),
]
GENRES = (
    "genre_id,#tracks,parent,title,top_level\n21,10,0,Hip-Hop,21\n12,9,0,Rock,12\n25,4,12,Punk,12\n109,2,25,Club,12\n"
)


def loader(path: Path) -> pd.DataFrame:
    """tracks.csv as FMA's utils.load reads it (dates in more than one form need format="mixed" in today's pandas)."""
    tracks = pd.read_csv(path, index_col=0, header=[0, 1], low_memory=False)
    for column in LISTS:
        tracks[column] = tracks[column].map(ast.literal_eval)
    for column in DATES:
        tracks[column] = pd.to_datetime(tracks[column].astype("object"), format="mixed")
    return tracks


def value(level: str, name: str, track: int, rng: random.Random) -> str:
    """A cell as FMA writes it: every kind of value, one in five empty."""
    if (level, name) in LISTS:
        few = rng.sample([12, 25, 109, 21], rng.randint(0, 3))
        return str(few) if name.startswith("genres") else str([f'it\'s {g}, "so"' for g in few])
    if (level, name) == ("set", "split"):
        return rng.choice(schemas.SPLITS)
    if (level, name) == ("set", "subset"):
        return rng.choice(["small", "medium", "large"])
    if (level, name) == ("track", "genre_top"):
        return rng.choice(["Rock", "Hip-Hop", ""])
    if rng.random() < 0.2:
        return ""
    if (level, name) in DATES:
        when = dt.datetime(1990, 1, 1) + dt.timedelta(seconds=rng.randrange(10**9))
        return when.strftime(rng.choice(["%Y-%m-%d %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%Y-01-01 00:00:00"]))
    kind = schemas.TRACKS.field(fma.column_of(level, name)).type
    if pa.types.is_integer(kind):
        return f"{rng.randrange(1, 10**6)}{rng.choice(['', '.0'])}"
    if pa.types.is_floating(kind):
        return f"{rng.uniform(-90, 90):.5f}"
    return rng.choice(['<p>"Line one,\n\nline two"</p>', "Café 東京", "NA", "None", f"{name} {track}", " spaced "])


def write_metadata(folder: Path, ids: list[int], seed: int = 0) -> Path:
    """A metadata folder in FMA's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    with (folder / "tracks.csv").open("w", newline="", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(["", *(a for a, _ in COLUMNS)])
        out.writerow(["", *(b for _, b in COLUMNS)])
        out.writerow(["track_id", *("" for _ in COLUMNS)])
        for i in ids:
            out.writerow([i, *(value(a, b, i, rng) for a, b in COLUMNS)])
    (folder / "genres.csv").write_text(GENRES)
    return folder


def plain(x: object) -> object:
    """A value of either side in one form: NaN, NaT and None are None, a whole number is an int."""
    if isinstance(x, list):
        return x
    if x is None or x is pd.NaT or x != x:
        return None
    if isinstance(x, pd.Timestamp):
        return x.to_pydatetime()
    if isinstance(x, float) and x == int(x):
        return int(x)
    return x


def differences(path: Path, tracks: pa.Table) -> list[str]:
    expected = loader(path).sort_index()
    assert tracks["track_id"].to_pylist() == expected.index.tolist()
    wrong = []
    for level, name in expected.columns:
        ours = [plain(v) for v in tracks[fma.column_of(level, name)].to_pylist()]
        theirs = [plain(v) for v in expected[(level, name)]]
        wrong += [f"{level}/{name}: {a!r} != {b!r}" for a, b in zip(ours, theirs, strict=True) if a != b][:1]
    return wrong


def test_every_column_equals_fmas_loader(tmp_path: Path) -> None:
    folder = write_metadata(tmp_path, list(range(2, 300)))
    assert len(COLUMNS) == 52
    assert differences(folder / "tracks.csv", datasets.load("fma", metadata=str(folder)).tracks) == []


def test_real_metadata_equals_fmas_loader(shared_data: Path) -> None:
    folder = shared_data / "fma_metadata"
    found = datasets.load("fma", metadata=str(folder))
    assert differences(folder / "tracks.csv", found.tracks) == []
    assert (len(found.tracks), len(found.genres)) == (24983, 163)
    assert found.warnings == ()


def test_real_small_subset_counts(shared_data: Path) -> None:
    tracks = datasets.load("fma", metadata=str(shared_data / "fma_metadata"), subset="small").tracks
    genres = {r["values"]: r["counts"] for r in tracks["genre"].value_counts().to_pylist()}
    assert sorted(genres.values()) == [999, 999, 999, 1000, 1000, 1000, 1000, 1000]
    splits = {r["values"]: r["counts"] for r in tracks["official_split"].value_counts().to_pylist()}
    assert splits == {"training": 6397, "validation": 800, "test": 800}


def test_real_clips_find_their_labels(shared_data: Path) -> None:
    found = datasets.load("fma", metadata=str(shared_data), audio=str(shared_data / "fma_small"), subset="small")
    rows = [r for r in found.tracks.select(["track_id", "path", "genre"]).to_pylist() if r["path"]]
    assert rows[0] == {"track_id": 2, "path": "clips/000/000002.mp3", "genre": "Hip-Hop"}
    assert [r["track_id"] for r in rows] == [2, 5, 255, 368, 676]
    assert any("without a clip" in w and "7992" in w for w in found.warnings)


@pytest.mark.parametrize(
    ("subset", "contains"),
    [
        ("small", {"small"}),
        ("medium", {"small", "medium"}),
        ("large", {"small", "medium", "large"}),
        ("full", {"small", "medium", "large"}),
        (None, {"small", "medium", "large"}),
    ],
)
def test_a_subset_contains_the_smaller_ones(tmp_path: Path, subset: str | None, contains: set[str]) -> None:
    folder = write_metadata(tmp_path, list(range(2, 80)))
    found = datasets.load("fma", metadata=str(folder), subset=subset).tracks["subset"].to_pylist()
    everything = loader(folder / "tracks.csv")["set", "subset"].tolist()
    assert set(found) == contains
    assert len(found) == sum(s in contains for s in everything)


def test_genres_keep_the_hierarchy(tmp_path: Path) -> None:
    rows = datasets.load("fma", metadata=str(write_metadata(tmp_path, [2, 3, 5]))).genres.to_pylist()
    assert rows == [
        {"genre_id": 12, "title": "Rock", "parent_id": None, "top_level_id": 12},
        {"genre_id": 21, "title": "Hip-Hop", "parent_id": None, "top_level_id": 21},
        {"genre_id": 25, "title": "Punk", "parent_id": 12, "top_level_id": 12},
        {"genre_id": 109, "title": "Club", "parent_id": 25, "top_level_id": 12},
    ]


def write_clips(folder: Path, names: list[str]) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return str(folder)


def test_clips_are_found_by_number_and_others_kept_without_labels(tmp_path: Path) -> None:
    write_metadata(tmp_path / "fma_metadata", [2, 3, 5, 1500])
    audio = write_clips(
        tmp_path / "fma_small",
        ["000/000002.mp3", "001/001500.mp3", "000/000099.mp3", "new.ogg", "checksums", "000/000003.txt"],
    )
    found = datasets.load("fma", metadata=str(tmp_path), audio=audio)
    by_path = {r["path"]: r for r in found.tracks.to_pylist() if r["path"]}
    assert by_path["000/000002.mp3"]["track_id"] == 2
    assert by_path["001/001500.mp3"]["track_id"] == 1500
    assert by_path["000/000099.mp3"]["track_id"] == 99
    assert by_path["000/000099.mp3"]["genre"] is None
    assert by_path["new.ogg"]["track_id"] == datasets.track_id("fma", "new.ogg") >= 1 << 32
    assert [r["track_id"] for r in found.tracks.to_pylist() if not r["path"]] == [3, 5]
    assert any("does not list" in w and w.endswith("2 (000/000099.mp3, new.ogg)") for w in found.warnings)
    assert datasets.audio_path(audio, "000/000002.mp3") == f"{audio}/000/000002.mp3"


def test_a_clip_outside_the_subset_is_not_mistaken_for_an_unlisted_one(tmp_path: Path) -> None:
    metadata = write_metadata(tmp_path / "m", list(range(2, 40)))
    subset = loader(metadata / "tracks.csv")["set", "subset"]
    small, large = int(subset.index[subset == "small"][0]), int(subset.index[subset == "large"][0])
    audio = write_clips(tmp_path / "a", [f"000/{small:06d}.mp3", f"000/{large:06d}.mp3"])
    found = datasets.load("fma", metadata=str(metadata), audio=audio, subset="small").tracks
    assert [r["track_id"] for r in found.to_pylist() if r["path"]] == [small]
    assert large not in found["track_id"].to_pylist()


def test_known_empty_clips_are_expected(tmp_path: Path) -> None:
    metadata = write_metadata(tmp_path / "m", [2, 98565, 98567, 98569, 99134, 108925, 133297])
    audio = write_clips(tmp_path / "a", ["000/000002.mp3", "098/098565.mp3", "099/099134.mp3", "133/133297.mp3"])
    warnings = datasets.load("fma", metadata=str(metadata), audio=audio).warnings
    assert any("published empty" in w and w.endswith(": 099134, 133297") for w in warnings)
    assert any("published short" in w and w.endswith(": 098565") for w in warnings)
    assert errata.expected_failures([2, 99134, 98565]) == [99134]
    assert sum(s > 0 for s in errata.SHORT_CLIPS.values()) == 6
    assert len(errata.SHORT_CLIPS) == 21


def test_raw_tracks_add_what_tracks_csv_lacks(tmp_path: Path) -> None:
    folder = write_metadata(tmp_path, [2, 3, 5])
    (folder / "raw_tracks.csv").write_text(
        "track_id,license_url,track_disc_number,track_explicit,track_instrumental,track_url,tags\n"
        '5,http://cc/by,2,Radio-Safe,1,"http://fma/5",[]\n2,,1,,0,http://fma/2,[]\n77,,1,,0,http://fma/77,[]\n'
    )
    rows = {r["track_id"]: r for r in datasets.load("fma", metadata=str(folder)).tracks.to_pylist()}
    assert (rows[5]["disc_number"], rows[5]["explicit"], rows[5]["instrumental"]) == (2, "Radio-Safe", True)
    assert (rows[5]["license_url"], rows[2]["license_url"], rows[2]["instrumental"]) == ("http://cc/by", None, False)
    assert (rows[3]["url"], rows[3]["instrumental"]) == (None, None)
    assert set(rows) == {2, 3, 5}


def test_repeated_ids_and_unknown_dates_are_reported(tmp_path: Path) -> None:
    folder = write_metadata(tmp_path, [2, 3, 2])
    path = folder / "tracks.csv"
    rows = list(csv.reader(path.read_text().splitlines(keepends=True)))
    rows[3][1 + COLUMNS.index(("track", "date_created"))] = "long ago"
    rows[3][1 + COLUMNS.index(("track", "title"))] = "first"
    with path.open("w", newline="") as f:
        csv.writer(f).writerows(rows)
    found = datasets.load("fma", metadata=str(folder))
    assert found.tracks["track_id"].to_pylist() == [2, 3]
    assert found.tracks["title"].to_pylist()[0] == "first"
    assert any("1 rows repeat" in w for w in found.warnings)
    assert any("date_created" in w and "long ago" in w for w in found.warnings)


def test_a_file_that_is_not_fmas_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"tracks.csv and genres.csv, found neither[\s\S]*fetch fma_metadata"):
        datasets.load("fma", metadata=str(tmp_path))
    folder = write_metadata(tmp_path / "m", [2, 3])
    with pytest.raises(MissingInput, match="no clip of the 2 tracks"):
        datasets.load("fma", metadata=str(folder), audio=write_clips(tmp_path / "a", ["song.mp3"]))
    (folder / "tracks.csv").write_text("track_id,title\n2,x\n")
    with pytest.raises(MissingInput, match="three header rows"):
        datasets.load("fma", metadata=str(folder))
    (folder / "genres.csv").write_text("id,name\n1,x\n")
    with pytest.raises(MissingInput, match="genre_id"):
        datasets.load("fma", metadata=str(folder))
    (folder / "genres.csv").unlink()
    with pytest.raises(MissingInput, match=r"no genres.csv beside"):
        datasets.load("fma", metadata=str(folder))


def test_a_value_that_cannot_be_read_names_its_place(tmp_path: Path) -> None:
    folder = write_metadata(tmp_path, [2, 3])
    text = (folder / "tracks.csv").read_text()
    rows = list(csv.reader(text.splitlines(keepends=True)))
    for column, bad, message in (
        (("track", "genres"), "21, 12", r"column genre_ids: expected a list such as \[21, 12\], found '21, 12'"),
        (("track", "listens"), "many", "row 4, column 'track/listens': expected a number, found 'many'"),
    ):
        broken = [list(r) for r in rows]
        broken[3][1 + COLUMNS.index(column)] = bad
        with (folder / "tracks.csv").open("w", newline="") as f:
            csv.writer(f).writerows(broken)
        with pytest.raises(FeatureStoreError, match=message):
            datasets.load("fma", metadata=str(folder))


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown dataset 'gtzan'; known are demo, folders, tags, fma"):
        datasets.load("gtzan", audio=str(tmp_path))
    with pytest.raises(UsageError, match="needs --metadata"):
        datasets.load("fma", audio=str(tmp_path))
    with pytest.raises(UsageError, match="unknown subset 'tiny'"):
        datasets.load("fma", metadata=str(tmp_path), subset="tiny")


def test_dates_in_every_form_fma_uses() -> None:
    texts = pa.array(["2008-11-26 01:48:12", "11/26/2008 01:48:14 PM", "2009-03-01", "2007", None, "?"])
    parsed, lost = fma.parse_dates(texts)
    assert parsed.to_pylist() == [
        dt.datetime(2008, 11, 26, 1, 48, 12),
        dt.datetime(2008, 11, 26, 13, 48, 14),
        dt.datetime(2009, 3, 1),
        dt.datetime(2007, 1, 1),
        None,
        None,
    ]
    assert lost == ["?"]


def test_published_features_come_along_and_only_once(tmp_path: Path) -> None:
    folder = write_metadata(tmp_path / "m", [2, 3, 5])
    (folder / "features.csv").write_text(
        "feature,mfcc,mfcc,zcr\nstatistics,mean,mean,mean\nnumber,01,02,01\ntrack_id,,,\n2,1.5,,3\n3,,,\n9,1,1,1\n"
    )
    (folder / "echonest.csv").write_text(
        ",echonest,echonest,echonest\n,audio_features,metadata,temporal_features\n,energy,album_name,000\ntrack_id,,,\n"
        "5,0.25,Blue,7\n"
    )
    store = Store.create(str(tmp_path / "s"), Spec())
    collection = datasets.load("fma", metadata=str(folder))
    made = merge.update(store, collection).feature_sets
    assert [(r.set, r.matched, r.columns, r.left_out) for r in made] == [
        ("fma", 2, 3, {}),
        ("echonest", 1, 2, {"echonest/metadata/album_name": "not numbers"}),
    ]
    assert store.read_catalog("features_fma").to_pylist() == [
        {"track_id": 2, "mfcc_mean_01": 1.5, "mfcc_mean_02": None, "zcr_mean_01": 3.0},
        {"track_id": 3, "mfcc_mean_01": None, "mfcc_mean_02": None, "zcr_mean_01": None},
    ]
    assert store.read_catalog("features_echonest").to_pylist() == [
        {"track_id": 5, "energy": 0.25, "echonest_temporal_features_000": 7.0}
    ]
    assert merge.update(store, collection).feature_sets == ()
    (folder / "echonest.csv").write_text(",e,e\n,a,a\n,energy,tempo\ntrack_id,,\n5,0.5,100\n2,1,90\n")
    assert [r.set for r in merge.update(store, collection).feature_sets] == ["echonest"]
