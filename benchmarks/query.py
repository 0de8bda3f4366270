"""What SQL, `matrix()` and `iter_mels` cost, against the plain way to do the same, in one run.

The features of two stores (8,000 and 106,574 tracks x 518) lie in Parquet files of 3,000 rows, as a build leaves them,
and the same values in a CSV file in FMA's layout. A question counts from before connecting to the last row in Python:
"database" is every connection but the first to a store, "made" the first one, which makes the database of the snapshot,
"views" one to a store that cannot be written. Baselines: pandas reading that CSV and grouping; pyarrow reading the same
columns; pyarrow reading and casting the same mel column; vectors computed anew for each question.

Everything is fabricated, checked to give the same answer on both sides, and kept in a temporary folder (--folder) for
the next run. Files are in the page cache on both sides.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import common
from benchmarks.import_features import write_table
from benchmarks.stores import genre_of, make_mel_store, make_read_only_store, make_store
from featurestore.store.store import Store

SIZES = (8000, 106_574)
FEATURES = tuple(f"{f}_{d:02d}" for f in ("mfcc_mean", "mfcc_std", "tonnetz_mean", "tonnetz_std") for d in range(1, 6))


# ---------------------------------------------------------------- SQL against pandas


def grouping_sql() -> str:
    """Mean and deviation of 20 features by genre."""
    measures = ", ".join(f"avg({f}) AS {f}_mean, stddev_samp({f}) AS {f}_std" for f in FEATURES)
    return f"SELECT genre, {measures} FROM features JOIN tracks USING (track_id) GROUP BY genre ORDER BY genre"


def with_pandas(table: Path, labels: Path) -> Any:
    """The baseline: read FMA's features.csv as FMA's loader does, join the genre, group."""
    import pandas as pd

    features = pd.read_csv(table, index_col=0, header=[0, 1, 2])
    features.columns = ["_".join(parts) for parts in features.columns]
    genre = pd.read_csv(labels, index_col=0)["genre"]
    return features[list(FEATURES)].groupby(genre).agg(["mean", "std"])


def compare_with_pandas(folder: Path, tracks: int, repeats: int) -> Iterable[dict[str, Any]]:
    """One row for each kind of connection: connecting, asking and fetching against pandas."""
    table, labels = folder / f"features-{tracks}.csv", folder / f"genre-{tracks}.csv"
    if not table.exists():
        write_table(table, tracks)
    ids = np.arange(2, tracks + 2)
    labels.write_text("track_id,genre\n" + "".join(f"{i},{g}\n" for i, g in zip(ids, genre_of(ids), strict=True)))
    store = make_store(folder / f"store-{tracks}", tracks)
    read_only = make_read_only_store(folder / f"store-{tracks}-read-only", tracks)
    pandas: list[float] = []
    times: dict[str, list[dict[str, float]]] = {"made": [], "database": [], "views": []}
    for _ in range(repeats):
        started = time.perf_counter()
        expected = with_pandas(table, labels).to_numpy()
        pandas.append(time.perf_counter() - started)
        shutil.rmtree(store.path("derived"), ignore_errors=True)
        for name, asked in {"made": store, "database": store, "views": read_only}.items():
            seconds, answer = ask_afresh(asked)
            times[name].append(seconds)
            np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-3)
    for name, rounds in times.items():
        s = {what: statistics.median(r[what] for r in rounds) for what in rounds[0]}
        baseline = statistics.median(pandas)
        yield {
            "tracks": tracks,
            "connection": name,
            "csv_mb": table.stat().st_size / 1e6,
            "pandas_ms": 1e3 * baseline,
            **{f"{what}_ms": 1e3 * seconds for what, seconds in s.items()},
            "speedup": baseline / (s["connect"] + s["first_query"]),
        }


def ask_afresh(store: Store) -> tuple[dict[str, float], np.ndarray]:
    """Seconds of connecting, of the first query and of the same again; and the answer without the genres."""
    import warehouse

    started = time.perf_counter()
    with warehouse.connect(store) as connection:
        connected = time.perf_counter()
        answer = connection.execute(grouping_sql()).fetchall()
        first = time.perf_counter()
        connection.execute(grouping_sql()).fetchall()
        again = time.perf_counter()
    seconds = {"connect": connected - started, "first_query": first - connected, "second_query": again - first}
    return seconds, np.array([row[1:] for row in answer], float)


def from_the_shell(folder: Path, tracks: int, repeats: int) -> dict[str, Any]:
    """One question as a command, from the start of its process to its end; and Python starting, which is part of it."""
    store = make_store(folder / f"store-{tracks}", tracks)
    question = (
        "SELECT genre, avg(mfcc_mean_01) FROM features JOIN tracks USING (track_id) GROUP BY genre ORDER BY genre"
    )
    command = [sys.executable, "-m", "warehouse", question, "--store", store.url]
    python = [sys.executable, "-c", "import duckdb, pyarrow.parquet"]
    cases = {
        name: functools.partial(subprocess.run, words, check=True, capture_output=True)
        for name, words in {"question": command, "libraries": python}.items()
    }
    s = common.interleaved(cases, repeats)
    return {
        "tracks": tracks,
        "question_ms": 1e3 * s["question"],
        "python_with_duckdb_and_pyarrow_ms": 1e3 * s["libraries"],
    }


# ---------------------------------------------------------------- arrays, each in a process of its own


def memory_mb(what: str = "VmHWM") -> float:
    """Resident size of this process in MB, largest so far (VmHWM) or now (VmRSS); Linux only."""
    # ru_maxrss would begin with the size of the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1000


def child_matrix(path: str, repeats: int) -> dict[str, Any]:
    """`matrix()` against pyarrow reading the same columns into a table; memory beyond the matrix itself."""
    import warehouse

    warehouse.matrix(path, groups=["zcr_mean_01"])  # imports, and the threads of Arrow and DuckDB
    before = memory_mb("VmRSS")
    m = warehouse.matrix(path)
    extra = memory_mb() - before - m.X.nbytes / 1e6
    store = Store.open(path)
    files = [store.batch_path("features", b) for b in store.batches()]
    cases = {
        "matrix": lambda: warehouse.matrix(path),
        "pyarrow": lambda: pa.concat_tables([pq.read_table(f, columns=list(m.columns)) for f in files]),
    }
    s = common.interleaved(cases, repeats)
    return {
        "rows": len(m.X),
        "matrix_mb": m.X.nbytes / 1e6,
        "matrix_ms": 1e3 * s["matrix"],
        "pyarrow_table_ms": 1e3 * s["pyarrow"],
        "ratio_to_pyarrow": s["matrix"] / s["pyarrow"],
        "extra_memory_of_matrix": extra / (m.X.nbytes / 1e6),
    }


def child_mels(path: str, repeats: int) -> dict[str, Any]:
    """`iter_mels` against pyarrow reading and casting the same column; memory over the whole store."""
    import warehouse

    store = Store.open(path)
    files = [store.batch_path("mel", b) for b in store.batches()]

    def plain() -> int:
        n = 0
        for file in files:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=64, columns=["mel"]):
                n += sum(len(np.frombuffer(v.as_buffer(), "<f2").astype(np.float32)) > 0 for v in batch["mel"])
        return n

    def ours() -> int:
        return sum(len(batch.mels) for batch in warehouse.iter_mels(path))

    peaks = []
    for i, batch in enumerate(warehouse.iter_mels(path)):
        if i % 8 == 7:
            peaks.append(memory_mb())
        n_values = batch.mels[0].size
    s = common.interleaved({"pyarrow": plain, "iter_mels": ours}, repeats)
    decoded = plain() * n_values * 4 / 1e6
    return {
        "mels": ours(),
        "decoded_mb": decoded,
        "pyarrow_mb_per_s": decoded / s["pyarrow"],
        "iter_mels_mb_per_s": decoded / s["iter_mels"],
        "time_ratio_to_pyarrow": s["iter_mels"] / s["pyarrow"],
        "peak_mb_after_512_mels": peaks[0] if peaks else memory_mb(),
        "peak_mb_at_the_end": memory_mb() if not peaks else peaks[-1],
    }


def child_mel_sql(path: str, repeats: int) -> dict[str, Any]:
    """SQL over decoded mels: seconds and memory of a query that touches every value."""
    import warehouse

    with warehouse.connect(path) as connection:
        connection.execute("SELECT 1").fetchall()
        before = memory_mb("VmRSS")
        sql = "SELECT avg(list_max(mel_db(mel))) FROM mel WHERE track_id < 514"
        s = common.interleaved({"sql": lambda: connection.execute(sql).fetchall()}, repeats)["sql"]
        return {"mels": 512, "seconds": s, "extra_mb": memory_mb() - before}


CHILDREN = {"matrix": child_matrix, "mels": child_mels, "mel_sql": child_mel_sql}


def in_child(name: str, path: Path, repeats: int) -> dict[str, Any]:
    """Run one of CHILDREN in a fresh process, so that its memory is its own."""
    command = [sys.executable, "-m", "benchmarks.query", "--child", name, str(path), "--repeats", str(repeats)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


# ---------------------------------------------------------------- neighbours


def similar(folder: Path, tracks: int, repeats: int) -> dict[str, Any]:
    """`similar_tracks` against computing the standardised vectors from 518 columns for each question."""
    import warehouse
    from warehouse.database.fill import view_sql
    from warehouse.database.views import contents

    store = make_store(folder / f"store-{tracks}", tracks)
    plain = (
        f"WITH v AS ({view_sql(contents(store), 'vectors', '')}) SELECT o.track_id"
        " FROM v AS o, (FROM v WHERE track_id = 7) AS a WHERE o.track_id <> 7"
        " ORDER BY array_distance(o.vector, a.vector), o.track_id LIMIT 10"
    )
    question = "FROM similar_tracks(7, 10)"
    warehouse.connect(store).close()
    with warehouse.connect(store) as connection:
        started = time.perf_counter()
        connection.execute(question).fetchall()
        first = time.perf_counter() - started
        cases = {
            name: functools.partial(lambda sql: connection.execute(sql).fetchall(), sql)
            for name, sql in {"macro": question, "columns": plain}.items()
        }
        s = common.interleaved(cases, repeats)
    return {
        "tracks": tracks,
        "first_ms": 1e3 * first,
        "warm_ms": 1e3 * s["macro"],
        "from_columns_ms": 1e3 * s["columns"],
        "speedup": s["columns"] / s["macro"],
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its tables."""
    parser = common.parser("query", __doc__)
    parser.add_argument("--tracks", type=int, nargs="+", default=list(SIZES), help="sizes of the stores")
    parser.add_argument("--mels", type=int, default=8000, help="mel spectrograms to stream (300 kB each)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each case")
    parser.add_argument("--folder", default=None, help="where data is kept; default: the temporary folder")
    parser.add_argument("--child", nargs=2, metavar=("NAME", "STORE"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        print(json.dumps(CHILDREN[args.child[0]](args.child[1], args.repeats)))
        return 0
    folder = Path(args.folder or os.path.join(tempfile.gettempdir(), "query-benchmark"))
    folder.mkdir(parents=True, exist_ok=True)
    mel_store = folder / f"mels-{args.mels}"
    make_mel_store(mel_store, args.mels)
    tables = {
        "mean and deviation of 20 features by genre": [
            row for n in args.tracks for row in compare_with_pandas(folder, n, args.repeats)
        ],
        "one question from the shell": [from_the_shell(folder, n, args.repeats) for n in args.tracks],
        "matrix()": [in_child("matrix", folder / f"store-{n}", args.repeats) for n in args.tracks],
        "iter_mels": [in_child("mels", mel_store, min(3, args.repeats))],
        "mel_db in SQL": [in_child("mel_sql", mel_store, min(3, args.repeats))],
        "similar_tracks": [similar(folder, n, args.repeats) for n in args.tracks],
    }
    common.report(args.format, tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
