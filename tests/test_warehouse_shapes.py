"""The views over stores of every shape: incomplete, of an older version, elsewhere, of every stored type."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import warehouse
from featurestore import registry
from featurestore.errors import MissingStore
from featurestore.spec import Spec
from featurestore.store import arrays
from featurestore.store.store import Store
from tests.factories import SMALL_SPEC, make_store, write_features
from warehouse.database.views import VIEWS

ROOT = Path(warehouse.__file__).parent
COLUMNS = registry.column_names(SMALL_SPEC.groups)


def rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    return [tuple(r.values()) for r in warehouse.query(store, sql).to_pylist()]


@pytest.mark.parametrize("kind", ["empty", "catalog only", "no catalog"])
def test_views_are_typed_in_an_incomplete_store(tmp_path: Path, kind: str) -> None:
    full = make_store(str(tmp_path / "full"), tracks=4)
    store = Store.create(str(tmp_path / "store"), SMALL_SPEC)
    if kind == "catalog only":
        shutil.copytree(tmp_path / "full" / "catalog", tmp_path / "store" / "catalog")
    if kind == "no catalog":
        write_features(store, "000001-00000", [1], np.zeros((1, len(COLUMNS))))
    with warehouse.connect(full) as a, warehouse.connect(store) as b:
        for view in VIEWS:
            assert b.execute(f"DESCRIBE {view}").fetchall() == a.execute(f"DESCRIBE {view}").fetchall(), view
            b.execute(f"FROM {view}").fetchall()
        for call in ("feature_profile('mfcc')", "similar_tracks(1, 2)", "duplicates()", "feature_drift('artist')"):
            assert b.execute(f"FROM {call}").fetchall() == [], call
    expected = {"empty": (0, 0), "catalog only": (4, 0), "no catalog": (0, 1)}[kind]
    assert rows(store, "SELECT (SELECT count(*) FROM tracks), (SELECT count(*) FROM features)") == [expected]


def test_a_catalog_of_an_older_version_shows_its_missing_columns_as_null(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=4, arrays_too=False)
    old = store.read_catalog("tracks").drop_columns(["artist_comments", "composer"])
    import pyarrow.parquet as pq

    pq.write_table(old, store.catalog_path("tracks"))
    assert rows(store, "SELECT composer, artist_comments, genre FROM tracks WHERE track_id = 1") == [
        (None, None, "Ambient")
    ]


def test_an_imported_set_is_a_view_with_comments(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=4, arrays_too=False)
    described = pa.field("danceability", pa.float32(), metadata={"description": "how danceable", "unit": "0 to 1"})
    schema = pa.schema([pa.field("track_id", pa.int64()), described, pa.field("mfcc_mean_01", pa.float32())])
    table = pa.table([[1, 2], [0.5, 0.25], [1.0, 2.0]], schema=schema)
    store.write_catalog("features_echonest", table)
    assert rows(store, "SELECT track_id, danceability FROM features_echonest ORDER BY 1") == [(1, 0.5), (2, 0.25)]
    comments = dict(
        rows(store, "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'features_echonest'")
    )
    assert comments["danceability"] == "how danceable [0 to 1]"
    assert "mel-frequency" in str(comments["mfcc_mean_01"])
    sets = rows(store, "SELECT feature_set, count(*) FROM feature_columns GROUP BY 1 ORDER BY 1")
    assert sets == [("echonest", 2), ("librosa", len(COLUMNS))]


def test_a_store_behind_another_filesystem_answers_the_same(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}/store"
    local, remote = make_store(str(tmp_path), excerpts=2), make_store(url, excerpts=2)
    write_features(remote, "000002-00000", [3], np.ones((1, len(COLUMNS))))
    write_features(local, "000002-00000", [3], np.ones((1, len(COLUMNS))))
    for sql in (
        "SELECT * FROM tracks ORDER BY track_id",
        "SELECT * FROM features ORDER BY track_id, excerpt",
        "SELECT track_id, list_sum(mel_db(mel)) FROM mel ORDER BY track_id, excerpt",
        "FROM similar_tracks(3, 5)",
    ):
        assert warehouse.query(url, sql).equals(warehouse.query(local, sql)), sql


def test_no_store_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(MissingStore, match="python -m featurestore build"):
        warehouse.connect(str(tmp_path / "nothing"))


def test_mel_db_decodes_what_is_stored(tmp_path: Path) -> None:
    store = make_store(str(tmp_path), tracks=2, spec=Spec(n_mels=32, excerpt_seconds=0.5))
    (row,) = warehouse.query(store, "SELECT mel, mel_db(mel) AS db FROM mel WHERE track_id = 1").to_pylist()
    expected = arrays.decode_mel(row["mel"], 32).ravel()
    assert np.array_equal(np.array(row["db"], np.float32), expected)
    assert len(expected) == 32 * store.spec.n_frames(store.spec.excerpt_samples)
