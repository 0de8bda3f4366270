"""`import-features`: add anyone's features to the store, by track id or by file name.

Ids that are numbers are track ids. Ids that are texts are file names, and match a track of the catalog by its path,
else by its file name, else by that without the suffix of an audio file (GTZAN's published table says blues.00000.au,
the audio comes as blues.00000.wav), else as the name of one of FMA's clips. With a label column the table needs no
catalog at all: rows that match no track become tracks of a data set named after the set, with the label as genre.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.catalog import feature_columns, feature_sets, merge
from featurestore.catalog.feature_columns import FeatureTable
from featurestore.catalog.feature_sets import ImportReport
from featurestore.datasets import Collection, paths
from featurestore.datasets.collection import from_labels
from featurestore.errors import MissingStore, UsageError
from featurestore.spec import Spec
from featurestore.store import files, lock, places
from featurestore.store.store import Store
from featurestore.terminal.words import examples


def import_table(
    store_url: str,
    name: str,
    path: str,
    *,
    id_column: str | None = None,
    label_column: str | None = None,
    skip_columns: Sequence[str] = (),
    ignore_unknown: bool = False,
    dry_run: bool = False,
) -> ImportReport:
    """Add a table to the store as a feature set, replacing one of that name.

    Parameters
    ----------
    store_url : str
        Path or URL of the store.
    name : str
        Name of the set.
    path : str
        CSV or Parquet, a file or URL.
    id_column : str, optional
        The column that says which track a row is; default: track_id, or an unnamed first column.
    label_column : str, optional
        A column of genres: rows of unknown tracks become tracks, and a store is made where there is none.
    skip_columns : sequence of str
        Columns to leave out.
    ignore_unknown : bool
        Leave out rows whose id no track has, instead of refusing the table.
    dry_run : bool
        Write nothing; the report says what would match, and `problems()` what would be refused.

    Returns
    -------
    ImportReport

    Raises
    ------
    MissingStore, MissingInput
        There is no store (and no label column), or no such table.
    UsageError
        Bad name, columns that are not numbers, ids that are unknown, repeated or missing.
    StoreBusy
        Tracks are to be added while another process writes to the store.

    Whatever is raised, no set is written.
    """
    places.refuse_inside(path, "the table", store_url)
    table = feature_columns.inspect(path, id_column=id_column, label_column=label_column, skip_columns=skip_columns)
    if label_column is None:
        store = _open(store_url)
        finder = _TrackFinder(store)
        if dry_run:
            return feature_sets.look(name, table, finder.resolve)
        return feature_sets.write(store, name, table, finder.resolve, ignore_unknown=ignore_unknown)
    if dry_run:
        finder = _TrackFinder(_open_or_none(store_url), name)
        brought = _brought(name, table, finder)
        report = feature_sets.look(name, table, finder.resolve)
    else:
        with lock.hold(*files.resolve(store_url), f"import of {name}") as held:
            report, brought = _write_labelled(store_url, name, table, ignore_unknown, held)
    return dataclasses.replace(report, tracks_added=len(brought.tracks))


def _write_labelled(
    store_url: str, name: str, table: FeatureTable, ignore_unknown: bool, held: lock.Lock
) -> tuple[ImportReport, Collection]:
    """Write the set, then the tracks that it brings: a table that is refused leaves none behind."""
    store = _open_or_none(store_url)
    finder = _TrackFinder(store, name)
    brought = _brought(name, table, finder)
    store = (store or Store.create(store_url, Spec())).locked(held)
    report = feature_sets.write(store, name, table, finder.resolve, ignore_unknown=ignore_unknown)
    if len(brought.tracks):
        merge.update(store, brought)
    return report, brought


def _open(url: str) -> Store:
    store = _open_or_none(url)
    if store is None:
        raise MissingStore(
            f"no store at {url}",
            "Features belong to tracks: catalog them first (`python -m featurestore catalog --help`), or name the "
            "table's own column of genres with --label-column.",
        )
    return store


def _open_or_none(url: str) -> Store | None:
    try:
        return Store.open(url)
    except MissingStore:
        return None


class _TrackFinder:
    """Finds the track of an id as it stands in a table."""

    def __init__(self, store: Store | None, labels_of: str | None = None) -> None:
        tracks = store.read_catalog("tracks", ["track_id", "dataset", "path"]).to_pylist() if store else []
        # two tables with labels may both have a 001.wav; one without can only mean a track that is there
        self._datasets = [labels_of] if labels_of else list({row["dataset"] for row in tracks})
        self._paths = {row["track_id"]: row["path"] for row in tracks if row["path"] is not None}
        self._known: set[int] = set()
        self.add(row["track_id"] for row in tracks)

    def add(self, tracks: Iterable[int]) -> None:
        """Know these tracks too."""
        self._known |= set(tracks)
        self._numbers = np.array(sorted(self._known), np.int64)

    @functools.cached_property
    def _named(self) -> dict[str, set[int]]:
        """{path, file name or that without suffix: its tracks}."""
        found: dict[str, set[int]] = defaultdict(set)
        for track, path in self._paths.items():
            file = posixpath.basename(path)
            for key in (path, file, paths.bare_name(file)):
                found[key].add(track)
        return dict(found)

    def resolve(self, ids: pa.Array) -> pa.Array:
        """int64 track ids, NULL where there is no such track. Raises UsageError for a name that several tracks have."""
        found = feature_sets.known_numbers(ids, self._numbers)
        if found.null_count == ids.null_count:
            return found
        named = [self._by_name(text) if text is not None else None for text in ids.to_pylist()]
        return pc.coalesce(found, pa.array(named, pa.int64()))

    def _by_name(self, text: str) -> int | None:
        file = posixpath.basename(text)
        key = next((key for key in (text, file, paths.bare_name(file)) if key in self._named), text)
        of_tables = {_hashed_id(name, text) for name in self._datasets} & self._known
        tracks = self._named.get(key) or of_tables or {paths.fma_number(text)} & self._known
        if len(tracks) > 1:
            raise UsageError(
                f"several tracks of the catalog have the file name {key!r}",
                "Write paths relative to the audio folder, or track ids, in the id column.",
            )
        return next(iter(tracks), None)


def _hashed_id(dataset: str, text: str) -> int:
    """The id of the track that a row of a table becomes, where its id is no number."""
    return paths.track_id(dataset, paths.bare_name(text))


def _brought(name: str, table: FeatureTable, finder: _TrackFinder) -> Collection:
    """The rows of the table that match no track, as tracks with their label as genre; `finder` knows them from now."""
    texts, rows = list[str](), list[dict[str, Any]]()
    for batch in table.labels():
        ids = batch.column(0)
        missing = batch.filter(pc.and_(pc.is_null(finder.resolve(ids)), pc.is_valid(ids)))
        numbers = paths.track_numbers(missing.column(0)).to_pylist()
        for text, label, number in zip(*(c.to_pylist() for c in missing.columns), numbers, strict=True):
            track = _hashed_id(name, text) if number is None else number
            texts.append(text)
            rows.append({"track_id": track, "title": posixpath.basename(paths.bare_name(text)), "genre": label})
    repeated = [text for text, n in Counter(texts).items() if n > 1]
    if repeated:
        raise UsageError(
            f"{table.file.path}: ids that stand more than once: {examples(repeated)}", "Keep one row for each track."
        )
    finder.add(row["track_id"] for row in rows)
    return from_labels(name, rows, metadata=os.path.abspath(table.file.path))
