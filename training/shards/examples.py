"""Which rows of a store are exported: keys with their labels, and a fingerprint of all that they stand for.

An example is one labelled excerpt of one split. Its artist is the `artist_group` of SQL, by the rule that splits are
drawn by: an int64, negative for a track whose artist is unknown, which is an artist of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pyarrow as pa
import pyarrow.compute as pc

import warehouse
from featurestore.errors import MissingInput
from featurestore.store.store import OWN_SET, Store

_COLUMNS = ["track_id", "excerpt", "genre", "split", "artist"]


@dataclasses.dataclass(frozen=True)
class Examples:
    """The rows of one export, read from one snapshot of the store.

    Parameters
    ----------
    rows : pyarrow.Table
        track_id, excerpt, genre, split, artist.
    columns : tuple of str
        Names of the feature columns; empty for mel and wave.
    snapshot : str
        Fingerprint of the store's measured rows.
    fingerprint : str
        16 hexadecimal digits over the measured values, the columns, the labels and the splits.
    """

    rows: pa.Table
    columns: tuple[str, ...]
    snapshot: str
    fingerprint: str


def examples_of(
    store: Store, *, kind: str, scheme: str, subset: str | None = None, feature_set: str | None = None
) -> Examples:
    """The labelled examples of a store.

    Parameters
    ----------
    store : Store
    kind : {"mel", "wave", "features"}
    scheme : str
        The split scheme.
    subset : str or None
        FMA's subset, the smaller ones included.
    feature_set : str or None
        For the kind features; None is the measured set.

    Returns
    -------
    Examples

    Raises
    ------
    MissingInput
        Where the store has no labelled row of that kind.
    """
    snapshot = store.snapshot().fingerprint
    columns: tuple[str, ...] = ()
    if kind == "features":
        rows, columns = _feature_rows(store, scheme, subset, feature_set or OWN_SET)
    else:
        rows = warehouse.examples(store, scheme=scheme, subset=subset, table=kind)
    rows = rows.filter(pc.and_(pc.is_valid(rows["genre"]), pc.is_valid(rows["split"])))
    if not rows.num_rows:
        raise MissingInput(
            f"store {store.url} has no labelled {kind} rows under the split scheme {scheme!r}",
            "Look with `python -m featurestore status` and `splits`; build with `python -m featurestore build`.",
        )
    rows = _with_artist(store, rows)
    values = snapshot
    if feature_set not in (None, OWN_SET):
        values = hashlib.sha256(store.fs.cat_file(store.feature_set_path(feature_set))).hexdigest()
    return Examples(rows, columns, snapshot, _fingerprint(store, values, columns, rows))


def _with_artist(store: Store, rows: pa.Table) -> pa.Table:
    tracks = warehouse.query(store, "SELECT track_id, artist_group FROM tracks")
    groups = dict(zip(tracks["track_id"].to_pylist(), tracks["artist_group"].to_pylist(), strict=True))
    artists = [groups[track] for track in rows["track_id"].to_pylist()]
    return rows.append_column("artist", pa.array(artists, pa.int64())).select(_COLUMNS)


def _feature_rows(store: Store, scheme: str, subset: str | None, feature_set: str) -> tuple[pa.Table, tuple[str, ...]]:
    """The labelled rows of a feature set and its columns; an imported set has one row per track."""
    m = warehouse.matrix(store, features=feature_set, subset=subset)
    splits = store.read_catalog("splits")
    chosen = splits.filter(pc.equal(splits["scheme"], scheme))
    of = dict(zip(chosen["track_id"].to_pylist(), chosen["split"].to_pylist(), strict=True))
    split = pa.array([of.get(track) for track in m.track_ids.tolist()], pa.string())
    return pa.table([m.track_ids, m.excerpts, pa.array(list(m.y), pa.string()), split], _COLUMNS[:4]), m.columns


def _fingerprint(store: Store, values: str, columns: tuple[str, ...], rows: pa.Table) -> str:
    lines = sorted(zip(*(rows[name].to_pylist() for name in _COLUMNS), strict=True))
    text = json.dumps([store.spec.fingerprint, values, columns, lines], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
