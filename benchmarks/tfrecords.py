"""TFRecords written and read: ours against the original study's way, all in one run on one machine.

The original's way is `FloatList(value=array.flatten().tolist())` through tf.train.Example and TFRecordWriter, one
process, and parse_single_example record by record. From the store it reads with pyarrow, row by row, and resizes each
spectrogram by itself: with tf.image.resize, TensorFlow's own way, or with Pillow, the fastest plain one. Both sides
write the same 224 x 224 images of the same store; the facts below the tables say how far they differ.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import warehouse
from benchmarks import common, original
from featurestore.spec import Spec
from featurestore.store.store import Store
from tests.factories import make_store
from training.backend import tensorflow
from training.feed import pipeline
from training.shards import write
from training.shards.check import DataSet, open_data
from training.shards.encoding import Encoding, resize
from training.shards.export import export

SIDE = 224
GENRES = ("Ambient", "Blues", "Choral")
BATCH = 64
BATCH_TRACKS = 2600  # about a gigabyte: what a build merges its batches to


def images(store: Store) -> Iterator[tuple[np.ndarray, int]]:
    """(image float32 (224, 224), label) of every excerpt, from the store, our way."""
    for batch in warehouse.iter_mels(store):
        for mel, genre in zip(batch.mels, batch.genres, strict=True):
            yield resize(mel.T, SIDE, SIDE), GENRES.index(genre)


def plain_rows(store: Store) -> Iterator[tuple[np.ndarray, int]]:
    """(mel float32 (n_mels, n_frames), label) of every excerpt, as plain pyarrow reads them, row by row."""
    tracks = store.read_catalog("tracks", ["track_id", "genre"])
    genre = dict(zip(tracks["track_id"].to_pylist(), tracks["genre"].to_pylist(), strict=True))
    for batch in store.snapshot().batches:
        with pq.ParquetFile(store.batch_path("mel", batch)) as parquet:
            for group in range(parquet.num_row_groups):
                for row in parquet.read_row_group(group, ["track_id", "n_mels", "mel"]).to_pylist():
                    mel = np.frombuffer(row["mel"], np.float16).astype(np.float32)
                    yield mel.reshape(row["n_mels"], -1), GENRES.index(genre[row["track_id"]])


def by_tensorflow(mel: np.ndarray) -> np.ndarray:
    """The image of one spectrogram, by tf.image.resize."""
    image = tensorflow().image.resize(mel.T[..., None], (SIDE, SIDE), antialias=True)
    return np.asarray(image)[..., 0]


def by_pillow(mel: np.ndarray) -> np.ndarray:
    """The image of one spectrogram, by Pillow."""
    from PIL import Image

    return np.asarray(Image.fromarray(mel.T).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def plain_images(store: Store, picture: Callable[[np.ndarray], np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
    """(image, label) of every excerpt, the original's way."""
    return ((picture(mel), label) for mel, label in plain_rows(store))


def write_ours(path: Path, examples: list[tuple[np.ndarray, int]], encoding: Encoding) -> None:
    """One file of our records, as `shards` writes them."""
    with open(path, "wb") as f:
        for i, (a, y) in enumerate(examples):
            f.write(write.encode_record(encoding.encode(a), a.shape, track_id=i, excerpt=0, artist=0, label=y))


def writing_arrays(folder: Path, store: Store, repeats: int) -> list[dict[str, Any]]:
    """Records per second of each way to write images that are in memory."""
    ready = list(images(store))
    encodings = {d: Encoding.of("mel", d, store.spec) for d in ("uint8", "float16", "float32")}
    cases: dict[str, Callable[[], object]] = {
        "original": lambda: original.write(str(folder / "original.tfrec"), ready, len(GENRES))
    }
    for name, encoding in encodings.items():
        cases[f"ours, {name}"] = lambda n=name, e=encoding: write_ours(folder / f"{n}.tfrec", ready, e)  # type: ignore[misc]
    times = common.interleaved(cases, repeats)
    return [
        {"writing": n, "records per s": round(len(ready) / t), "times the original": round(times["original"] / t, 2)}
        for n, t in times.items()
    ]


def writing_from_store(folder: Path, store: Store, few: Store, repeats: int, jobs: int) -> list[dict[str, Any]]:
    """Records per second of each way to write, with reading the store and resizing on both sides.

    The original's way has no fixed cost and is timed on the store `few`; ours has one, and is timed on all of `store`.
    """
    plain = {"tf.image.resize": by_tensorflow, "Pillow": by_pillow}
    cases: dict[str, Callable[[], object]] = {
        f"original, {name}": lambda p=picture: original.write(  # type: ignore[misc]
            str(folder / "plain.tfrec"), plain_images(few, p), len(GENRES)
        )
        for name, picture in plain.items()
    }
    for n in sorted({1, jobs}):
        for dtype in ("uint8", "float16"):
            text = f"ours, {dtype}, {n} process{'es' if n > 1 else ''}"
            cases[text] = lambda d=dtype, n=n: _export(store, folder, d, n, jobs)  # type: ignore[misc]
    cases["(reading alone: the mels decompressed, plain pyarrow)"] = lambda: _read_mels(store)
    if jobs > 1:
        _export(store, folder, "uint8", jobs, jobs)  # starts the processes, once
    times = common.interleaved(cases, repeats)
    counts = {n: _records(few if n.startswith("original") else store) for n in cases}
    rates = {n: counts[n] / t for n, t in times.items()}
    return [
        {
            "writing, store and resizing included": name,
            "records": counts[name],
            "records per s": round(rate),
            **{f"times {p}": round(rate / rates[f"original, {p}"], 2) for p in plain},
        }
        for name, rate in rates.items()
    ]


def _records(store: Store) -> int:
    return store.read_catalog("tracks", ["track_id"]).num_rows


def _export(store: Store, folder: Path, dtype: str, jobs: int, tasks: int) -> None:
    export(store, output=str(folder / dtype), image=SIDE, dtype=dtype, jobs=jobs, shards=tasks, force=True)


def _read_mels(store: Store) -> None:
    for batch in store.snapshot().batches:
        with pq.ParquetFile(store.batch_path("mel", batch)) as parquet:
            for group in range(parquet.num_row_groups):
                parquet.read_row_group(group, ["mel"], use_threads=False)


def differences(store: Store) -> dict[str, float]:
    """Largest distance in dB between our image of a spectrogram and each plain one, over the first rows."""
    first = [mel for (mel, _), _ in zip(plain_rows(store), range(16), strict=False)]
    return {
        f"our_images_less_{name}_dB": max(float(np.abs(resize(m.T, SIDE, SIDE) - picture(m)).max()) for m in first)
        for name, picture in (("tensorflow", by_tensorflow), ("pillow", by_pillow))
    }


def sizes(folder: Path) -> list[dict[str, Any]]:
    """Bytes on disk of one record of each kind."""
    names = ("original", "float32", "float16", "uint8")
    each = {n: (folder / f"{n}.tfrec").stat().st_size for n in names}
    count = each["float32"] // (SIDE * SIDE * 4)
    return [
        {"on disk": n, "bytes per record": round(b / count), "of the original's": round(b / each["original"], 3)}
        for n, b in each.items()
    ]


def reading(folder: Path, store: Store, repeats: int) -> list[dict[str, Any]]:
    """Records per second into batches of float32 images, and as a share of plain sequential reading of the files."""
    sets = {name: _data_set(store, folder, name, "none") for name in ("float16", "uint8")}
    sets["float16 gzip"] = _data_set(store, folder, "float16", "gzip")
    n = sets["float16"].records("training")
    old = [str(folder / f"read-{i}.tfrec") for i in range(4)]
    ready = [e for e, _ in zip(images(store), range(n), strict=False)]
    for i, path in enumerate(old):
        original.write(path, ready[i::4], len(GENRES))
    shape, classes = (SIDE, SIDE), len(GENRES)
    paths = {"original": old, "original's records, parsed in batches": old}
    cases = {
        "original": lambda: _drain(original.read(old, shape, classes, BATCH)),
        "original's records, parsed in batches": lambda: _drain(original.read_batched(old, shape, classes, BATCH)),
    }
    for name, data in sets.items():
        paths[f"ours {name}"] = list(data.paths["training"])
        cases[f"ours {name}"] = lambda d=data: _drain(_batches(d, True))  # type: ignore[misc]
        paths[f"ours {name}, cast on the device"] = paths[f"ours {name}"]
        cases[f"ours {name}, cast on the device"] = lambda d=data: _drain(_batches(d, False))  # type: ignore[misc]
    plain = {f"plain {k}": (lambda p=p: _plain(p)) for k, p in paths.items()}  # type: ignore[misc]
    times = common.interleaved({**cases, **plain}, repeats)
    rows = []
    for name in cases:
        size = sum(os.path.getsize(p) for p in paths[name])
        rows.append(
            {
                "reading": name,
                "records per s": round(n / times[name]),
                "MB per s": round(size / times[name] / 1e6),
                "times the original": round(times["original"] / times[name], 2),
                "of plain reading": round(times[f"plain {name}"] / times[name], 3),
            }
        )
    return rows


def _data_set(store: Store, folder: Path, dtype: str, compression: str) -> DataSet:
    out = folder / f"{dtype}-{compression}"
    done = export(store, output=str(out), image=SIDE, dtype=dtype, compression=compression, shards=4)
    return open_data(done.folder)


def _batches(data: DataSet, cast: bool) -> Any:
    return pipeline.load(data, "training", batch_size=BATCH, cache=False, cast=cast)


def _drain(batches: Any) -> None:
    for _ in batches:
        pass


def _plain(paths: list[str]) -> None:
    buffer = bytearray(4 << 20)
    for path in paths:
        with open(path, "rb", buffering=0) as f:
            while f.readinto(buffer):
                pass


def main() -> int:
    """Make a store, run every case, print the tables."""
    parser = common.parser("tfrecords", __doc__)
    parser.add_argument("--records", type=int, default=4000, help="excerpts of 30 s that we export")
    parser.add_argument("--few", type=int, default=800, help="excerpts that the original's way is timed on")
    parser.add_argument("--read", type=int, default=6000, help="records that are read")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians are shown")
    parser.add_argument("--only", choices=("write", "read"), default=None, help="one half of it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of the parallel export")
    args = parser.parse_args()
    tensorflow()
    tables: dict[str, list[dict[str, Any]]] = {}
    facts: dict[str, Any] = {
        "exported": args.records,
        "written the original's way": args.few,
        "read": args.read,
        "repeats": args.repeats,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.only != "read":
            spec = Spec(groups=("fma",))
            store, few = (
                make_store(str(folder / f"store-{n}"), tracks=n, genres=GENRES, spec=spec, batch_tracks=BATCH_TRACKS)
                for n in (args.records, args.few)
            )
            tables["Writing 224 x 224 images"] = writing_arrays(folder, few, args.repeats)
            tables["Writing 224 x 224 images of stored mels"] = writing_from_store(
                folder, store, few, args.repeats, args.jobs
            )
            tables["Bytes on disk"] = sizes(folder)
            facts |= differences(few)
        if args.only != "write":
            # as images all excerpts are of one size: short ones make a large set quickly
            short = Spec(groups=("fma",), n_mels=32, excerpt_seconds=1.0, wave_seconds=0.0)
            many = make_store(str(folder / "many"), tracks=args.read, genres=GENRES, spec=short, batch_tracks=1000)
            title = f"Reading into batches of {BATCH} (files in the page cache)"
            tables[title] = reading(folder, many, args.repeats)
    common.report(args.format, tables, **facts, cores=os.cpu_count())
    return 0


if __name__ == "__main__":
    sys.exit(main())
