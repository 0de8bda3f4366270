"""One batch in one worker: measure its files, check the rows, commit.

A worker may die at any moment: nothing of a batch is visible before its last file is written. A file that cannot be
measured is a row of `failures`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import extract, registry, schemas
from featurestore.audio import decode
from featurestore.errors import AudioError
from featurestore.measure import file, golden
from featurestore.measure.task import MISSING, Item, Result, Task
from featurestore.spec import Spec
from featurestore.store import arrays, checks, lock
from featurestore.store.store import Store

_NOT_FACTS = ("excerpt", "y")


def measure_batch(task: Task) -> Result:
    """Measure the files of a task and commit the batch (none, if every file is unchanged).

    A batch that is committed is not made again. A file that takes longer than `task.timeout_s` ends the process.

    Parameters
    ----------
    task : Task
        What to measure, and the lock under which to commit it.

    Returns
    -------
    Result
        What became of the files.

    Raises
    ------
    SpecMismatch
        The libraries here measure other values than the store's.
    StoreBusy
        The build no longer has the lock.
    FeatureStoreError
        The store cannot be written.
    """
    store = Store.open(task.store)
    before = committed(store, task)
    if before is not None:
        return before
    _require_values(store)
    batch = _Batch(task.batch, store.spec)
    for item in task.items:
        with file.time_limit(task.timeout_s):
            batch.add(item, task.fault)
    if any(batch.rows.values()):
        tables = batch.checked_tables()
        store.write_batch(task.batch, tables, lambda: lock.require(store.fs, store.root, task.token))
    excerpts, failures = batch.rows["excerpts"], batch.rows["failures"]
    tracks = len({row["track_id"] for row in excerpts})
    return Result(tracks, len(excerpts), len(failures), tuple(batch.unchanged))


def committed(store: Store, task: Task) -> Result | None:
    """What became of a task whose batch is in the store.

    A worker may die between its commit and its answer.

    Parameters
    ----------
    store : Store
        Where the batch would be.
    task : Task
        What the batch was to measure.

    Returns
    -------
    Result or None
        None where the batch is not committed.
    """
    if not store.fs.exists(store.batch_path("excerpts", task.batch)):
        return None
    excerpts = store.read_batch("excerpts", task.batch, ["track_id"])["track_id"].to_pylist()
    failed = set(store.read_batch("failures", task.batch, ["track_id"])["track_id"].to_pylist())
    unchanged = [i for i in task.items if i.track_id not in failed.union(excerpts)]
    kept = tuple((i.track_id, i.known_hash, i.mtime_ns) for i in unchanged)
    return Result(len(set(excerpts)), len(excerpts), len(failed), kept)


def _require_values(store: Store) -> None:
    """Raise SpecMismatch if this process, maybe on another machine, measures other values than the store's.

    This also loads and warms everything that a file needs, so that its time limit is for the file alone.
    """
    now, stored = golden.measure(store.spec), store.manifest.get("golden")
    if stored:
        golden.require(stored, now, store.url)


class _Batch:
    """The rows of a batch as they come, by table; those of `features` hold their values as one array."""

    def __init__(self, name: str, spec: Spec) -> None:
        self.name, self.spec = name, spec
        self.rows: dict[str, list[dict[str, Any]]] = {table: [] for table in schemas.MEASURED}
        self.unchanged: list[tuple[int, str, int | None]] = []

    def add(self, item: Item, fault: tuple[str, str] | None) -> None:
        """Measure one file: rows, or a row of failures, or nothing if its content is the recorded one.

        A file with a known fault is not opened: also reading its bytes may have been what never ended.
        """
        if fault:
            self._fail(item, "", AudioError("decode", fault[0], f"{item.path}: {fault[1]}"))
            return
        digest = ""
        try:
            with file.local_copy(item.source, item.path) as path:
                digest, read = file.identify(path, item.path)
                mtime_ns = read.st_mtime_ns if path == item.source else item.mtime_ns
                item = dataclasses.replace(item, size=read.st_size, mtime_ns=mtime_ns)
                if digest == item.known_hash:
                    self.unchanged.append((item.track_id, digest, item.mtime_ns))
                    return
                measured = file.decode_and_extract(path, self.spec)
        except AudioError as error:
            self._fail(item if digest else dataclasses.replace(item, size=MISSING), digest, error)
            return
        for excerpt, extraction in measured:
            self._keep(item, digest, excerpt, extraction)

    def _fail(self, item: Item, digest: str, error: AudioError) -> None:
        row: dict[str, object] = {"track_id": item.track_id, "stage": error.stage, "kind": error.kind}
        message = error.message.replace(item.source or item.path, item.path)  # the same wherever the collection lies
        when = dt.datetime.now(dt.UTC)
        self.rows["failures"].append({**self._origin(item, digest), **row, "message": message, "failed_at": when})

    def _origin(self, item: Item, digest: str) -> dict[str, object]:
        return {
            "path": item.path,
            "batch": self.name,
            "spec": self.spec.fingerprint,
            "source_bytes": item.size,
            "source_mtime_ns": item.mtime_ns,
            "source_hash": digest,
        }

    def _keep(self, item: Item, digest: str, excerpt: decode.Excerpt, extraction: extract.Extraction) -> None:
        spec, key = self.spec, {"track_id": item.track_id, "excerpt": excerpt.excerpt}
        facts = {f.name: getattr(excerpt, f.name) for f in dataclasses.fields(excerpt) if f.name not in _NOT_FACTS}
        when = dt.datetime.now(dt.UTC)
        self.rows["excerpts"].append(
            {**self._origin(item, digest), **key, **facts, "libraries": golden.libraries(), "extracted_at": when}
        )
        self.rows["features"].append({**key, "values": extraction.features})
        n_mels, n_frames = extraction.mel.shape
        mel = arrays.encode_mel(extraction.mel)
        self.rows["mel"].append({**key, "n_mels": n_mels, "n_frames": n_frames, "mel": mel})
        if spec.wave_samples:
            wave, scale = arrays.encode_wave(excerpt.y, spec.wave_samples)
            n = {"sample_rate": spec.sample_rate, "n_samples": len(wave) // 2}
            self.rows["wave"].append({**key, **n, "scale": scale, "wave": wave})

    def checked_tables(self) -> dict[str, pa.Table]:
        """The five measured tables, without the tracks whose values cannot be: those become failures."""
        tables = self.tables()
        if not checks.problems(tables, self.name, self.spec):
            return tables
        for track in sorted({row["track_id"] for row in self.rows["excerpts"]}):
            one = {name: table.filter(pc.field("track_id") == track) for name, table in tables.items()}
            if found := checks.problems(one, self.name, self.spec):
                self._refuse(track, found[0])
        return self.tables()

    def _refuse(self, track: int, problem: str) -> None:
        """Take back the rows of a track, and keep a failure in their place."""
        row = next(row for row in self.rows["excerpts"] if row["track_id"] == track)
        item = Item(track, row["path"], "", row["source_bytes"], row["source_mtime_ns"])
        self.rows = {name: [row for row in rows if row["track_id"] != track] for name, rows in self.rows.items()}
        error = AudioError("extract", "crash", f"{item.path}: measured values that cannot be: {problem}")
        self._fail(item, row["source_hash"], error)

    def tables(self) -> dict[str, pa.Table]:
        """The five measured tables."""
        names = registry.column_names(self.spec.groups)
        rows = self.rows["features"]
        X = np.array([row["values"] for row in rows], np.float32).reshape(-1, len(names))
        key = [pa.array([row[k] for row in rows]) for k in checks.KEY]
        columns = [*key, *(pa.array(X[:, j]) for j in range(len(names)))]
        features = pa.table(columns, names=[*checks.KEY, *names])
        tables = {"features": schemas.conform(features, schemas.features_schema(self.spec.groups))}
        for name in ("mel", "wave", "failures", "excerpts"):
            tables[name] = schemas.from_rows(self.rows[name], schemas.measured_schema(name, self.spec))
        return tables
