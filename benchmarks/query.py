"""What SQL, `matrix()` and `iter_mels` cost, against the plain way to do the same, in one run.

The features of two stores (8,000 and 106,574 tracks x 518) lie in Parquet files of 3,000 rows and gathered in one, as a
build leaves them, and the same values in a CSV file in FMA's layout; "index" is the same store after `python -m
warehouse index`; the last table says what more and smaller files cost where nothing is gathered. Baselines: pandas
reading that CSV and grouping; pyarrow reading the same columns; pyarrow reading and casting the same mel column;
vectors computed anew for each question.

Everything is fabricated, checked to give the same answer on both sides, and kept in a temporary folder (--folder) for
the next run. Files are in the page cache on both sides.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
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
from featurestore import arrays, gathered, registry, schemas
from featurestore.spec import Spec
from featurestore.store import Store

SIZES = (8000, 106_574)
GENRES = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
FEATURES = tuple(f"{f}_{d:02d}" for f in ("mfcc_mean", "mfcc_std", "tonnetz_mean", "tonnetz_std") for d in range(1, 6))
SPEC = Spec(groups=("fma",))
FILE_ROWS = 3000  # with mel and wave beside them, a batch of a gigabyte: what a build merges to
FAT_ROWS = 20_000  # the same for `compact --target-mb 8192`
MEL_FILE_ROWS = 512


def genre_of(ids: np.ndarray) -> list[str]:
    """The fabricated genre of each track."""
    return [GENRES[i % len(GENRES)] for i in ids.tolist()]


# ---------------------------------------------------------------- fabricated stores


def values_of(tracks: int) -> dict[str, np.ndarray]:
    """The columns of `write_table`'s CSV, float32 (tracks,) each."""
    columns = sorted(registry.columns(("fma",)), key=lambda c: (c.feature, c.statistic, c.dimension))
    template = np.random.default_rng(0).normal(0, 100, (min(2000, tracks), len(columns))).astype(np.float32)
    rows = np.arange(tracks) % len(template)
    return {c.name: template[rows, i] for i, c in enumerate(columns)}


def make_store(path: Path, tracks: int, file_rows: int = FILE_ROWS, *, copies: bool = True) -> Store:
    """A store of the features of `tracks` tracks in files of `file_rows` rows; copies: gathered as by a build."""
    if (path / "ready").exists():
        return Store.open(str(path))
    store = Store.create(str(path), SPEC)
    ids = np.arange(2, tracks + 2)
    write_labels(store, ids)
    values = values_of(tracks)
    schema = schemas.features_schema(SPEC.groups)
    for number, start in enumerate(range(0, tracks, file_rows)):
        part = slice(start, start + file_rows)
        key = {"track_id": ids[part], "excerpt": np.zeros(len(ids[part]), np.int16)}
        columns = key | {name: x[part] for name, x in values.items()}
        features = pa.table([pa.array(columns[n]) for n in schema.names], schema=schema)
        write_batch(store, f"000001-{number:05d}", ids[part], features=features)
    if copies:
        gathered.write(store, store.snapshot())
    (path / "ready").touch()
    return store


def make_indexed_store(path: Path, tracks: int) -> Store:
    """The same with an index."""
    from warehouse import index

    store = make_store(path, tracks)
    index.make(store)
    return store


def write_labels(store: Store, ids: np.ndarray) -> None:
    """The catalog: genres, an artist for every eight tracks, an artist-grouped split."""
    table = pa.table({"track_id": ids, "dataset": ["fma"] * len(ids), "genre": genre_of(ids), "artist_id": ids // 8})
    store.write_catalog("tracks", schemas.conform(table, schemas.TRACKS))
    split = np.array(["training"] * 6 + ["validation", "test"])[ids // 8 % 8]
    splits = pa.table({"track_id": ids, "scheme": ["artist"] * len(ids), "split": split.tolist()})
    store.write_catalog("splits", schemas.conform(splits, schemas.SPLIT_ROWS))


def write_batch(store: Store, batch: str, ids: np.ndarray, **tables: pa.Table) -> None:
    """Commit a batch of these tracks; tables that are not given are empty."""
    n = len(ids)
    fixed = {
        "batch": batch,
        "spec": store.spec.fingerprint,
        "path": "x.mp3",
        "source_bytes": 1,
        "source_hash": "0" * 32,
        "start_s": 0.0,
        "duration_s": 30.0,
        "short": False,
        "native_rate": 44100,
        "channels": 2,
        "decoder": "none",
        "decoder_version": "0",
        "libraries": "made by benchmarks/query.py",
        "peak": 1.0,
        "rms": 0.1,
        "clipped_share": 0.0,
        "silence_share": 0.0,
        "extracted_at": 0,
    }
    excerpts = pa.table({"track_id": ids, "excerpt": np.zeros(n, np.int16)} | {k: [v] * n for k, v in fixed.items()})
    empty = {t: schemas.measured_schema(t, store.spec).empty_table() for t in schemas.MEASURED}
    store.write_batch(batch, {**empty, **tables, "excerpts": schemas.conform(excerpts, schemas.EXCERPTS)})


def make_mel_store(path: Path, mels: int) -> Store:
    """A store of `mels` mel spectrograms of 128 x 1,292 as float16, music-like enough not to compress away."""
    if (path / "ready").exists():
        return Store.open(str(path))
    store = Store.create(str(path), SPEC)
    ids = np.arange(2, mels + 2)
    write_labels(store, ids)
    rng = np.random.default_rng(0)
    n_frames = SPEC.n_frames(SPEC.excerpt_samples)
    walks = rng.normal(0, 2, (16, SPEC.n_mels, n_frames)).cumsum(1) - 40
    raw = [arrays.encode_mel(np.clip(w, -100, 20).astype(np.float32), SPEC.mel_dtype) for w in walks]
    names = registry.column_names(SPEC.groups)
    for number, start in enumerate(range(0, mels, MEL_FILE_ROWS)):
        part = ids[start : start + MEL_FILE_ROWS]
        n = len(part)
        key = {"track_id": part, "excerpt": np.zeros(n, np.int16)}
        shape = {"n_mels": [SPEC.n_mels] * n, "n_frames": [n_frames] * n}
        mel = pa.table(key | shape | {"mel": [raw[i % len(raw)] for i in part.tolist()]})
        features = pa.table(key | {c: rng.normal(size=n).astype(np.float32) for c in names})
        schema = schemas.features_schema(SPEC.groups)
        write_batch(
            store,
            f"000001-{number:05d}",
            part,
            mel=schemas.conform(mel, schemas.MEL),
            features=schemas.conform(features, schema),
        )
    (path / "ready").touch()
    return store


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
    """Two rows: pandas against the first query of a fresh connection, to the views and to an index."""
    table, labels = folder / f"features-{tracks}.csv", folder / f"genre-{tracks}.csv"
    if not table.exists():
        write_table(table, tracks)
    ids = np.arange(2, tracks + 2)
    labels.write_text("track_id,genre\n" + "".join(f"{i},{g}\n" for i, g in zip(ids, genre_of(ids), strict=True)))
    stores = {
        "views over Parquet": make_store(folder / f"store-{tracks}", tracks),
        "index": make_indexed_store(folder / f"store-{tracks}-indexed", tracks),
    }
    pandas: list[float] = []
    times: dict[str, list[dict[str, float]]] = {name: [] for name in stores}
    for _ in range(repeats):
        started = time.perf_counter()
        expected = with_pandas(table, labels).to_numpy()
        pandas.append(time.perf_counter() - started)
        for name, store in stores.items():
            seconds, answer = ask_afresh(store)
            times[name].append(seconds)
            np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-3)
    for name, rounds in times.items():
        s = {what: statistics.median(r[what] for r in rounds) for what in rounds[0]}
        baseline = statistics.median(pandas)
        yield {
            "tracks": tracks,
            "tables": name,
            "csv_mb": table.stat().st_size / 1e6,
            "pandas_ms": 1e3 * baseline,
            **{f"{what}_ms": 1e3 * seconds for what, seconds in s.items()},
            "speedup_of_first_query": baseline / s["first_query"],
            "speedup_with_connect": baseline / (s["connect"] + s["first_query"]),
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


# ---------------------------------------------------------------- neighbours, and bytes read


def similar(folder: Path, tracks: int, repeats: int) -> dict[str, Any]:
    """`similar_tracks` against computing the standardised vectors from 518 columns for each question."""
    import warehouse
    from warehouse import vectors
    from warehouse.relations import contents

    store = make_store(folder / f"store-{tracks}", tracks)
    anew = vectors.select_sql(contents(store))
    plain = (
        f"WITH v AS ({anew}) SELECT o.track_id FROM v AS o, (FROM v WHERE track_id = 7) AS a WHERE o.track_id <> 7"
        " ORDER BY array_distance(o.vector, a.vector), o.track_id LIMIT 10"
    )
    question = "FROM similar_tracks(7, 10)"
    indexed = make_indexed_store(folder / f"store-{tracks}-indexed", tracks)
    with warehouse.connect(store) as connection, warehouse.connect(indexed) as with_index:
        started = time.perf_counter()
        expected = connection.execute(question).fetchall()
        first = time.perf_counter()
        assert with_index.execute(question).fetchall() == expected
        first_with_index = time.perf_counter()
        s = common.interleaved(
            {
                "macro": lambda: connection.execute(question).fetchall(),
                "index": lambda: with_index.execute(question).fetchall(),
                "columns": lambda: connection.execute(plain).fetchall(),
            },
            repeats,
        )
    return {
        "tracks": tracks,
        "first_ms": 1e3 * (first - started),
        "warm_ms": 1e3 * s["macro"],
        "first_with_index_ms": 1e3 * (first_with_index - first),
        "warm_with_index_ms": 1e3 * s["index"],
        "from_columns_ms": 1e3 * s["columns"],
        "speedup": s["columns"] / s["macro"],
    }


def mel_bytes_of_a_features_query(store: Store) -> int:
    """Bytes of `mel` that the grouping query reads, after connecting."""
    import warehouse
    from warehouse.connection import bytes_read

    with warehouse.connect(store) as connection:
        before = bytes_read(connection)
        connection.execute(grouping_sql()).fetchall()
        after = bytes_read(connection)
    return sum(n - before.get(name, 0) for name, n in after.items() if name.startswith("mel/"))


def files_cost(folder: Path, repeats: int) -> Iterable[dict[str, Any]]:
    """The grouping query by the number of files, nothing gathered: what a copy in one file and `compact` are for."""
    import warehouse

    small, large = SIZES
    sizes = ((small, 64), (small, 400), (small, FILE_ROWS), (small, small), (large, FILE_ROWS), (large, FAT_ROWS))
    for tracks, rows in sizes:
        store = make_store(folder / f"store-{tracks}-files-of-{rows}", tracks, rows, copies=False)
        with warehouse.connect(store) as connection:
            ask = functools.partial(connection.execute, grouping_sql())
            s = common.interleaved({"query": lambda ask=ask: ask().fetchall()}, repeats)["query"]  # type: ignore[misc]
        yield {"tracks": tracks, "files": len(store.batches()), "query_ms": 1e3 * s}


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
    mels = make_mel_store(mel_store, args.mels)
    tables = {
        "mean and deviation of 20 features by genre": [
            row for n in args.tracks for row in compare_with_pandas(folder, n, args.repeats)
        ],
        "matrix()": [in_child("matrix", folder / f"store-{n}", args.repeats) for n in args.tracks],
        "iter_mels": [in_child("mels", mel_store, min(3, args.repeats))],
        "mel_db in SQL": [in_child("mel_sql", mel_store, min(3, args.repeats))],
        "similar_tracks": [similar(folder, n, args.repeats) for n in args.tracks],
        "files": list(files_cost(folder, args.repeats)),
    }
    facts = {"bytes_of_mel_read_by_a_query_of_features": mel_bytes_of_a_features_query(mels)}
    common.report(args.format, tables, **facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
