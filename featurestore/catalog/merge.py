"""The catalog: what the data sets say about their tracks, merged into the store. Nothing is decoded here.

A collection is merged by track id: its rows replace rows with the same id, all others stay. Each table is rewritten
whole and atomically, and only if something changed.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc

from featurestore import schemas
from featurestore.catalog import feature_sets, splits
from featurestore.catalog.feature_sets import ImportReport
from featurestore.catalog.splits import SplitReport
from featurestore.datasets import Collection, paths
from featurestore.errors import MissingInput
from featurestore.store.snapshot import Snapshot
from featurestore.store.store import Store


@dataclasses.dataclass(frozen=True)
class CatalogReport:
    """What an update did.

    Attributes
    ----------
    dataset : str
        Name of the collection.
    tracks, with_audio : int
        Its tracks, and those of them with an audio file.
    added, changed : int
        Rows that are new, or differ from before.
    absent : int
        Tracks of this data set in the store that the collection does not have (they are kept).
    genres : int
        Distinct labels among the collection's tracks.
    splits : dict
        {scheme: {split: tracks}} over the whole store.
    feature_sets : tuple of ImportReport
        Published tables of features that were imported along (FMA's features.csv and echonest.csv).
    warnings : tuple of str
        The collection's, and what the merge met.
    """

    dataset: str
    tracks: int
    with_audio: int
    added: int
    changed: int
    absent: int
    genres: int
    splits: dict[str, dict[str, int]]
    feature_sets: tuple[ImportReport, ...]
    warnings: tuple[str, ...]


def update(store: Store, collection: Collection, snapshot: Snapshot | None = None) -> CatalogReport:
    """Merge a collection into the store's catalog: tracks, genres, datasets, splits; and FMA's published features.

    Parameters
    ----------
    store : Store
        Opened under its lock.
    collection : Collection
        One of labels only leaves the audio paths alone that the store already has.
    snapshot : Snapshot, optional
        Of the store, by a caller who has one, for taking it opens every batch.

    Returns
    -------
    CatalogReport

    Raises
    ------
    FeatureStoreError
        The store cannot be written, or a published table of features is damaged.
    """
    old = store.read_catalog("tracks")
    tracks = collection.tracks if collection.audio is not None else _keep_paths(old, collection.tracks)
    merged = _merge(old, tracks, "track_id", schemas.TRACKS)
    is_new = pc.invert(pc.is_in(tracks["track_id"], old["track_id"].combine_chunks()))
    added = pc.sum(is_new).as_py() or 0
    mine = old.filter(pc.equal(old["dataset"], collection.name))
    absent = pc.sum(pc.invert(pc.is_in(mine["track_id"], tracks["track_id"].combine_chunks()))).as_py() or 0
    again = tracks.filter(pc.invert(is_new))
    changed = 0 if again.equals(schemas.conform(mine, again.schema)) else _changed(mine, again)
    warnings = [*collection.warnings, *_moved_folder(store, collection, absent)]
    _replace(store, "genres", _merge(store.read_catalog("genres"), collection.genres, "genre_id", schemas.GENRES))
    _replace(store, "tracks", merged)
    drawn = _draw_all(store, merged, content_hashes(store, snapshot))
    _write_dataset(store, collection, merged, dirty=bool(added or changed))
    known = merged["track_id"].to_numpy()
    imported = feature_sets.import_published(store, collection, known, fresh=added > 0)
    return CatalogReport(
        dataset=collection.name,
        tracks=len(tracks),
        with_audio=len(tracks) - tracks["path"].null_count,
        added=added,
        changed=changed,
        absent=absent,
        genres=len(tracks["genre"].drop_null().unique()),
        splits={scheme: _tally(found) for scheme, found in drawn.items() if found},
        feature_sets=imported,
        warnings=tuple(warnings),
    )


def redraw_splits(store: Store) -> None:
    """Settle the splits of every scheme again, now that audio is hashed: copies never stand in different splits.

    No other track changes its split.

    Parameters
    ----------
    store : Store
        Whose splits are written again where they changed.
    """
    _draw_all(store, store.read_catalog("tracks"), content_hashes(store))


def split_report(store: Store, scheme: str, subset: str | None = None) -> SplitReport:
    """Count the splits of a scheme as the store has them.

    Parameters
    ----------
    store : Store
        With a catalog.
    scheme : str
        official, artist or random.
    subset : str, optional
        Count only the tracks of this subset (small < medium < large < full).

    Returns
    -------
    SplitReport

    Raises
    ------
    MissingInput
        The store has no such split, or no track of the subset.
    """
    found, tracks = read_splits(store, scheme), store.read_catalog("tracks")
    if not found:
        raise MissingInput(f"store {store.url} has no splits of scheme {scheme!r}", splits.advice(scheme))
    if subset is not None:
        within = schemas.SUBSETS[: schemas.SUBSETS.index(subset) + 1]
        tracks = tracks.filter(pc.is_in(tracks["subset"], pa.array(within)))
    if not len(tracks):
        raise MissingInput(
            f"store {store.url} has no track of the subset {subset!r}", "Only FMA has subsets; leave --subset out."
        )
    return splits.report(tracks, scheme, found, content_hashes(store))


def read_splits(store: Store, scheme: str) -> dict[int, str]:
    """Read the splits of one scheme.

    Parameters
    ----------
    store : Store
        With a catalog.
    scheme : str
        official, artist or random.

    Returns
    -------
    dict of int to str
        {track_id: split} in order of arrival; empty where there are none.
    """
    rows = store.read_catalog("splits")
    rows = rows.filter(pc.equal(rows["scheme"], scheme))
    return dict(zip(rows["track_id"].to_pylist(), rows["split"].to_pylist(), strict=True))


def content_hashes(store: Store, snapshot: Snapshot | None = None) -> dict[int, str]:
    """Read what tells copies: the hash of every measured track's audio file.

    Parameters
    ----------
    store : Store
        With measured tracks or without.
    snapshot : Snapshot, optional
        The store as it is to be read; the default is as it is now.

    Returns
    -------
    dict of int to str
        {track_id: BLAKE2b of the file's bytes}.
    """
    rows = store.read_current("excerpts", ["track_id", "source_hash"], snapshot)
    return dict(zip(rows["track_id"].to_pylist(), rows["source_hash"].to_pylist(), strict=True))


def _draw_all(store: Store, tracks: pa.Table, content: dict[int, str]) -> dict[str, dict[int, str]]:
    drawn = {
        scheme: splits.draw(tracks, scheme, existing=read_splits(store, scheme), content=content)
        for scheme in schemas.SCHEMES
    }
    columns: dict[str, list[object]] = {"track_id": [], "scheme": [], "split": []}
    for scheme, found in drawn.items():
        columns["track_id"] += found.keys()
        columns["scheme"] += [scheme] * len(found)
        columns["split"] += found.values()
    _replace(store, "splits", schemas.conform(pa.table(columns), schemas.SPLIT_ROWS))
    return drawn


def _tally(found: dict[int, str]) -> dict[str, int]:
    values = list(found.values())
    return {split: values.count(split) for split in schemas.SPLITS}


def _replace(store: Store, name: str, table: pa.Table) -> None:
    if name not in store.catalog_names() or not store.read_catalog(name).equals(table):
        store.write_catalog(name, table)


def _merge(old: pa.Table, new: pa.Table, key: str, schema: pa.Schema) -> pa.Table:
    """Rows of `new`, and those of `old` with other keys, sorted by key. A store of an older version lacks columns."""
    kept = old.filter(pc.invert(pc.is_in(old[key], new[key].combine_chunks())))
    table = pa.concat_tables([schemas.conform(kept, schema), schemas.conform(new, schema)])
    return table.sort_by(key).combine_chunks()


def _keep_paths(old: pa.Table, new: pa.Table) -> pa.Table:
    row = pc.index_in(new["track_id"], old["track_id"].combine_chunks())
    paths_before = old["path"].combine_chunks().take(row.combine_chunks())
    return new.set_column(new.schema.get_field_index("path"), new.schema.field("path"), paths_before)


def _changed(old: pa.Table, new: pa.Table) -> int:
    """How many rows of `new` differ from the row of `old` with the same track id, or have none there."""
    before = {row["track_id"]: row for row in schemas.conform(old, new.schema).to_pylist()}
    return sum(before.get(row["track_id"]) != row for row in new.to_pylist())


def _moved_folder(store: Store, collection: Collection, absent: int) -> list[str]:
    rows = store.read_catalog("datasets")
    before = rows.filter(pc.equal(rows["dataset"], collection.name))["audio"].to_pylist()
    here = collection.audio and paths.encode_name(collection.audio)
    if absent and here and before and before[0] not in (None, here):
        return [
            f"{absent} tracks of {collection.name} were catalogued from {before[0]} and are not in {here}: they stay, "
            "but their audio is looked for in the new folder; use a store for each folder if these are two collections"
        ]
    return []


def _write_dataset(store: Store, collection: Collection, tracks: pa.Table, dirty: bool) -> None:
    rows = {r["dataset"]: r for r in store.read_catalog("datasets").to_pylist()}
    before = rows.get(collection.name)
    named = {"audio": collection.audio, "metadata": collection.metadata}
    row = {
        "dataset": collection.name,
        **{k: paths.encode_name(v) if v else (before or {}).get(k) for k, v in named.items()},
        "n_tracks": pc.sum(pc.equal(tracks["dataset"], collection.name)).as_py() or 0,
        "updated_at": dt.datetime.now(dt.UTC),
    }
    if before and not dirty and all(before[k] == row[k] for k in ("audio", "metadata", "n_tracks")):
        return
    rows[collection.name] = row
    store.write_catalog("datasets", schemas.from_rows([rows[k] for k in sorted(rows)], schemas.DATASETS))
