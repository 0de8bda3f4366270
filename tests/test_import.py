"""Anyone's table of features: which rows find their track, which values get in, and what is refused."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore import datasets, schemas
from featurestore.__main__ import main as featurestore
from featurestore.catalog import feature_sets, merge
from featurestore.catalog.feature_table import column_names
from featurestore.catalog.import_features import import_table
from featurestore.datasets import csv_blocks
from featurestore.errors import FeatureStoreError, MissingInput, MissingStore, UsageError
from featurestore.spec import Spec
from featurestore.store import files, lock, parquet
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.factories import make_store
from tests.import_cases import read, write


def test_csv_by_track_id(url: str, tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "tempo,track_id,Spectral Centroid (Hz)\n120,2,1500.5\n,1,nan\n90,7,inf\n")
    report = import_table(url, "mine", table)
    assert (report.rows, report.matched, report.columns, report.nulls) == (3, 3, 2, 3)
    assert read(url, "mine") == [
        {"track_id": 2, "tempo": 120.0, "spectral_centroid_hz": 1500.5},
        {"track_id": 1, "tempo": None, "spectral_centroid_hz": None},
        {"track_id": 7, "tempo": 90.0, "spectral_centroid_hz": None},
    ]
    schema = Store.open(url).read_catalog("features_mine").schema
    assert schema.field("track_id").type == pa.int64()
    assert schema.field("tempo").type == pa.float32()
    assert schemas.describe(schema.field("spectral_centroid_hz")) == "Spectral Centroid (Hz) (t.csv)"
    assert Store.open(url).feature_sets() == ("mine",)


@pytest.mark.parametrize("kind", ["csv", "index.csv", "tsv", "csv.gz", "parquet", "index.parquet"])
def test_every_form_gives_the_same_set(url: str, tmp_path: Path, kind: str) -> None:
    values = np.random.default_rng(0).normal(0, 100, (40, 3))
    values[3, 1] = np.nan
    frame = pd.DataFrame(values, columns=["a", "b", "c"], index=pd.RangeIndex(1, 41, name="track_id"))
    path = str(tmp_path / f"t.{kind}")
    if kind == "index.csv":
        frame.rename_axis(None).to_csv(path)  # the unnamed first column that pandas writes
    elif kind == "index.parquet":
        frame.rename_axis(None).set_axis(list(range(1, 41))).to_parquet(path)  # __index_level_0__
    elif kind == "parquet":
        frame.reset_index().to_parquet(path, index=False)
    else:
        frame.to_csv(path, sep="\t" if kind == "tsv" else ",")
    import_table(url, "mine", path)
    got = Store.open(url).read_catalog("features_mine").to_pandas().set_index("track_id")
    np.testing.assert_array_equal(got.to_numpy(), values.astype(np.float32))


def test_fmas_header_rows_equal_pandas(url: str, tmp_path: Path) -> None:
    columns = pd.MultiIndex.from_product(
        [["mfcc", "zcr"], ["mean", "std"], ["01", "02"]], names=["feature", "statistics", "number"]
    )
    frame = pd.DataFrame(
        np.random.default_rng(0).normal(size=(40, 8)), columns=columns, index=pd.RangeIndex(1, 41, name="track_id")
    )
    frame.iloc[0] = np.nan  # an empty first row, as FMA's table has some
    path = str(tmp_path / "features.csv")
    frame.to_csv(path, float_format="%.10f")
    assert import_table(url, "fma", path).columns == 8
    expected = pd.read_csv(path, index_col=0, header=[0, 1, 2])
    got = Store.open(url).read_catalog("features_fma").to_pandas().set_index("track_id")
    assert got.columns.tolist() == ["_".join(c) for c in expected.columns]
    np.testing.assert_allclose(got.to_numpy(), expected.to_numpy(), rtol=1e-6)


def test_a_set_is_sealed_and_the_same_bytes_twice(url: str, tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "track_id,a\n1,2\n2,3\n")
    path = Path(Store.open(url).feature_set_path("mine"))
    import_table(url, "mine", table)
    first = path.read_bytes()
    parquet.check_content(str(path))
    import_table(url, "mine", table)
    assert path.read_bytes() == first


def test_a_store_on_an_object_store_takes_a_set(tmp_path: Path) -> None:
    store = make_store("memory://import-bucket/store", tracks=5, arrays_too=False)
    import_table(store.url, "mine", write(tmp_path / "t.csv", "track_id,a\n1,2\n"))
    assert read(store.url, "mine") == [{"track_id": 1, "a": 2.0}]
    with files.local_copy(store.fs, store.feature_set_path("mine")) as path:
        parquet.check_content(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("track_id,a\n1,2\n99,3\n98,4\n", r"no track of the catalog has: 2 \(98, 99\) of 3 rows"),
        ("track_id,a\n1,2\n2,2\n1,3\n", r"more than once: 1 \(1\)"),
        ("track_id,a\n1,2\n,3\n", "rows without an id: 1"),
        ("track_id,a,label\n1,2,rock\n", r"not numbers: 1 \(label\)[\s\S]*--skip label"),
        ("track_id,a\n1,2\n2,loud\n", r"not numbers: 1 \(a\)"),
        ("track_id\n1\n", "expected a CSV table with a header row"),
        ("track_id,label\n1,x\n", "not numbers"),
        ("name,a\n1,2\n", r"which column holds the track id\?[\s\S]*--id-column"),
        ("track_id,a\n", "no row matches"),
        ("", "expected a CSV table"),
    ],
)
def test_what_cannot_be_imported_is_refused_whole(url: str, tmp_path: Path, text: str, message: str) -> None:
    table = write(tmp_path / "t.csv", text)
    with pytest.raises(FeatureStoreError, match=message):
        import_table(url, "mine", table)
    assert Store.open(url).feature_sets() == ()
    assert [p.name for p in (Path(Store.open(url).root) / "catalog").iterdir() if p.name.startswith(".")] == []


def test_a_text_far_down_a_column_of_numbers_is_named(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "HEAD_BYTES", 200)
    lines = "".join(f"{i},{i},{'loud' if i == 37 else i}\n" for i in range(1, 41))
    with pytest.raises(FeatureStoreError, match=r"t\.csv: column b: .*invalid value 'loud'"):
        import_table(url, "mine", write(tmp_path / "t.csv", "track_id,a,b\n" + lines))
    with pytest.raises(FeatureStoreError, match="Expected 3 columns, got 2"):
        import_table(url, "mine", write(tmp_path / "t.csv", "track_id,a,b\n" + lines.replace("20,20,20", "20,20")))
    # every spelling of "nothing here" is empty, also where the first ones are not met at once
    import_table(url, "mine", write(tmp_path / "t.csv", "track_id,a,b\n" + lines.replace("loud", "N/A")))
    assert read(url, "mine")[36] == {"track_id": 37, "a": 37.0, "b": None}


def test_a_disk_that_is_full_leaves_what_was_there(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_table(url, "mine", write(tmp_path / "t.csv", "track_id,a\n1,2\n"))
    before = sorted(p.name for p in (Path(url) / "catalog").iterdir())
    written = []

    def full(self: parquet.Writer, part: pa.Table) -> None:
        written.append(len(part))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(feature_sets, "ROW_GROUP_ROWS", 3)
    monkeypatch.setattr(parquet.Writer, "write_table", full)
    table = write(tmp_path / "u.csv", "track_id,a\n" + "".join(f"{i},{i}\n" for i in range(1, 30)))
    with pytest.raises(FeatureStoreError, match=r"features_mine\.parquet: cannot be written \(No space left"):
        import_table(url, "mine", table)
    assert written == [3, 3] or written == [3]
    assert sorted(p.name for p in (Path(url) / "catalog").iterdir()) == before
    assert read(url, "mine") == [{"track_id": 1, "a": 2.0}]


def test_rows_of_unknown_tracks_can_be_left_out(url: str, tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "track_id,a\n1,2\n99,3\n")
    report = import_table(url, "mine", table, ignore_unknown=True)
    assert (report.matched, report.unknown) == (1, ("99",))
    assert read(url, "mine") == [{"track_id": 1, "a": 2.0}]


def test_a_dry_run_tells_and_writes_nothing(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(tmp_path / "t.csv", "track_id,a\n1,2\n99,\n")
    assert featurestore(["import-features", "--set", "mine", table, "--store", url, "--dry-run"]) == 2
    out = capsys.readouterr().out
    assert "2 rows, 1 with a track in the catalog" in out
    assert "no track of the catalog has: 1 (99)" in out
    assert (
        featurestore(["import-features", "--set", "mine", table, "--store", url, "--dry-run", "--ignore-unknown"]) == 0
    )
    assert Store.open(url).feature_sets() == ()


def test_a_set_of_the_same_name_is_replaced(url: str, tmp_path: Path) -> None:
    import_table(url, "mine", write(tmp_path / "t.csv", "track_id,a\n1,2\n"))
    import_table(url, "mine", write(tmp_path / "t.csv", "track_id,b\n2,3\n"))
    assert read(url, "mine") == [{"track_id": 2, "b": 3.0}]


@pytest.mark.parametrize("name", ["librosa", "Upper", "1st", "a-b", "", "x" * 64])
def test_a_name_that_cannot_be_one_is_refused(url: str, tmp_path: Path, name: str) -> None:
    table = write(tmp_path / "t.csv", "track_id,a,label\n1,2,x\n")
    with pytest.raises(UsageError, match="cannot name an imported feature set"):
        import_table(url, name, table, skip_columns=["label"])
    with pytest.raises(UsageError, match="cannot name an imported feature set"):
        import_table(url, name, write(tmp_path / "u.csv", "track_id,a,label\n77,2,x\n"), label_column="label")
    assert len(Store.open(url).read_catalog("tracks")) == 40


def test_missing_things_say_what_makes_them(url: str, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="no such file"):
        import_table(url, "mine", str(tmp_path / "none.csv"))
    with pytest.raises(MissingInput, match="not a Parquet file"):
        import_table(url, "mine", write(tmp_path / "t.parquet", "track_id,a\n"))
    with pytest.raises(MissingInput, match="found a folder"):
        import_table(url, "mine", str(tmp_path))
    with pytest.raises(MissingStore, match=r"python -m featurestore catalog[\s\S]*--label-column"):
        import_table(str(tmp_path / "none"), "mine", write(tmp_path / "t.csv", "track_id,a\n1,2\n"))
    (tmp_path / "broken.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(MissingInput, match="cannot be read"):
        import_table(url, "mine", str(tmp_path / "broken.csv.gz"))
    (tmp_path / "noise.csv").write_bytes(b"a,\r\xff\x00" + bytes(range(256)) * 9)
    with pytest.raises(FeatureStoreError, match=r"noise\.csv"):
        import_table(url, "mine", str(tmp_path / "noise.csv"))
    with pytest.raises(UsageError, match="no column 'x'"):
        import_table(url, "mine", str(tmp_path / "t.csv"), id_column="x")


def folder_store(tmp_path: Path, *names: str) -> str:
    for name in names:
        (tmp_path / "music" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "music" / name).write_bytes(name.encode())
    store = Store.create(str(tmp_path / "folders"), Spec())
    merge.update(store, datasets.load("folders", audio=str(tmp_path / "music")))
    return store.url


def test_rows_find_their_track_by_file_name(tmp_path: Path) -> None:
    url = folder_store(tmp_path, "blues/blues.00000.wav", "rock/rock.00001.wav", "rock/x.wav")
    table = write(tmp_path / "t.csv", "filename,a\nblues.00000.au,1\nrock/rock.00001.wav,2\n/old/place/x.wav,3\n")
    import_table(url, "mine", table, id_column="filename")
    path = {r["track_id"]: r["path"] for r in Store.open(url).read_catalog("tracks").to_pylist()}
    assert {path[r["track_id"]]: r["a"] for r in read(url, "mine")} == {
        "blues/blues.00000.wav": 1.0,
        "rock/rock.00001.wav": 2.0,
        "rock/x.wav": 3.0,
    }


def test_a_name_that_two_tracks_have_is_refused(tmp_path: Path) -> None:
    url = folder_store(tmp_path, "a/1.wav", "b/1.wav")
    with pytest.raises(UsageError, match=r"several tracks of the catalog have the file name '1.wav'"):
        import_table(url, "mine", write(tmp_path / "t.csv", "file,x\n1.wav,2\n"), id_column="file")


def test_fmas_file_names_are_track_ids(url: str, tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "file,x\n000/000007.mp3,2\n000009,3\n11.0,4\n")
    import_table(url, "mine", table, id_column="file")
    assert [r["track_id"] for r in read(url, "mine")] == [7, 9, 11]


def test_a_labelled_table_needs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(
        tmp_path / "t.csv",
        "file,x,label\n" + "".join(f"{g}.{i:05d}.wav,{i},{g}\n" for g in ("pop", "rock") for i in range(25)),
    )
    url = str(tmp_path / "new")
    command = [
        "import-features",
        "--set",
        "mine",
        "--id-column",
        "file",
        "--label-column",
        "label",
        table,
        "--store",
        url,
    ]
    assert featurestore([*command, "--dry-run"]) == 0
    assert "to come from the table itself: 50" in capsys.readouterr().out
    assert not Path(url).exists()
    assert featurestore(command) == 0
    store = Store.open(url)
    tracks = store.read_catalog("tracks")
    assert tracks["dataset"].unique().to_pylist() == ["mine"]
    assert {r["title"]: r["genre"] for r in tracks.to_pylist()}["rock.00007"] == "rock"
    assert tracks["path"].null_count == 50
    assert [
        len(set(tracks["track_id"].to_pylist()) & set(merge.read_splits(store, s))) for s in ("artist", "official")
    ] == [50, 0]
    assert {r["x"] for r in read(url, "mine")} == set(map(float, range(25)))
    before = {p: p.read_bytes() for p in Path(store.root).rglob("*.parquet")}
    assert import_table(url, "mine", table, id_column="file", label_column="label").tracks_added == 0
    assert {p: p.read_bytes() for p in Path(store.root).rglob("*.parquet")} == before


def test_a_labelled_table_that_is_refused_leaves_no_tracks(url: str, tmp_path: Path) -> None:
    repeated = write(tmp_path / "t.csv", "file,x,label\na.wav,1,pop\na.wav,2,pop\n")
    with pytest.raises(UsageError, match=r"more than once: 1 \(a.wav\)"):
        import_table(url, "mine", repeated, id_column="file", label_column="label")
    twice = write(tmp_path / "u.csv", "track_id,x,label\n1,1,pop\n1,2,pop\n77,1,pop\n")
    with pytest.raises(UsageError, match=r"more than once: 1 \(1\)"):
        import_table(url, "mine", twice, label_column="label")
    assert len(Store.open(url).read_catalog("tracks")) == 40


def test_tracks_are_added_by_one_process_at_a_time(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write(tmp_path / "t.csv", "track_id,x,label\n77,1,pop\n")
    command = ["import-features", "--set", "mine", "--label-column", "label", table, "--store", url]
    with lock.hold(*files.resolve(url), "build of folders"):
        assert cli.run(featurestore, command) == 1
        err = capsys.readouterr().err
        assert f"{url} is in use (held by build of folders: process {os.getpid()} on " in err
        assert cli.run(featurestore, [*command, "--dry-run"]) == 0, "a look takes no lock"
        assert Store.open(url).feature_sets() == ()
        assert len(Store.open(url).read_catalog("tracks")) == 40
    assert cli.run(featurestore, command) == 0
    assert len(Store.open(url).read_catalog("tracks")) == 41
    assert not (Path(url) / lock.LOCK).exists()


def test_tracks_that_came_before_the_lock_are_not_added_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = lock.hold

    @contextlib.contextmanager
    def late(fs: object, root: str, purpose: str) -> Iterator[lock.Lock]:
        with real(fs, root, purpose) as held:
            tracks = schemas.from_rows([{"track_id": 77, "dataset": "other", "genre": "rock"}], schemas.TRACKS)
            store = Store.open(url)
            store.write_catalog("tracks", pa.concat_tables([store.read_catalog("tracks"), tracks]))
            yield held

    monkeypatch.setattr(lock, "hold", late)
    report = import_table(url, "mine", write(tmp_path / "t.csv", "track_id,x,label\n77,1,pop\n"), label_column="label")
    assert (report.tracks_added, report.matched) == (0, 1)
    assert Store.open(url).read_catalog("tracks").to_pylist()[-1]["dataset"] == "other"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["mfcc/mean/01", "mfcc/mean/02", "zcr/mean/01"], ["mfcc_mean_01", "mfcc_mean_02", "zcr_mean_01"]),
        (["echonest/audio_features/energy", "echonest/temporal/000"], ["energy", "echonest_temporal_000"]),
        (["A b", "a-b", "a_b"], ["a_b", "a_b_2", "a_b_3"]),
        (["0", "1.5", "é", ""], ["f_0", "f_1_5", "f", "f_2"]),
        (["track_id", "Track ID"], ["track_id_2", "track_id_3"]),
    ],
)
def test_columns_get_names_for_sql(names: list[str], expected: list[str]) -> None:
    assert column_names(names) == expected
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", n) for n in expected)


def test_real_tables_are_imported(shared_data: Path, tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "s"), Spec())
    merge.update(store, datasets.load("fma", metadata=str(shared_data / "fma_metadata")))
    table = shared_data / "fma_small" / "clip_features.parquet"
    report = import_table(store.url, "clips", str(table))
    assert (report.rows, report.matched, report.columns) == (7197, 7197, 57)
    expected = pq.read_table(table).to_pandas()
    got = store.read_catalog("features_clips").to_pandas().set_index("track_id")
    np.testing.assert_array_equal(got.to_numpy(), expected.to_numpy())


def test_gtzans_real_table_alone_makes_a_store(shared_data: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "g")
    table = str(shared_data / "gtzan_features_30_sec.csv")
    report = import_table(url, "gtzan", table, id_column="filename", label_column="label")
    assert (report.matched, report.columns, report.tracks_added) == (1000, 58, 1000)
    genres = Store.open(url).read_catalog("tracks")["genre"].value_counts().to_pylist()
    assert sorted(g["counts"] for g in genres) == [100] * 10
