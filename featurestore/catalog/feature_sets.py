"""Imported feature sets: `catalog/features_<set>.parquet`, one row a track, from anyone's table.

The table is read in blocks and written as it comes, so that memory does not grow with it. NaN and infinity become
NULL. Nothing appears in the store unless every row was good.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.catalog import feature_columns
from featurestore.catalog.feature_columns import FeatureTable
from featurestore.datasets import Collection
from featurestore.datasets.fma.tracks import metadata_folder
from featurestore.datasets.paths import track_numbers
from featurestore.errors import UsageError
from featurestore.store import files, parquet
from featurestore.store.store import Store
from featurestore.terminal.words import examples

ROW_GROUP_ROWS = 8192
# FMA's own tables of features: file in the metadata folder, name of the set
PUBLISHED = {"features.csv": "fma", "echonest.csv": "echonest"}
_SOURCE = b"source"


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """What an import did, or would do.

    Attributes
    ----------
    set, table : str
        Name of the set, and where it was read from.
    rows, matched : int
        Rows in the table, and those with a track in the catalog: the rows of the set.
    columns, nulls : int
        Features, and values that are NULL in the set (they were empty, NaN or infinite).
    left_out : dict of str to str
        Columns that are no features, and why.
    renamed : dict of str to str
        Features that were called like a key of the store, and what they are called in the set.
    unknown, repeated : tuple of str
        Ids that no track has (as they stand in the table), and track ids that stand more than once.
    empty_ids : int
        Rows without an id.
    tracks_added : int
        Tracks that the table itself brought into the catalog.
    """

    set: str
    table: str
    rows: int
    matched: int
    columns: int
    nulls: int
    left_out: Mapping[str, str]
    renamed: Mapping[str, str]
    unknown: tuple[str, ...]
    repeated: tuple[str, ...]
    empty_ids: int
    tracks_added: int = 0

    def problems(self, ignore_unknown: bool = False) -> list[str]:
        """Say why the table cannot be imported.

        Parameters
        ----------
        ignore_unknown : bool
            Whether rows without a track may be left out.

        Returns
        -------
        list of str
            Empty where it can be imported.
        """
        found = []
        if self.empty_ids:
            found.append(f"rows without an id: {self.empty_ids}")
        if self.repeated:
            found.append(f"ids that stand more than once: {examples(list(self.repeated))}")
        if self.unknown and not ignore_unknown:
            found.append(f"ids that no track of the catalog has: {examples(list(self.unknown))} of {self.rows} rows")
        if not self.matched:
            found.append("no row matches a track of the catalog")
        return found

    def require(self, ignore_unknown: bool) -> None:
        """Refuse a table that cannot be imported.

        Parameters
        ----------
        ignore_unknown : bool
            Whether rows without a track may be left out.

        Raises
        ------
        UsageError
            Says why.
        """
        problems = self.problems(ignore_unknown)
        if problems:
            raise UsageError(
                f"{self.table}: not imported\n  " + "\n  ".join(problems),
                "Look with --dry-run; catalog the missing tracks first, or leave their rows out with --ignore-unknown.",
            )


# block of ids as they stand in the table -> int64 track ids, NULL where there is none
Resolve = Callable[[pa.Array], pa.Array]


def look(name: str, table: FeatureTable, resolve: Resolve) -> ImportReport:
    """Read the whole table and write nothing.

    Parameters
    ----------
    name : str
        Name of the set.
    table : FeatureTable
        Its rows.
    resolve : callable
        Ids of the table (text) to track ids (int64), NULL where there is no such track.

    Returns
    -------
    ImportReport
        What `write` would find.

    Raises
    ------
    FeatureStoreError
        A value is not a number.
    """
    rows = _Rows(table, resolve)
    nulls = sum(_nulls(group) for group in _regrouped(rows.matched(), ROW_GROUP_ROWS))
    return rows.report(name, nulls)


def write(
    store: Store,
    name: str,
    table: FeatureTable,
    resolve: Resolve,
    *,
    ignore_unknown: bool = False,
    row_group_rows: int = ROW_GROUP_ROWS,
) -> ImportReport:
    """Write a set, replacing one of that name.

    Parameters
    ----------
    store : Store
        Where the set belongs.
    name : str
        Name of the set: lower-case letters, digits and underscores.
    table : FeatureTable
        Its rows.
    resolve : callable
        Ids of the table (text) to track ids (int64), NULL where there is no such track.
    ignore_unknown : bool
        Leave out rows without a track.
    row_group_rows : int
        Rows of a row group in the file, however the blocks of the table fall.

    Returns
    -------
    ImportReport

    Raises
    ------
    UsageError
        The name cannot name a set, or ids are unknown (unless ignored), repeated or missing. The store is as it was.
    FeatureStoreError
        A value is not a number.
    """
    path, footer = store.feature_set_path(name), {_SOURCE.decode(): json.dumps(_fingerprint(table.file.path))}
    rows, nulls = _Rows(table, resolve), 0
    store.require_lock()
    with parquet.stream(store.fs, path, table.schema, f"features_{name}", footer) as writer:
        for group in _regrouped(rows.matched(), row_group_rows):
            nulls += _nulls(group)
            writer.write_table(pa.table(group.columns, schema=table.schema))
        report = rows.report(name, nulls)
        report.require(ignore_unknown)
    return report


class _Rows:
    """Rows on their way from the table to the set, and what was met on the way."""

    def __init__(self, table: FeatureTable, resolve: Resolve) -> None:
        self._table, self._resolve = table, resolve
        self._tracks: list[np.ndarray] = []
        self._unknown: list[str] = []
        self._rows = self._empty = 0

    def matched(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows that have a track."""
        for batch in self._table.batches():
            ids = batch.column(0)
            tracks = self._resolve(ids)
            self._rows += len(ids)
            self._empty += ids.null_count
            self._unknown += ids.filter(pc.and_(pc.is_null(tracks), pc.is_valid(ids))).to_pylist()
            self._tracks.append(tracks.drop_null().to_numpy())
            rows = batch.set_column(0, "track_id", tracks)
            yield rows.filter(pc.is_valid(tracks)) if tracks.null_count else rows

    def report(self, name: str, nulls: int) -> ImportReport:
        """What was met, once all rows were taken."""
        tracks = np.concatenate([np.empty(0, np.int64), *self._tracks])
        unique, count = np.unique(tracks, return_counts=True)
        return ImportReport(
            set=name,
            table=self._table.file.path,
            rows=self._rows,
            matched=len(tracks),
            columns=len(self._table.features),
            nulls=nulls,
            left_out=self._table.left_out,
            renamed=self._table.renamed,
            unknown=tuple(self._unknown),
            repeated=tuple(str(i) for i in unique[count > 1]),
            empty_ids=self._empty,
        )


def _regrouped(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` each, the last one shorter; features that are not finite are NULL."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= rows:
            table = pa.Table.from_batches(waiting)
            while len(table) >= rows:
                yield _finite(table.slice(0, rows))
                table = table.slice(rows)
            waiting = table.to_batches()
    if sum(map(len, waiting)):
        yield _finite(pa.Table.from_batches(waiting))


def _finite(table: pa.Table) -> pa.Table:
    key, *features = table.combine_chunks().columns
    return pa.table([key, *(pc.if_else(pc.is_finite(f), f, None) for f in features)], table.column_names)


def _nulls(rows: pa.Table) -> int:
    return sum(column.null_count for column in rows.columns)


def import_published(
    store: Store, collection: Collection, known: np.ndarray, *, fresh: bool
) -> tuple[ImportReport, ...]:
    """Import the tables of features that FMA publishes beside its labels, where the metadata folder has them.

    Parameters
    ----------
    store : Store
        Where the sets belong.
    collection : Collection
        As its loader returned it; only `fma` has such tables.
    known : numpy.ndarray
        int64, the track ids in the catalog, sorted; rows of other tracks are left out.
    fresh : bool
        Whether tracks have come since: else a table that was imported before and has not changed is passed over.

    Returns
    -------
    tuple of ImportReport
        One for each table that was imported now.

    Raises
    ------
    FeatureStoreError
        A table is damaged.
    """
    if collection.name != "fma" or collection.metadata is None:
        return ()
    folder, reports = metadata_folder(collection.metadata), []
    for file, name in PUBLISHED.items():
        path = f"{folder}/{file}"
        fs, place = files.resolve(path)
        if fs.exists(place) and (fresh or _source_of(store, name) != _fingerprint(path)):
            table = feature_columns.inspect(path)
            reports.append(write(store, name, table, lambda ids: known_numbers(ids, known), ignore_unknown=True))
    return tuple(reports)


def known_numbers(ids: pa.Array, known: np.ndarray) -> pa.Array:
    """Find the tracks of ids that are numbers.

    Parameters
    ----------
    ids : pyarrow.Array
        Ids as text.
    known : numpy.ndarray
        int64, the track ids that there are, sorted.

    Returns
    -------
    pyarrow.Array
        int64; NULL where an id is no number or no track has it.

    Examples
    --------
    >>> known_numbers(pa.array(["000002", "3", "x"]), np.array([2, 5])).to_pylist()
    [2, None, None]
    """
    numbers = pc.fill_null(track_numbers(ids), -1).to_numpy()
    found = np.searchsorted(known, numbers, "right") > np.searchsorted(known, numbers, "left")
    return pa.array(numbers, mask=~found)


def _fingerprint(path: str) -> dict[str, object]:
    """Where a table was read from and what it looked like, to see whether it changed."""
    fs, place = files.resolve(path)
    info = fs.info(place)
    return {"path": info["name"], "bytes": info["size"], "version": str(info.get("ETag") or info.get("mtime") or "")}


def _source_of(store: Store, name: str) -> object:
    if name not in store.feature_sets():
        return None
    try:
        return json.loads(parquet.notes(store.fs, store.feature_set_path(name)).get(_SOURCE, b"null"))
    except (OSError, pa.ArrowException, ValueError):
        return None
