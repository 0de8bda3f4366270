"""The build on a Dask cluster: a real scheduler and workers as processes of their own, and what happens as they die."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from featurestore.__main__ import main
from featurestore.build import build as building
from featurestore.build import resume
from featurestore.datasets import load
from featurestore.errors import FeatureStoreError, SpecMismatch, UsageError
from featurestore.measure import worker
from featurestore.measure.task import Result, Task
from featurestore.store import files, lock
from featurestore.store.store import Store
from featurestore.terminal.cli import run
from tests.builds import ROOT, SLOW, SPEC, content, differing, render_clips, run_build

pytest.importorskip("distributed")
from featurestore.build import cluster


@dataclasses.dataclass
class Cluster:
    """A scheduler and workers with one thread each, without nannies, so that a killed one stays dead."""

    folder: Path
    environment: dict[str, str]
    address: str = ""
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = dataclasses.field(default_factory=list)

    def start_scheduler(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self.scheduler = self._start("dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-show")

    def start_worker(self) -> subprocess.Popen[bytes]:
        options = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        self.workers.append(self._start("dask_worker", self.address, *options))
        return self.workers[-1]

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", f"distributed.cli.{name}", *arguments, "--no-dashboard"]
            environment = {**os.environ, **self.environment}
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process is not None:
                process.kill()
                process.wait()
        self.workers.clear()


@contextlib.contextmanager
def started(folder: Path, workers: int, **environment: str) -> Iterator[Cluster]:
    (folder / "sitecustomize.py").write_text(SLOW)
    one = Cluster(folder, {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environment})
    try:
        one.start_scheduler()
        for _ in range(workers):
            one.start_worker()
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_clips(tmp_path_factory.mktemp("audio"), tracks=12)  # six batches


@pytest.fixture(scope="module")
def undisturbed(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    store = tmp_path_factory.mktemp("local") / "store"
    run_build(store, clips)
    return content(store)  # type: ignore[return-value]


@contextlib.contextmanager
def when(condition: Callable[[], bool], act: Callable[[], object]) -> Iterator[list[float]]:
    """Run `act` in a thread as soon as `condition` holds; the list then has one entry."""
    happened: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            if condition():
                act()
                happened.append(time.monotonic())
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield happened
    finally:
        over.set()
        thread.join()


def committed(store: Path) -> int:
    return len(list((store / "excerpts").glob("[0-9]*.parquet")))


def all_of(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGKILL)


def test_a_killed_worker_changes_nothing(clips: Path, undisturbed: dict[str, object], tmp_path: Path) -> None:
    store = tmp_path / "store"
    with started(tmp_path, workers=2) as dask:
        victim = dask.workers[0]
        with when(lambda: committed(store) >= 2, victim.kill) as killed:
            report = run_build(store, clips, backend="dask", scheduler=dask.address)
            assert killed, "the worker outlived the build"
        assert victim.wait() == -signal.SIGKILL
    assert (report.decoded, report.failed, report.excerpts) == (12, 0, 144)
    assert differing(content(store), undisturbed) == []  # type: ignore[arg-type]
    assert run_build(store, clips).todo == 0


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_build_and_a_local_one_goes_on(
    clips: Path, undisturbed: dict[str, object], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with started(tmp_path, workers=1) as dask:
        assert dask.scheduler is not None
        with (
            when(lambda: committed(store) >= 2, dask.scheduler.kill),
            pytest.raises(FeatureStoreError, match="connection to the Dask scheduler was lost"),
        ):
            run_build(store, clips, backend="dask", scheduler=dask.address)
        done = committed(store)
        assert 2 <= done < 6
        assert run_build(store, clips).already >= 2 * done  # two tracks a batch; a worker may have committed since
    assert differing(content(store), undisturbed) == []  # type: ignore[arg-type]


def test_without_workers_the_build_ends(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_WATCH_S", 0.1)
    store = tmp_path / "store"
    none = r"no worker has been there for .* s\n  Start some with `dask worker tcp"

    def kill_all() -> None:
        monkeypatch.setattr(cluster, "NO_WORKERS_S", 0.5)
        all_of(dask.workers)

    with started(tmp_path, workers=1) as dask:
        # one worker with one thread: had the driver made the batches itself, this would not stop it
        with when(lambda: committed(store) >= 1, kill_all), pytest.raises(FeatureStoreError, match=none):
            run_build(store, clips, backend="dask", scheduler=dask.address)
        assert 1 <= committed(store) < 6
        with pytest.raises(FeatureStoreError, match=none):
            run_build(store, clips, backend="dask", scheduler=dask.address)


@pytest.mark.slow
def test_a_batch_that_takes_every_worker_down_ends_the_build(clips: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        started(tmp_path, workers=1, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as dask,
        when(lambda: committed(store) >= 1, lambda: all_of(dask.workers)),
        pytest.raises(FeatureStoreError, match="1 workers were lost, one after the other, with the same batch"),
    ):
        run_build(store, clips, backend="dask", scheduler=dask.address)


def test_workers_that_cannot_work_are_named_before_anything_is_measured(clips: Path, tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "store"), SPEC)
    task = one_task(store, clips)
    away = dataclasses.replace(task.items[0], source="/elsewhere/a.wav")
    with started(tmp_path, workers=1) as dask:
        for broken, what in (
            (dataclasses.replace(task, items=(away,)), "/elsewhere/a.wav: no such file"),
            (dataclasses.replace(task, store="/nowhere/store"), "no feature store at /nowhere/store"),
        ):
            results = cluster.run([broken], dask.address)
            with pytest.raises(FeatureStoreError, match=rf"1 of 1 workers cannot work:\n  tcp://.*: {what}"):
                next(results)
    assert store.batches() == ()


@pytest.mark.slow
def test_workers_without_the_package_are_named(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "featurestore").mkdir()
    (tmp_path / "featurestore" / "__init__.py").write_text("raise ImportError('not here')")
    with started(tmp_path, workers=1) as dask, pytest.raises(FeatureStoreError, match="cannot load this package"):
        run_build(tmp_path / "store", clips, backend="dask", scheduler=dask.address)


# ---------------------------------------------------------------- without a cluster


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--backend", "dask"], 2, "needs the address of a scheduler"),
        (["--backend", "dask", "--scheduler", "nonsense"], 1, "nonsense: no Dask scheduler answers there"),
        (["--backend", "dask", "--scheduler", "tcp://127.0.0.1:9"], 1, "tcp://127.0.0.1:9: no Dask scheduler answers"),
        (["--scheduler", "tcp://127.0.0.1:9"], 2, "--scheduler is for the Dask backend, found it with threading"),
        (["--backend", "ray"], 2, "Invalid backend: ray"),
        (["--backend", "multiprocessing"], 2, "joblib cannot stream results from it"),
    ],
)
def test_what_a_user_can_get_wrong(
    options: list[str],
    code: int,
    message: str,
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.3)
    store = Store.create(str(tmp_path / "store"), SPEC)
    arguments = ["build", "--dataset", "folders", "--audio", str(clips), "--store", store.url, *options]
    assert run(main, arguments) == code
    assert message in capsys.readouterr().err


def test_without_distributed_the_extra_is_named(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cluster.importlib.util.find_spec
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda n: None if n == "distributed" else real(n))
    with pytest.raises(UsageError, match=r"pip install 'music-feature-store\[cluster\]'"):
        run_build(tmp_path / "store", clips, backend="dask", scheduler="tcp://127.0.0.1:9")
    assert not (tmp_path / "store").exists()


def test_other_joblib_backends_by_name(clips: Path, tmp_path: Path) -> None:
    report = run_build(tmp_path / "store", clips, backend="loky", limit=4)
    assert (report.decoded, report.failed, report.excerpts) == (4, 0, 48)


def one_task(store: Store, clips: Path, token: str = "") -> Task:
    plan = resume.plan(store, load("folders", audio=str(clips)))
    return Task(store.root, "000001-00000", token, plan.items[:2], 60.0)


def test_a_committed_batch_is_not_made_again(clips: Path, tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "store"), SPEC)
    with lock.hold(store.fs, store.root, "test") as held:
        task = one_task(store, clips, held.token)
        bad = tmp_path / "bad.wav"
        bad.write_bytes(b"no audio")
        broken = dataclasses.replace(task.items[0], track_id=1, path="bad.wav", source=str(bad), size=8)
        known = dataclasses.replace(task.items[1], known_hash=hash_of(task.items[1].source))
        task = dataclasses.replace(task, items=(task.items[0], known, broken))
        first = worker.measure_batch(task)
        before = {p.name: p.stat().st_ino for p in Path(store.root).rglob("*.parquet")}
        again = worker.measure_batch(task)
    assert first == again == Result(1, 12, 1, ((known.track_id, known.known_hash, known.mtime_ns),))
    assert {p.name: p.stat().st_ino for p in Path(store.root).rglob("*.parquet")} == before


def hash_of(path: str) -> str:
    import hashlib

    return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()


def test_a_worker_with_other_libraries_must_measure_the_same(clips: Path, tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "store"), SPEC)
    run_build(store.url, clips, limit=1)
    store = Store.open(store.url)
    record = dict(store.manifest["golden"])
    with lock.hold(store.fs, store.root, "test") as held:
        task = dataclasses.replace(one_task(store, clips, held.token), batch="000002-00000")
        store.update_manifest(golden={**record, "libraries": "librosa 0.0.1"})
        assert worker.measure_batch(task).tracks == 2  # other versions, same values
        moved = {k: v * 1.5 + 1 for k, v in record["values"].items()}
        store.update_manifest(golden={"libraries": "librosa 0.0.1", "values": moved})
        task = dataclasses.replace(task, batch="000002-00001")
        with pytest.raises(SpecMismatch, match=r"other values than those in store .*(?s:.)*librosa 0.0.1"):
            worker.measure_batch(task)
    assert not files.names(store.fs, store.path("excerpts")).count("000002-00001.parquet")


def test_the_store_is_named_so_that_a_worker_in_another_folder_finds_it(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []
    real = building.Carrier.run

    def spy(self: building.Carrier, tasks: list[Task], fd: int | None) -> Iterator[Result]:
        seen.extend(t.store for t in tasks)
        return real(self, tasks, fd)

    monkeypatch.setattr(building.Carrier, "run", spy)
    run_build("store", clips, limit=1)
    assert seen == [str(tmp_path / "store")]
