"""What a build costs as the collection grows, and what a cluster costs beside processes on one machine.

Tables, from real builds by the real command:

    growth      --sizes collections of short synthetic clips (--seconds): what grows is the bookkeeping. Seconds for an
                excerpt, the driver's memory and open files, how long the store takes to list and to plan, the time to
                the first new batch of a build that goes on, and of one that finds nothing to do; bytes, by table
    clips       --clips synthetic MP3 clips of 30 s, the size of FMA's: seconds and bytes for an excerpt, by table
    cluster     --cluster-clips of them by `--jobs 2` (the baseline) and by a Dask scheduler with two workers of one
                thread, in turn; medians of --repeats. Timed is the whole command. A real cluster is there before, so
                scheduler and workers are started outside of it, and those of `--jobs 2` inside. Few clips would
                compare how long the two take to start

Synthetic clips say nothing of music; they decode and measure like it. Memory and open files are read from /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.synthesize import synthesize
from featurestore import schemas
from featurestore.store import files, places
from featurestore.store.store import Store

RENDERED = 24  # clips that are rendered; the others are copies with a few more bytes, so that their content differs
JOBS = 2
_POLL_S = 0.02


@dataclasses.dataclass(frozen=True)
class Run:
    """One command: its wall-clock seconds, CPU seconds with its workers, the driver's peak memory and most open files,
    seconds to a new batch."""

    seconds: float
    cpu_s: float
    peak_mb: float
    open_files: int
    first_batch_s: float


def collection(folder: Path, tracks: int, seconds: float, format: str) -> Path:
    """A collection of `tracks` clips below `folder`."""
    rendered = folder.parent / f"rendered-{format}-{seconds:g}"
    synthesize(str(rendered), tracks=min(RENDERED, tracks), seconds=seconds, format=format, jobs=JOBS)
    originals = [(p.relative_to(rendered), p.read_bytes()) for p in sorted(rendered.rglob(f"*.{format}"))]
    for i in range(tracks):
        path, data = originals[i % len(originals)]
        target = folder / path.parent / f"{path.stem}-{i:06d}.{format}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data + i.to_bytes(8, "little"))
    return folder


def build(store: Path, audio: Path, seconds: float, *more: str) -> Run:
    """Run the build as a command of its own and watch its driver. Raises CalledProcessError if it fails."""
    command = [sys.executable, "-m", "featurestore", "build", "--dataset", "folders", "--audio", str(audio)]
    command += ["--store", str(store), "--jobs", str(JOBS), "--excerpt-seconds", str(seconds), *more]
    before = set(store.glob("excerpts/*"))
    peak, handles, first = 0.0, 0, float("nan")
    with tempfile.TemporaryFile() as log:
        cpu, started = _cpu_s(), time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log)
        while process.poll() is None:
            peak, handles = max(peak, _memory_mb(process.pid)), max(handles, _open_files(process.pid))
            if first != first and set(store.glob("excerpts/[0-9]*")) - before:
                first = time.perf_counter() - started
            time.sleep(_POLL_S)
        took = time.perf_counter() - started
        log.seek(0)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, log.read().decode())
    return Run(took, _cpu_s() - cpu, peak, handles, first)


def _cpu_s() -> float:
    # of ended processes: the driver waits for its workers, and this process for the driver
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _memory_mb(pid: int) -> float:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return 0.0


def _open_files(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def growth(folder: Path, tracks: int, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row of each table: build, look, build again, change a few files, build what is missing."""
    audio, store = collection(folder / f"audio-{tracks}", tracks, seconds, "wav"), folder / f"store-{tracks}"
    whole = build(store, audio, seconds)
    opened = Store.open(str(store))
    seen = common.interleaved({"list": opened.batches, "snapshot": opened.snapshot}, 5)
    count, sizes = len(list(store.rglob("*.parquet"))), bytes_per_excerpt(opened)
    nothing = statistics.median(build(store, audio, seconds).seconds for _ in range(3))
    _take_away(store, audio)
    resumed = build(store, audio, seconds)
    shutil.rmtree(audio)
    row = {
        "excerpts": tracks,
        "build s": round(whole.seconds, 1),
        "s/excerpt": round(whole.seconds / tracks, 4),
        "CPU s/excerpt": round(whole.cpu_s / tracks, 4),
        "driver MB": round(max(whole.peak_mb, resumed.peak_mb)),
        "open files": max(whole.open_files, resumed.open_files),
        "batches": len(opened.batches()),
        "files": count,
        "list ms": round(1000 * seen["list"], 1),
        "snapshot ms": round(1000 * seen["snapshot"], 1),
        "nothing to do s": round(nothing, 2),
        "first batch of a resumed build s": round(resumed.first_batch_s, 2),
    }
    return row, {"collection": tracks, **sizes}


def bytes_per_excerpt(store: Store) -> dict[str, int]:
    """{table: bytes for an excerpt} of what readers are shown; batches that were replaced are gone after an hour."""
    snapshot = store.snapshot()
    shown = {f"{batch}.parquet" for batch in snapshot.batches}
    rows = len(store.read_current("excerpts", ["track_id"], snapshot))
    total = {}
    for table in (*schemas.MEASURED, places.DERIVED, "catalog"):
        found = files.sizes(store.fs, store.path(table))
        total[table] = sum(size for name, size in found.items() if table not in schemas.MEASURED or name in shown)
    return {table: round(size / rows) for table, size in total.items()} | {"all": round(sum(total.values()) / rows)}


def _take_away(store: Path, audio: Path) -> None:
    """Give a few files other content, so that the next build has a batch to make."""
    for path in sorted(audio.rglob("*.wav"))[:24]:
        path.write_bytes(path.read_bytes() + b"\0")


def clips(folder: Path, tracks: int, audio: Path) -> list[dict[str, Any]]:
    """Seconds and bytes of 30 s clips."""
    store = folder / "store-clips"
    for _ in range(2):  # the first compiles kernels; the second is what starting and ending costs
        start = build(store, audio, 30.0, "--limit", "2")
        shutil.rmtree(store)
    run = build(store, audio, 30.0)
    sizes = bytes_per_excerpt(Store.open(str(store)))
    rows: list[dict[str, Any]] = [{"what": f"bytes/excerpt, {name}", "value": size} for name, size in sizes.items()]
    source = sum(p.stat().st_size for p in audio.rglob("*.mp3")) / tracks
    return [
        *rows,
        {"what": "bytes/excerpt, the MP3 itself", "value": round(source)},
        {"what": "wall s/excerpt, start and end included", "value": round(run.seconds / tracks, 4)},
        {"what": "CPU s/excerpt without start and end", "value": round((run.cpu_s - start.cpu_s) / (tracks - 2), 4)},
        {"what": "CPU s of start and end", "value": round(start.cpu_s, 1)},
    ]


@contextlib.contextmanager
def dask(folder: Path) -> Iterator[str]:
    """The address of a scheduler with two workers of one thread, as processes of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    commands = [["dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-show"]]
    commands += [["dask_worker", address, "--nthreads", "1", "--local-directory", str(folder)]] * JOBS
    processes = []
    try:
        for name, *options in commands:
            command = [sys.executable, "-m", f"distributed.cli.{name}", *options, "--no-dashboard"]
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        _wait_for_workers(address)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def _wait_for_workers(address: str) -> None:
    from distributed import Client

    with Client(address, timeout=30, set_as_default=False) as client:
        client.wait_for_workers(JOBS, timeout=60)


def cluster(folder: Path, tracks: int, audio: Path, repeats: int) -> list[dict[str, Any]]:
    """The same collection by local jobs and by a cluster, in turn.

    Each round has a cluster of its own: processes that idle beside the local build would slow it, and worker processes
    that are warm from the round before would help the other.
    """
    numbers = iter(range(1000))
    times: dict[str, list[float]] = {"--jobs 2": [], "two Dask workers": []}

    def fresh(*more: str) -> float:
        store = folder / f"store-cluster-{next(numbers)}"
        seconds = build(store, audio, 30.0, *more).seconds
        shutil.rmtree(store)
        return seconds

    fresh("--limit", "2")  # compiles kernels
    for _ in range(repeats):
        times["--jobs 2"].append(fresh())
        with dask(folder) as address:
            times["two Dask workers"].append(fresh("--backend", "dask", "--scheduler", address))
    medians = {name: statistics.median(t) for name, t in times.items()}
    return [
        {"how": name, "s": round(t, 1), "s/excerpt": round(t / tracks, 3), "ratio": round(t / medians["--jobs 2"], 2)}
        for name, t in medians.items()
    ]


def main() -> None:
    """Parse, run, print."""
    parser = common.parser("scale", __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000], help="excerpts of the growing collections")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of their clips")
    parser.add_argument("--clips", type=int, default=96, help="30 s clips; 0 leaves them out")
    parser.add_argument("--cluster-clips", type=int, default=720, help="30 s clips of the comparison: 24 are a batch")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the comparison; 0 leaves it out")
    parser.add_argument("--folder", help="where to work (default: a temporary folder, removed at the end)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-", dir=args.folder) as name:
        folder = Path(name)
        tables: dict[str, list[dict[str, Any]]] = {}
        if args.sizes:
            rows = [growth(folder, n, args.seconds) for n in args.sizes]
            tables[f"growth ({args.seconds:g} s clips)"] = [row for row, _ in rows]
            tables[f"bytes/excerpt ({args.seconds:g} s clips)"] = [sizes for _, sizes in rows]
        if args.clips:
            audio = collection(folder / "audio-clips", args.clips, 30.0, "mp3")
            tables["clips (30 s MP3)"] = clips(folder, args.clips, audio)
            shutil.rmtree(audio)
        if args.repeats:
            audio = collection(folder / "audio-cluster", args.cluster_clips, 30.0, "mp3")
            title = "cluster (30 s MP3; whole commands; the scheduler and its workers were started before)"
            tables[title] = cluster(folder, args.cluster_clips, audio, args.repeats)
    common.report(args.format, tables, machine=json.dumps({"cores": os.cpu_count(), "python": sys.version.split()[0]}))


if __name__ == "__main__":
    main()
