"""One batch in one process: read the audio, measure it, write the batch.

`python -m featurestore.measure.worker` is started by `supervise` and speaks JSON lines: a task comes in; `at` (which
file is being read), then `result`, `error` (of the user's making) or `bug` goes out. It may die at any moment: nothing
of a batch is visible before its last file is written, and it ends by itself when the other side of the pipe is gone.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import faulthandler
import functools
import hashlib
import itertools
import json
import os
import queue
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import extract, registry, schemas
from featurestore.audio import decode
from featurestore.errors import AudioError, FeatureStoreError, of_system
from featurestore.measure import golden
from featurestore.measure.task import MISSING, Item, Result, Task
from featurestore.spec import Spec
from featurestore.store import arrays, checks, files, lock
from featurestore.store.store import Store

LIBRARIES = ("librosa", "numba", "numpy", "scipy", "soundfile", "soxr")
_FACTS = tuple(f.name for f in dataclasses.fields(decode.Excerpt) if f.name not in ("excerpt", "y"))
_CHUNK = 1 << 20
_IDLE_S = 120.0


def measure_batch(task: Task, at: Callable[[int | None], None] = lambda track_id: None) -> Result:
    """Measure the files of a task and commit the batch (none, if every file is unchanged).

    `at` is told the track that is next, and None when the batch is written. Raises FeatureStoreError where the store
    cannot be written.
    """
    store = Store.open(task.store)
    there = _committed(store, task)
    if there is not None:
        return there
    _require_values(store)
    rows = _Rows(task.batch, store.spec)
    for item in task.items:
        at(item.track_id)
        rows.add(item, task.blamed.get(item.track_id))
    at(None)
    if rows.excerpts or rows.failures:
        tables = rows.checked_tables()
        store.write_batch(task.batch, tables, lambda: lock.require(store.fs, store.root, task.token))
    return Result(rows.tracks, len(rows.excerpts), len(rows.failures), tuple(rows.unchanged))


def _committed(store: Store, task: Task) -> Result | None:
    """What the batch came to if it is in the store: a cluster asks again where the answer was lost with its worker."""
    if not store.fs.exists(store.batch_path("excerpts", task.batch)):
        return None
    excerpts = store.read_batch("excerpts", task.batch, ["track_id"])["track_id"].to_pylist()
    failed = set(store.read_batch("failures", task.batch, ["track_id"])["track_id"].to_pylist())
    unchanged = [i for i in task.items if i.track_id not in failed.union(excerpts)]
    kept = tuple((i.track_id, i.known_hash, i.mtime_ns) for i in unchanged)
    return Result(len(set(excerpts)), len(excerpts), len(failed), kept)


def _require_values(store: Store) -> None:
    """Raise SpecMismatch if this process, maybe on another machine, measures other values than the store's.

    Also loads and warms everything that a file needs, so that its time limit is for the file alone.
    """
    now, stored = _golden(store.spec), store.manifest.get("golden")
    if stored:
        golden.require(stored, now, store.url)


@functools.cache
def _golden(spec: Spec) -> dict[str, Any]:
    return golden.measure(spec)


class _Rows:
    """The rows of a batch as they come."""

    def __init__(self, batch: str, spec: Spec) -> None:
        self.batch, self.spec = batch, spec
        self.excerpts: list[dict[str, object]] = []
        self.features: list[np.ndarray] = []
        self.mels: list[dict[str, object]] = []
        self.waves: list[dict[str, object]] = []
        self.failures: list[dict[str, object]] = []
        self.unchanged: list[tuple[int, str, int | None]] = []

    def add(self, item: Item, blamed: tuple[str, str] | None) -> None:
        """Measure one file: rows, or a row of failures, or nothing if its content is the recorded one."""
        digest = ""
        try:
            with _local_copy(item) as path:
                item, digest = _identify(item, path)
                if digest == item.known_hash:
                    self.unchanged.append((item.track_id, digest, item.mtime_ns))
                    return
                if blamed:
                    raise AudioError("decode", blamed[0], f"{item.path}: {blamed[1]}")
                measured = _measure(path, self.spec)
        except AudioError as error:
            self._fail(item if digest else dataclasses.replace(item, size=MISSING), digest, error)
            return
        for excerpt, extraction in measured:
            self._keep(item, digest, excerpt, extraction)

    def _fail(self, item: Item, digest: str, error: AudioError) -> None:
        row: dict[str, object] = {"track_id": item.track_id, "stage": error.stage, "kind": error.kind}
        message = error.message.replace(item.source or item.path, item.path)  # the same wherever the collection lies
        when = dt.datetime.now(dt.UTC)
        self.failures.append({**self._origin(item, digest), **row, "message": message, "failed_at": when})

    def _origin(self, item: Item, digest: str) -> dict[str, object]:
        return {
            "path": item.path,
            "batch": self.batch,
            "spec": self.spec.fingerprint,
            "source_bytes": item.size,
            "source_mtime_ns": item.mtime_ns,
            "source_hash": digest,
        }

    def _keep(self, item: Item, digest: str, excerpt: decode.Excerpt, extraction: extract.Extraction) -> None:
        spec, key = self.spec, {"track_id": item.track_id, "excerpt": excerpt.excerpt}
        facts = {
            f.name: getattr(excerpt, f.name) for f in dataclasses.fields(excerpt) if f.name not in ("excerpt", "y")
        }
        when = dt.datetime.now(dt.UTC)
        self.excerpts.append(
            {**self._origin(item, digest), **key, **facts, "libraries": libraries(), "extracted_at": when}
        )
        self.features.append(extraction.features)
        n_mels, n_frames = extraction.mel.shape
        mel = arrays.encode_mel(extraction.mel)
        self.mels.append({**key, "n_mels": n_mels, "n_frames": n_frames, "mel": mel})
        if spec.wave_samples:
            wave, scale = arrays.encode_wave(excerpt.y, spec.wave_samples)
            n = {"sample_rate": spec.sample_rate, "n_samples": len(wave) // 2}
            self.waves.append({**key, **n, "scale": scale, "wave": wave})

    @property
    def tracks(self) -> int:
        """Tracks measured."""
        return len({row["track_id"] for row in self.excerpts})

    def checked_tables(self) -> dict[str, pa.Table]:
        """The five measured tables, without the tracks whose values cannot be: those become failures."""
        tables = self.tables()
        if not checks.problems(tables, self.batch, self.spec):
            return tables
        for track in sorted({int(str(row["track_id"])) for row in self.excerpts}):
            one = {name: table.filter(pc.field("track_id") == track) for name, table in tables.items()}
            if found := checks.problems(one, self.batch, self.spec):
                self._refuse(track, found[0])
        return self.tables()

    def _refuse(self, track: int, problem: str) -> None:
        """Take back the rows of a track, and keep a failure in their place."""
        kept = [row["track_id"] != track for row in self.excerpts]
        row = self.excerpts[kept.index(False)]
        item = Item(track, str(row["path"]), "", int(str(row["source_bytes"])), row["source_mtime_ns"])  # type: ignore[arg-type]
        self.excerpts = list(itertools.compress(self.excerpts, kept))
        self.features = list(itertools.compress(self.features, kept))
        self.mels = list(itertools.compress(self.mels, kept))
        self.waves = list(itertools.compress(self.waves, kept))  # none at all, or one for each excerpt
        error = AudioError("extract", "crash", f"{item.path}: measured values that cannot be: {problem}")
        self._fail(item, str(row["source_hash"]), error)

    def tables(self) -> dict[str, pa.Table]:
        """The five measured tables."""
        names = registry.column_names(self.spec.groups)
        X = np.array(self.features, np.float32).reshape(-1, len(names))
        key = [pa.array([row[k] for row in self.excerpts]) for k in checks.KEY]
        columns = [*key, *(pa.array(X[:, j]) for j in range(len(names)))]
        features = pa.table(columns, names=[*checks.KEY, *names])
        return {
            "features": schemas.conform(features, schemas.features_schema(self.spec.groups)),
            "mel": schemas.from_rows(self.mels, schemas.MEL),
            "wave": schemas.from_rows(self.waves, schemas.WAVE),
            "failures": schemas.from_rows(self.failures, schemas.FAILURES),
            "excerpts": schemas.from_rows(self.excerpts, schemas.EXCERPTS),
        }


@functools.cache
def libraries() -> str:
    """The versions behind the values: `librosa 0.11.0, numpy 2.1.0, ...`."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)


@contextmanager
def _local_copy(item: Item) -> Iterator[str]:
    """A path of this machine with the file's bytes: the file itself, or a temporary copy of a remote one."""
    fs, path = files.resolve(item.source) if "://" in item.source else (None, item.source)
    if fs is None or files.is_local(fs):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="audio-", suffix=os.path.splitext(path)[1]) as copy:
        try:
            fs.get_file(path, copy.name)
        except FileNotFoundError:
            raise AudioError("open", "missing", f"{item.path}: no such file") from None
        except Exception as error:
            if of_system(error) is None:
                raise
            raise AudioError("open", "unreadable", f"{item.path}: {error}") from None
        yield copy.name


def _identify(item: Item, path: str) -> tuple[Item, str]:
    """The item with the size of the bytes that were read, and their hash. Raises AudioError (missing, unreadable)."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    try:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except FileNotFoundError:
        raise AudioError("open", "missing", f"{item.path}: no such file") from None
    except OSError as error:
        raise AudioError("open", "unreadable", f"{item.path}: {error.strerror or error}") from None
    mtime = stat.st_mtime_ns if path == item.source else item.mtime_ns
    return dataclasses.replace(item, size=size, mtime_ns=mtime), digest.hexdigest()


def measure_file(source: str, spec: Spec) -> tuple[str, list[tuple[decode.Excerpt, extract.Extraction]]]:
    """(content hash, excerpts with their measurements) of one file, path or URL. Raises AudioError."""
    item = Item(0, source, source, MISSING, None)
    with _local_copy(item) as path:
        return _identify(item, path)[1], _measure(path, spec)


def _measure(path: str, spec: Spec) -> list[tuple[decode.Excerpt, extract.Extraction]]:
    """Decode and measure the excerpts of one file. Raises AudioError, whatever goes wrong with the file."""
    stage = "decode"
    try:
        excerpts = decode.decode(path, spec)
        stage = "extract"
        return [(e, extract.extract(e.y, spec)) for e in excerpts]
    except MemoryError:
        raise AudioError(stage, "memory", f"{path}: out of memory") from None
    except (AudioError, FeatureStoreError):
        raise
    except Exception as error:
        # one file must not stop the rest: what no decoder foresaw is a failure with its reason
        raise AudioError(stage, "crash", f"{path}: {type(error).__name__}: {error}") from error


# ---------------------------------------------------------------- the process


def main() -> None:
    """Serve tasks from standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the build, which ends its workers
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not look like a reply
    pa.set_cpu_count(1)
    tasks: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    while True:
        try:
            line = tasks.get(timeout=_IDLE_S)
        except queue.Empty:
            return
        replies.write(json.dumps(_serve(json.loads(line), replies)) + "\n")


def _listen(tasks: queue.Queue[str]) -> None:
    for line in sys.stdin:
        tasks.put(line)
    os._exit(1)  # whoever started this is gone, so nobody wants the batch


def _serve(request: dict[str, Any], replies: Any) -> dict[str, Any]:
    try:
        if "golden" in request:
            return {"golden": _golden(Spec.from_dict(request["golden"]))}
        task = Task.from_json(request)
        try:
            return {"result": dataclasses.asdict(measure_batch(task, functools.partial(_announce, replies, task)))}
        finally:
            faulthandler.cancel_dump_traceback_later()
    except FeatureStoreError as error:
        return {"error": [type(error).__name__, error.message, error.hint]}
    except Exception as error:
        known = of_system(error)
        return {"error": ["FeatureStoreError", known.message, known.hint]} if known else {"bug": traceback.format_exc()}


def _announce(replies: Any, task: Task, track_id: int | None) -> None:
    replies.write(json.dumps({"at": track_id}) + "\n")
    faulthandler.cancel_dump_traceback_later()
    if track_id is not None:
        # should the supervisor be gone: ends the process even if a decoder never lets Python run again
        faulthandler.dump_traceback_later(2 * task.timeout_s + 10, exit=True)


if __name__ == "__main__":
    main()
