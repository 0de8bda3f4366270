"""Other people's files that are broken or mean harm: a clear failure, never a crash, a hang, a traceback, or a file
somewhere else.

The package's own files, damaged or forged, are in `test_hostile_own`, SQL in `test_hostile_sql`.
"""

# ruff: noqa: PT017 - a mutated file may be sound or refused, and both are checked
from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import warehouse
from benchmarks.synthesize import synthesize
from featurestore import datasets, schemas
from featurestore.audio import decode
from featurestore.catalog import import_features
from featurestore.datasets import tags
from featurestore.errors import AudioError, FeatureStoreError
from featurestore.store.store import Store
from tests import corpus, factories
from tests.builds import SPEC, run_build
from tests.fuzzing import fuzz, mutated, snapshot

# ---------------------------------------------------------------- audio

AUDIO = tuple(corpus.encoded(format, subtype, 0.4, 8000) for _, format, subtype in corpus.ENCODED)


def test_a_build_of_the_whole_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio, elsewhere, scratch = corpus.broken_audio(tmp_path / "audio"), tmp_path / "cwd", tmp_path / "tmp"
    elsewhere.mkdir()
    scratch.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("TMPDIR", str(scratch))
    before = snapshot(audio, elsewhere, scratch)
    report = run_build(tmp_path / "store", audio, dataset="tags")
    assert snapshot(audio, elsewhere, scratch) == before, "files outside the store"
    rows = warehouse.query(
        str(tmp_path / "store"),
        "SELECT tracks.path, kind, message, measured.duration_s, measured.channels, measured.native_rate FROM tracks "
        "LEFT JOIN (SELECT track_id, kind, message FROM failures) USING (track_id) "
        "LEFT JOIN (SELECT track_id, any_value(duration_s) AS duration_s, any_value(channels) AS channels, "
        "any_value(native_rate) AS native_rate FROM excerpts GROUP BY 1) AS measured USING (track_id)",
    ).to_pylist()
    assert len(rows) == len(before) == report.tracks
    by_name = {r["path"]: r for r in rows}
    for row in rows:
        assert (row["kind"] is None) == (row["duration_s"] is not None), row  # measured, or failed: one of both
        assert row["kind"] is None or (row["kind"] in schemas.FAILURE_KINDS and row["message"]), row
        assert row["kind"] not in ("crash", "timeout", "memory"), row
    measured = {name for name, row in by_name.items() if row["kind"] is None}
    assert measured >= set(corpus.SOUND)
    assert [n for n in sorted(measured - set(corpus.SOUND)) if not n.startswith("cut-")] == []
    assert (by_name["6-channels.wav"]["channels"], by_name["192-kHz.wav"]["native_rate"]) == (6, 192_000)
    expected = {"empty.mp3": "empty", "nan.wav": "non_finite", "infinite.wav": "non_finite", "page.mp3": "not_audio"}
    assert {name: by_name[name]["kind"] for name in expected} == expected
    features = Store.open(str(tmp_path / "store")).read_current("features").drop(["track_id", "excerpt"])
    assert np.isfinite(np.stack([c.to_numpy() for c in features.columns])).all()


@fuzz(150)
@given(mutated(AUDIO))
def test_mutated_audio_is_decoded_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.audio"
    path.write_bytes(data)
    try:
        excerpts = decode.decode(path, dataclasses.replace(SPEC, excerpts=2))
    except AudioError as error:
        assert error.kind in schemas.FAILURE_KINDS
        assert error.stage in schemas.FAILURE_STAGES
        return
    for excerpt in excerpts:
        assert np.isfinite(excerpt.y).all()
        assert SPEC.hop_length <= len(excerpt.y) <= SPEC.excerpt_samples


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    """The beginnings of tagged files of every container."""
    found = []
    for container in ("mp3", "ogg", "flac", "opus", "wav"):
        folder = tmp_path_factory.mktemp(container)
        synthesize(str(folder), tracks=1, seconds=0.2, format=container)
        found += [p.read_bytes()[:3000] for p in folder.rglob(f"*.{container}")]
    return tuple(found)


@fuzz(150)
@given(st.data())
def test_mutated_tags_are_read_or_left_out(
    tagged: tuple[bytes, ...], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "mutated.mp3").write_bytes(data.draw(mutated(tagged)))
    found = tags.read_tags(str(folder), "mutated.mp3")
    label = tags.labels_of(found or {}, "mutated.mp3")
    pa.Table.from_pylist([{k: v for k, v in label.items() if k != "genres"}], schema=None)
    assert all(isinstance(v, str) for values in (found or {}).values() for v in values)


# ---------------------------------------------------------------- tables of labels and features

TRACKS = b"""\
,album,artist,set,set,track,track,track,track
,title,name,split,subset,genre_top,genres,title,date_created
track_id,,,,,,,,
2,"AWOL, A Way Of Life",AWOL,training,small,Hip-Hop,[21],Food,2008-11-26 01:48:12
3,AWOL,"A ""W"" OL",validation,medium,Rock,"[21, 12]",Electric Ave,2008-11-26 01:48:14
5,Nothing,,test,large,,[],"two
lines",
"""
GENRES = b"""\
genre_id,#tracks,parent,title,top_level
12,32923,0,Rock,12
21,12910,0,Hip-Hop,21
"""
FEATURES = (
    b"track_id,a,b\n1,0.5,2\n2,,3e-5\n3,1,-1\n",
    b"feature,mfcc,mfcc\nstatistics,mean,std\nnumber,01,01\ntrack_id,,\n1,0.5,2\n2,0.25,3\n3,1,-1\n",
)


@fuzz(120)
@given(st.data())
def test_mutated_fma_labels_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "fma"
    folder.mkdir(exist_ok=True)
    which = data.draw(st.sampled_from(("tracks.csv", "genres.csv")))
    for name, content in (("tracks.csv", TRACKS), ("genres.csv", GENRES)):
        (folder / name).write_bytes(data.draw(mutated((content,))) if name == which else content)
    try:
        collection = datasets.load("fma", metadata=str(folder))
    except FeatureStoreError as error:
        assert str(folder) in str(error)
        return
    assert collection.tracks.schema.equals(schemas.TRACKS)
    assert collection.tracks["track_id"].null_count == 0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return factories.make_store(str(tmp_path_factory.mktemp("store") / "s"), tracks=12, batch_tracks=6)


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"track_id": [1, 2, 3], "a": [0.5, 1.0, None], "b": [1, 2, 3]}), sink)
    return sink.getvalue().to_pybytes()


@fuzz(150)
@given(st.data())
def test_mutated_feature_tables_are_imported_or_refused(
    store: Store, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix, bases = data.draw(st.sampled_from((("csv", FEATURES), ("tsv", FEATURES), ("parquet", (parquet_bytes(),)))))
    path = tmp_path_factory.getbasetemp() / f"table.{suffix}"
    path.write_bytes(data.draw(mutated(bases)))
    try:
        report = import_features.import_table(store.url, "mutated", str(path), ignore_unknown=True)
    except FeatureStoreError as error:
        assert str(error)
        return
    found = store.read_catalog("features_mutated")
    assert len(found) == report.matched
    assert set(found["track_id"].to_pylist()) <= set(range(1, 13))
