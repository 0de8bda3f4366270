"""`import-features`: add anyone's features to the store, by track id or by file name.

Ids that are numbers are track ids. Ids that are texts are file names, and match a track of the catalog by its path,
else by its file name, else by its file name without suffix (GTZAN's published table says blues.00000.au, the audio
comes as blues.00000.wav). With a label column the table needs no catalog at all: rows that match no track become
tracks of a data set named after the set, with the label as genre.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import posixpath
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import schemas
from featurestore.catalog import feature_sets, feature_table, merge
from featurestore.catalog.feature_sets import ImportReport, Resolve
from featurestore.catalog.feature_table import FeatureTable
from featurestore.datasets import Collection, paths
from featurestore.datasets.collection import genre_ids, genre_table
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
    """Add the CSV or Parquet table at `path` to the store as the feature set `name` (replacing one of that name).

    id_column       the column that says which track a row is; default: track_id, or an unnamed first column
    label_column    a column of genres: rows of unknown tracks become tracks, and a store is made where there is none
    skip_columns    columns to leave out
    ignore_unknown  leave out rows whose id no track has, instead of refusing the table
    dry_run         write nothing; the report says what would match, and `problems()` what would be refused

    Raises MissingStore, MissingInput (no such table), UsageError (bad name, columns that are not numbers, ids that
    are unknown, repeated or missing), StoreBusy (tracks are to be added while another process writes to the store);
    whatever is raised, no set is written.
    """
    places.refuse_inside(path, "the table", store_url)
    table = feature_table.inspect(path, id_column=id_column, label_column=label_column, skip_columns=skip_columns)
    store, resolve, brought = _prepare(store_url, name, table)
    if dry_run:
        report = feature_sets.look(name, table, resolve)
    elif brought is None:
        assert store is not None  # without labels the store had to be there
        report = feature_sets.write(store, name, table, resolve, ignore_unknown=ignore_unknown)
    else:
        # refused before its tracks are in the catalog
        feature_sets.require(feature_sets.look(name, table, resolve), ignore_unknown)
        with lock.hold(*files.resolve(store_url), f"import of {name}") as held:
            report, brought = _write_labelled(store_url, name, table, ignore_unknown, held)
    return dataclasses.replace(report, tracks_added=len(brought.tracks) if brought else 0)


def _write_labelled(
    store_url: str, name: str, table: FeatureTable, ignore_unknown: bool, held: lock.Lock
) -> tuple[ImportReport, Collection]:
    """Add the table's tracks, then its features. The caller holds the lock: the catalog is as it is read here."""
    store, resolve, brought = _prepare(store_url, name, table)
    assert brought is not None
    store = (store or Store.create(store_url, Spec())).locked(held)
    _add(store, name, brought)
    return feature_sets.write(store, name, table, resolve, ignore_unknown=ignore_unknown), brought


def _prepare(store_url: str, name: str, table: FeatureTable) -> tuple[Store | None, Resolve, Collection | None]:
    """(the store if there is one, how rows find their track, the tracks that a labelled table brings)."""
    labelled = table.label is not None
    store = _open(store_url, or_none=labelled)
    resolver = _Resolver(name, store)
    brought = _labelled(name, table, resolver) if labelled else None
    return store, resolver.with_tracks(brought).resolve, brought


def _open(url: str, or_none: bool) -> Store | None:
    try:
        return Store.open(url)
    except MissingStore as error:
        if or_none:
            return None
        raise MissingStore(
            error.message,
            "Features belong to tracks: catalog them first (`python -m featurestore catalog --help`), or name the "
            "table's own column of genres with --label-column.",
        ) from None


def _add(store: Store, name: str, brought: Collection) -> None:
    store.feature_set_path(name)  # a bad name must not leave tracks behind
    if len(brought.tracks):
        merge.update(store, brought)


class _Resolver:
    """Finds the track of an id as it stands in a table."""

    def __init__(self, name: str, store: Store | None) -> None:
        empty = schemas.TRACKS.empty_table()
        tracks = store.read_catalog("tracks", ["track_id", "path"]) if store else empty.select(["track_id", "path"])
        self._name = name
        self._known = np.sort(tracks["track_id"].to_numpy())
        self._files = tracks.filter(pc.is_valid(tracks["path"]))

    @functools.cached_property
    def _named(self) -> dict[str, int | None]:
        """{path, file name or stem: its track, None where several have it}."""
        found: dict[str, int | None] = {}
        for track, path in zip(self._files["track_id"].to_pylist(), self._files["path"].to_pylist(), strict=True):
            for key in {path, posixpath.basename(path), paths.stem(path)}:
                found[key] = track if key not in found else None
        return found

    def with_tracks(self, brought: Collection | None) -> _Resolver:
        """This resolver, knowing the tracks of `brought` too."""
        if brought is not None:
            self._known = np.union1d(self._known, brought.tracks["track_id"].to_numpy())
        return self

    def resolve(self, ids: pa.Array) -> pa.Array:
        """int64 track ids, NULL where there is no such track. Raises UsageError for a name that several tracks have."""
        found = feature_sets.known_ids(ids, self._known)
        if pa.types.is_integer(ids.type) or found.null_count == ids.null_count:
            return found
        named = [self._by_name(text) if text is not None else None for text in ids.to_pylist()]
        return pc.coalesce(found, pa.array(named, pa.int64()))

    def _by_name(self, text: str) -> int | None:
        for key in (text, posixpath.basename(text), paths.stem(text)):
            if key in self._named:
                track = self._named[key]
                if track is None:
                    raise UsageError(
                        f"several tracks of the catalog have the file name {key!r}",
                        "Write paths relative to the audio folder, or track ids, in the id column.",
                    )
                return track
        stem = paths.stem(text)
        number = int(stem) if stem.isascii() and stem.isdigit() and len(stem) <= 18 else self.new_id(text)
        at = int(np.searchsorted(self._known, number))
        return number if at < len(self._known) and self._known[at] == number else None

    def new_id(self, text: str) -> int:
        """The id of the track that a row of this table with this file name becomes."""
        return paths.track_id(self._name, paths.stem(text))


def _labelled(name: str, table: FeatureTable, resolver: _Resolver) -> Collection:
    """The rows of the table that match no track, as tracks with their label as genre."""
    texts, labels = list[str | None](), list[str | None]()
    identity = dataclasses.replace(table, numeric=(), columns=())
    for block in feature_table.read(identity):
        missing = pc.is_null(resolver.resolve(block.ids))
        texts += block.ids.filter(missing).cast(pa.string()).to_pylist()
        assert block.labels is not None
        labels += block.labels.filter(missing).cast(pa.string()).to_pylist()
    repeated = [t for t, n in Counter(texts).items() if n > 1 and t is not None]
    if repeated:
        raise UsageError(
            f"{table.path}: ids that stand more than once: {examples(repeated)}", "Keep one row for each track."
        )
    ids = genre_ids(label for label in labels if label)
    rows: list[dict[str, object]] = [
        {
            "track_id": int(text) if text.isdigit() else resolver.new_id(text),
            "dataset": name,
            "title": paths.stem(text),
            "genre": label,
            "genre_ids": [ids[label]] if label else [],
        }
        for text, label in zip(texts, labels, strict=True)
        if text is not None
    ]
    tracks = schemas.from_rows(rows, schemas.TRACKS).sort_by("track_id")
    return Collection(name, None, os.path.abspath(table.path), tracks, genre_table(ids), ())
