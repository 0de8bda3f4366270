"""The warehouse in SQL: views, comments, macros, and what a snapshot shows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import warehouse
from featurestore import registry, schemas
from featurestore.errors import FeatureStoreError, StoreDamaged
from featurestore.store import arrays
from featurestore.store.store import Store
from tests.factories import SMALL_SPEC, batch_tables, make_store, write_features
from warehouse.database.readonly import SnapshotFiles
from warehouse.database.views import MACROS, VIEWS

ROOT = Path(warehouse.__file__).parent
COLUMNS = registry.column_names(SMALL_SPEC.groups)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(str(tmp_path_factory.mktemp("store")), excerpts=2)


@pytest.fixture(scope="module")
def db(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = warehouse.connect(store)
    yield connection
    connection.close()


def rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    return [tuple(r.values()) for r in warehouse.query(store, sql).to_pylist()]


# ---------------------------------------------------------------- files and comments


def test_every_sql_file_is_used_and_says_what_it_answers() -> None:
    assert {p.stem for p in (ROOT / "sql" / "views").glob("*.sql")} == set(VIEWS)
    assert {p.stem for p in (ROOT / "sql" / "macros").glob("*.sql")} == set(MACROS)
    for path in ROOT.rglob("*.sql"):
        assert path.read_text().startswith("-- "), f"{path} has no comment on top"


def test_every_view_and_every_column_is_described(db: duckdb.DuckDBPyConnection) -> None:
    sql = (
        "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal UNION FROM (SELECT table_name, comment FROM "
    )
    about = dict(db.execute(f"{sql} duckdb_tables())").fetchall())
    assert all(about[name] for name in (*VIEWS, "spec", "feature_columns"))
    bare = db.execute(
        "SELECT table_name, column_name FROM duckdb_columns()"
        " WHERE schema_name = 'main' AND NOT internal AND comment IS NULL"
    ).fetchall()
    assert bare == []


def test_the_database_explains_a_feature_column(db: duckdb.DuckDBPyConnection) -> None:
    ask = "SELECT comment FROM duckdb_columns() WHERE table_name = 'features' AND column_name = $1"
    kurtosis = db.execute(ask, ["spectral_contrast_kurtosis_03"]).fetchall()[0][0]
    assert "octave band" in kurtosis
    assert "dimension 3 of 7" in kurtosis
    assert "kurtosis" in kurtosis
    assert db.execute(ask, ["spectral_centroid_mean_01"]).fetchall()[0][0].endswith("[Hz]")


# ---------------------------------------------------------------- views


def test_tracks_join_the_catalog_with_what_was_measured(store: Store) -> None:
    (row,) = warehouse.query(store, "SELECT * FROM tracks WHERE track_id = 1").to_pylist()
    assert row["genre"] == "Ambient"
    assert row["excerpts"] == 2
    assert row["duration_s"] == pytest.approx(2 * store.spec.excerpt_seconds)
    assert row["rms"] == pytest.approx(0.1, rel=1e-6)
    assert row["failure"] is None
    assert rows(store, "SELECT count(*) FROM tracks") == [(60,)]


def test_features_long_holds_the_same_values_as_features(store: Store) -> None:
    wide = warehouse.query(store, "SELECT mfcc_mean_02 FROM features WHERE track_id = 7 AND excerpt = 1")
    long = warehouse.query(
        store,
        "SELECT value FROM features_long WHERE track_id = 7 AND excerpt = 1"
        " AND feature = 'mfcc' AND statistic = 'mean' AND dimension = 2",
    )
    assert long["value"].to_pylist() == wide["mfcc_mean_02"].to_pylist()
    assert rows(store, "SELECT count(*) FROM features_long") == [(120 * len(COLUMNS),)]


def test_mel_db_gives_the_stored_numbers(store: Store) -> None:
    got = warehouse.query(store, "SELECT mel, n_mels, mel_db(mel) AS db FROM mel ORDER BY track_id, excerpt LIMIT 3")
    for row in got.to_pylist():
        expected = arrays.decode_mel(row["mel"], row["n_mels"]).ravel()
        assert np.array_equal(np.array(row["db"], np.float32), expected)
    assert rows(store, "SELECT mel_db(NULL)") == [(None,)]


def test_damaged_mel_bytes_are_an_error_that_says_so(store: Store) -> None:
    with pytest.raises(FeatureStoreError, match="not a whole number of frames"):
        warehouse.query(store, r"SELECT mel_db('\x00\x00'::BLOB)")


def test_provenance_and_spec_say_how_values_were_made(store: Store) -> None:
    (row,) = warehouse.query(store, "FROM provenance").to_pylist()
    assert (row["spec"], row["tracks"], row["excerpts"]) == (store.spec.fingerprint, 60, 120)
    assert row["hours"] == pytest.approx(120 * 2.0 / 3600)
    assert rows(store, "SELECT value FROM spec WHERE name = 'sample_rate'") == [("22050",)]


def test_times_are_plain_utc_timestamps(db: duckdb.DuckDBPyConnection) -> None:
    # with a time zone, DuckDB would need pytz to hand one to Python
    (value,) = db.execute("SELECT extracted_at FROM excerpts LIMIT 1").fetchall()[0]
    assert value.isoformat() == "2026-01-01T00:00:00"


def genre_rows(*triples: tuple[int, str, int | None, int]) -> pa.Table:
    names = ("genre_id", "title", "parent_id", "top_level_id")
    return schemas.from_rows([dict(zip(names, t, strict=True)) for t in triples], schemas.GENRES)


@pytest.fixture
def genre_store(tmp_path: Path) -> Store:
    store = make_store(str(tmp_path / "s"), tracks=3, arrays_too=False)
    store.write_catalog(
        "genres",
        genre_rows((12, "Rock", None, 12), (58, "Psych-Rock", 12, 12), (183, "Krautrock", 58, 12), (9, "Lost", 99, 9)),
    )
    tracks = [
        {"track_id": 1, "dataset": "d", "genre": "Rock", "genre_ids": [183]},
        {"track_id": 2, "dataset": "d", "genre": "Rock", "genre_ids": [58, 12]},
        {"track_id": 3, "dataset": "d", "genre": "Rock", "genre_ids": None},
        {"track_id": 4, "dataset": "d", "genre": None, "genre_ids": [7777]},
    ]
    store.write_catalog("tracks", schemas.from_rows(tracks, schemas.TRACKS))
    return store


def test_track_genres_include_ancestors(genre_store: Store) -> None:
    got = rows(genre_store, "SELECT track_id, genre_id, genre, distance FROM track_genres ORDER BY ALL")
    assert got == [
        (1, 12, "Rock", 2),
        (1, 58, "Psych-Rock", 1),
        (1, 183, "Krautrock", 0),
        (2, 12, "Rock", 0),
        (2, 58, "Psych-Rock", 0),
        (3, 12, "Rock", 0),
        (4, 7777, None, 0),
    ]


def test_genre_path_leads_from_the_top_level_down(genre_store: Store) -> None:
    sql = "SELECT genre_path(183), genre_path(12), genre_path(9), genre_path(12345)"
    assert rows(genre_store, sql) == [("Rock > Psych-Rock > Krautrock", "Rock", "Lost", None)]


# ---------------------------------------------------------------- macros


def test_feature_profile_equals_numpy(store: Store) -> None:
    table = warehouse.query(store, "FROM feature_profile('mfcc_mean_01')")
    m = warehouse.matrix(store, groups=["mfcc_mean_01"])
    for row in table.to_pylist():
        x = m.X[m.y == row["genre"], 0].astype(np.float64)
        assert row["n"] == len(x) == 40
        assert row["mean"] == pytest.approx(x.mean(), rel=1e-6, abs=1e-9)
        assert row["deviation"] == pytest.approx(x.std(ddof=1), rel=1e-6)
        quartiles = np.quantile(x, [0.25, 0.5, 0.75])
        assert [row["q25"], row["q50"], row["q75"]] == pytest.approx(quartiles, rel=1e-5, abs=1e-7)


def test_feature_profile_of_a_feature_has_its_columns_and_no_others(store: Store) -> None:
    got = rows(store, "SELECT DISTINCT column_name FROM feature_profile('mfcc') ORDER BY 1")
    assert [r[0] for r in got] == sorted(c for c in COLUMNS if registry.parse_column(c)[0] == "mfcc")  # type: ignore[index]


def test_similar_tracks_equal_a_plain_nearest_neighbour_search(store: Store) -> None:
    m = warehouse.matrix(store)
    X = m.X.astype(np.float64)
    Z = (X - X.mean(0)) / X.std(0)
    distance = np.linalg.norm(Z[:, None] - Z[m.track_ids == 5][None], axis=2).min(1)
    best = {i: distance[m.track_ids == i].min() for i in set(m.track_ids.tolist()) - {5}}
    expected = sorted(best, key=lambda i: (best[i], i))[:4]
    got = rows(store, "SELECT track_id, distance FROM similar_tracks(5, 4)")
    assert [r[0] for r in got] == expected
    assert [r[1] for r in got] == pytest.approx([best[i] for i in expected], rel=1e-4)


def test_a_constant_feature_does_not_disturb_similar_tracks(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path), SMALL_SPEC)
    values = np.zeros((3, len(COLUMNS)))
    values[:, 0] = [0, 1, 3]
    write_features(store, "000001-00000", [1, 2, 3], values)
    deviation = np.std([0, 1, 3])
    got = rows(store, "SELECT track_id, distance FROM similar_tracks(1, 5)")
    assert [r[0] for r in got] == [2, 3]
    assert [r[1] for r in got] == pytest.approx([1 / deviation, 3 / deviation], rel=1e-5)


def test_duplicates_are_files_with_the_same_bytes(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=4, arrays_too=False)
    tables = batch_tables(
        store.spec,
        "000002-00000",
        [(8, 0), (9, 0)],
        np.zeros((2, len(COLUMNS)), np.float32),
        np.zeros(2, int),
        False,
        np.random.default_rng(0),
    )
    hashes = pa.array([f"{1:032x}", "f" * 32])
    place = tables["excerpts"].schema.get_field_index("source_hash")
    tables["excerpts"] = tables["excerpts"].set_column(place, tables["excerpts"].schema.field(place), hashes)
    store.write_batch("000002-00000", tables)
    assert rows(store, "SELECT tracks, track_ids FROM duplicates()") == [(2, [1, 8])]


def test_feature_drift_finds_the_column_that_moved(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=60, arrays_too=False, signal=0, artist_signal=0)
    split = dict(rows(store, "SELECT track_id, split FROM splits WHERE scheme = 'artist'"))
    m = warehouse.matrix(store)
    X = m.X.copy()
    X[[split[i] == "test" for i in m.track_ids], 3] += 10
    write_features(store, "000002-00000", m.track_ids.tolist(), X)
    first = warehouse.query(store, "FROM feature_drift('artist')").to_pylist()[0]
    assert first["column_name"] == COLUMNS[3]
    a, b = (X[[split[i] == s for i in m.track_ids], 3].astype(np.float64) for s in ("training", "test"))
    expected = (b.mean() - a.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    assert first["shift"] == pytest.approx(expected, rel=1e-5)


# ---------------------------------------------------------------- snapshots


def test_superseded_rows_never_show(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=10, batch_tracks=5)
    values = np.full((2, len(COLUMNS)), 7.0)
    write_features(store, "000002-00000", [2, 9], values)
    for table in ("features", "mel", "wave", "excerpts"):
        assert rows(store, f"SELECT count(*), count(DISTINCT track_id) FROM {table}") == [(10, 10)], table
    sql = "SELECT track_id, mfcc_mean_01 FROM features WHERE mfcc_mean_01 = 7 ORDER BY 1"
    assert rows(store, sql) == [(2, 7.0), (9, 7.0)]
    m = warehouse.matrix(store)
    assert m.track_ids.tolist() == list(range(1, 11))
    assert (m.X[[1, 8]] == 7).all()
    assert not (m.X[[0, 2, 3, 4, 5, 6, 7, 9]] == 7).any()


def test_a_track_that_failed_later_is_gone_and_named(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=6)
    empty = {t: schemas.measured_schema(t, store.spec).empty_table() for t in schemas.MEASURED}
    failure = {
        "track_id": 4,
        "path": "000004.wav",
        "batch": "000002-00000",
        "spec": store.spec.fingerprint,
        "source_bytes": 0,
        "source_hash": "",
        "stage": "decode",
        "kind": "empty",
        "message": "0 bytes",
        "failed_at": 0,
    }
    store.write_batch("000002-00000", {**empty, "failures": schemas.from_rows([failure], schemas.FAILURES)})
    assert rows(store, "SELECT track_id FROM features ORDER BY 1") == [(1,), (2,), (3,), (5,), (6,)]
    assert rows(store, "SELECT failure, excerpts FROM tracks WHERE track_id = 4") == [("empty", 0)]
    assert warehouse.matrix(store).track_ids.tolist() == [1, 2, 3, 5, 6]


def test_a_file_without_its_excerpts_is_not_a_batch(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=6, batch_tracks=3)
    store.fs.rm_file(store.batch_path("excerpts", "000001-00001"))
    assert rows(store, "SELECT count(*) FROM features") == [(3,)]
    assert len(warehouse.matrix(store).X) == 3


def test_a_connection_goes_on_seeing_what_it_saw_first(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=6)
    with warehouse.connect(store) as connection:
        write_features(store, "000002-00000", [50], np.zeros((1, len(COLUMNS))))
        store.write_catalog("tracks", schemas.TRACKS.empty_table())
        assert connection.execute("SELECT count(*) FROM features").fetchall() == [(6,)]
        assert connection.execute("SELECT count(*) FROM tracks").fetchall() == [(6,)]
    assert rows(store, "SELECT count(*) FROM features") == [(7,)]
    assert rows(store, "SELECT count(*) FROM tracks") == [(0,)]


def test_a_lost_file_is_named_with_the_command_that_mends_it(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=6, batch_tracks=3)
    features = tmp_path / "features" / "000001-00000.parquet"
    whole = features.read_bytes()
    features.write_bytes(b"PAR1 but not really")
    with pytest.raises(StoreDamaged, match=r"(?s)features/000001-00000.parquet.*verify --repair"):
        warehouse.connect(store)
    features.write_bytes(whole)
    (tmp_path / "mel" / "000001-00001.parquet").unlink()
    with pytest.raises(FeatureStoreError, match=r"mel/000001-00001.parquet: this file of the store is gone"):
        warehouse.query(store, "SELECT mel FROM mel")


def test_threads_that_share_a_file_handle_read_their_own_bytes(tmp_path: Path) -> None:
    # DuckDB seeks and reads in two calls, from several threads, on one handle
    store = make_store(str(tmp_path), tracks=3, arrays_too=False)
    name = "features/000001-00000.parquet"
    data = (tmp_path / name).read_bytes()
    handle = SnapshotFiles(store, [name]).open(f"store://{name}")
    turn = threading.Barrier(2)

    def read(start: int) -> bytes:
        handle.seek(start)
        turn.wait(timeout=10)
        return bytes(handle.read(100))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(read, [0, 1000])) == [data[:100], data[1000:1100]]
    handle.close()
