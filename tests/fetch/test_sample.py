"""A few members of a large archive, by range requests."""

from __future__ import annotations

import io
import random
import zipfile

import pytest

from featurestore.errors import FeatureStoreError, MissingInput
from featurestore.fetch.choose import choose
from featurestore.fetch.web import AHEAD, RangesRefused, RemoteFile
from tests.fetch.site import SPLITS, clip, ids, left_in, path_of, small_zip, tracks_csv


def test_a_sample_reads_only_its_members(site, publish, get, labels, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data)
    report = get("fma_small", per_genre=5)
    folder = tmp_path / "fma" / "fma_small"
    chosen = choose(str(labels), subset="small", per_genre=5, seed=0)
    assert left_in(folder) == sorted([".fetched.json", *map(path_of, chosen)])
    assert all((folder / path_of(i)).read_bytes() == clip(i) for i in chosen)
    assert report.received == site.sent
    assert all(entry[1] for entry in site.log)  # no request without a range
    # 10 of 40 clips in one request each; and the size, the directory's end, the directory and checksums
    packed = sum(len(clip(i)) for i in chosen)
    assert len(site.log) <= 10 + 6
    assert site.sent < packed * 1.1 + 16 * AHEAD < len(data)
    site.log.clear()
    assert get("fma_small", per_genre=5).files == 10
    assert site.log == []
    more = get("fma_small", per_genre=7)
    assert (more.files, more.written) == (14, 4)
    assert get("fma_small").written == len(ids()) + 2 - 14


def test_the_sample_is_in_proportion_deterministic_and_nested(labels) -> None:
    split = {i: SPLITS[i % 1000 - 2] for i in ids()}
    seen: set[int] = set()
    for n, counts in ((5, (4, 1, 0)), (10, (8, 1, 1)), (15, (12, 2, 1)), (20, (16, 2, 2)), (99, (16, 2, 2))):
        chosen = choose(str(labels), subset="small", per_genre=n, seed=0)
        for genre in range(2):
            mine = [split[i] for i in chosen if i // 1000 == genre]
            found = [mine.count(s) for s in ("training", "validation", "test")]
            assert found[0] == counts[0]
            assert sorted(found[1:]) == sorted(counts[1:])  # which of two equal splits gets a place is arbitrary
        assert seen <= set(chosen)
        seen = set(chosen)
    assert choose(str(labels), subset="small", per_genre=5, seed=0) != choose(
        str(labels), subset="small", per_genre=5, seed=1
    )


def test_places_go_to_the_splits_by_sainte_lague(labels) -> None:
    sizes = {"training": 53, "validation": 24, "test": 23}
    rows = [f"{1000 * n + i},{split},small,Jazz" for n, split in enumerate(sizes) for i in range(sizes[split])]
    (labels / "tracks.csv").write_text("\n".join([*tracks_csv().splitlines()[:3], *rows, ""]))
    for places, expected in ((7, [3, 2, 2]), (1, [1, 0, 0]), (200, [53, 24, 23])):  # 7: the method's textbook example
        chosen = choose(str(labels), subset="small", per_genre=places, seed=0)
        assert [sum(i // 1000 == n for i in chosen) for n in range(3)] == expected


def test_a_host_without_ranges_is_named_and_the_whole_file_helps(site, publish, get, labels, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data)
    site.ranges = False
    with pytest.raises(RangesRefused, match=r"does not serve parts of a file.*\n.*--whole-file"):
        get("fma_small", per_genre=3)
    report = get("fma_small", per_genre=3, whole_file=True)
    assert (report.files, report.received) == (6, len(data))
    assert len(left_in(tmp_path / "fma" / "fma_small")) == 7
    # the archive stays, as most of it is not unpacked: a larger sample needs no network
    site.log.clear()
    assert get("fma_small", per_genre=6).written == 6
    assert site.log == []


def test_a_sample_needs_the_labels(publish, get) -> None:
    publish("fma_small", small_zip())
    with pytest.raises(MissingInput, match="python -m featurestore fetch fma_metadata"):
        get("fma_small", per_genre=3)


def test_a_sample_survives_cut_connections(site, publish, get, labels, tmp_path) -> None:
    publish("fma_small", small_zip())
    site.cuts = [0, 10, None, 10, 500, None, 60_000]
    site.statuses = [503]
    assert get("fma_small", per_genre=2).written == 4
    site.cuts = [0] * 9
    with pytest.raises(FeatureStoreError, match=r"fma_small\.zip: .*\n.*goes on from here"):
        get("fma_small", per_genre=8)
    assert len(site.cuts) == 9 - 3


def test_a_remote_file_reads_like_a_local_one(site, tmp_path) -> None:
    data = random.Random(0).randbytes(300_000)
    site.files["x.zip"] = data
    remote, local = RemoteFile(f"{site.url}/x.zip"), io.BytesIO(data)
    draw = random.Random(1)
    for _ in range(100):
        place, whence = draw.choice([(draw.randrange(300_100), 0), (-draw.randrange(300_000), 2)])
        n = draw.choice([0, 1, 100, 70_000])
        assert remote.seek(place, whence) == local.seek(place, whence)
        assert remote.read(n) == local.read(n)


def test_a_host_that_announces_another_length_than_it_sends(site, publish, get, labels, tmp_path):
    publish("fma_small", small_zip())
    site.lie_about_length = -10
    for per_genre in (2, None):
        with pytest.raises(FeatureStoreError, match=r"\d+ of \d+ bytes came"):
            get("fma_small", per_genre=per_genre, retries=0)
    assert not (tmp_path / "fma" / "fma_small").exists()
    site.lie_about_length = 10  # what was asked for is all there, and no more is waited for
    assert get("fma_small", per_genre=2).written == 4


def test_archives_beyond_four_gigabytes(site, tmp_path, publish, get, labels) -> None:
    """As in fma_medium: members and directory lie past 32-bit offsets (ZIP64). The file is sparse."""
    path = tmp_path / "big.zip"
    with path.open("w+b") as file:
        file.seek(5 << 30)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive:
            for i in ids():
                archive.writestr(f"fma_small/{path_of(i)}", clip(i))
    publish("fma_small", b"")
    site.files["fma_small.zip"] = path
    assert get("fma_small", per_genre=2).written == 4
    assert site.sent < 1_000_000


def test_damage_in_a_member_is_found_and_the_clip_not_kept(site, publish, get, labels, tmp_path) -> None:
    chosen = choose(str(labels), subset="small", per_genre=1, seed=0)
    folder = tmp_path / "fma" / "fma_small"
    data = bytearray(small_zip())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo(f"fma_small/{path_of(chosen[0])}")
    data[info.header_offset + info.compress_size // 2] ^= 0xFF
    publish("fma_small", bytes(data))
    with pytest.raises(FeatureStoreError, match=rf"{path_of(chosen[0])}' is damaged"):
        get("fma_small", per_genre=1)
    assert left_in(folder) == []
    publish("fma_small", small_zip((chosen[0], "cd" * 20)))
    with pytest.raises(FeatureStoreError, match=rf"expected sha1:{'cd' * 20} but got [0-9a-f]+"):
        get("fma_small", per_genre=1)
    assert left_in(folder) == []


def test_tracks_that_the_archive_lacks_are_reported(publish, get, labels) -> None:
    (labels / "tracks.csv").write_text(tracks_csv() + "77,training,small,Jazz\n")
    publish("fma_small", small_zip())
    report = get("fma_small", per_genre=2)
    assert (report.files, report.absent) == (4, (77,))


def test_a_dry_run_says_how_much_and_writes_nothing(site, publish, get, labels, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data)
    assert get("fma_small", dry_run=True).to_get == len(data)
    assert site.log == []
    report = get("fma_small", per_genre=5, dry_run=True)
    packed = sum(len(clip(i)) for i in choose(str(labels), subset="small", per_genre=5, seed=0))
    assert report.to_get == pytest.approx(packed, rel=0.1)
    assert left_in(tmp_path / "fma") == ["fma_metadata/genres.csv", "fma_metadata/tracks.csv"]


def test_a_sample_of_the_real_labels_keeps_the_official_proportions(shared_data) -> None:
    from featurestore.datasets.fma.tracks import read_tracks

    chosen = set(choose(str(shared_data / "fma_metadata"), subset="small", per_genre=25, seed=0))
    assert len(chosen) == 8 * 25
    tracks, _ = read_tracks(str(shared_data / "fma_metadata" / "tracks.csv"), "small")
    rows = zip(*(tracks[c].to_pylist() for c in ("track_id", "genre", "official_split")), strict=True)
    found: dict[tuple[str, str], int] = {}
    for track_id, genre, split in rows:
        if track_id in chosen:
            found[genre, split] = found.get((genre, split), 0) + 1
    assert len(found) == 24
    for (_, split), n in found.items():
        assert n == 20 if split == "training" else n in (2, 3)  # 800 : 100 : 100
