"""Input that is broken or means harm: a clear failure, never a crash, a hang, a traceback, or a file somewhere else.

Mutated files come from hypothesis: few here, the same ones every time; $FUZZ_EXAMPLES asks for more, and for new ones.
"""

# ruff: noqa: PT017 - a mutated file may be sound or refused, and both are checked
from __future__ import annotations

import ast
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import warehouse
from featurestore import cli, datasets, decode, import_features, schemas
from featurestore.datasets import tags
from featurestore.errors import AudioError, FeatureStoreError
from featurestore.store import MANIFEST, Store
from featurestore.synthesize import synthesize
from tests import corpus, factories
from tests.builds import ROOT, SPEC, run_build
from training import example, records
from training.sidecar import Sidecar
from warehouse.__main__ import main as ask

MORE = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def fuzz(examples: int) -> settings:
    """So many examples, always the same; with $FUZZ_EXAMPLES that many, and new ones in every run."""
    return settings(
        max_examples=MORE or examples,
        derandomize=not MORE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def mutated(draw: st.DrawFn, bases: tuple[bytes, ...]) -> bytes:
    """One of `bases` with bytes changed, cut out, doubled or put in, at up to six places."""
    data = bytearray(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.sampled_from((1, 2, 4, 16, 300)))
        what = draw(st.sampled_from(("flip", "cut", "double", "put", "end")))
        if what == "flip" and at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        elif what == "cut":
            del data[at : at + size]
        elif what == "double":
            data[at:at] = data[at : at + size]
        elif what == "put":
            data[at:at] = draw(st.sampled_from((b"\x00", b"\xff", b"\x80", b'"', b",", b"\n", b"{"))) * size
        else:
            del data[at:]
    return bytes(data)


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every file below the folders, with its size and modification time."""
    found = (p for folder in folders for p in folder.rglob("*"))
    return {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in found}


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
    features = Store.open(str(tmp_path / "store")).read("features").drop(["track_id", "excerpt"])
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


# ---------------------------------------------------------------- files of our own, damaged or made by others


@fuzz(150)
@given(st.data())
def test_a_mutated_manifest_is_refused(
    store: Store, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "manifest"
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_bytes(data.draw(mutated((Path(store.path(MANIFEST)).read_bytes(),))))
    try:
        opened = Store.open(str(folder))
    except FeatureStoreError as error:
        assert "manifest" in str(error) or MANIFEST in str(error)
        return
    assert opened.spec == store.spec  # what changed was white space


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def replaced(values: object, data: st.DataObject) -> object:
    """`values` with one thing in it, however deep, replaced by something else or left out."""
    if isinstance(values, dict) and values and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(values)))
        if data.draw(st.integers(0, 3)) == 0:
            return {k: v for k, v in values.items() if k != key}
        return {**values, key: replaced(values[key], data)}
    if isinstance(values, list) and values and data.draw(st.booleans()):
        i = data.draw(st.integers(0, len(values) - 1))
        return [*values[:i], replaced(values[i], data), *values[i + 1 :]]
    return data.draw(JSON)


@fuzz(200)
@given(st.data())
def test_a_manifest_that_was_sealed_with_other_values_is_refused(
    store: Store, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    values = replaced({k: v for k, v in store.manifest.items() if k != "seal"}, data)
    forged = dataclasses.replace(store, root=str(tmp_path_factory.getbasetemp() / "forged"), manifest={})
    if isinstance(values, dict) and all(isinstance(k, str) for k in values):
        forged.update_manifest(**values)
    else:
        Path(forged.root).mkdir(exist_ok=True)
        Path(forged.path(MANIFEST)).write_text(json.dumps(values))
    try:
        assert Store.open(forged.root).spec.fingerprint
    except FeatureStoreError as error:
        assert str(error)


def sidecar_values() -> dict[str, object]:
    shard = {"name": "training-00000-of-00001-2.tfrec", "split": "training", "records": 2, "bytes": 9, "sha256": "0"}
    return {
        "kind": "mel",
        "shape": [10, 32],
        "dtype": "float16",
        "low": -80.0,
        "high": 0.0,
        "compression": "none",
        "image": None,
        "classes": ["Ambient", "Blues"],
        "counts": {"training": {"Ambient": 1, "Blues": 1}},
        "tracks": {"training": 2},
        "normalisation": {"mean": [0.0], "std": [1.0]},
        "columns": [],
        "seed": 0,
        "scheme": "artist",
        "subset": None,
        "feature_set": None,
        "plan": "abc",
        "shards": [shard],
        "format": 1,
        "store": {"url": "s", "content": "c"},
        "spec": SPEC.as_dict(),
        "spec_fingerprint": SPEC.fingerprint,
    }


def test_the_sidecar_used_here_is_a_sound_one() -> None:
    assert Sidecar.from_json(json.dumps(sidecar_values()).encode(), "dataset.json").spec == SPEC


@fuzz(200)
@given(st.data())
def test_a_mutated_sidecar_is_refused(data: st.DataObject) -> None:
    text = json.dumps(sidecar_values()).encode()
    if data.draw(st.booleans()):
        text = json.dumps(replaced(sidecar_values(), data)).encode()
    else:
        text = data.draw(mutated((text,)))
    try:
        sidecar = Sidecar.from_json(text, "dataset.json")
        for split in schemas.SPLITS:
            assert sidecar.records(split) >= 0
        assert sidecar.encoding
    except FeatureStoreError as error:
        assert "dataset.json" in str(error)


@pytest.mark.parametrize("name", ["../outside.tfrec", "/outside.tfrec", "a/../../outside.tfrec", "..", "", "a/b.tfrec"])
def test_a_sidecar_cannot_name_a_file_elsewhere(name: str) -> None:
    values = sidecar_values()
    values["shards"] = [{**values["shards"][0], "name": name}]  # type: ignore[index]
    with pytest.raises(FeatureStoreError, match=r"dataset\.json"):
        Sidecar.from_json(json.dumps(values).encode(), "dataset.json")


PAYLOADS = tuple(
    example.encode({"array": bytes(range(i, i + 20)), "label": [i], "shape": (4, 5), "track_id": [1 << 40]})
    for i in range(3)
)
SHARD = b"".join(map(records.frame, PAYLOADS))


@fuzz(200)
@given(mutated((SHARD,)))
def test_mutated_records_are_sound_or_left_out(data: bytes) -> None:
    assert all(payload in PAYLOADS for payload in records.unframe(data, skip_damaged=True))
    try:
        assert all(payload in PAYLOADS for payload in records.unframe(data))
    except records.DamagedRecord as damage:
        assert 0 <= damage.offset < len(data)


@fuzz(200)
@given(mutated(PAYLOADS))
def test_mutated_examples_are_read_or_refused(data: bytes) -> None:
    try:
        example.decode(data)
    except ValueError as error:
        assert str(error)


# ---------------------------------------------------------------- SQL


@pytest.mark.parametrize(
    "sql",
    [
        "COPY tracks TO '{outside}/x.csv'",
        "COPY tracks TO 'store://excerpts/000001-00000.parquet'",
        "EXPORT DATABASE '{outside}/db'",
        "ATTACH '{outside}/x.duckdb'",
        "INSTALL httpfs",
        "LOAD '{outside}/x.duckdb_extension'",
        "SET enable_external_access = true",
        "SELECT * FROM read_text('{outside}/secret')",
        "SELECT * FROM '{outside}/secret'",
        "SELECT * FROM glob('{outside}/*')",
        "SELECT * FROM read_csv('{outside}/secret')",
        "CREATE TABLE t AS FROM tracks; COPY t TO '{outside}/y'",
        "SELECT getenv('HOME')",
        "SELECT mel_db('no mel'::BLOB)",
        "PRAGMA database_list; CHECKPOINT; SELECT * FROM nothing",
        "",
        ";;;",
        "SELECT '",
        "\x00",
    ],
)
def test_sql_neither_reads_nor_writes_elsewhere(
    sql: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("do not read this")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path, Path(store.root))
    code = cli.run(ask, [sql.format(outside=tmp_path), "--store", store.url])
    out, err = capsys.readouterr()
    assert code in (0, 1, 2)
    assert "Traceback" not in err
    assert "do not read" not in out + err
    assert os.environ["HOME"] not in out
    assert snapshot(tmp_path, Path(store.root)) == before


@fuzz(25)
@given(st.text(max_size=30) | mutated((b"SELECT genre, count(*) FROM tracks JOIN mel USING (track_id) GROUP BY 1",)))
def test_any_text_is_sql_or_an_error(store: Store, sql: str | bytes) -> None:
    text = sql.decode("utf-8", "replace") if isinstance(sql, bytes) else sql
    try:
        assert warehouse.query(store, text) is not None
    except FeatureStoreError as error:
        assert str(error)


# ---------------------------------------------------------------- code from data


def calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, what) of everything in a module that could run code found in data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            for name in named:
                if name.partition(".")[0] in {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml"}:
                    yield node.lineno, name
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in {"eval", "exec", "os.system", "joblib.load", "pd.read_pickle", "pandas.read_pickle"}:
                yield node.lineno, name
            for word in node.keywords:
                if word.arg in {"allow_pickle", "shell"} and getattr(word.value, "value", True) is not False:
                    yield node.lineno, f"{name}({word.arg})"


def test_nothing_runs_code_from_data() -> None:
    assert list(calls(ast.parse("import pickle; eval('1'); np.load(f, allow_pickle=True)"))) != []
    packages = ("featurestore", "warehouse", "analysis", "training")
    modules = [p for package in packages for p in (ROOT / package).rglob("*.py")]
    assert len(modules) > 50
    assert {str(p): found for p in modules if (found := list(calls(ast.parse(p.read_text()))))} == {}


def test_a_deep_manifest_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("[" * (10 * sys.getrecursionlimit()))
    with pytest.raises(FeatureStoreError, match=MANIFEST):
        Store.open(str(tmp_path))


def test_a_deep_sidecar_is_no_traceback() -> None:
    with pytest.raises(FeatureStoreError, match=r"dataset\.json"):
        Sidecar.from_json(b"[" * (10 * sys.getrecursionlimit()), "dataset.json")
