"""Stores without audio, for tests and benchmarks of everything after the extractor. Deterministic by seed."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa

from featurestore import registry, schemas
from featurestore.spec import Spec
from featurestore.store import arrays
from featurestore.store.store import Store

SMALL_SPEC = Spec(n_mels=32, excerpt_seconds=2.0, wave_seconds=0.5)
_WHEN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def make_store(
    url: str,
    *,
    tracks: int = 60,
    genres: tuple[str, ...] = ("Ambient", "Blues", "Choral"),
    artists_per_genre: int = 6,
    excerpts: int = 1,
    spec: Spec = SMALL_SPEC,
    signal: float = 1.5,
    artist_signal: float = 1.0,
    arrays_too: bool = True,
    batch_tracks: int = 32,
    seed: int = 0,
) -> Store:
    """A store of `tracks` x `excerpts` rows whose genres differ by `signal` and artists by `artist_signal` deviations.

    Track ids count from 1; genre and artist go round-robin, so classes are balanced. Artists get whole splits:
    in each genre the first 60 % train, the next 20 % validate, the rest test (schemes official and artist);
    `random` ignores artists. With arrays_too, mel and wave rows carry the genre as a bright band and as a pitch.
    """
    rng = np.random.default_rng(seed)
    store = Store.create(url, spec)
    ids = np.arange(1, tracks + 1)
    genre = (ids - 1) % len(genres)
    artist = genre * artists_per_genre + ((ids - 1) // len(genres)) % artists_per_genre
    _write_catalog(store, ids, genre, artist, genres, artists_per_genre, rng)
    names = registry.column_names(spec.groups)
    genre_means = rng.normal(0, signal, (len(genres), len(names))) * (rng.random(len(names)) < 0.05)
    artist_means = rng.normal(0, artist_signal, (len(genres) * artists_per_genre, len(names)))
    artist_means *= rng.random(len(names)) < 0.05
    for number, start in enumerate(range(0, tracks, batch_tracks)):
        part = slice(start, start + batch_tracks)
        keys = [(int(i), e) for i in ids[part] for e in range(excerpts)]
        g, a = np.repeat(genre[part], excerpts), np.repeat(artist[part], excerpts)
        X = (genre_means[g] + artist_means[a] + rng.normal(size=(len(keys), len(names)))).astype(np.float32)
        store.write_batch(
            f"000001-{number:05d}", batch_tables(spec, f"000001-{number:05d}", keys, X, g, arrays_too, rng)
        )
    return store


def batch_tables(
    spec: Spec,
    batch: str,
    keys: list[tuple[int, int]],
    X: np.ndarray,
    genre: np.ndarray,
    arrays_too: bool,
    rng: np.random.Generator,
) -> dict[str, pa.Table]:
    """The five measured tables of one batch with features X (n, columns)."""
    key = {
        "track_id": pa.array([k[0] for k in keys], pa.int64()),
        "excerpt": pa.array([k[1] for k in keys], pa.int16()),
    }
    names = registry.column_names(spec.groups)
    schema = schemas.features_schema(spec.groups)
    features = pa.table([*key.values(), *(pa.array(X[:, j]) for j in range(len(names)))], schema=schema)
    mels, waves = [], []
    for (track_id, excerpt), g in zip(keys, genre, strict=True) if arrays_too else []:
        mels.append({"track_id": track_id, "excerpt": excerpt, **_mel(spec, int(g), rng)})
        waves.append({"track_id": track_id, "excerpt": excerpt, **_wave(spec, int(g), rng)})
    rows = [_excerpt_row(spec, batch, track_id, excerpt) for track_id, excerpt in keys]
    return {
        "features": features,
        "mel": schemas.from_rows(mels, schemas.MEL),
        "wave": schemas.from_rows(waves, schemas.WAVE),
        "failures": schemas.FAILURES.empty_table(),
        "excerpts": schemas.from_rows(rows, schemas.EXCERPTS),
    }


def write_features(store: Store, batch: str, ids: list[int], values: np.ndarray) -> None:
    """Commit a batch of one excerpt per track, with these features (n, columns)."""
    keys = [(i, 0) for i in ids]
    rng = np.random.default_rng(0)
    genre = np.zeros(len(ids), int)
    store.write_batch(batch, batch_tables(store.spec, batch, keys, values.astype(np.float32), genre, True, rng))


def _excerpt_row(spec: Spec, batch: str, track_id: int, excerpt: int) -> dict[str, object]:
    return {
        "track_id": track_id,
        "excerpt": excerpt,
        "batch": batch,
        "spec": spec.fingerprint,
        "path": f"{track_id:06d}.wav",
        "source_bytes": 1000 + track_id,
        "source_mtime_ns": 0,
        "source_hash": f"{track_id:032x}",
        "start_s": float(excerpt),
        "duration_s": spec.excerpt_seconds,
        "short": False,
        "native_rate": spec.sample_rate,
        "channels": 2,
        "decoder": "libsndfile",
        "decoder_version": "1.2.2",
        "libraries": "made by tests/factories.py",
        "peak": 0.9,
        "rms": 0.1,
        "clipped_share": 0.0,
        "silence_share": 0.0,
        "extracted_at": _WHEN,
    }


def _mel(spec: Spec, genre: int, rng: np.random.Generator) -> dict[str, object]:
    n_frames = spec.n_frames(spec.excerpt_samples)
    mel = rng.normal(-40, 5, (spec.n_mels, n_frames)).astype(np.float32)
    band = (genre * 5 + 3) % spec.n_mels
    mel[band : band + 3] += 30
    return {"n_mels": spec.n_mels, "n_frames": n_frames, "mel": arrays.encode_mel(mel)}


def _wave(spec: Spec, genre: int, rng: np.random.Generator) -> dict[str, object]:
    n = spec.wave_samples
    t = np.arange(n) / spec.sample_rate
    y = 0.3 * np.sin(2 * np.pi * 220 * (1 + genre) * t + rng.uniform(0, 6)) + rng.normal(0, 0.02, n)
    data, scale = arrays.encode_wave(y.astype(np.float32), n)
    return {"sample_rate": spec.sample_rate, "n_samples": n, "scale": scale, "wave": data}


def _write_catalog(
    store: Store,
    ids: np.ndarray,
    genre: np.ndarray,
    artist: np.ndarray,
    genres: tuple[str, ...],
    artists_per_genre: int,
    rng: np.random.Generator,
) -> None:
    rows: list[dict[str, object]] = [
        {
            "track_id": int(i),
            "dataset": "factory",
            "path": f"{i:06d}.wav",
            "title": f"Track {i}",
            "artist": f"Artist {a}",
            "artist_id": int(a),
            "album": f"Album {a}",
            "album_id": int(a),
            "genre": genres[g],
            "genre_ids": [int(g) + 1],
            "subset": "small",
        }
        for i, g, a in zip(ids, genre, artist, strict=True)
    ]
    store.write_catalog("tracks", schemas.from_rows(rows, schemas.TRACKS))
    tops = [{"genre_id": g + 1, "title": t, "parent_id": None, "top_level_id": g + 1} for g, t in enumerate(genres)]
    store.write_catalog("genres", schemas.from_rows(tops, schemas.GENRES))
    share = (artist % artists_per_genre) / artists_per_genre
    grouped = np.select([share < 0.6, share < 0.8], ["training", "validation"], "test")
    shuffled = rng.choice(schemas.SPLITS, len(ids), p=[0.6, 0.2, 0.2])
    splits: list[dict[str, object]] = []
    for scheme, split in (("official", grouped), ("artist", grouped), ("random", shuffled)):
        splits += [{"track_id": int(i), "scheme": scheme, "split": str(s)} for i, s in zip(ids, split, strict=True)]
    store.write_catalog("splits", schemas.from_rows(splits, schemas.SPLIT_ROWS))
    datasets = [{"dataset": "factory", "n_tracks": len(ids), "updated_at": _WHEN}]
    store.write_catalog("datasets", schemas.from_rows(datasets, schemas.DATASETS))
