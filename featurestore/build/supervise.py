"""Workers in processes of their own, watched: one that dies, hangs or runs out of memory costs one file, not a batch.

The process that decodes says which file it is at. If it ends, or is silent for longer than a file may take, the batch
is made again by a fresh process; a file that takes down two is blamed, becomes a row of `failures`, and is not opened
again. Whatever carries the batches (threads here, Dask workers elsewhere) only waits on a pipe.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from featurestore import errors
from featurestore.errors import FeatureStoreError
from featurestore.measure.task import Result, Task

ATTEMPTS = 2  # a process may be killed by accident; the same file twice is no accident
START_S = 600.0  # imports, and kernels compiled for the first time on this machine
_PINNED = ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB_MAXIMUM", "NUMEXPR")
# Dask's nanny sets it: every array would be given back to the system and faulted in again, a fifth of a worker's time
_UNWANTED = "MALLOC_TRIM_THRESHOLD_"


class _Died(Exception):
    """The process ended, or was ended, before it answered. at: the track it was at, if any."""

    def __init__(self, at: int | None, kind: str, message: str) -> None:
        super().__init__(message)
        self.at, self.kind, self.message = at, kind, message


class Pool:
    """The worker processes of this process, kept between batches. `close` ends them all, whatever they do."""

    def __init__(self, lock_fd: int | None = None) -> None:
        self._lock_fd = lock_fd
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._guard = threading.Lock()
        self._closed = False

    def run_batch(self, task: Task) -> Result:
        """Make one batch. Raises FeatureStoreError where the store cannot be written or no worker stays alive."""
        deaths: collections.Counter[int | None] = collections.Counter()
        while True:
            try:
                return Result(**self._ask(task.to_json(), task.timeout_s)["result"])
            except _Died as death:
                deaths[death.at] += 1
                if deaths[death.at] < ATTEMPTS:
                    continue
                if death.at is None:
                    raise FeatureStoreError(
                        f"a worker {death.message} while it was starting or writing batch {task.batch}",
                        "Check memory and disk space; fewer --jobs need less of both. Then run the command again.",
                    ) from None
                blamed = {**task.blamed, death.at: (death.kind, f"the process reading it {death.message}")}
                task = dataclasses.replace(task, blamed=blamed)

    def golden(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The golden record (see `golden.measure`); compiles the kernels on the way. Raises FeatureStoreError."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return dict(self._ask({"golden": spec}, START_S)["golden"])
            except _Died as death:
                if attempt == ATTEMPTS:
                    raise FeatureStoreError(
                        f"the first worker {death.message} before it measured anything",
                        "Check the installation and memory; fewer --jobs need less. Then run the command again.",
                    ) from None
        raise AssertionError

    def close(self) -> None:
        """End every worker."""
        with self._guard:
            self._closed = True
            workers, idle = self._all, self._idle
            self._all, self._idle = set(), []
        for worker in workers:
            worker.kill()
        for worker in idle:  # whoever waits for one of the others closes its pipes
            worker.end()

    def _ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        worker = self._take()
        try:
            reply = worker.ask(request, timeout_s)
        except BaseException:
            with self._guard:
                self._all.discard(worker)
            worker.end()
            raise
        with self._guard:
            self._idle.append(worker)
        if "bug" in reply:
            raise RuntimeError(f"in a worker:\n{reply['bug']}")
        if "error" in reply:
            name, message, hint = reply["error"]
            raise getattr(errors, name, FeatureStoreError)(message, hint)
        return reply

    def _take(self) -> _Worker:
        with self._guard:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive():
                    return worker
                self._all.discard(worker)
                worker.end()
            if self._closed:
                raise FeatureStoreError("the build was stopped", "Run the command again to go on.")
            worker = _Worker(self._lock_fd)
            self._all.add(worker)
            return worker


class _Worker:
    """One `python -m featurestore.measure.worker` and the pipes to it."""

    def __init__(self, lock_fd: int | None) -> None:
        package_root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(p for p in (os.environ.get("PYTHONPATH"), package_root) if p)
        # one thread each: there is one process per job already
        threads = {f"{name}_NUM_THREADS": "1" for name in _PINNED}
        inherited = {name: value for name, value in os.environ.items() if name != _UNWANTED}
        self._stderr = tempfile.TemporaryFile(prefix="worker-")  # noqa: SIM115 - closed in end()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "featurestore.measure.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**inherited, **threads, "PYTHONPATH": path},
            pass_fds=() if lock_fd is None else (lock_fd,),
        )
        self._buffer = b""

    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a request, follow the process through its files, return the reply. Raises _Died."""
        at: int | None = None
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            while True:
                line = self._line(START_S if at is None else timeout_s)
                if line is None:
                    self.kill()
                    raise _Died(at, "timeout", f"was silent for {timeout_s:g} s")
                if not line:
                    raise _Died(at, *self._cause())
                reply = json.loads(line)
                if "at" not in reply:
                    return dict(reply)
                at = reply["at"]
        except (BrokenPipeError, ConnectionResetError):
            raise _Died(at, *self._cause()) from None

    def _line(self, timeout_s: float) -> bytes | None:
        """The next line; b"" where the process has closed its side; None where none came in time."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                chunk = os.read(self._process.stdout.fileno(), 1 << 16)
                if not chunk:
                    return b""
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _cause(self) -> tuple[str, str]:
        """(kind, message) of a process that ended by itself."""
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return "memory", "was killed, most likely by the system for want of memory; --retry with fewer --jobs"
        if code < 0:
            return "crash", f"crashed ({signal.Signals(-code).name})"
        return "crash", f"ended with exit code {code}{self._last_words()}"

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""

    def kill(self) -> None:
        """End the process, wherever it is."""
        self._process.kill()

    def end(self) -> None:
        """End the process and close the pipes."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


_pools: dict[int | None, Pool] = {}
_pools_guard = threading.Lock()


def pool(lock_fd: int | None = None) -> Pool:
    """The pool that this process keeps for the build with this lock."""
    with _pools_guard:
        return _pools.setdefault(lock_fd, Pool(lock_fd))


def run_batch(task: Task, lock_fd: int | None = None) -> Result:
    """`Pool.run_batch` in the pool of this process: what a joblib backend is given to run, wherever it runs."""
    return pool(lock_fd).run_batch(task)


def close_pool(lock_fd: int | None) -> None:
    """End the workers of `pool(lock_fd)`."""
    with _pools_guard:
        ended = _pools.pop(lock_fd, None)
    if ended:
        ended.close()
