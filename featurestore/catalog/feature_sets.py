"""Imported feature sets: `catalog/features_<set>.parquet`, one row a track, from anyone's table.

The table is read once, in blocks, and written as it comes, so that memory does not grow with it. NaN and infinity
become NULL. Nothing appears in the store unless every row was good.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurestore.catalog import feature_table
from featurestore.catalog.feature_table import Block, FeatureTable
from featurestore.datasets import Collection, csv_blocks
from featurestore.datasets.csv_blocks import ValueMismatch
from featurestore.errors import MissingInput, UsageError
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

    set, table          name of the set, and where it was read from
    rows                rows in the table
    matched             rows with a track in the catalog: the rows of the set
    columns             features
    nulls               values that are NULL in the set (they were empty, NaN or infinite)
    text                columns left out because they are not numbers
    unknown, repeated   ids that no track has, and ids that stand more than once (as they stand in the table)
    empty_ids           rows without an id
    tracks_added        tracks that the table itself brought into the catalog
    """

    set: str
    table: str
    rows: int
    matched: int
    columns: int
    nulls: int
    text: tuple[str, ...]
    unknown: tuple[str, ...]
    repeated: tuple[str, ...]
    empty_ids: int
    tracks_added: int = 0

    def problems(self, ignore_unknown: bool = False) -> list[str]:
        """Why the table cannot be imported, in words; empty where it can."""
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


# block of ids as they stand in the table -> int64 track ids, NULL where there is none
Resolve = Callable[[pa.Array], pa.Array]
# rows of one row group, in parts: track ids, and values as in `Block`
Group = list[tuple[np.ndarray, np.ndarray]]


def look(name: str, table: FeatureTable, resolve: Resolve) -> ImportReport:
    """Read the whole table and write nothing. Raises FeatureStoreError where a value is not a number."""
    return _with_all_nulls(lambda t: _look(name, t, resolve), table)


def write(
    store: Store, name: str, table: FeatureTable, resolve: Resolve, *, ignore_unknown: bool = False
) -> ImportReport:
    """Write the set `name` from `table`, replacing one of that name.

    Raises UsageError, and leaves the store as it was, where the name cannot name a set or ids are unknown (unless
    ignored), repeated or missing; FeatureStoreError where a value is not a number.
    """
    path = store.feature_set_path(name)
    return _with_all_nulls(lambda t: _write(store, path, name, t, resolve, ignore_unknown), table)


def _with_all_nulls(run: Callable[[FeatureTable], ImportReport], table: FeatureTable) -> ImportReport:
    """Run on the table as it is; where a value is no number, once more with `NA`, `null` and the like read as empty."""
    # most tables leave an empty cell empty, and to look for every spelling takes a quarter longer
    try:
        return run(table)
    except ValueMismatch:
        return run(dataclasses.replace(table, nulls=tuple(csv_blocks.NULLS)))


def _look(name: str, table: FeatureTable, resolve: Resolve) -> ImportReport:
    intake = _Intake(table, resolve)
    nulls = sum(_nulls(_rows(table.schema, group)) for group in intake.groups())
    return intake.report(name, nulls)


def _write(
    store: Store, path: str, name: str, table: FeatureTable, resolve: Resolve, ignore_unknown: bool
) -> ImportReport:
    intake = _Intake(table, resolve)
    store.require_lock()
    footer = {_SOURCE.decode(): json.dumps(_fingerprint(table.path))}
    with parquet.stream(store.fs, path, table.schema, f"features_{name}", footer) as writer:
        nulls = _write_groups(writer, table.schema, intake.groups())
        report = intake.report(name, nulls)
        require(report, ignore_unknown)
    return report


def _write_groups(writer: parquet.Writer, schema: pa.Schema, groups: Iterator[Group]) -> int:
    """Write each group in a thread of its own, while the next one is read; the number of values that are NULL."""

    def write_group(group: Group) -> int:
        rows = _rows(schema, group)
        writer.write_table(rows)
        return _nulls(rows)

    nulls, writing = 0, None
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for group in groups:
            nulls += writing.result() if writing else 0  # so that no more than two are in memory
            writing = pool.submit(write_group, group)
        return nulls + (writing.result() if writing else 0)


def _rows(schema: pa.Schema, group: Group) -> pa.Table:
    """A group as it goes into the set: values that are not finite are NULL."""
    values = np.concatenate([part for _, part in group], axis=1)
    with np.errstate(all="ignore"):
        whole = np.isfinite(values.sum(axis=1))  # tells of most columns that they need no mask
    columns = [pa.array(v) if w else pa.array(v, mask=~np.isfinite(v)) for v, w in zip(values, whole, strict=True)]
    return pa.table([np.concatenate([tracks for tracks, _ in group]), *columns], schema=schema)


def _nulls(rows: pa.Table) -> int:
    return sum(column.null_count for column in rows.columns)


def require(report: ImportReport, ignore_unknown: bool) -> None:
    """Raise UsageError where the table cannot be imported, saying why."""
    problems = report.problems(ignore_unknown)
    if problems:
        raise UsageError(
            f"{report.table}: not imported\n  " + "\n  ".join(problems),
            "Look with --dry-run; catalog the missing tracks first, or leave their rows out with --ignore-unknown.",
        )


class _Intake:
    """Rows on their way from the table to the set, and what was met on the way."""

    def __init__(self, table: FeatureTable, resolve: Resolve) -> None:
        self._table, self._resolve = table, resolve
        self._tracks: list[np.ndarray] = []
        self._unknown: list[str] = []
        self._rows = self._empty = 0

    def groups(self) -> Iterator[Group]:
        """Yield the rows that have a track, ROW_GROUP_ROWS at a time however the table's blocks fall."""
        waiting, rows = Group(), 0
        for block in feature_table.read(self._table):
            tracks, values = self._matched(block)
            while rows + len(tracks) >= ROW_GROUP_ROWS:
                cut = ROW_GROUP_ROWS - rows
                yield [*waiting, (tracks[:cut], values[:, :cut])]
                waiting, rows = Group(), 0
                tracks, values = tracks[cut:], values[:, cut:]
            waiting.append((tracks, values))
            rows += len(tracks)
        if rows:
            yield waiting

    def _matched(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        tracks = self._resolve(block.ids)
        known = pc.is_valid(tracks)
        self._rows += len(tracks)
        self._empty += block.ids.null_count
        values = block.values
        if tracks.null_count:
            lost = block.ids.filter(pc.and_(pc.invert(known), pc.is_valid(block.ids)))
            self._unknown += lost.cast(pa.string()).to_pylist()
            tracks, values = tracks.drop_null(), values[:, known.to_numpy(zero_copy_only=False)]
        self._tracks.append(tracks.to_numpy())
        return self._tracks[-1], values

    def report(self, name: str, nulls: int) -> ImportReport:
        """What was met, once all groups were taken."""
        tracks = np.concatenate([np.empty(0, np.int64), *self._tracks])
        unique, count = np.unique(tracks, return_counts=True)
        return ImportReport(
            set=name,
            table=self._table.path,
            rows=self._rows,
            matched=len(tracks),
            columns=len(self._table.numeric),
            nulls=nulls,
            text=self._table.text,
            unknown=tuple(self._unknown),
            repeated=tuple(str(i) for i in unique[count > 1]),
            empty_ids=self._empty,
        )


def import_published(
    store: Store, collection: Collection, known: np.ndarray, *, fresh: bool
) -> tuple[ImportReport, ...]:
    """Import the tables of features that FMA publishes beside its labels, where the metadata folder has them.

    known are the track ids in the catalog, sorted; rows of other tracks are left out. A table that was imported
    before and has not changed is passed over, unless `fresh` says that tracks have come since.
    """
    if collection.name != "fma" or collection.metadata is None:
        return ()
    from featurestore.datasets.fma.tracks import metadata_folder

    folder, reports = metadata_folder(collection.metadata), []
    for file, name in PUBLISHED.items():
        path = f"{folder}/{file}"
        fs, place = files.resolve(path)
        if fs.exists(place) and (fresh or _source_of(store, name) != _fingerprint(path)):
            table = feature_table.inspect(path)
            reports.append(write(store, name, table, lambda ids: known_ids(ids, known), ignore_unknown=True))
    return tuple(reports)


def known_ids(ids: pa.Array, known: np.ndarray) -> pa.Array:
    """Track ids (int64) of ids written as numbers (text or integers), NULL where `known` (sorted) has none such."""
    if not pa.types.is_integer(ids.type):
        # pandas writes whole numbers as 12.0 once a column has had an empty cell
        text = pc.replace_substring_regex(ids.cast(pa.string()), r"^\s*(\d{1,18})(\.0+)?\s*$", r"#\1")
        number = pc.starts_with(text, "#")
        ids = pc.if_else(number, pc.utf8_slice_codeunits(text, 1), pa.scalar(None, pa.string()))
    numbers = pc.fill_null(ids.cast(pa.int64()), -1).to_numpy()
    at = np.minimum(np.searchsorted(known, numbers), max(len(known) - 1, 0))
    found = known[at] == numbers if len(known) else np.zeros(len(numbers), bool)
    return pa.array(numbers, mask=~found)


def _fingerprint(path: str) -> dict[str, object]:
    """Where a table was read from and what it looked like, to see whether it changed."""
    fs, place = files.resolve(path)
    if files.is_local(fs):
        stat = os.stat(place)
        return {"path": os.path.abspath(place), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    info = fs.info(place)
    return {"path": path, "bytes": info.get("size"), "version": str(info.get("ETag") or info.get("mtime") or "")}


def _source_of(store: Store, name: str) -> object:
    if name not in store.feature_sets():
        return None
    try:
        with csv_blocks.opened(store.fs.unstrip_protocol(store.feature_set_path(name))) as stream:
            return json.loads((pq.read_metadata(stream).metadata or {}).get(_SOURCE, b"null"))
    except (MissingInput, pa.ArrowException, ValueError):
        return None
