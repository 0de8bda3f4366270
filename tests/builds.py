"""Small real builds: clips rendered here, a spec that measures them in milliseconds, and what a store holds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile

from featurestore import schemas
from featurestore.build.build import BuildReport, build
from featurestore.spec import Spec
from featurestore.store.store import Store

ROOT = Path(__file__).resolve().parent.parent
# 12 excerpts a track: two tracks fill a batch, so that few clips make several batches
SPEC = Spec(
    sample_rate=8000,
    n_fft=256,
    hop_length=128,
    n_mels=16,
    excerpts=12,
    excerpt_seconds=0.1,
    groups=("fma",),
    wave_seconds=0.05,
)
VOLATILE = {"batch", "extracted_at", "failed_at", "source_mtime_ns", "updated_at", "audio"}
SUFFIXES = ("wav", "flac", "ogg", "mp3")

# every file takes a worker a while, so that a build can be met half-way
SLOW = """
import sys, time
if any(name in " ".join(sys.orig_argv) for name in ("popen_loky_posix", "dask_worker")):
    import featurestore.audio.decode as decoding
    real = decoding.decode
    def decode(source, spec):
        time.sleep(0.15)
        return real(source, spec)
    decoding.decode = decode
"""

# run by every worker before anything else: faults at the file whose name says so, as real decoders have them
SABOTAGE = """
import errno, os, signal, sys, time
if "popen_loky_posix" in " ".join(sys.orig_argv):
    import featurestore.audio.decode as decoding
    real = decoding.decode
    import featurestore.extract as extracting
    extract_really, wrong = extracting.extract, [False]
    def extract(y, spec):
        found = extract_really(y, spec)
        if wrong[0]:
            found.features[7] = float("nan")
        return found
    extracting.extract = extract
    def decode(source, spec):
        name = os.path.basename(str(source))
        wrong[0] = "wrong" in name
        if "segfault" in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "hang" in name:
            time.sleep(600)
        if "oom" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "memory" in name:
            raise MemoryError
        if "exit" in name:
            os._exit(7)
        if "odd" in name:
            raise ZeroDivisionError("division by zero")
        if "once" in name and not os.path.exists(str(source) + ".done"):
            open(str(source) + ".done", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(source, spec)
    decoding.decode = decode
    import builtins
    open_really = builtins.open
    def opens(name, *more, **others):
        if "stalled" in str(name):
            time.sleep(600)
        return open_really(name, *more, **others)
    builtins.open = opens
    budget = os.environ.get("DISK_WRITES")
    if budget:
        writes, sync = [0], os.fsync
        def fsync(handle):
            writes[0] += 1
            if writes[0] > int(budget):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(handle)
        os.fsync = fsync
"""


def render_clips(folder: Path, tracks: int = 6, seconds: float = 1.3) -> Path:
    """`tracks` clips of noise and a tone in two genre folders, as WAV, FLAC, Ogg and MP3 by turns."""
    for i in range(tracks):
        genre = folder / ("rock", "jazz")[i % 2]
        genre.mkdir(parents=True, exist_ok=True)
        render_clip(genre / f"clip{i:02d}.{SUFFIXES[i % 4]}", i, seconds)
    return folder


def render_clip(path: Path, seed: int = 0, seconds: float = 1.3, rate: int = 16000) -> Path:
    """One clip, different for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.05, len(t))
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * (200 + 37 * seed) * t) + noise, rate)
    return path


def run_build(store: Path | str, audio: Path, **options: object) -> BuildReport:
    """`build` of a folders collection with SPEC and one job."""
    defaults: dict[str, object] = {"dataset": "folders", "spec": SPEC, "jobs": 1}
    return build(str(store), audio=str(audio), **{**defaults, **options})  # type: ignore[arg-type]


def children(pid: int) -> list[int]:
    """Processes that a process started (Linux)."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(p) for p in task.read_text().split()]
        except OSError:
            continue
    return found


def workers(pid: int) -> list[int]:
    """The worker processes of a build: joblib has a process of its own beside them."""
    return [p for p in children(pid) if _is_worker(p)]


def _is_worker(pid: int) -> bool:
    try:
        return b"popen_loky_posix" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def python(module: str) -> list[str]:
    """The command line that runs a module."""
    return [sys.executable, "-m", module]


def build_command(store: Path | str, audio: Path, *more: str) -> list[str]:
    """The command line of `run_build`, with two jobs."""
    numbers = [f"--{k.replace('_', '-')}={v}" for k, v in SPEC.as_dict().items() if k not in ("groups", "extractor")]
    command = [*python("featurestore"), "build", "--dataset", "folders", "--audio", str(audio)]
    return [*command, "--store", str(store), "--jobs", "2", *numbers, "--groups", ",".join(SPEC.groups), *more]


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as a terminal does."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition: Callable[[], object]) -> bool:
    """Wait for something to be so; whether it was within a minute."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def content(store: Path | str) -> dict[str, pa.Table]:
    """What a store says, table by table, without when and in which batch it was measured."""
    opened = Store.open(str(store))
    tables = {name: opened.read_current(name) for name in schemas.MEASURED}
    tables |= {name: opened.read_catalog(name) for name in opened.catalog_names()}
    return {name: _comparable(table) for name, table in tables.items()}


def _comparable(table: pa.Table) -> pa.Table:
    kept = [c for c in table.column_names if c not in VOLATILE]
    order = ("track_id", "excerpt", "scheme", "genre_id", "dataset")
    keys = [(c, "ascending") for c in order if c in kept]
    return table.select(kept).sort_by(keys).combine_chunks()


def differing(one: Mapping[str, pa.Table], other: Mapping[str, pa.Table]) -> list[str]:
    """Names of the tables that differ; [] if two stores say the same."""
    return sorted(n for n in one.keys() | other.keys() if n not in one or n not in other or not one[n].equals(other[n]))


def whole_batches(store: Store) -> int:
    """Read every batch that a reader sees now; returns how many. Fails if a part of one is missing or disagrees."""
    batches = store.snapshot().batches
    for batch in batches:
        tables = {name: store.read_batch(name, batch) for name in schemas.MEASURED}
        keys = tables["excerpts"].select(["track_id", "excerpt"])
        for name in ("features", "mel", "wave"):
            assert tables[name].select(["track_id", "excerpt"]).equals(keys), f"{name} of {batch}"
    return len(batches)
