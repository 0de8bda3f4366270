"""Importing a table as large as FMA's features.csv (106,574 x 518, about 1 GB), against pandas.

The baseline is what FMA's own loader does: `pandas.read_csv(path, index_col=0, header=[0, 1, 2])`, which ends with a
DataFrame in memory. Ours ends with the feature set in the store: ids checked, float32, on disk. Each run is a process
of its own, in turn; seconds are without the import of pandas, memory is the process's peak (ru_maxrss) with it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import common
from featurestore import registry

TRACKS = 106_574
_TEMPLATE_ROWS = 2000  # formatted once and repeated under other ids: the parsers see no difference
CASES = ("pandas", "ours")


def write_table(path: Path, tracks: int) -> None:
    """A features.csv in FMA's layout: three header rows, a row with the index name, ten decimals."""
    columns = sorted(registry.columns(("fma",)), key=lambda c: (c.feature, c.statistic, c.dimension))
    values = np.random.default_rng(0).normal(0, 100, (min(_TEMPLATE_ROWS, tracks), len(columns)))
    rows = [",".join(f"{v:.10f}" for v in row) for row in values]
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as f:
        f.write("feature," + ",".join(c.feature for c in columns) + "\n")
        f.write("statistics," + ",".join(c.statistic for c in columns) + "\n")
        f.write("number," + ",".join(f"{c.dimension:02d}" for c in columns) + "\n")
        f.write("track_id" + "," * len(columns) + "\n")
        for i in range(tracks):
            f.write(f"{i + 2},{rows[i % len(rows)]}\n")
    temporary.rename(path)


def write_store(path: Path, tracks: int) -> None:
    """A store whose catalog has the tracks of the table."""
    import pyarrow as pa

    from featurestore import schemas
    from featurestore.spec import Spec
    from featurestore.store.store import Store

    store = Store.create(str(path), Spec())
    ids = pa.array(np.arange(2, tracks + 2))
    table = pa.table({"track_id": ids, "dataset": pa.array(["fma"] * tracks)})
    store.write_catalog("tracks", schemas.conform(table, schemas.TRACKS))


def run_pandas(table: str, store: str) -> int:
    """The baseline; returns the number of rows."""
    import pandas as pd

    started = time.perf_counter()
    rows = len(pd.read_csv(table, index_col=0, header=[0, 1, 2]))
    return _report(started, rows)


def run_ours(table: str, store: str) -> int:
    """The import; returns the number of rows."""
    from featurestore.catalog.import_features import import_table

    started = time.perf_counter()
    rows = import_table(store, "fma", table).matched
    return _report(started, rows)


def _report(started: float, rows: int) -> int:
    import resource

    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "rows": rows}))
    return 0


def measure(case: str, table: Path, store: Path) -> dict[str, float]:
    """One run in a process of its own: seconds, peak_mb, rows."""
    command = [sys.executable, "-m", "benchmarks.import_features", "--case", case, str(table), str(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = common.parser("import_features", __doc__)
    parser.add_argument("--tracks", type=int, default=TRACKS, help="rows of the table")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each case")
    parser.add_argument("--folder", default=None, help="where the table is kept; default: the temporary folder")
    parser.add_argument("--case", nargs=3, metavar=("CASE", "TABLE", "STORE"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.case:
        return {"pandas": run_pandas, "ours": run_ours}[args.case[0]](*args.case[1:])
    folder = Path(args.folder or os.path.join(tempfile.gettempdir(), "import-features-benchmark"))
    folder.mkdir(parents=True, exist_ok=True)
    table, store = folder / f"features-{args.tracks}.csv", folder / f"store-{args.tracks}"
    if not table.exists():
        write_table(table, args.tracks)
    write_store(store, args.tracks)
    runs: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    for _ in range(args.repeats):
        for case in CASES:
            runs[case].append(measure(case, table, store))
    rows = [
        {
            "case": case,
            "seconds": statistics.median(r["seconds"] for r in found),
            "peak_mb": max(r["peak_mb"] for r in found),
            "rows": int(found[0]["rows"]),
        }
        for case, found in runs.items()
    ]
    baseline, ours = rows
    facts = {
        "table_mb": table.stat().st_size / 1e6,
        "time_ratio_to_pandas": float(ours["seconds"]) / float(baseline["seconds"]),
        "memory_ratio_to_pandas": float(ours["peak_mb"]) / float(baseline["peak_mb"]),
    }
    common.report(args.format, {"import of a table of FMA's size": rows}, **facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
