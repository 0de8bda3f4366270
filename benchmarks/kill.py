"""Kill builds hundreds of times at random points; compare every finished store with an undisturbed one.

    python -m benchmarks.kill --kills 200

A store is built, killed and built again until a build comes through. Victims by turns: the driver, one of its workers,
the driver with all workers at once (power cut, as far as processes go), and Ctrl-C (once the build has begun to write:
before that Python itself is starting). Meanwhile a reader takes snapshots
and reads every batch they promise. Nothing may differ: content table by table, `verify`, and what the reader saw.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import common
from featurestore.errors import MissingStore
from featurestore.maintenance.verify import verify
from featurestore.store.lock import LOCK
from featurestore.store.store import Store
from featurestore.terminal import cli, progress
from tests.builds import build_command, content, differing, render_clips, start, whole_batches, workers

MAX_KILLS = 6  # of one store, then it is left to finish
LOST_S = 300.0


@dataclasses.dataclass
class Tally:
    """What happened to one kind of victim: builds killed, and builds that had finished before."""

    kills: int = 0
    too_late: int = 0


def _kill_driver(process: subprocess.Popen[str], rng: random.Random) -> None:
    process.kill()


def _kill_worker(process: subprocess.Popen[str], rng: random.Random) -> None:
    running = workers(process.pid)
    if running:
        os.kill(rng.choice(running), signal.SIGKILL)


def _kill_all(process: subprocess.Popen[str], rng: random.Random) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def _interrupt(process: subprocess.Popen[str], rng: random.Random) -> None:
    os.killpg(process.pid, signal.SIGINT)


VICTIMS: dict[str, Callable[[subprocess.Popen[str], random.Random], None]] = {
    "driver": _kill_driver,
    "worker": _kill_worker,
    "driver and workers": _kill_all,
    "Ctrl-C": _interrupt,
}


def kill(kills: int, tracks: int, seed: int) -> tuple[list[dict[str, object]], dict[str, int]]:
    """(one row for each kind of victim, counts over all) of `kills` kills on stores of `tracks` clips."""
    rng = random.Random(seed)
    tallies = {name: Tally() for name in VICTIMS}
    counts = {"stores": 0, "snapshots": 0, "tables_that_differ": 0, "damages": 0, "tracebacks": 0}
    with tempfile.TemporaryDirectory() as folder, progress.bar("killing builds", kills) as bar:
        audio = render_clips(Path(folder) / "audio", tracks)
        started = time.monotonic()
        _finish(start(build_command(Path(folder) / "undisturbed", audio)), counts)
        seconds = time.monotonic() - started
        undisturbed = content(Path(folder) / "undisturbed")
        while sum(t.kills for t in tallies.values()) < kills:
            store = Path(folder) / f"store{counts['stores']}"
            _one_store(store, audio, seconds, tallies, counts, rng, bar.advance)
            counts["tables_that_differ"] += len(differing(content(store), undisturbed))
            counts["damages"] += len(verify(str(store)).damages)
            counts["stores"] += 1
    rows = [{"victim": name, "kills": t.kills, "finished_before": t.too_late} for name, t in tallies.items()]
    return rows, counts


def _one_store(
    store: Path,
    audio: Path,
    seconds: float,
    tallies: dict[str, Tally],
    counts: dict[str, int],
    rng: random.Random,
    advance: Callable[[], None],
) -> None:
    """Build one store, killing up to MAX_KILLS builds of it, until one comes through."""
    for _ in range(MAX_KILLS):
        name = rng.choice(list(VICTIMS))
        process = start(build_command(store, audio))
        if name == "Ctrl-C":
            _wait_for(store / LOCK, process)
        counts["snapshots"] += _read_until(process, store, time.monotonic() + rng.uniform(0.05, seconds))
        if process.poll() is None:
            VICTIMS[name](process, rng)
            tallies[name].kills += 1
            advance()
        else:
            tallies[name].too_late += 1
        if _finish(process, counts):
            return
    if not _finish(start(build_command(store, audio)), counts):
        raise RuntimeError(f"{store}: a build that nobody killed failed")


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists() and process.poll() is None:
        time.sleep(0.005)


def _finish(process: subprocess.Popen[str], counts: dict[str, int]) -> bool:
    """Wait for a build; whether it came through."""
    _, err = process.communicate(timeout=LOST_S)
    counts["tracebacks"] += "Traceback" in err
    if process.returncode not in (0, -signal.SIGKILL, cli.EXIT_INTERRUPTED, -signal.SIGINT):
        raise RuntimeError(f"exit code {process.returncode}: {err}")
    return process.returncode == 0


def _read_until(process: subprocess.Popen[str], store: Path, until: float) -> int:
    """Read what snapshots promise until then; returns how many were taken. Raises if a batch is not whole."""
    taken = 0
    while process.poll() is None and time.monotonic() < until:
        try:
            whole_batches(Store.open(str(store)))
            taken += 1
        except MissingStore:
            pass
        time.sleep(min(0.05, max(0.0, until - time.monotonic())))
    return taken


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 if anything differed."""
    parser = common.parser("kill", __doc__)
    parser.add_argument("--kills", metavar="N", type=cli.positive, default=200, help="builds to kill")
    parser.add_argument("--tracks", metavar="N", type=cli.positive, default=12, help="clips in the collection")
    cli.add_seed(parser)
    args = parser.parse_args(argv)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # begun in the background: builds would ignore Ctrl-C too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    rows, counts = kill(args.kills, args.tracks, args.seed)
    common.report(args.format, {"killed at random points": rows}, **counts)
    return 1 if counts["tables_that_differ"] or counts["damages"] or counts["tracebacks"] else 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
