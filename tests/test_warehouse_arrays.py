"""The arrays that studies and training read: matrix, mel and waveform streams, keys for export."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import warehouse
from featurestore import registry, schemas
from featurestore.errors import MissingInput, MissingStore, StoreDamaged, UsageError
from featurestore.spec import Spec
from featurestore.store import arrays
from featurestore.store.store import Store
from tests.factories import SMALL_SPEC, make_store

COLUMNS = registry.column_names(SMALL_SPEC.groups)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    # ids of one row group lie in several batches, and batches hold ids out of order
    return make_store(str(tmp_path_factory.mktemp("store")), tracks=30, excerpts=2, batch_tracks=7)


def stored(store: Store, table: str) -> dict[tuple[int, int], dict[str, object]]:
    return {(r["track_id"], r["excerpt"]): r for r in store.read_current(table).to_pylist()}


# ---------------------------------------------------------------- matrix


def test_matrix_equals_the_stored_rows_in_key_order(store: Store) -> None:
    m = warehouse.matrix(store)
    assert m.X.dtype == np.float32
    assert m.X.flags.c_contiguous
    assert m.columns == COLUMNS
    keys = list(zip(m.track_ids.tolist(), m.excerpts.tolist(), strict=True))
    assert keys == sorted(stored(store, "features"))
    assert (m.track_ids.dtype, m.excerpts.dtype, m.groups.dtype) == (np.int64, np.int16, np.int64)
    expected = store.read_current("features").sort_by([("track_id", "ascending"), ("excerpt", "ascending")])
    assert np.array_equal(m.X, np.column_stack([expected[c].to_numpy() for c in COLUMNS]))


def test_matrix_of_a_split_has_its_tracks_genres_and_artists(store: Store) -> None:
    tracks = {r["track_id"]: r for r in store.read_catalog("tracks").to_pylist()}
    seen: list[int] = []
    for split in schemas.SPLITS:
        m = warehouse.matrix(store, split=split, scheme="random")
        wanted = [
            r["track_id"]
            for r in store.read_catalog("splits").to_pylist()
            if (r["scheme"], r["split"]) == ("random", split)
        ]
        assert sorted(set(m.track_ids.tolist())) == sorted(wanted)
        assert m.y.tolist() == [tracks[i]["genre"] for i in m.track_ids]
        first = {t["artist_id"]: i for i, t in sorted(tracks.items(), reverse=True)}
        assert m.groups.tolist() == [first[tracks[i]["artist_id"]] for i in m.track_ids]
        assert m.scheme == "random"
        seen += m.track_ids.tolist()
    assert len(seen) == 60
    assert warehouse.matrix(store, split="test").scheme == "official"
    assert warehouse.matrix(store).scheme is None


def test_matrix_selects_groups_features_and_columns(store: Store) -> None:
    every = warehouse.matrix(store)
    rhythm = warehouse.matrix(store, groups=["rhythm"])
    assert {registry.parse_column(c)[0] for c in rhythm.columns} == {  # type: ignore[index]
        f.name for f in registry.FEATURES if f.group == "rhythm"
    }
    some = warehouse.matrix(store, groups=["zcr_mean_01", "tonnetz"])
    assert len(some.columns) == 1 + 6 * 7
    assert some.columns == tuple(c for c in COLUMNS if c in set(some.columns)), "stored order"
    assert np.array_equal(some.X, every.X[:, [COLUMNS.index(c) for c in some.columns]])
    assert warehouse.matrix(store, groups=["fma"]).X.shape == (60, 518)


@pytest.fixture
def partly(tmp_path: Path) -> Store:
    """Tracks 1 to 4: one unlabelled, two without an artist; subsets small, medium, none."""
    store = make_store(str(tmp_path), tracks=4, arrays_too=False)
    rows = [
        {"track_id": 1, "dataset": "d", "genre": "A", "artist_id": 5, "subset": "small"},
        {"track_id": 2, "dataset": "d", "genre": None, "artist_id": 5, "subset": "medium"},
        {"track_id": 3, "dataset": "d", "genre": "B", "artist_id": None, "subset": "medium"},
        {"track_id": 4, "dataset": "d", "genre": "B", "artist_id": None},
    ]
    store.write_catalog("tracks", schemas.from_rows(rows, schemas.TRACKS))
    return store


def test_unlabelled_unknown_artist_and_subset(partly: Store) -> None:
    m = warehouse.matrix(partly, labelled=False)
    assert m.y.tolist() == ["A", None, "B", "B"]
    assert m.groups[0] == m.groups[1] == 1
    assert len({1, *m.groups.tolist()}) == 3
    assert warehouse.matrix(partly).track_ids.tolist() == [1, 3, 4]
    assert warehouse.matrix(partly, subset="small").track_ids.tolist() == [1]
    assert warehouse.matrix(partly, subset="medium", labelled=False).track_ids.tolist() == [1, 2, 3]


def test_an_imported_set_may_hold_nan_and_integers(partly: Store) -> None:
    table = pa.table(
        {
            "track_id": pa.array([9, 3, 1], pa.int64()),
            "energy": pa.array([9.0, None, 0.5], pa.float64()),
            "count": pa.array([9, 7, 2], pa.int32()),
            "name": ["x", "y", "z"],
        }
    )
    partly.write_catalog("features_other", table)
    m = warehouse.matrix(partly, features="other")
    assert m.columns == ("energy", "count")
    assert m.track_ids.tolist() == [1, 3], "track 9 has no label"
    assert np.array_equal(m.X, np.array([[0.5, 2], [np.nan, 7]], np.float32), equal_nan=True)
    assert m.excerpts.tolist() == [0, 0]
    everything = warehouse.matrix(partly, features="other", labelled=False)
    assert everything.track_ids.tolist() == [1, 3, 9]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"features": "nothing"}, MissingInput, "import-features --set"),
        ({"split": "holdout"}, UsageError, "training, validation, test"),
        ({"split": "test", "scheme": "mine"}, UsageError, "official, artist, random"),
        ({"subset": "tiny"}, UsageError, "small, medium, large, full"),
        ({"groups": ["mfccs"]}, UsageError, "Choose from .*mfcc"),
        ({"groups": []}, UsageError, "nothing was named"),
        ({"subset": "medium", "split": "test", "scheme": "artist"}, None, ""),
    ],
)
def test_matrix_says_what_could_be_asked(store: Store, options: dict, error: type | None, says: str) -> None:
    if error is None:
        assert len(warehouse.matrix(store, **options).X)
        return
    with pytest.raises(error, match=f"(?s){says}"):
        warehouse.matrix(store, **options)


def test_what_a_store_lacks_is_named_with_its_command(tmp_path: Path, partly: Store) -> None:
    with pytest.raises(MissingStore, match="build --dataset"):
        warehouse.matrix(str(tmp_path / "none"))
    empty = Store.create(str(tmp_path / "empty"), SMALL_SPEC)
    for read in (warehouse.matrix, warehouse.iter_mels, warehouse.iter_waves):
        with pytest.raises(MissingInput, match="python -m featurestore build"):
            read(empty)
    splits = partly.read_catalog("splits")
    partly.write_catalog("splits", splits.filter(pa.compute.equal(splits["scheme"], "random")))
    with pytest.raises(MissingInput, match="featurestore catalog --dataset"):
        warehouse.matrix(partly, split="training")
    partly.write_catalog("splits", splits.filter(pa.compute.equal(splits["split"], "training")))
    with pytest.raises(MissingInput, match="split test"):
        warehouse.matrix(partly, split="test")


def test_matrix_of_a_damaged_file_names_it(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=8, batch_tracks=4, arrays_too=False)
    path = tmp_path / "features" / "000001-00001.parquet"
    data = pq.read_table(path)
    pq.write_table(data.slice(1), path)
    with pytest.raises(StoreDamaged, match=r"features/000001-00001.parquet: no row of track 5, excerpt 0"):
        warehouse.matrix(store)


# ---------------------------------------------------------------- streams


def test_mels_come_in_key_order_and_equal_the_stored_bytes(store: Store) -> None:
    expected = stored(store, "mel")
    keys = []
    for batch in warehouse.iter_mels(store, batch_size=7):
        assert len(batch.mels) == len(batch.track_ids) == len(batch.genres) <= 7
        for t, e, mel in zip(batch.track_ids.tolist(), batch.excerpts.tolist(), batch.mels, strict=True):
            keys.append((t, e))
            raw = expected[t, e]["mel"]
            assert mel.dtype == np.float32
            assert np.array_equal(mel, arrays.decode_mel(raw, store.spec.n_mels))  # type: ignore[arg-type]
    assert keys == sorted(expected)


def test_stored_mels_are_the_same_values_uncopied(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=11, batch_tracks=6)
    spec = store.spec
    # row groups of four, some in part, and a file more than once
    keys = pa.table({"track_id": [9, 2, 3, 8, 2, 11, 1, 5], "excerpt": [0] * 8})
    (plain,) = warehouse.iter_mels(store, keys=keys)
    (raw,) = warehouse.iter_mels(store, keys=keys, stored=True)
    for stored_mel, mel in zip(raw.mels, plain.mels, strict=True):
        assert stored_mel.dtype == "float16"
        assert not stored_mel.flags.writeable
        assert np.array_equal(stored_mel.astype(np.float32), mel)
    assert np.array_equal(plain.mels[1], plain.mels[4])
    expected = {t: arrays.decode_mel(r["mel"], spec.n_mels) for (t, _), r in stored(store, "mel").items()}  # type: ignore[arg-type]
    for track, mel in zip(raw.track_ids.tolist(), raw.mels, strict=True):
        assert np.array_equal(mel.astype(np.float32), expected[track])


def test_waves_equal_the_stored_bytes(store: Store) -> None:
    expected = stored(store, "wave")
    count = 0
    for batch in warehouse.iter_waves(store, split="test", scheme="artist"):
        assert batch.sample_rate == store.spec.sample_rate
        for t, e, y in zip(batch.track_ids.tolist(), batch.excerpts.tolist(), batch.waves, strict=True):
            row = expected[t, e]
            assert np.array_equal(y, arrays.decode_wave(row["wave"], row["scale"]))  # type: ignore[arg-type]
            count += 1
    assert count == len(warehouse.examples(store, scheme="artist", split="test", table="wave")) > 0


def test_keys_give_exactly_their_rows_in_their_order(store: Store) -> None:
    keys = warehouse.examples(store, scheme="artist")
    shuffled = keys.take(np.random.default_rng(3).permutation(len(keys))[:23])
    repeated = pa.concat_tables([shuffled, shuffled.slice(0, 2)])
    batches = list(warehouse.iter_mels(store, keys=repeated.select(["track_id", "excerpt"]), batch_size=6))
    assert np.concatenate([b.track_ids for b in batches]).tolist() == repeated["track_id"].to_pylist()
    assert np.concatenate([b.excerpts for b in batches]).tolist() == repeated["excerpt"].to_pylist()
    assert np.concatenate([b.genres for b in batches]).tolist() == repeated["genre"].to_pylist()
    expected = stored(store, "mel")
    mels = [m for b in batches for m in b.mels]
    for row, mel in zip(repeated.to_pylist(), mels, strict=True):
        raw = expected[row["track_id"], row["excerpt"]]["mel"]
        assert np.array_equal(mel, arrays.decode_mel(raw, store.spec.n_mels))  # type: ignore[arg-type]


def test_one_key_reads_one_row_group(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[list[int], list[str]]] = []
    original = pq.ParquetFile.read_row_groups

    def spy(self: pq.ParquetFile, groups: list[int], columns: list[str], **options: bool) -> pa.Table:
        read.append((list(groups), list(columns)))
        return original(self, groups, columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", spy)
    (batch,) = warehouse.iter_mels(store, keys=pa.table({"track_id": [10], "excerpt": [1]}))
    assert batch.track_ids.tolist() == [10]
    mels = [groups for groups, columns in read if columns == ["mel"]]
    assert len(mels) == 1
    assert len(mels[0]) == 1


def test_keys_that_are_not_there_are_named(store: Store) -> None:
    with pytest.raises(MissingInput, match="no excerpt 5 of track 3"):
        warehouse.iter_mels(store, keys=pa.table({"track_id": [3], "excerpt": [5]}))
    with pytest.raises(UsageError, match="lack the column excerpt"):
        warehouse.iter_mels(store, keys=pa.table({"track_id": [3]}))
    with pytest.raises(UsageError, match="already say"):
        warehouse.iter_mels(store, keys=pa.table({"track_id": [3], "excerpt": [0]}), split="test")
    with pytest.raises(UsageError, match="batch_size"):
        warehouse.iter_mels(store, batch_size=0)
    assert list(warehouse.iter_mels(store, keys=pa.table({"track_id": pa.array([], pa.int64()), "excerpt": []}))) == []


def test_a_store_without_waveforms_says_so(tmp_path: Path) -> None:
    spec = Spec(n_mels=32, excerpt_seconds=1.0, wave_seconds=0.0)
    store = make_store(str(tmp_path), tracks=3, spec=spec, arrays_too=False)
    with pytest.raises(MissingInput, match="keeps no waveforms"):
        warehouse.iter_waves(store)
    with pytest.raises(MissingInput, match="keeps no waveforms"):
        warehouse.examples(store, scheme="artist", table="wave")


def test_a_lost_mel_row_names_its_file(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=4)
    path = tmp_path / "mel" / "000001-00000.parquet"
    pq.write_table(pq.read_table(path).slice(0, 3), path)
    with pytest.raises(StoreDamaged, match=r"mel/000001-00000.parquet: no row of track 4, excerpt 0"):
        list(warehouse.iter_mels(store))


def test_streams_read_from_another_filesystem(store: Store) -> None:
    url = f"memory://{uuid.uuid4().hex}/store"
    make_store(url, tracks=30, excerpts=2, batch_tracks=7)
    here, there = warehouse.matrix(store), warehouse.matrix(url)
    assert np.array_equal(here.X, there.X)
    keys = warehouse.examples(store, scheme="random", split="training").slice(0, 9)
    for a, b in zip(warehouse.iter_mels(store, keys=keys), warehouse.iter_mels(url, keys=keys), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a.mels, b.mels, strict=True))


# ---------------------------------------------------------------- keys


def test_examples_are_the_labelled_keys_of_a_split(partly: Store) -> None:
    splits = {r["track_id"]: r["split"] for r in partly.read_catalog("splits").to_pylist() if r["scheme"] == "artist"}
    table = warehouse.examples(partly, scheme="artist", table="features")
    assert table.schema.names == ["track_id", "excerpt", "genre", "split"]
    assert table.to_pylist() == [
        {"track_id": i, "excerpt": 0, "genre": g, "split": splits[i]} for i, g in ((1, "A"), (3, "B"), (4, "B"))
    ]
    assert warehouse.examples(partly, scheme="artist", subset="small", table="features")["track_id"].to_pylist() == [1]
    with pytest.raises(UsageError, match=re.escape("features, mel, wave")):
        warehouse.examples(partly, scheme="artist", table="tracks")
