"""Who carries the batches: processes of this machine (joblib's loky), or the workers of a Dask cluster.

A pool runs a function on every one of some arguments, in any order, and says which calls were lost because a worker
ended before it answered. What follows from a loss is for `batches` to decide.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import logging
import os
import re
import signal
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any

import pyarrow as pa

from featurestore.audio import children
from featurestore.errors import FeatureStoreError, UsageError
from featurestore.measure.task import MISSING, Task
from featurestore.store import files
from featurestore.store.store import Store

BACKENDS = ("loky", "dask")
CONNECT_S = 10.0
PATIENCE_S = 120.0  # a cluster may be starting, or replacing its machines
_POLL_S = 0.1
_EXIT_CODES = re.compile(r"exit codes of the workers are \{(.*?)\}")
_AGAIN = "What is committed stays; run the command again to go on."


@dataclasses.dataclass(frozen=True)
class Lost:
    """The outcome of a call whose worker ended before it answered.

    Attributes
    ----------
    exit_code : str
        How the process ended, such as `SIGSEGV(-11)`; empty where that is not known.
    """

    exit_code: str


def require(backend: str, scheduler: str | None) -> None:
    """Raise UsageError unless the backend can be used.

    Parameters
    ----------
    backend : str
        One of BACKENDS.
    scheduler : str or None
        Address of the Dask scheduler, where the backend is dask.
    """
    if backend not in BACKENDS:
        raise UsageError(f"--backend {backend}: expected one of {', '.join(BACKENDS)}", "Leave it out to work here.")
    if backend != "dask":
        if scheduler is not None:
            raise UsageError(f"--scheduler is for the Dask backend, found it with {backend}", "Add --backend dask.")
        return
    if importlib.util.find_spec("distributed") is None:
        raise UsageError(
            "--backend dask needs the package distributed, which is not installed",
            "Install the extra for it, here and on every worker: pip install 'music-feature-store[cluster]'.",
        )
    if scheduler is None:
        raise UsageError("--backend dask needs the address of a scheduler", "Add --scheduler tcp://HOST:8786.")


@contextlib.contextmanager
def open_pool(backend: str, jobs: int, scheduler: str | None, task: Task) -> Iterator[Pool]:
    """The pool of a build; its workers end with the block.

    Parameters
    ----------
    backend, scheduler : str, str or None
        As `require` accepts them.
    jobs : int
        Calls at once on this machine; on a cluster its workers decide.
    task : Task
        One that the pool will run: the workers of a cluster are asked whether they can.

    Yields
    ------
    Pool

    Raises
    ------
    FeatureStoreError
        The scheduler does not answer, or a worker lacks this package, the store or the audio.
    """
    if scheduler is None:
        with LocalPool(jobs) as local:
            yield local
        return
    with connect(scheduler) as client:
        pool = DaskPool(client)
        pool.check(task)
        yield pool


# ---------------------------------------------------------------- this machine


class LocalPool:
    """Processes of this machine, through joblib. As a context manager it ends them.

    Parameters
    ----------
    jobs : int
        Calls at once. joblib runs in the caller what has one worker, so there are two even for one job.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._name = uuid.uuid4().hex  # joblib reuses the workers of an equal request; a build has its own

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *error: object) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(kill_workers=True).shutdown()

    def run(self, function: Callable[[Any], Any], arguments: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Call a function with each of some arguments.

        Parameters
        ----------
        function : Callable
            Importable by the workers.
        arguments : iterable
            Of the calls.

        Yields
        ------
        tuple of (int, Any)
            Index of the argument, and what the function returned, in the order of completion. `Lost` are the calls
            that ran when any worker ended: joblib then ends them all.
        """
        left = dict(enumerate(arguments))
        while left:
            started: list[int] = []
            results = self._start(function, left, started)
            done = set()
            try:
                for n, result in results:
                    done.add(n)
                    yield n, result
            except BrokenProcessPool as error:
                code = _EXIT_CODES.search(str(error))
                for n in [n for n in started if n not in done][: self._jobs]:
                    done.add(n)
                    yield n, Lost(code[1] if code else "")
            finally:
                with warnings.catch_warnings(action="ignore"):  # joblib warns of tasks given up, which is intended
                    results.close()
            left = {n: argument for n, argument in left.items() if n not in done}

    def _start(self, function: Callable[[Any], Any], arguments: dict[int, Any], started: list[int]) -> Any:
        import joblib

        def calls() -> Iterator[Any]:
            for n, argument in arguments.items():
                started.append(n)
                yield joblib.delayed(_numbered)(n, function, argument)

        settings = {"initializer": start_worker, "initargs": (os.getpid(), self._name)}
        with joblib.parallel_config("loky", n_jobs=max(2, self._jobs), inner_max_num_threads=1, **settings):
            parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=self._jobs)
        resource_tracker.ensure_running()  # joblib starts it too, and starting it ends every mask
        # workers inherit the mask: Ctrl-C is for the driver, also while they are still starting
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return parallel(calls())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(driver: int, name: str) -> None:
    """What a worker process does first.

    Parameters
    ----------
    driver : int
        Process number of the build: the worker ends with it.
    name : str
        Of the pool.
    """
    children.end_with(driver)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("PYTHONFAULTHANDLER", "")  # a crash is a row of `failures`, not a traceback on the screen
    pa.set_cpu_count(1)


def _numbered(n: int, function: Callable[[Any], Any], argument: Any) -> tuple[int, Any]:
    return n, function(argument)


# ---------------------------------------------------------------- a cluster


@contextlib.contextmanager
def connect(scheduler: str, timeout_s: float = CONNECT_S) -> Iterator[Any]:
    """A `distributed.Client` of the scheduler, closed at the end.

    Parameters
    ----------
    scheduler : str
        Its address, such as tcp://host:8786.
    timeout_s : float
        How long to wait for an answer.

    Yields
    ------
    distributed.Client

    Raises
    ------
    FeatureStoreError
        Nothing answers there.
    """
    import distributed
    from distributed.comm import resolve_address

    for name in ("distributed.client", "distributed.utils"):  # they log what is raised here, with tracebacks
        logging.getLogger(name).setLevel(logging.CRITICAL)
    hint = "Check the address, and that `dask scheduler` runs there; the default port is 8786."
    try:
        resolve_address(scheduler)  # the client of a broken address would linger
    except (OSError, ValueError) as error:
        raise FeatureStoreError(f"{scheduler}: not the address of a Dask scheduler ({error})", hint) from None
    try:
        client = distributed.Client(scheduler, timeout=timeout_s, set_as_default=False)
    except OSError as error:  # a timeout is one
        raise FeatureStoreError(
            f"{scheduler}: no Dask scheduler answers there ({str(error) or type(error).__name__})", hint
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=timeout_s)


class DaskPool:
    """The workers of a Dask cluster, each a process with one thread.

    Parameters
    ----------
    client : distributed.Client
        Connected to the scheduler.
    patience_s : float
        How long the cluster may be without any worker.
    """

    def __init__(self, client: Any, patience_s: float = PATIENCE_S) -> None:
        self._client, self._patience_s = client, patience_s
        self._name = str(client.scheduler.address)

    def check(self, task: Task) -> None:
        """Wait for the first worker, then make sure that every worker can run a task.

        Parameters
        ----------
        task : Task
            One that the pool will run.

        Raises
        ------
        FeatureStoreError
            No worker comes, or some cannot run it; the message names them.
        """
        try:
            self._client.wait_for_workers(1, timeout=self._patience_s)
        except TimeoutError:
            raise self._no_workers() from None
        try:
            problems = self._client.run(problem, task)
        except Exception as error:  # whatever loading the function raised over there, without its type
            raise FeatureStoreError(
                f"{self._name}: a worker cannot load this package ({error})",
                "Install the same version on every worker.",
            ) from None
        problems |= {w: f"{n} threads, expected 1" for w, n in self._client.nthreads().items() if n != 1}
        broken = sorted(f"{worker}: {what}" for worker, what in problems.items() if what)
        if broken:
            raise FeatureStoreError(
                f"{self._name}: {len(broken)} of {len(problems)} workers cannot work:\n  " + "\n  ".join(broken[:3]),
                "Start them with --nworkers N --nthreads 1. They read audio and write the store themselves: use a "
                "shared folder, or URLs such as s3://bucket/store.",
            )

    def run(self, function: Callable[[Any], Any], arguments: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Call a function with each of some arguments: see `LocalPool.run`.

        Parameters
        ----------
        function : Callable
            Importable by the workers.
        arguments : iterable
            Of the calls.

        Yields
        ------
        tuple of (int, Any)
            Index of the argument, and what the function returned, in the order of completion. `Lost` is a call that
            took down as many workers as the scheduler allows (four).

        Raises
        ------
        FeatureStoreError
            The scheduler is lost, or no worker has been there for `patience_s` seconds.
        """
        from distributed import as_completed

        futures = {self._client.submit(function, a, pure=False): n for n, a in enumerate(arguments)}
        done, alive = as_completed(futures, loop=self._client.loop), time.monotonic()
        while not done.is_empty():
            if done.has_ready():
                future = next(done)
                yield futures[future], self._outcome(future)
                continue
            with contextlib.suppress(OSError):  # a lost scheduler is what the tasks report
                if self._client.nthreads():
                    alive = time.monotonic()
            if time.monotonic() - alive > self._patience_s:
                raise self._no_workers()
            time.sleep(_POLL_S)

    def _outcome(self, future: Any) -> Any:
        from distributed import CancelledError, KilledWorker

        try:
            # the answer of a batch that is done is lost with its worker: another worker gives it again, if there is one
            return future.result(timeout=self._patience_s)
        except KilledWorker:
            return Lost("")
        except TimeoutError:
            raise self._no_workers() from None
        except (CancelledError, concurrent.futures.CancelledError):
            raise FeatureStoreError(f"{self._name}: the connection to the Dask scheduler was lost", _AGAIN) from None

    def _no_workers(self) -> FeatureStoreError:
        return FeatureStoreError(
            f"{self._name}: no worker has been there for {self._patience_s:g} s",
            f"Start some with `dask worker {self._name} --nthreads 1`. {_AGAIN}",
        )


Pool = LocalPool | DaskPool


def problem(task: Task) -> str:
    """Why this machine cannot measure a batch.

    Parameters
    ----------
    task : Task
        The batch.

    Returns
    -------
    str
        It lacks the store, or the first file that the driver saw; empty where it lacks nothing.
    """
    try:
        Store.open(task.store)
    except FeatureStoreError as error:
        return error.message
    source = next((item.source for item in task.items if item.size != MISSING), None)
    if source is None:
        return ""
    fs, path = files.resolve(source) if "://" in source else (None, source)
    found = fs.exists(path) if fs else os.path.exists(path)
    return "" if found else f"{source}: no such file"
