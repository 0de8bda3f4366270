"""Whatever stops a build, the next one makes the store that an undisturbed run makes, and no reader sees a part."""

from __future__ import annotations

import errno
import itertools
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from featurestore.__main__ import main
from featurestore.build.build import BuildReport
from featurestore.errors import FeatureStoreError, MissingStore, StoreBusy
from featurestore.store import files, lock
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests import builds
from tests.builds import (
    SABOTAGE,
    SLOW,
    build_command,
    content,
    differing,
    render_clip,
    render_clips,
    run_build,
    start,
    wait_until,
    workers,
)

linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the children of a process from /proc")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_clips(tmp_path_factory.mktemp("audio"), tracks=10)


@pytest.fixture(scope="module")
def undisturbed(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    run_build(store, audio)
    return content(store)


@pytest.fixture
def slow(tmp_path: Path) -> str:
    """$PYTHONPATH of a build that takes a while, so that it can be met half-way."""
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SLOW)
    return str(folder)


@pytest.fixture
def sabotage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders that crash, hang or run out of memory at files named so."""
    folder = tmp_path / "sabotage"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SABOTAGE)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def read_while_running(process: subprocess.Popen[str], store: Path, until: float) -> int:
    """Take snapshots and read all they promise until the process ends or the time is up; returns how many."""
    taken = 0
    while process.poll() is None and time.monotonic() < until:
        try:
            builds.whole_batches(Store.open(str(store)))
            taken += 1
        except MissingStore:
            pass
        time.sleep(0.02)
    return taken


# ---------------------------------------------------------------- kills


@linux
@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_killed_at_random_points(
    victim: str, audio: Path, undisturbed: dict[str, pa.Table], slow: str, tmp_path: Path
) -> None:
    rng = random.Random(victim)
    store = tmp_path / "store"
    snapshots = kills = 0
    for _ in range(2):
        process = start(build_command(store, audio), PYTHONPATH=slow)
        wait_until(lambda: workers(process.pid) or process.poll() is not None)  # noqa: B023 - called right here
        snapshots += read_while_running(process, store, time.monotonic() + rng.uniform(0.05, 2.0))
        victims = [process.pid] if victim == "driver" else workers(process.pid)[:1]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
            kills += process.poll() is None or process.returncode == -signal.SIGKILL
        _, err = process.communicate(timeout=120)
        assert process.returncode in (-signal.SIGKILL if victim == "driver" else 0, 0), err
    run_build(store, audio)
    assert differing(content(store), undisturbed) == []
    assert snapshots > 0
    assert kills > 0


@linux
@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 128 + 15)])
def test_workers_end_with_their_driver_and_the_lock_with_them(
    how: int, code: int, audio: Path, slow: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    process = start(build_command(store, audio), PYTHONPATH=slow)
    assert wait_until(lambda: list(store.glob("features/*.parquet")))
    mine = workers(process.pid)
    assert len(mine) == 2
    os.kill(process.pid, how)
    process.communicate()
    assert process.returncode == code
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in mine))
    run_build(store, audio)


def test_killed_before_each_file_that_the_driver_writes(
    audio: Path, undisturbed: dict[str, pa.Table], tmp_path: Path
) -> None:
    """The driver dies at its n-th write, for every n: catalog, manifest, merge."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if 'featurestore' in sys.orig_argv:\n"
        "    replace, left = os.replace, [int(os.environ['DIE_AT'])]\n"
        "    def dying(*names):\n"
        "        left[0] -= 1\n"
        "        if left[0] < 0:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        replace(*names)\n"
        "    os.replace = dying\n"
    )
    store = tmp_path / "store"
    for n in itertools.count():
        process = start(build_command(store, audio), DIE_AT=str(n), PYTHONPATH=str(tmp_path))
        _, err = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    assert n >= 2
    assert differing(content(store), undisturbed) == []


def test_ctrl_c_says_what_is_kept_and_the_next_build_goes_on(
    audio: Path, undisturbed: dict[str, pa.Table], slow: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    process = start(build_command(store, audio), PYTHONPATH=slow)
    assert wait_until(lambda: list(store.glob("excerpts/*.parquet")))
    mine = workers(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the driver and its workers get it
    _, err = process.communicate(timeout=60)
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in mine))
    assert process.returncode == cli.EXIT_INTERRUPTED, err
    assert "Traceback" not in err
    assert "what was committed is kept" in err
    assert 0 < run_build(store, audio).already < 10
    assert differing(content(store), undisturbed) == []


@linux
def test_ctrl_c_while_workers_start_is_as_quiet(audio: Path, tmp_path: Path) -> None:
    process = start(build_command(tmp_path / "store", audio))
    assert wait_until(lambda: workers(process.pid))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == cli.EXIT_INTERRUPTED, err
    assert "Traceback" not in err


def test_a_committed_batch_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power cut: a new folder is synced, then bytes are, then they are renamed, then the folder is synced."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        calls.append("sync folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "sync file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    files.write_bytes(fsspec.filesystem("file"), str(tmp_path / "folder" / "file"), b"data")
    assert calls == ["sync folder", "sync file", "rename", "sync folder"]


# ---------------------------------------------------------------- decoders


BAD_FILES = {
    "segfault": ("crash", "crashed (SIGSEGV(-11))"),
    "exit": ("crash", "crashed (EXIT(7))"),
    "hang": ("timeout", "took longer than 4 s"),
    "stalled": ("timeout", "took longer than 4 s"),
    "oom": ("memory", "was killed, most likely by the system"),
    "memory": ("memory", "out of memory"),
    "odd": ("crash", "ZeroDivisionError: division by zero"),
    "wrong": ("crash", "measured values that cannot be: features: chroma_stft_mean_08 of track"),
}


@pytest.fixture(scope="module")
def sabotaged(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BuildReport, dict[str, pa.Table]]:
    """A build of four good files among eight bad ones, and one that kills its worker once; and what the store says."""
    folder = tmp_path_factory.mktemp("sabotaged")
    (folder / "sitecustomize.py").write_text(SABOTAGE)
    for path in sorted(audio.rglob("clip0[0-3].*")):
        (folder / "audio" / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(path, folder / "audio" / path.parent.name / path.name)
    for i, name in enumerate((*BAD_FILES, "once")):
        render_clip(folder / "audio" / "rock" / f"clip{name}.wav", seed=50 + i)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        report = run_build(folder / "store", folder / "audio", timeout_s=4.0, jobs=2)
        assert run_build(folder / "store", folder / "audio", timeout_s=4.0).todo == 0
    return report, content(folder / "store")


@pytest.mark.parametrize("name", BAD_FILES)
def test_only_the_file_that_takes_a_worker_down_fails(
    name: str, sabotaged: tuple[BuildReport, dict[str, pa.Table]]
) -> None:
    report, tables = sabotaged
    kind, words = BAD_FILES[name]
    rows = {row["path"]: row for row in tables["failures"].to_pylist()}
    row = rows[f"rock/clip{name}.wav"]
    assert row["kind"] == kind
    assert words in row["message"]
    assert "/audio/" not in row["message"], "messages do not depend on where the collection lies"
    assert (report.failed, len(rows)) == (8, 8)


def test_the_batch_mates_of_bad_files_are_measured_as_ever(
    sabotaged: tuple[BuildReport, dict[str, pa.Table]], undisturbed: dict[str, pa.Table]
) -> None:
    report, tables = sabotaged
    assert report.decoded == 5
    mine, alone = tables["features"], undisturbed["features"]
    both = alone.filter(pc.is_in(alone["track_id"], mine["track_id"].unique()))
    mine = mine.filter(pc.is_in(mine["track_id"], both["track_id"].unique()))
    assert len(mine) == 4 * builds.SPEC.excerpts
    assert mine.equals(both)


def test_a_worker_killed_once_by_accident_costs_no_file(
    sabotaged: tuple[BuildReport, dict[str, pa.Table]],
) -> None:
    paths = sabotaged[1]["excerpts"]["path"].unique().to_pylist()
    assert "rock/cliponce.wav" in paths


# ---------------------------------------------------------------- disks


@pytest.mark.usefixtures("sabotage")
def test_a_full_disk_stops_with_a_message_and_the_next_build_completes(
    audio: Path, undisturbed: dict[str, pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    for writes in (0, 13, 27):
        monkeypatch.setenv("DISK_WRITES", str(writes))
        with pytest.raises(FeatureStoreError, match=r"cannot be written \(No space left"):
            run_build(store, audio, force=True)
        if writes:
            builds.whole_batches(Store.open(str(store)))
            assert Store.open(str(store)).leftovers()
        assert not list(store.rglob(f"*{files.TEMPORARY}"))
    monkeypatch.delenv("DISK_WRITES")
    run_build(store, audio)
    assert Store.open(str(store)).leftovers() == []
    assert differing(content(store), undisturbed) == []


def test_a_folder_that_cannot_be_written_is_one_message(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = os.open

    def read_only(path: str, flags: int, *mode: int, **more: int) -> int:
        if str(path).startswith(str(tmp_path)) and flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return real(path, flags, *mode, **more)

    monkeypatch.setattr(os, "open", read_only)
    options = ["build", "--dataset", "folders", "--audio", str(audio), "--store", str(tmp_path / "store")]
    assert cli.run(main, options) == 1
    err = capsys.readouterr().err
    assert "build.lock: cannot be written (Read-only file system)" in err
    assert "Check the permissions" in err


# ---------------------------------------------------------------- two builds


def test_the_second_build_says_who_holds_the_store(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    run_build(store, audio, limit=2)
    fs, root = files.resolve(str(store))
    with lock.hold(fs, root, "build of folders"):
        options = ["build", "--dataset", "folders", "--audio", str(audio), "--store", str(store)]
        assert cli.run(main, options) == 1
        err = capsys.readouterr().err
        assert f"{store} is in use (held by build of folders: process {os.getpid()} on " in err
        assert builds.whole_batches(Store.open(str(store))) == 1, "readers are not blocked"
    assert not (store / lock.LOCK).exists()
    assert run_build(store, audio).decoded == 8


def test_a_worker_of_a_build_that_lost_the_lock_commits_nothing(audio: Path, tmp_path: Path) -> None:
    from featurestore.build import resume
    from featurestore.datasets import load
    from featurestore.measure.batch import measure_batch
    from featurestore.measure.task import Task

    store = Store.create(str(tmp_path / "store"), builds.SPEC)
    items = resume.plan(store, load("folders", audio=str(audio)), limit=1).items
    with lock.hold(store.fs, store.root, "the next build"), pytest.raises(StoreBusy, match="nothing was committed"):
        measure_batch(Task(store.url, "000001-00000", "the old token", items, 60.0))
    assert store.batches() == ()
    assert len(store.leftovers()) == 4


def test_every_row_of_the_fault_matrix_names_a_test_that_exists() -> None:
    text = (builds.ROOT / "docs" / "reliability.md").read_text()
    rows = [line for line in text.partition("## The fault matrix")[2].partition("\n## ")[0].splitlines() if "`" in line]
    for row in rows:
        named = re.findall(r"(tests/\w+\.py)::(\w+)", row.rpartition(" | ")[2])
        assert named or "python -m benchmarks.kill" in row, row
        for file, test in named:
            assert f"\ndef {test}(" in (builds.ROOT / file).read_text(), f"{file}::{test}"


def test_every_test_that_the_docs_name_exists() -> None:
    named = {
        (page.name, *found)
        for page in (builds.ROOT / "docs").rglob("*.md")
        for found in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text())
    }
    assert {page for page, _, _ in named} >= {"reliability.md", "scale.md"}
    for page, file, test in named:
        assert f"\ndef {test}(" in (builds.ROOT / file).read_text(), f"{page}: {file}::{test}"
