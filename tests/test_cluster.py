"""The build on a Dask cluster: a real scheduler and workers as processes of their own, and what happens as they die."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from featurestore.__main__ import main
from featurestore.build import backends, batches, resume
from featurestore.datasets import load
from featurestore.errors import FeatureStoreError, SpecMismatch, UsageError
from featurestore.measure.batch import measure_batch
from featurestore.measure.task import Result, Task
from featurestore.store import files, lock
from featurestore.store.store import Store
from featurestore.terminal.cli import run
from tests.builds import ROOT, SLOW, SPEC, content, differing, render_clip, render_clips, run_build

pytest.importorskip("distributed")


HANGING = """
import sys
if "dask_worker" in " ".join(sys.orig_argv) or "multiprocessing" in " ".join(sys.orig_argv):
    import time
    import featurestore.audio.decode as decoding
    real = decoding.decode
    def decode(source, spec):
        if "hang" in str(source):
            time.sleep(600)
        return real(source, spec)
    decoding.decode = decode
"""


@dataclasses.dataclass
class Cluster:
    """A scheduler and workers, mostly without nannies, so that a killed one stays dead."""

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

    def start_worker(self, threads: int = 1, nanny: bool = False) -> subprocess.Popen[bytes]:
        options = ["--nthreads", str(threads), "--local-directory", str(self.folder)]
        self.workers.append(self._start("dask_worker", self.address, *options, *([] if nanny else ["--no-nanny"])))
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


def test_without_workers_the_build_ends(clips: Path, tmp_path: Path) -> None:
    none = r"no worker has been there for .* s\n  Start some with `dask worker tcp"
    store = Store.create(str(tmp_path / "store"), SPEC)
    with started(tmp_path, workers=1) as dask, backends.connect(dask.address) as client:
        pool = backends.DaskPool(client, patience_s=1.0)
        with lock.hold(store.fs, store.root, "test") as held:
            results = batches.measure(store, some_tasks(store, clips, held.token), pool)
            next(results)
            all_of(dask.workers)
            with pytest.raises(FeatureStoreError, match=none):
                list(results)
        assert 1 <= committed(tmp_path / "store") < 6
        with pytest.raises(FeatureStoreError, match=none):
            pool.check(one_task(store, clips))


def test_a_file_that_takes_worker_after_worker_down_is_a_failure(
    clips: Path, undisturbed: dict[str, object], tmp_path: Path
) -> None:
    """One death is enough here (allowed-failures 0), and the nanny starts another worker each time."""
    deadly = tmp_path / "audio"
    shutil.copytree(clips, deadly, copy_function=os.link)
    render_clip(deadly / "rock" / "cliphang.wav", seed=50)
    store = tmp_path / "store"
    with started(tmp_path, workers=0, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as dask:
        (tmp_path / "sitecustomize.py").write_text(HANGING)
        dask.start_worker(nanny=True)
        report = run_build(store, deadly, backend="dask", scheduler=dask.address, timeout_s=3.0)
    assert (report.decoded, report.failed, report.failures) == (12, 1, {"timeout": 1})
    (row,) = Store.open(str(store)).read_current("failures").to_pylist()
    assert row["message"] == "rock/cliphang.wav: the process reading it took longer than 3 s"
    assert differing(content(store), undisturbed) == ["datasets", "failures", "splits", "tracks"]  # type: ignore[arg-type]


def test_workers_that_cannot_work_are_named_before_anything_is_measured(clips: Path, tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "store"), SPEC)
    task = one_task(store, clips)
    away = dataclasses.replace(task.items[0], source="/elsewhere/a.wav")
    with started(tmp_path, workers=1) as dask, backends.connect(dask.address) as client:
        pool = backends.DaskPool(client)
        pool.check(task)
        for broken, what in (
            (dataclasses.replace(task, items=(away,)), "/elsewhere/a.wav: no such file"),
            (dataclasses.replace(task, store="/nowhere/store"), "no feature store at /nowhere/store"),
        ):
            with pytest.raises(FeatureStoreError, match=rf"1 of 1 workers cannot work:\n  tcp://.*: {what}"):
                pool.check(broken)
        dask.start_worker(threads=2)
        client.wait_for_workers(2)
        with pytest.raises(FeatureStoreError, match=r"1 of 2 workers .*\n  tcp://.*: 2 threads, expected 1"):
            pool.check(task)
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
        (["--scheduler", "tcp://127.0.0.1:9"], 2, "--scheduler is for the Dask backend, found it with loky"),
    ],
)
def test_what_a_user_can_get_wrong(
    options: list[str],
    code: int,
    message: str,
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Store.create(str(tmp_path / "store"), SPEC)
    arguments = ["build", "--dataset", "folders", "--audio", str(clips), "--store", store.url, *options]
    assert run(main, arguments) == code
    assert message in capsys.readouterr().err


def test_another_backend_is_refused(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--backend ray: expected one of loky, dask"):
        run_build(tmp_path / "store", clips, backend="ray")


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ("tcp://nonsense:port", "tcp://nonsense:port: not the address of a Dask scheduler"),
        ("tcp://127.0.0.1:9", "tcp://127.0.0.1:9: no Dask scheduler answers there"),
    ],
)
def test_a_scheduler_that_is_not_there(scheduler: str, message: str) -> None:
    with pytest.raises(FeatureStoreError, match=message), backends.connect(scheduler, timeout_s=0.3):
        pytest.fail("there is none")


def test_without_distributed_the_extra_is_named(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "distributed" else real(n))
    with pytest.raises(UsageError, match=r"pip install 'music-feature-store\[cluster\]'"):
        run_build(tmp_path / "store", clips, backend="dask", scheduler="tcp://127.0.0.1:9")
    assert not (tmp_path / "store").exists()


def some_tasks(store: Store, clips: Path, token: str) -> list[Task]:
    shared = Task(store.root, "000001", token, (), 60.0)
    return batches.tasks(shared, resume.plan(store, load("folders", audio=str(clips))).items, 2)


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
        first = measure_batch(task)
        before = {p.name: p.stat().st_ino for p in Path(store.root).rglob("*.parquet")}
        again = measure_batch(task)
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
        assert measure_batch(task).tracks == 2  # other versions, same values
        moved = {k: v * 1.5 + 1 for k, v in record["values"].items()}
        store.update_manifest(golden={"libraries": "librosa 0.0.1", "values": moved})
        task = dataclasses.replace(task, batch="000002-00001")
        with pytest.raises(SpecMismatch, match=r"other values than those in store .*(?s:.)*librosa 0.0.1"):
            measure_batch(task)
    assert not files.names(store.fs, store.path("excerpts")).count("000002-00001.parquet")


def test_the_store_is_named_so_that_a_worker_in_another_folder_finds_it(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []
    real = batches.measure

    def spy(store: Store, todo: Sequence[Task], pool: backends.Pool) -> Iterator[Result]:
        seen.extend(t.store for t in todo)
        return real(store, todo, pool)

    monkeypatch.setattr(batches, "measure", spy)
    run_build("store", clips, limit=1)
    assert seen == [str(tmp_path / "store")]
