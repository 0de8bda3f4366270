"""A store's files: what a snapshot shows, what damage is found where, and that only regular files are opened."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from featurestore import schemas
from featurestore.__main__ import main
from featurestore.errors import FeatureStoreError, MissingStore, StoreDamaged
from featurestore.maintenance import compact
from featurestore.maintenance.gc import gc
from featurestore.maintenance.verify import check_batch, check_table, verify
from featurestore.store import files, manifest, parquet, places
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.factories import make_store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "store"
    make_store(str(path), tracks=12, batch_tracks=6)
    return path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    """A store of two batches that a test may damage."""
    return Store.open(str(shutil.copytree(made, tmp_path / "store")))


def renamed(excerpts: pa.Table, batch: str) -> pa.Table:
    """The rows as those of another batch."""
    at = excerpts.column_names.index("batch")
    return excerpts.set_column(at, excerpts.field(at), pa.array([batch] * len(excerpts), pa.string()))


def within(seconds: float, call: Callable[[], object]) -> object:
    """What `call` returns or raises; fails if it takes longer."""
    answer: list[object] = []

    def run() -> None:
        try:
            answer.append(call())
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert answer, f"no answer in {seconds} s"
    return answer[0]


# ---------------------------------------------------------------- snapshots


def test_the_newest_batch_of_a_track_wins_and_empty_batches_are_not_read(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tracks=4, batch_tracks=2, arrays_too=False)
    tables = {name: store.read_batch(name, "000001-00000") for name in schemas.MEASURED}
    half = {name: t.slice(0, 1) for name, t in tables.items()}
    store.write_batch("000002-00000", {**half, "excerpts": renamed(half["excerpts"], "000002-00000")})
    snapshot = store.snapshot()
    assert snapshot.batches == ("000001-00000", "000001-00001", "000002-00000")
    assert snapshot.superseded.to_pylist() == [{"track_id": 1, "batch": "000001-00000"}]
    store.write_batch("000003-00000", {**tables, "excerpts": renamed(tables["excerpts"], "000003-00000")})
    snapshot = store.snapshot()
    assert snapshot.batches == ("000001-00001", "000003-00000")
    assert snapshot.retired == ("000001-00000", "000002-00000")
    assert snapshot.superseded.num_rows == 0
    assert sorted(store.read_current("excerpts")["track_id"].to_pylist()) == [1, 2, 3, 4]


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    opened = make_store(str(tmp_path / "store"), tracks=4, batch_tracks=2)
    tables = {name: opened.read_batch(name, "000001-00000") for name in schemas.MEASURED}
    for name in ("one", "two"):
        Store.create(str(tmp_path / name), opened.spec).write_batch("000001-00000", tables)
    for path in (tmp_path / "one").rglob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_snapshot_is_quick_to_take_because_it_reads_keys_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(str(tmp_path / "store"), tracks=8, batch_tracks=2, arrays_too=False)
    read: list[str] = []
    real = Store.read_batch

    def counted(self: Store, table: str, batch: str, columns: object = None) -> pa.Table:
        read.append(table)
        assert columns == ["track_id"]
        return real(self, table, batch, columns)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "read_batch", counted)
    store.snapshot()
    assert sorted(read) == ["excerpts"] * 4 + ["failures"] * 4


def test_the_fingerprint_is_of_what_is_shown(store: Store, tmp_path: Path) -> None:
    first = store.snapshot().fingerprint
    moved = shutil.copytree(store.root, tmp_path / "moved")
    assert Store.open(str(moved)).snapshot().fingerprint == first
    compact.compact(store.url)
    merged = store.snapshot()
    assert merged.fingerprint != first
    gc(store.url, grace_s=0)
    assert store.snapshot().fingerprint == merged.fingerprint, "what gc removes was not shown"
    store.remove_batch(merged.batches[-1])
    assert store.snapshot().fingerprint != merged.fingerprint


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("features", "zcr_mean_01", 0.5), ("wave", "scale", 0.5), ("excerpts", "peak", 0.5), ("excerpts", "path", "x")],
)
def test_the_fingerprint_is_of_every_value(store: Store, table: str, column: str, value: object) -> None:
    first = store.snapshot().fingerprint
    tables = {name: store.read_batch(name, "000001-00001") for name in schemas.MEASURED}
    store.write_batch("000001-00001", tables)
    assert store.snapshot().fingerprint == first
    at = tables[table].column_names.index(column)
    field = tables[table].field(at)
    tables[table] = tables[table].set_column(at, field, pa.array([value] * len(tables[table]), field.type))
    store.write_batch("000001-00001", tables)
    assert store.snapshot().fingerprint != first


def test_derived_databases_are_the_warehouses(store: Store) -> None:
    folder = Path(store.path(places.DERIVED))
    folder.mkdir()
    names = [f"{i:032x}-{i:016x}.duckdb" for i in range(3)]
    for i, name in enumerate([*names, "mine.duckdb", f".{names[0]}.0123abcd{files.TEMPORARY}.wal"]):
        (folder / name).write_bytes(b"no database")
        os.utime(folder / name, (i, i))
    assert not [d for d in verify(store.url).damages if "derived" in d.file]
    report = gc(store.url, dry_run=True)
    assert (report.derived, report.leftovers) == (2, 1)
    gc(store.url)
    assert sorted(p.name for p in folder.iterdir()) == [names[2], "mine.duckdb"]


# ---------------------------------------------------------------- damage


def flipped(path: Path, bit: int) -> bytes:
    """Flip one bit of a file; returns what it was."""
    before = path.read_bytes()
    data = bytearray(before)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return before


@pytest.mark.parametrize("table", ["features", "mel", "wave", "failures"])
def test_any_bit_of_what_was_measured_is_found(store: Store, table: str) -> None:
    path = Path(store.batch_path(table, "000001-00001"))
    size = 8 * path.stat().st_size
    for bit in (0, size - 1, *random.Random(table).sample(range(size), 20), *range(size - 200, size, 23)):
        before = flipped(path, bit)
        damages = [(d.file, d.message.partition(":")[0]) for d in check_batch(store, "000001-00001")]
        path.write_bytes(before)
        assert damages == [(f"{table}/000001-00001.parquet", "checksum")], f"bit {bit} of {size}"


@pytest.mark.parametrize("file", ["excerpts/000001-00001", "catalog/tracks", "catalog/splits"])
def test_a_bit_of_a_file_without_a_digest_elsewhere_is_found_or_changes_nothing(store: Store, file: str) -> None:
    """Its rows are covered by a digest in its own footer; in the footer, what nobody reads may change unnoticed."""
    path = Path(store.path(f"{file}.parquet"))
    rows = parquet.read(store.fs, str(path))
    data = path.read_bytes()
    size, footer = 8 * len(data), 8 * (len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
    found = 0
    for bit in (*random.Random(file).sample(range(footer), 20), *random.Random(file).sample(range(footer, size), 150)):
        before = flipped(path, bit)
        if file.startswith("excerpts"):
            damages = [d for d in check_batch(store, "000001-00001") if d.file.startswith("excerpts")]
        else:
            damages = check_table(store, f"{file}.parquet")
        if not damages:
            assert bit >= footer
            assert parquet.read(store.fs, str(path)).equals(rows)
        found += bool(damages)
        path.write_bytes(before)
    assert found > 100


def test_a_manifest_comes_back_whole_from_its_copy(store: Store) -> None:
    store.update_manifest(golden={"values": {"a": 1.0}}, values_since="000001")
    path, copy = Path(store.path(manifest.MANIFEST)), Path(store.path(manifest.COPY))
    text = path.read_bytes()
    assert copy.read_bytes() == text
    for damaged in (path, copy):
        flipped(damaged, 8 * 40)
        assert damaged.name in {d.file for d in verify(store.url).damages}
        verify(store.url, repair=True)
        assert path.read_bytes() == copy.read_bytes() == text
        store = Store.open(store.url)


def test_a_lost_manifest_is_damage_and_not_a_new_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    Path(store.path(manifest.MANIFEST)).unlink()
    with pytest.raises(StoreDamaged, match=r"store.json: missing"):
        Store.open_or_create(store.url)
    assert cli.run(main, ["status", "--store", store.url]) == 1
    assert "verify --repair" in capsys.readouterr().err
    verify(store.url, repair=True)
    assert Store.open(store.url).manifest == store.manifest
    Path(store.path(manifest.MANIFEST)).unlink()
    Path(store.path(manifest.COPY)).unlink()
    with pytest.raises(MissingStore):
        verify(store.url, repair=True)
    with pytest.raises(FeatureStoreError, match="not a feature store and not empty"):
        Store.open_or_create(store.url)


def test_a_copy_that_its_writer_did_not_reach_is_no_damage_and_the_next_writer_mends_it(store: Store) -> None:
    copy = Path(store.path(manifest.COPY))
    old = copy.read_bytes()
    store.update_manifest(golden={"values": {}})
    copy.write_bytes(old)
    assert manifest.COPY not in {d.file for d in verify(store.url).damages}
    gc(store.url)
    assert copy.read_bytes() == Path(store.path(manifest.MANIFEST)).read_bytes()


# ---------------------------------------------------------------- regular files only


def test_a_pipe_among_the_batches_stops_nobody(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(store.batch_path("excerpts", "000009-00000"))
    os.symlink("/dev/zero", store.batch_path("excerpts", "000009-00001"))
    assert within(30, store.batches) == ("000001-00000", "000001-00001")
    for command in (["status"], ["verify", "--sample", "0"], ["gc", "--grace", "0"], ["compact"]):
        assert within(60, lambda command=command: cli.run(main, [*command, "--store", store.url])) in (0, 1)
    assert Path(store.batch_path("excerpts", "000009-00000")).is_fifo(), "not the store's"


@pytest.mark.parametrize("place", ["features/000001-00001.parquet", "failures/000001-00001.parquet"])
def test_a_pipe_in_the_place_of_a_file_is_damage(store: Store, place: str) -> None:
    path = store.path(place)
    os.unlink(path)
    os.mkfifo(path)
    table = place.partition("/")[0]
    assert isinstance(within(30, lambda: store.read_batch(table, "000001-00001")), StoreDamaged)
    report = within(60, lambda: verify(store.url))
    assert (place, f"[Errno 22] not a regular file: {path!r}") in {(d.file, d.message) for d in report.damages}  # type: ignore[attr-defined]


@pytest.mark.parametrize("place", ["store.json", "catalog/tracks.parquet"])
def test_a_pipe_in_the_place_of_the_catalog_or_the_manifest_is_a_message(store: Store, place: str) -> None:
    os.unlink(store.path(place))
    os.mkfifo(store.path(place))
    assert within(60, lambda: cli.run(main, ["status", "--store", store.url])) == 1
