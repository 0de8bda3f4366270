"""TFRecords written and read: ours against the original study's way, all in one run on one machine.

The original's way is `FloatList(value=array.flatten().tolist())` through tf.train.Example and TFRecordWriter, one
process, and parse_single_example record by record. Both sides write the same 224 x 224 images of the same store.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import warehouse
from benchmarks import common
from featurestore.spec import Spec
from featurestore.store import Store
from tests.factories import make_store
from training import original, pipeline, shards
from training.backend import tensorflow
from training.dataset import DataSet, open_data
from training.encoding import Encoding, resize
from training.export import export

SIDE = 224
GENRES = ("Ambient", "Blues", "Choral")
BATCH = 64


def images(store: Store) -> Iterator[tuple[np.ndarray, int]]:
    """(image float32 (224, 224), label) of every excerpt, from the store."""
    for batch in warehouse.iter_mels(store):
        for mel, genre in zip(batch.mels, batch.genres, strict=True):
            yield resize(mel.T, SIDE, SIDE), GENRES.index(genre)


def write_ours(path: Path, examples: list[tuple[np.ndarray, int]], encoding: Encoding) -> None:
    """One file of our records, as `shards` writes them."""
    with open(path, "wb") as f:
        for i, (a, y) in enumerate(examples):
            f.write(shards.encode_record(encoding.encode(a), a.shape, track_id=i, excerpt=0, artist=0, label=y))


def writing(folder: Path, store: Store, repeats: int, jobs: int) -> list[dict[str, Any]]:
    """Records per second of each way to write, without and with reading the store and resizing."""
    ready = list(images(store))
    encodings = {d: Encoding.of("mel", d, store.spec) for d in ("float16", "uint8", "float32")}
    target = folder / "original.tfrec"
    cases = {"original": lambda: original.write(str(target), ready, len(GENRES))}
    for name, encoding in encodings.items():
        cases[f"ours {name}"] = lambda n=name, e=encoding: write_ours(folder / f"{n}.tfrec", ready, e)  # type: ignore[misc]
    whole = {"original, from the store": lambda: original.write(str(target), images(store), len(GENRES))}
    for name in ("float16", "uint8"):
        for n in sorted({1, jobs}):
            text = f"ours {name}, from the store, {n} process{'es' if n > 1 else ''}"
            whole[text] = lambda d=name, n=n: _export(store, folder, d, n)  # type: ignore[misc]
    rows = []
    for group in (cases, whole):
        times = common.interleaved(group, repeats)
        base = next(iter(times.values()))
        rows += [
            {"writing": name, "records per s": round(len(ready) / t), "times the original": round(base / t, 2)}
            for name, t in times.items()
        ]
    return rows


def _export(store: Store, folder: Path, dtype: str, jobs: int) -> None:
    export(store, output=str(folder / dtype), image=SIDE, dtype=dtype, jobs=jobs, shards=4, force=True)


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
    parser.add_argument("--records", type=int, default=600, help="excerpts of 30 s that are written")
    parser.add_argument("--read", type=int, default=6000, help="records that are read")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians are shown")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of the parallel export")
    args = parser.parse_args()
    tensorflow()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_store(str(folder / "store"), tracks=args.records, genres=GENRES, spec=Spec(groups=("fma",)))
        # as images all excerpts are of one size: short ones make a large set quickly
        short = Spec(groups=("fma",), n_mels=32, excerpt_seconds=1.0, wave_seconds=0.0)
        many = make_store(str(folder / "many"), tracks=args.read, genres=GENRES, spec=short, batch_tracks=1000)
        tables = {
            "Writing 224 x 224 images": writing(folder, store, args.repeats, args.jobs),
            "Bytes on disk": sizes(folder),
            f"Reading into batches of {BATCH} (files in the page cache)": reading(folder, many, args.repeats),
        }
    common.report(args.format, tables, written=args.records, read=args.read, repeats=args.repeats, cores=os.cpu_count())
    return 0


if __name__ == "__main__":
    sys.exit(main())
