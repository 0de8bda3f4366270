"""Splits: shares, strata, artists, copies; and that nothing moves when something arrives."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import warehouse
from featurestore import schemas
from featurestore.__main__ import main
from featurestore.catalog import merge, splits
from featurestore.commands.splits import crossing as crossing_text
from featurestore.datasets.artists import artist_groups
from featurestore.errors import MissingInput, UsageError
from featurestore.spec import Spec
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.factories import make_store


def table(rows: list[dict[str, object]]) -> pa.Table:
    return schemas.from_rows([{"dataset": "test", **r} for r in rows], schemas.TRACKS)


def collection(tracks: int, genres: int = 5, artists: int | None = None, seed: int = 0, first: int = 1) -> pa.Table:
    """Tracks whose artists are of very different sizes, each artist mostly in one genre."""
    rng = np.random.default_rng(seed)
    weights = 1 / (np.arange(artists or 1) + 5)
    rows: list[dict[str, object]] = []
    for i in range(first, first + tracks):
        artist = int(rng.choice(artists, p=weights / weights.sum())) if artists else None
        genre = int(rng.integers(genres)) if artist is None or rng.random() < 0.1 else artist % genres
        rows.append(
            {"track_id": i, "artist_id": artist, "genre": f"g{genre}", "artist": f"name {artist}" if artists else None}
        )
    return table(rows)


def shares(tracks: pa.Table, found: dict[int, str]) -> dict[str, dict[str, float]]:
    counts: dict[str, Counter[str]] = {}
    for track, genre in zip(tracks["track_id"].to_pylist(), tracks["genre"].to_pylist(), strict=True):
        if track in found:
            counts.setdefault(genre, Counter())[found[track]] += 1
    return {g: {s: c[s] / sum(c.values()) for s in schemas.SPLITS} for g, c in counts.items()}


def crossing(groups: dict[int, object], found: dict[int, str]) -> int:
    together: dict[object, set[str]] = {}
    for track, group in groups.items():
        if track in found:
            together.setdefault(group, set()).add(found[track])
    return sum(len(s) > 1 for s in together.values())


@pytest.mark.parametrize("scheme", ["artist", "random"])
def test_every_genre_has_the_shares(scheme: str) -> None:
    tracks = collection(1000)  # no artists: every track is free
    for found in shares(tracks, splits.draw(tracks, scheme)).values():
        for share, split in zip(splits.SHARES, schemas.SPLITS, strict=True):
            assert found[split] == pytest.approx(share, abs=0.01)


def test_artists_stay_together_and_genres_near_the_shares() -> None:
    tracks = collection(4000, artists=400)
    found = splits.draw(tracks, "artist")
    assert len(found) == 4000
    artist = dict(zip(tracks["track_id"].to_pylist(), tracks["artist_id"].to_pylist(), strict=True))
    assert crossing(artist, found) == 0
    largest = max(Counter(artist.values()).values()) / 4000
    assert largest > 0.03  # nearly a fifth of a genre: the case is not a trivial one
    for got in shares(tracks, found).values():
        assert got["training"] == pytest.approx(0.64, abs=0.02)
        assert got["test"] == pytest.approx(0.20, abs=0.02)
    assert crossing(artist, splits.draw(tracks, "random")) > 50


def test_a_subset_is_stratified_by_itself() -> None:
    rows = [{"track_id": i, "genre": f"g{i % 3}", "subset": "small" if i % 10 == 0 else "medium"} for i in range(3000)]
    tracks = table(rows)
    small = tracks.filter(pa.compute.equal(tracks["subset"], "small"))
    for got in shares(small, splits.draw(tracks, "artist")).values():
        assert got["validation"] == pytest.approx(0.16, abs=0.01)


@pytest.mark.parametrize("scheme", ["artist", "random"])
def test_a_draw_does_not_depend_on_the_order_of_rows(scheme: str) -> None:
    tracks = collection(600, artists=80)
    shuffled = tracks.take(np.random.default_rng(1).permutation(600))
    assert splits.draw(tracks, scheme) == splits.draw(shuffled, scheme)
    assert splits.draw(tracks, scheme, seed=1) != splits.draw(tracks, scheme)


def test_a_draw_is_the_same_on_every_machine() -> None:
    found = splits.draw(collection(12, genres=1), "artist")
    assert "".join(s[1] for s in found.values()) == GOLDEN


GOLDEN = "rerraerarrrr"  # second letters of tRaining, vAlidation, tEst


@pytest.mark.parametrize("scheme", ["artist", "random"])
def test_nothing_moves_when_tracks_arrive(scheme: str) -> None:
    tracks = collection(900, artists=120)
    arrival = np.random.default_rng(2).permutation(900)
    found: dict[int, str] = {}
    for end in (1, 30, 200, 201, 650, 900):
        drawn = splits.draw(tracks.take(np.sort(arrival[:end])), scheme, existing=found)
        assert drawn.items() >= found.items()
        found = drawn
    artist = dict(zip(tracks["track_id"].to_pylist(), tracks["artist_id"].to_pylist(), strict=True))
    if scheme == "artist":
        assert crossing(artist, found) == 0
    for got in shares(tracks, found).values():
        assert got["training"] == pytest.approx(0.64, abs=0.06)


def test_new_tracks_fill_what_is_missing() -> None:
    tracks = collection(100, genres=1)
    found = splits.draw(tracks, "artist", existing=dict.fromkeys(range(1, 51), "training"))
    assert Counter(found.values()) == {"training": 64, "validation": 16, "test": 20}


def test_same_name_is_same_artist_even_where_only_some_rows_have_the_id() -> None:
    names = ["Ann", "ann ", None, "Various Artists", "Various Artists", "Bo", "Bo"]
    ids = [7, None, 7, None, None, 1, 2]
    rows = [{"track_id": i, "artist": n, "artist_id": a} for i, (n, a) in enumerate(zip(names, ids, strict=True))]
    groups = artist_groups(table(rows)).tolist()
    assert groups == [0, 0, 0, -1 - 3, -1 - 4, 5, 5], "the first track of each artist; one of its own where unknown"


def test_an_artist_that_becomes_known_gathers() -> None:
    before = {1: "training", 2: "training", 3: "test", 4: "validation"}
    rows = [{"track_id": i, "artist_id": 9 if i < 4 else None} for i in before]
    drawn = splits.draw(table(rows), "artist", existing=before)
    assert drawn == {1: "training", 2: "training", 3: "training", 4: "validation"}


def test_a_copy_moves_to_the_one_that_came_first() -> None:
    rows: list[dict[str, object]] = [{"track_id": i} for i in range(1, 7)]
    before = {4: "test", 1: "training", 2: "validation", 3: "training", 5: "training", 6: "test"}
    content = {4: "x", 1: "x", 2: "x", 3: "y", 5: "z", 6: "w"}
    drawn = splits.draw(table(rows), "artist", existing=before, content=content)
    assert drawn == {**before, 1: "test", 2: "test"}
    assert splits.draw(table(rows), "artist", existing=drawn, content=content) == drawn


def test_a_copy_does_not_leave_its_artist() -> None:
    rows = [{"track_id": i, "artist_id": a} for i, a in ((1, 10), (2, 10), (3, 20), (4, 20))]
    before = {1: "test", 2: "test", 3: "training", 4: "training"}
    drawn = splits.draw(table(rows), "artist", existing=before, content={1: "x", 3: "x"})
    assert drawn == {1: "test", 2: "test", 4: "training"}
    # the artists do not matter to `random`: there it moves
    assert splits.draw(table(rows), "random", existing=before, content={1: "x", 3: "x"})[3] == "test"


def test_official_splits_are_the_publishers_but_for_copies() -> None:
    official = ["training", "test", "validation", "training", None, "unheard of"]
    tracks = table([{"track_id": i, "official_split": s} for i, s in enumerate(official)])
    assert splits.draw(tracks, "official") == {0: "training", 1: "test", 2: "validation", 3: "training"}
    drawn = splits.draw(tracks, "official", content={0: "a", 1: "a", 2: "a", 3: "b"})
    assert drawn == {1: "test", 3: "training"}


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(UsageError, match="known are official, artist, random"):
        splits.draw(collection(3), "kfold")


def test_report_counts_what_crosses() -> None:
    rows = [
        {"track_id": i, "genre": g, "artist_id": a} for i, g, a in ((1, "A", 1), (2, "A", 1), (3, "B", 2), (4, None, 2))
    ]
    given = {1: "training", 2: "test", 3: "training", 4: "training"}
    report = splits.report(table(rows), "random", given, {1: "x", 3: "x", 2: "y", 4: "y"})
    assert report.counts.to_pylist() == [
        {"genre": "A", "training": 1, "validation": 0, "test": 1, "total": 2},
        {"genre": "B", "training": 1, "validation": 0, "test": 0, "total": 1},
        {"genre": None, "training": 1, "validation": 0, "test": 0, "total": 1},
        {"genre": "all", "training": 3, "validation": 0, "test": 1, "total": 4},
    ]
    assert (report.artists, report.artists_crossing, report.without_artist) == (2, 1, 0)
    assert (report.copies, report.copies_crossing, report.unmeasured) == (2, 1, 0)


def test_report_says_how_many_tracks_have_no_known_artist() -> None:
    rows = [{"track_id": i, "artist_id": 1 if i < 3 else None, "artist": "Various"} for i in range(1, 6)]
    found = dict.fromkeys(range(1, 5), "training")  # track 5 has no split
    report = splits.report(table(rows), "artist", found, {})
    assert (report.artists, report.without_artist) == (1, 2)
    text = crossing_text(report)
    assert "0 of 1 known artists cross splits\n2 of 4 tracks have no known artist" in text


def test_a_subset_restricts_the_counts_and_not_the_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subsets = ["small", "small", "medium", "large", None]
    rows = [{"track_id": i, "genre": "A", "artist_id": 1, "subset": s} for i, s in enumerate(subsets, 1)]
    store = Store.create(str(tmp_path / "s"), Spec())
    store.write_catalog("tracks", table(rows))
    drawn = [{"track_id": i, "scheme": "artist", "split": s} for i, s in enumerate(schemas.SPLITS, 1)]
    store.write_catalog("splits", schemas.from_rows(drawn, schemas.SPLIT_ROWS))
    command = ["splits", "--store", store.url, "--scheme", "artist", "--format", "json"]
    totals = {}
    for subset in (*schemas.SUBSETS, None):
        assert main([*command, *(["--subset", subset] if subset else [])]) == 0
        totals[subset] = json.loads(capsys.readouterr().out)[-1]["total"]
    assert totals == {"small": 2, "medium": 3, "large": 3, "full": 3, None: 3}
    store.write_catalog("tracks", table([{**r, "subset": None} for r in rows]))
    assert cli.run(main, [*command, "--subset", "small"]) == 1
    assert "no track of the subset 'small'" in capsys.readouterr().err


def test_copies_outside_a_subset_are_not_counted() -> None:
    rows = [{"track_id": i, "genre": "A"} for i in (1, 2)]
    found = {1: "training", 2: "training", 3: "test"}
    report = splits.report(table(rows), "random", found, {1: "x", 2: "y", 3: "x"})
    assert (report.copies, report.unmeasured) == (0, 0)


def test_an_official_split_is_not_promised_where_there_can_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(str(tmp_path / "s"), tracks=4, arrays_too=False)
    rows = store.read_catalog("splits").to_pylist()
    mine = [r for r in rows if r["scheme"] != "official"]
    store.write_catalog("splits", schemas.from_rows(mine, schemas.SPLIT_ROWS))
    with pytest.raises(MissingInput, match=r"Only a data set with a published split \(FMA\) has an official one"):
        warehouse.matrix(store, scheme="official")
    assert cli.run(main, ["splits", "--store", store.url, "--scheme", "official"]) == 1
    assert "published split (FMA)" in capsys.readouterr().err


def test_copies_in_a_store_are_settled_after_extraction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(str(tmp_path / "s"), tracks=40, arrays_too=False)
    tracks = store.read_catalog("tracks")
    rows = [{"track_id": i, "scheme": "artist", "split": "test" if i == 7 else "training"} for i in range(1, 41)]
    store.write_catalog("splits", schemas.from_rows(rows, schemas.SPLIT_ROWS))
    store.write_catalog("tracks", tracks.drop_columns(["artist", "artist_id"]))
    excerpts = store.read_current("excerpts")
    hashes = pa.array([f"{i:032x}" if i != 8 else f"{7:032x}" for i in excerpts["track_id"].to_pylist()])
    at = excerpts.schema.get_field_index("source_hash")
    tables = {n: store.read_current(n) for n in schemas.MEASURED}
    tables["excerpts"] = excerpts.set_column(at, excerpts.schema.field(at), hashes)
    store.write_batch("000002-00000", tables)

    merge.redraw_splits(store)
    report = merge.split_report(store, "artist")
    assert (report.copies, report.copies_crossing) == (1, 0)
    found = merge.read_splits(store, "artist")
    assert found == {**dict.fromkeys(range(1, 41), "training"), 7: "test", 8: "test"}
    merge.redraw_splits(store)
    assert merge.read_splits(store, "artist") == found

    assert main(["splits", "--store", store.url, "--scheme", "artist"]) == 0
    assert "0 of 1 groups of exact copies cross" in capsys.readouterr().out
    assert main(["splits", "--store", store.url, "--scheme", "artist", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1] == {
        "genre": "all",
        "training": 38,
        "validation": 0,
        "test": 2,
        "total": 40,
    }


def test_real_splits_keep_artists_apart(shared_data: Path) -> None:
    from featurestore import datasets

    tracks = datasets.load("fma", metadata=str(shared_data / "fma_metadata")).tracks
    report = splits.report(tracks, "artist", splits.draw(tracks, "artist"), {})
    assert (report.artists_crossing, len(report.counts)) == (0, 17)
    for row in report.counts.to_pylist():
        assert row["training"] / row["total"] == pytest.approx(0.64, abs=0.03)
