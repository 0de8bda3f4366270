"""Measure a sample of tracks again from their audio, and compare with what the store has."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.errors import AudioError, FeatureStoreError
from featurestore.store import arrays, checks, files
from featurestore.store.store import Store
from featurestore.terminal import progress

MEL_TOLERANCE_DB = 0.2  # half precision keeps the mel within 0.03 dB; machines differ in the last bits of a float32


@dataclasses.dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    Attributes
    ----------
    file : str
        Path below the store.
    batch : str
        Name of the batch; empty outside the measured tables.
    message : str
        What is wrong.
    """

    file: str
    batch: str
    message: str


def sample(store: Store, tracks: int, found: list[Damage], notes: list[str]) -> int:
    """Measure `tracks` tracks again, spread over the store.

    Parameters
    ----------
    store : Store
        The store.
    tracks : int
        How many.
    found, notes : list
        Damages and reasons why a track could not be measured are added to them.

    Returns
    -------
    int
        Excerpts that were measured.
    """
    rows = store.read_current("excerpts", ["track_id", "batch", "source_hash"]).sort_by("track_id")
    known = rows.group_by(["track_id", "batch", "source_hash"], use_threads=False).aggregate([]).to_pylist()
    audio = _audio_files(store)
    done = 0
    with progress.bar("measuring a sample again", min(tracks, len(known))) as bar:
        for row in known[:: max(1, len(known) // tracks)][:tracks]:
            done += _remeasure(store, row, audio.get(row["track_id"]), found, notes)
            bar.advance()
    return done


def _audio_files(store: Store) -> dict[int, str]:
    from featurestore.datasets import audio_path, decode_name

    roots = dict(zip(*store.read_catalog("datasets", ["dataset", "audio"]).to_pydict().values(), strict=True))
    tracks = store.read_catalog("tracks", ["track_id", "dataset", "path"]).to_pylist()
    return {
        t["track_id"]: audio_path(decode_name(roots[t["dataset"]]), t["path"])
        for t in tracks
        if t["path"] is not None and roots.get(t["dataset"])
    }


def _remeasure(store: Store, row: dict[str, Any], source: str | None, found: list[Damage], notes: list[str]) -> int:
    """Measure one track again and compare; returns the excerpts that were."""
    from featurestore.measure.file import measure_file

    track, batch = int(row["track_id"]), str(row["batch"])
    if source is None:
        notes.append(f"track {track}: its audio is not known, not measured again")
        return 0
    try:
        digest, measured = measure_file(source, store.spec)
    except (AudioError, FeatureStoreError) as error:  # the file, or the place of all files
        notes.append(f"track {track}: not measured again: {error.message}")
        return 0
    if digest != row["source_hash"]:
        notes.append(f"track {track}: its file has changed since; build again to measure it")
        return 0
    _compare_features(store, track, batch, [now.features for _, now in measured], found)
    _compare_mels(store, track, batch, [now.mel for _, now in measured], found)
    return len(measured)


def _compare_features(store: Store, track: int, batch: str, now: list[np.ndarray], found: list[Damage]) -> None:
    from featurestore.measure import golden

    for stored, features in zip(_rows(store, "features", batch, track).to_pylist(), now, strict=True):
        values = {k: v for k, v in stored.items() if k not in checks.KEY}
        again = dict(zip(values, map(float, features), strict=True))
        moved = golden.differences({"values": values}, {"values": again})
        if moved:
            text = f"track {track}: {len(moved)} features differ from its audio, for example {moved[0]}"
            found.append(Damage(f"features/{batch}.parquet", batch, text))


def _compare_mels(store: Store, track: int, batch: str, now: list[np.ndarray], found: list[Damage]) -> None:
    stored = _rows(store, "mel", batch, track)["mel"]
    for row, again in zip(stored, now, strict=True):
        mel = arrays.decode_mel(row.as_buffer(), store.spec.n_mels)
        if mel.shape != again.shape or np.abs(mel - again).max() > MEL_TOLERANCE_DB:
            found.append(Damage(f"mel/{batch}.parquet", batch, f"track {track}: the mel differs from its audio"))


def _rows(store: Store, table: str, batch: str, track: int) -> pa.Table:
    """A track's rows of a batch; of the rest of the file, only what stands beside them in their row groups is read."""
    with files.open_file(store.fs, store.batch_path(table, batch)) as f:
        return pq.read_table(f, filters=[("track_id", "=", track)]).sort_by("excerpt")
