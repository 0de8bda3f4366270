"""verify, compact, gc and status: what they find, and that nothing they do is seen by a reader."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore import schemas
from featurestore.__main__ import main
from featurestore.errors import StoreDamaged
from featurestore.maintenance import compact as compacting
from featurestore.maintenance.compact import compact
from featurestore.maintenance.gc import gc
from featurestore.maintenance.status import status
from featurestore.maintenance.verify import verify
from featurestore.measure import golden
from featurestore.store import lock, manifest, parquet
from featurestore.store.store import COMMIT, Store
from tests import builds
from tests.builds import SPEC, content, differing, render_clip, render_clips, run_build, start
from tests.factories import make_store


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_clips(tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def built(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("stores") / "store"
    run_build(store, audio)
    return store


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    """A store of three batches that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / "store"))


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def rewrite(store: Path, table: str, batch: str, change: object) -> None:
    """Replace a file of a batch by one with other values and digests that fit, as only a bug of ours would."""
    opened = Store.open(str(store))
    tables = {name: opened.read_batch(name, batch) for name in schemas.MEASURED}
    changed = change(tables[table])  # type: ignore[operator]
    path = opened.batch_path(table, batch)
    notes = json.loads(pq.read_metadata(opened.batch_path("excerpts", batch)).metadata[COMMIT])["files"]
    if table != "excerpts":
        notes[table] = parquet.write(opened.fs, path, changed, table)
    commit = {COMMIT.decode(): json.dumps(manifest.seal({"files": notes}))}
    excerpts = changed if table == "excerpts" else tables["excerpts"]
    parquet.write(opened.fs, opened.batch_path("excerpts", batch), excerpts, "excerpts", commit)


# ---------------------------------------------------------------- verify


def test_an_intact_store_is_intact(store: Path) -> None:
    report = verify(str(store), sample=2)
    assert (report.damages, report.notes) == ((), ())
    assert (report.batches, report.files, report.recomputed) == (3, 2 + 3 * 5 + 4, 2 * SPEC.excerpts)


def test_a_flipped_bit_in_any_file_is_found(store: Path) -> None:
    """In the footers of excerpts and catalog only what changes an answer is: see `test_store`."""
    rng = random.Random(0)
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        data = path.read_bytes()
        size = len(data)
        if path.parent.name in ("excerpts", "catalog"):
            size -= 8 + int.from_bytes(data[-8:-4], "little")
        for at in {0, size - 1, len(data) - 1, *(rng.randrange(size) for _ in range(3))}:
            flip(path, at)
            found = {d.file for d in verify(str(store)).damages}
            flip(path, at)
            assert found == {str(path.relative_to(store))}, f"bit flipped at {at} of {size}"


def test_a_missing_or_cut_file_is_found(store: Path) -> None:
    (store / "mel" / "000001-00001.parquet").unlink()
    path = store / "wave" / "000001-00002.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    found = {d.file: d.message for d in verify(str(store)).damages}
    assert found["mel/000001-00001.parquet"] == "missing"
    assert found["wave/000001-00002.parquet"].startswith("checksum")
    assert len(found) == 2


def test_files_that_changed_places_are_found(store: Path) -> None:
    one, other = (store / "features" / f"000001-0000{i}.parquet" for i in (0, 1))
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    found = {d.file: d.message.partition(":")[0] for d in verify(str(store)).damages}
    assert found == dict.fromkeys(
        ("features/000001-00000.parquet", "features/000001-00001.parquet"),
        "checksum",
    )


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        ("features", lambda t: t.set_column(2, t.field(2), pa.array([np.nan] * len(t), pa.float32())), "is nan"),
        ("features", lambda t: _with(t, "zcr_max_01", 1.1), "zcr_max_01 of track"),
        ("features", lambda t: _with(t, "mfcc_std_03", -1.0), "mfcc_std_03 of track"),
        ("features", lambda t: _with(t, "spectral_rolloff_median_01", 4100.0), "rolloff_median_01 of track"),
        ("features", lambda t: t.slice(1), "keys differ from those of excerpts"),
        ("mel", lambda t: pa.concat_tables([t, t.slice(0, 1)]), "1 keys are there more than once"),
        ("mel", lambda t: t.set_column(3, t.field(3), pa.array([3] * len(t), pa.int32())), "values for 16 bands of 3"),
        ("excerpts", lambda t: _with(t, "clipped_share", 1.5), "clipped_share of track"),
        ("excerpts", lambda t: _with(t, "duration_s", 9.0), "frames, its duration gives"),
        ("excerpts", lambda t: _with(t, "spec", "0123456789abcdef"), "spec of track"),
        ("wave", lambda t: _with(t, "scale", 0.0), "scale 0.0"),
        ("features", lambda t: t.rename_columns([*t.column_names[:-1], "other_mean_01"]), "schema: 2 fields differ"),
    ],
)
def test_values_that_cannot_be_are_found(store: Path, table: str, change: object, words: str) -> None:
    rewrite(store, table, "000001-00001", change)
    messages = [d.message for d in verify(str(store)).damages]
    assert any(words in m for m in messages), messages


def _with(table: pa.Table, name: str, value: object) -> pa.Table:
    at = table.column_names.index(name)
    return table.set_column(at, table.field(at), pa.array([value] * len(table), table.field(at).type))


def test_a_value_that_is_not_that_of_the_audio_is_found(store: Path) -> None:
    rewrite(store, "features", "000001-00000", lambda t: _with(t, "spectral_centroid_mean_01", 1234.5))
    assert verify(str(store)).damages == ()
    found = verify(str(store), sample=6).damages
    assert {d.file for d in found} == {"features/000001-00000.parquet"}
    assert "spectral_centroid_mean_01: 1234.5 stored" in found[0].message


def test_a_track_that_the_catalog_lacks_is_found(store: Path) -> None:
    opened = Store.open(str(store))
    tracks = opened.read_catalog("tracks")
    opened.write_catalog("tracks", tracks.slice(1))
    messages = [d.message for d in verify(str(store)).damages]
    lost = tracks["track_id"][0].as_py()
    assert f"excerpts speaks of 1 tracks that it lacks, for example {lost}" in messages


def test_repair_drops_the_damaged_batch_and_the_build_redoes_just_that(store: Path, audio: Path) -> None:
    before = content(store)
    flip(store / "mel" / "000001-00001.parquet", 400)
    flip(store / "catalog" / "splits.parquet", 400)
    report = verify(str(store), repair=True)
    assert report.dropped == ("000001-00001", "catalog/splits.parquet")
    assert verify(str(store)).damages == ()
    rebuilt = run_build(store, audio)
    assert (rebuilt.decoded, rebuilt.already) == (2, 4)
    assert differing(before, content(store)) == []


def test_a_damaged_manifest_is_refused_and_repaired_from_its_copy(store: Path, audio: Path) -> None:
    before, golden_record = content(store), Store.open(str(store)).manifest["golden"]
    text = (store / "store.json").read_text()
    (store / "store.json").write_text(text.replace('"n_mels": 16', '"n_mels": 17'))
    with pytest.raises(StoreDamaged, match=r"store.json: checksum"):
        Store.open(str(store))
    assert [d.file for d in verify(str(store), repair=True).damages] == ["store.json"]
    assert Store.open(str(store)).manifest["golden"] == golden_record
    assert run_build(store, audio).todo == 0
    assert differing(before, content(store)) == []


def test_the_command_names_the_damage(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--store", str(store)]) == 0
    flip(store / "features" / "000001-00000.parquet", 99)
    assert main(["verify", "--store", str(store), "--format", "csv"]) == 1
    out, err = capsys.readouterr()
    assert 'features/000001-00000.parquet,000001-00000,"checksum: written as' in out
    assert "verify --repair" in err


# ---------------------------------------------------------------- compact and gc


def test_compact_merges_and_changes_nothing(store: Path) -> None:
    before = content(store)
    report = compact(str(store))
    assert (report.merged, report.made, report.dropped, report.batches) == (3, 1, 0, 1)
    assert differing(before, content(store)) == []
    assert Store.open(str(store)).snapshot().superseded.num_rows == 0
    assert verify(str(store)).damages == ()
    assert compact(str(store)).merged == 0, "a single batch is left alone"


def test_compact_leaves_superseded_rows_behind(store: Path, audio: Path, tmp_path: Path) -> None:
    shutil.copytree(audio, tmp_path / "audio")
    render_clip(tmp_path / "audio" / "rock" / "clip00.wav", seed=99)
    (tmp_path / "audio" / "jazz" / "clip01.flac").write_bytes(b"")
    run_build(store, tmp_path / "audio")
    before = content(store)
    assert Store.open(str(store)).snapshot().superseded.num_rows == 2
    assert compact(str(store)).dropped == 2 * SPEC.excerpts
    assert differing(before, content(store)) == []
    gc(str(store), grace_s=0)
    opened = Store.open(str(store))
    assert sum(len(opened.read_batch("excerpts", b)) for b in opened.batches()) == 5 * SPEC.excerpts
    assert differing(before, content(store)) == []


def test_a_reader_keeps_its_snapshot_while_batches_are_merged(store: Path) -> None:
    opened = Store.open(str(store))
    snapshot = opened.snapshot()
    before = opened.read_current("mel", snapshot=snapshot)
    compact(str(store))
    assert gc(str(store)).batches == 0, "within the grace period"
    assert opened.read_current("mel", snapshot=snapshot).equals(before)
    assert gc(str(store), grace_s=0).batches == 3
    assert Store.open(str(store)).batches() == ("000002-00000",)
    with pytest.raises(StoreDamaged):
        opened.read_current("mel", snapshot=snapshot)


def test_a_snapshot_taken_while_batches_are_removed_looks_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compact(str(store))
    listed = Store.batches
    calls = itertools.count()

    def batches(self: Store) -> tuple[str, ...]:
        found = listed(self)
        if next(calls) == 0:
            shutil.rmtree(store / "failures")  # gc is at work
            shutil.copytree(keep / "failures", store / "failures")
            for old in ("000001-00000", "000001-00001", "000001-00002"):
                (store / "failures" / f"{old}.parquet").unlink()
                (store / "excerpts" / f"{old}.parquet").unlink()
        return found

    keep = Path(shutil.copytree(store, store.parent / "keep"))
    monkeypatch.setattr(Store, "batches", batches)
    assert Store.open(str(store)).snapshot().batches == ("000002-00000",)


def test_a_build_merges_when_many_small_batches_have_gathered(
    store: Path,
) -> None:
    before, opened = content(store), Store.open(str(store))
    assert not compacting.is_untidy(opened, opened.snapshot())
    assert compacting.is_untidy(opened, opened.snapshot(), auto_batches=2)
    with lock.hold(opened.fs, opened.root, "build") as held:
        assert compacting.tidy(opened, held) == ()
        assert len(opened.snapshot().batches) == 3
        assert compacting.tidy(opened, held, auto_batches=2) == ()
    assert len(Store.open(str(store)).snapshot().batches) == 1
    assert differing(before, content(store)) == []


def test_groups_are_of_about_the_size_asked_for(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tracks=80, batch_tracks=8)
    sizes = store.batch_bytes()
    one = max(sizes.values()) / 1e6
    groups = compacting.plan(store, store.snapshot(), one * 3.5)
    assert [len(g) for g in groups] == [3, 3, 3], "the tenth would be alone"
    assert [b for g in groups for b in g] == sorted(b for g in groups for b in g)
    assert compacting.plan(store, store.snapshot(), one) == [], "large enough already"


def test_gc_removes_leftovers_and_temporary_files(store: Path) -> None:
    shutil.copy(store / "mel" / "000001-00000.parquet", store / "mel" / "000002-00000.parquet")
    (store / "features" / ".000002-00000.parquet.0123abcd.featurestore-tmp").write_bytes(b"half")
    assert len(verify(str(store)).notes) == 2
    assert gc(str(store), dry_run=True).leftovers == 2
    assert gc(str(store)).leftovers == 2
    assert verify(str(store)).notes == ()


@pytest.mark.parametrize("command", ["compact", "gc"])
def test_killed_at_each_write_of_compact_and_gc(command: str, store: Path, tmp_path: Path) -> None:
    """The process dies at its n-th change of a file, for every n, beside a reader."""
    before = content(store)
    if command == "gc":
        compact(str(store))
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "left = [int(os.environ['DIE_AT'])]\n"
        "def dying(real):\n"
        "    def call(*args, **more):\n"
        "        if '.parquet' in str(args[0]):\n"
        "            left[0] -= 1\n"
        "            if left[0] < 0:\n"
        "                os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return real(*args, **more)\n"
        "    return call\n"
        "os.replace, os.remove, os.unlink = dying(os.replace), dying(os.remove), dying(os.unlink)\n"
    )
    line = [
        *builds.python("featurestore"),
        command,
        "--store",
        str(store),
        *(["--grace", "0"] if command == "gc" else []),
    ]
    for n in range(0, 40, 2):
        process = start(line, DIE_AT=str(n), PYTHONPATH=str(tmp_path))
        _, err = process.communicate(timeout=60)
        assert differing(before, content(store)) == []
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    assert n > 2
    assert process.returncode == 0
    gc(str(store), grace_s=0)
    assert len(Store.open(str(store)).batches()) == 1
    assert verify(str(store)).damages == ()


# ---------------------------------------------------------------- status


def test_status_counts(store: Path) -> None:
    found = status(Store.open(str(store)))
    assert (found.tracks, found.measured, found.excerpts) == (6, 6, 72)
    assert found.hours == pytest.approx(72 * 0.1 / 3600, abs=1e-4)
    assert found.rows["mel"] == 72
    assert found.bytes["mel"] == sum(p.stat().st_size for p in (store / "mel").iterdir())
    assert (
        found.splits["artist"]["training"] + found.splits["artist"]["validation"] + found.splits["artist"]["test"] == 6
    )
    assert found.datasets == {"folders": 6}
    assert found.outdated == 0


@pytest.mark.parametrize("format", ["table", "csv", "json", "markdown"])
def test_status_in_every_format(store: Path, format: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--store", str(store), "--format", format]) == 0
    out = capsys.readouterr().out
    if format == "json":
        assert json.loads(out)["excerpts"] == 72
    assert SPEC.fingerprint in out


def test_golden_differences_are_relative_to_the_feature() -> None:
    old = {"values": {"mfcc_mean_01": -200.0, "mfcc_mean_02": 0.01, "rms_mean_01": 0.2}}
    near = {"values": {"mfcc_mean_01": -200.0, "mfcc_mean_02": 0.11, "rms_mean_01": 0.2}}
    far = {"values": {"mfcc_mean_01": -200.0, "mfcc_mean_02": 0.51, "rms_mean_01": 0.201}}
    assert golden.differences(old, near) == []
    assert [m.partition(":")[0] for m in golden.differences(old, far)] == ["rms_mean_01", "mfcc_mean_02"]
    assert golden.differences(old, {"values": {**near["values"], "rms_mean_01": float("nan")}})
