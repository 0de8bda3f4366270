"""What a store holds, counted from its current rows."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurestore import schemas
from featurestore.store import files, places
from featurestore.store.snapshot import Snapshot
from featurestore.store.store import OWN_SET, Store


@dataclasses.dataclass(frozen=True)
class Status:
    """What a store holds.

    Parameters
    ----------
    store, spec, fingerprint : str, mapping, str
        Where it is, and what its values were measured with.
    libraries : str
        The versions behind the golden values; "" before the first build.
    tracks, measured : int
        Tracks in the catalog; of these, tracks with excerpts.
    excerpts, hours : int, float
        Measured excerpts, and their length together in hours.
    rows, bytes : mapping
        {table: current rows}, {folder: bytes on disk}: measured tables, derived databases, catalog.
    failures : mapping
        {kind: tracks}.
    feature_sets : mapping
        {set: rows}; `librosa` is the measured one.
    splits : mapping
        {scheme: {split: tracks}}.
    datasets : mapping
        {dataset: tracks in the catalog}.
    batches, retired : int
        Batches that are read; merged or superseded ones that `gc` will remove.
    outdated : int
        Excerpts from library versions with other values: build their data set again.
    """

    store: str
    spec: Mapping[str, Any]
    fingerprint: str
    libraries: str
    tracks: int
    measured: int
    excerpts: int
    hours: float
    rows: Mapping[str, int]
    bytes: Mapping[str, int]
    failures: Mapping[str, int]
    feature_sets: Mapping[str, int]
    splits: Mapping[str, Mapping[str, int]]
    datasets: Mapping[str, int]
    batches: int
    retired: int
    outdated: int

    def as_table(self) -> pa.Table:
        """The figures as a table.

        Returns
        -------
        pyarrow.Table
            section, name, value (text): one row for each figure.
        """
        data = dataclasses.asdict(self)
        rows = []
        for name, value in data.items():
            if not isinstance(value, dict):
                rows.append(("store" if name != "libraries" else "spec", name, _text(value)))
                continue
            for key, inner in value.items():
                text = ", ".join(f"{k} {v}" for k, v in inner.items()) if isinstance(inner, dict) else _text(inner)
                rows.append((name, key, text))
        columns = [list(c) for c in zip(*rows, strict=True)]
        return pa.table(columns, names=["section", "name", "value"])


def status(store: Store) -> Status:
    """Count what the store holds.

    Parameters
    ----------
    store : Store
        The store.

    Returns
    -------
    Status

    Raises
    ------
    StoreDamaged
        A file cannot be read.
    """
    snapshot = store.snapshot()
    excerpts = store.read_current("excerpts", ["track_id", "batch", "duration_s"], snapshot)
    failures = store.read_current("failures", ["kind"], snapshot)
    tracks = store.read_catalog("tracks", ["track_id", "dataset"])
    splits = store.read_catalog("splits", ["scheme", "split"])
    return Status(
        store=store.url,
        spec=store.spec.as_dict(),
        fingerprint=store.spec.fingerprint,
        libraries=str(store.manifest.get("golden", {}).get("libraries", "")),
        tracks=len(tracks),
        measured=len(excerpts["track_id"].unique()),
        excerpts=len(excerpts),
        hours=round((pc.sum(excerpts["duration_s"]).as_py() or 0.0) / 3600, 4),
        rows=_rows(store, snapshot, len(excerpts), len(failures)),
        bytes=_bytes(store),
        failures=_counts(failures["kind"].to_pylist()),
        feature_sets={OWN_SET: len(excerpts)} | {s: _length(store, f"features_{s}") for s in store.feature_sets()},
        splits=_splits(splits),
        datasets=_counts(tracks["dataset"].to_pylist()),
        batches=len(snapshot.batches),
        retired=len(snapshot.retired),
        outdated=pc.sum(pc.less(excerpts["batch"], store.values_since)).as_py() or 0,
    )


def _rows(store: Store, snapshot: Snapshot, excerpts: int, failures: int) -> dict[str, int]:
    waves = excerpts if store.spec.wave_samples else 0  # a row of features and mel for each excerpt, by construction
    measured = {"excerpts": excerpts, "features": excerpts, "mel": excerpts, "wave": waves, "failures": failures}
    return measured | {name: _length(store, name) for name in store.catalog_names()}


def _length(store: Store, name: str) -> int:
    first = schemas.CATALOG[name].names[0] if name in schemas.CATALOG else "track_id"
    return len(store.read_catalog(name, [first]))


def _bytes(store: Store) -> dict[str, int]:
    folders = (*schemas.MEASURED[::-1], places.DERIVED, places.CATALOG)
    return {name: sum(files.sizes(store.fs, store.path(name)).values()) for name in folders}


def _counts(values: list[str]) -> dict[str, int]:
    return dict(sorted(collections.Counter(values).items()))


def _splits(table: pa.Table) -> dict[str, dict[str, int]]:
    pairs = collections.Counter(zip(table["scheme"].to_pylist(), table["split"].to_pylist(), strict=True))
    return {
        scheme: {split: pairs[scheme, split] for split in schemas.SPLITS}
        for scheme in schemas.SCHEMES
        if any((scheme, split) in pairs for split in schemas.SPLITS)
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
