"""Stores that the benchmarks of the warehouse fabricate: features as a build leaves them, or mel spectrograms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from featurestore import registry, schemas
from featurestore.spec import Spec
from featurestore.store import arrays
from featurestore.store.store import Store

GENRES = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
SPEC = Spec(groups=("fma",))
FILE_ROWS = 3000  # with mel and wave beside them, a batch of a gigabyte: what a build merges to
MEL_FILE_ROWS = 512


def genre_of(ids: np.ndarray) -> list[str]:
    """The fabricated genre of each track."""
    return [GENRES[i % len(GENRES)] for i in ids.tolist()]


def values_of(tracks: int) -> dict[str, np.ndarray]:
    """The columns of `write_table`'s CSV, float32 (tracks,) each."""
    columns = sorted(registry.columns(("fma",)), key=lambda c: (c.feature, c.statistic, c.dimension))
    template = np.random.default_rng(0).normal(0, 100, (min(2000, tracks), len(columns))).astype(np.float32)
    rows = np.arange(tracks) % len(template)
    return {c.name: template[rows, i] for i, c in enumerate(columns)}


def make_store(path: Path, tracks: int, file_rows: int = FILE_ROWS) -> Store:
    """A store of the features of `tracks` tracks in files of `file_rows` rows."""
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
    (path / "ready").touch()
    return store


def make_read_only_store(path: Path, tracks: int) -> Store:
    """The same, in which no connection can keep a database: a file stands in the place of its folder."""
    store = make_store(path, tracks)
    Path(store.path("derived")).touch()
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
        "libraries": "made by benchmarks/stores.py",
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
    raw = [arrays.encode_mel(np.clip(w, -100, 20).astype(np.float32)) for w in walks]
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
