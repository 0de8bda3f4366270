"""Batches on a Dask cluster, through joblib's own Dask backend.

The scheduler hands a task (names and sizes of files) to a worker, and the worker reads the audio, writes the batch and
answers with counts; nothing else travels. A worker that dies loses nothing: its batches go to the others, and one that
was committed before its answer was lost is not made again (see `worker.measure_batch`).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.util
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from joblib._dask import DaskDistributedBackend

from featurestore.build import supervise
from featurestore.errors import FeatureStoreError, UsageError
from featurestore.measure.task import MISSING, Result, Task
from featurestore.store import files
from featurestore.store.store import Store

CONNECT_S = 10.0
NO_WORKERS_S = 120.0  # a cluster may be starting, or replacing its machines
_WATCH_S = 2.0
_AGAIN = "What is committed stays; run the command again to go on."


def require_installed() -> None:
    """Raise UsageError unless `distributed` is installed."""
    if importlib.util.find_spec("distributed") is None:
        raise UsageError(
            "--backend dask needs the package distributed, which is not installed",
            "Install the extra for it, here and on every worker: pip install 'music-feature-store[cluster]'.",
        )


def run(tasks: Sequence[Task], scheduler: str | None) -> Iterator[Result]:
    """The results of `supervise.run_batch` on every task, in the order of completion, from the workers of a cluster.

    scheduler   its address, such as tcp://host:8786; None: the `distributed.Client` of this process

    Raises FeatureStoreError where the scheduler does not answer or is lost, no worker is there for two minutes, or a
    worker lacks this package, the store or the audio; and what `supervise.run_batch` raises.
    """
    import joblib
    from distributed import CancelledError, KilledWorker

    with _client(scheduler) as client:
        name = client.scheduler.address if client.scheduler else str(scheduler)
        _require_workers(client, name, tasks[0])
        backend = _Backend(client=client)
        with joblib.parallel_config(backend=backend), _watched(client, backend, name):
            # "all": a worker that joins later finds work; joblib's default would keep to what the first ones can hold
            parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")
            try:
                yield from parallel(joblib.delayed(supervise.run_batch)(task) for task in tasks)
            except KilledWorker as error:
                lost = f"{error.allowed_failures + 1} workers were lost, one after the other, with the same batch"
                raise FeatureStoreError(f"{name}: {lost}", f"Look at the workers' logs and memory. {_AGAIN}") from None
            except (CancelledError, concurrent.futures.CancelledError):
                raise FeatureStoreError(f"{name}: the connection to the Dask scheduler was lost", _AGAIN) from None


class _Backend(DaskDistributedBackend):  # type: ignore[misc]
    """joblib's backend, without two surprises (joblib 1.6).

    It waits for ever if a future ends in an error of Dask's own; and with one worker of one thread, which may be all
    that has joined so far, joblib would run everything in this process.
    """

    def __init__(self, client: Any) -> None:
        super().__init__(client=client)
        self._waiting: set[concurrent.futures.Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int) -> int:
        return max(2, super().effective_n_jobs(n_jobs))

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
        future = super().submit(func, callback)
        self._waiting.add(future)
        future.add_done_callback(lambda done: self._settle(done, callback))
        return future

    def _settle(self, done: concurrent.futures.Future[Any], callback: Callable[[Any], None] | None) -> None:
        self._waiting.discard(done)
        if done.exception() is not None and callback is not None:
            callback(done)

    def retrieve_result_callback(self, out: Any) -> Any:
        if isinstance(out, concurrent.futures.Future):
            return out.result()
        return super().retrieve_result_callback(out)

    def fail(self, error: Exception) -> None:
        """End the call with `error`, as if a task had raised it."""
        for future in list(self._waiting)[:1]:
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                future.set_exception(error)


@contextlib.contextmanager
def _client(scheduler: str | None) -> Iterator[Any]:
    import distributed
    from distributed.comm import resolve_address

    if scheduler is None:
        try:
            yield distributed.get_client()
        except ValueError:
            raise UsageError(
                "--backend dask needs the address of a scheduler", "Add --scheduler tcp://HOST:8786."
            ) from None
        return
    for name in ("distributed.client", "distributed.utils"):  # they log what is raised here, with tracebacks
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        resolve_address(scheduler)  # the client of a broken address would linger
        client = distributed.Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:  # a timeout is an OSError
        raise FeatureStoreError(
            f"{scheduler}: no Dask scheduler answers there ({str(error) or type(error).__name__})",
            "Check the address, and that `dask scheduler` runs there; the default port is 8786.",
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=CONNECT_S)


def _require_workers(client: Any, name: str, task: Task) -> None:
    """Wait for the first worker, then let every one look whether it can do its work."""
    try:
        client.wait_for_workers(1, timeout=NO_WORKERS_S)
    except TimeoutError:
        raise _no_workers(name) from None
    try:
        found = client.run(look, task)
    except Exception as error:  # whatever loading the function raised over there, without its type
        raise FeatureStoreError(
            f"{name}: a worker cannot load this package ({error})", "Install the same version on every worker."
        ) from None
    broken = sorted(f"{worker}: {what}" for worker, what in found.items() if what)
    if broken:
        raise FeatureStoreError(
            f"{name}: {len(broken)} of {len(found)} workers cannot work:\n  " + "\n  ".join(broken[:3]),
            "Workers read audio and write the store themselves: use a shared folder, or URLs such as s3://bucket/store.",
        )


def look(task: Task) -> str:
    """Why this machine cannot make the batch: it lacks the store, or the first file that the driver saw; else ""."""
    try:
        Store.open(task.store)
    except FeatureStoreError as error:
        return error.message
    source = next((item.source for item in task.items if item.size != MISSING), None)
    if source is None:
        return ""
    if "://" in source:
        fs, path = files.resolve(source)
        return "" if fs.exists(path) else f"{source}: no such file"
    return "" if os.path.exists(source) else f"{source}: no such file"


def _no_workers(name: str) -> FeatureStoreError:
    return FeatureStoreError(
        f"{name}: no worker has been there for {NO_WORKERS_S:g} s",
        f"Start some with `dask worker {name}`. {_AGAIN}",
    )


@contextlib.contextmanager
def _watched(client: Any, backend: _Backend, name: str) -> Iterator[None]:
    """End the call when the cluster has had no worker for NO_WORKERS_S; Dask itself would wait for ever."""
    done = threading.Event()

    def watch() -> None:
        last = time.monotonic()
        while not done.wait(_WATCH_S):
            with contextlib.suppress(Exception):  # a lost scheduler is reported by the tasks
                if client.ncores():
                    last = time.monotonic()
            if time.monotonic() - last > NO_WORKERS_S:
                backend.fail(_no_workers(name))
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
