"""Anyone's table of features, CSV or Parquet, read in blocks: which column is the id, which are numbers.

A CSV file may have one header row or several, as pandas writes column levels (FMA's `features.csv` has three and a
row with the name of the index). Numbers become float32.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from featurestore.datasets import csv_blocks
from featurestore.errors import MissingInput, UsageError
from featurestore.store import files
from featurestore.terminal.words import examples

ID_NAMES = ("track_id", "__index_level_0__", "")  # FMA's, and the unnamed index that pandas writes
PARQUET_ROWS = 8192
FAST_BYTES = 100_000_000
_NUMBER = re.compile(r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """The layout of a table of features.

    path        file or URL
    names       all its columns, levels joined by `/`
    skip        header lines before the data (CSV)
    id          position of the id column
    label       position of the label column, None where none was asked for
    numeric     positions of the feature columns
    columns     names of the feature columns in the store: lower case, unique, one for each of `numeric`
    text        names of the columns that are not numbers and were left out
    nulls       texts that mean empty (CSV); `nan` and `inf` are numbers to the parser
    """

    path: str
    names: tuple[str, ...]
    skip: int
    id: int
    label: int | None
    numeric: tuple[int, ...]
    columns: tuple[str, ...]
    text: tuple[str, ...]
    nulls: tuple[str, ...] = ("",)

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """track_id and one float32 column per feature, described by the table's own name for it."""
        source = os.path.basename(self.path)
        key = pa.field("track_id", pa.int64(), False, {"description": "identity of the track"})
        fields = [
            pa.field(column, pa.float32(), True, {"description": f"{self.names[i].replace('/', ', ')} ({source})"})
            for i, column in zip(self.numeric, self.columns, strict=True)
        ]
        return pa.schema([key, *fields])


@dataclasses.dataclass(frozen=True)
class Block:
    """Some rows of a table: ids (text or integers) and labels as they stand there, and the features, (columns, rows)
    float32, with NaN where a cell is empty."""

    ids: pa.Array
    labels: pa.Array | None
    values: np.ndarray


def inspect(
    path: str, *, id_column: str | None = None, label_column: str | None = None, skip_columns: Sequence[str] = ()
) -> FeatureTable:
    """Read the head of a table and decide what its columns are.

    A column that is not numbers is refused, unless it is the id, the label or in `skip_columns`, or the table has
    FMA's several header rows (its echonest.csv has texts beside the features). Raises MissingInput where the file is
    not there, UsageError where the columns do not fit.
    """
    names, skip, kinds = _parquet_head(path) if _is_parquet(path) else _csv_head(path)
    key = _find(path, names, id_column) if id_column is not None else _find_id(path, names)
    label = None if label_column is None else _find(path, names, label_column)
    left_out = {_find(path, names, c) for c in skip_columns} | {key, label}
    features = [i for i in range(len(names)) if i not in left_out]
    text = [names[i] for i in features if not kinds[i]]
    if text and skip <= 1:
        raise UsageError(
            f"{path}: columns that are not numbers: {examples(text)}",
            f"Leave them out with --skip {','.join(text[:3])}, or name one as --id-column or --label-column.",
        )
    numeric = tuple(i for i in features if kinds[i])
    if not numeric:
        raise UsageError(f"{path}: no column of numbers beside the id {names[key]!r}", "Name another table.")
    columns = column_names([names[i] for i in numeric])
    return FeatureTable(path, tuple(names), skip, key, label, numeric, tuple(columns), tuple(text))


def read(table: FeatureTable) -> Iterator[Block]:
    """Yield the table's rows block by block. Raises UsageError naming column and value where one is no number."""
    return _parquet_blocks(table) if _is_parquet(table.path) else _csv_blocks(table)


def column_names(names: Sequence[str]) -> list[str]:
    """Names for SQL from any names: lower-case letters, digits and underscores, beginning with a letter; unique, and
    never `track_id`. Of levels (`mfcc/mean/01`) the last is enough where it is a name and the only such one."""
    last = [n.rpartition("/")[2] for n in names]
    count = Counter(last)
    result, taken = [], {"track_id"}
    for name, short in zip(names, last, strict=True):
        whole = short if short[:1].isalpha() and count[short] == 1 else name
        text = re.sub(r"[^a-z0-9]+", "_", whole.lower()).strip("_")
        text = text if text[:1].isalpha() else f"f_{text}".rstrip("_")
        unique, n = text, 1
        while unique in taken:
            n += 1
            unique = f"{text}_{n}"
        taken.add(unique)
        result.append(unique)
    return result


def _is_parquet(path: str) -> bool:
    return path.lower().endswith((".parquet", ".pq"))


def _find(path: str, names: Sequence[str], column: str) -> int:
    if column not in names:
        raise UsageError(f"{path}: no column {column!r}; it has {examples(list(names))}", "Check the name.")
    return list(names).index(column)


def _find_id(path: str, names: Sequence[str]) -> int:
    for name in ID_NAMES:
        if name in names:
            return list(names).index(name)
    raise UsageError(
        f"{path}: which column holds the track id? Expected one named track_id; found {', '.join(names[:8])}"
        + (", ..." if len(names) > 8 else ""),
        "Name it with --id-column: numbers are track ids, texts are file names.",
    )


def _parquet_head(path: str) -> tuple[list[str], int, list[bool]]:
    with csv_blocks.opened(path) as stream:
        try:
            schema = pq.ParquetFile(stream).schema_arrow
        except pa.ArrowException as error:
            raise MissingInput(f"{path}: not a Parquet file ({error})", "Check the file.") from None
    return schema.names, 0, [_is_number(f.type) for f in schema]


def _is_number(kind: pa.DataType) -> bool:
    t = pa.types
    return t.is_floating(kind) or t.is_integer(kind) or t.is_boolean(kind) or t.is_decimal(kind) or t.is_null(kind)


def _csv_head(path: str) -> tuple[list[str], int, list[bool]]:
    rows = csv_blocks.first_rows(path, 8)
    if not rows or len(rows[0]) < 2:
        raise MissingInput(f"{path}: expected a CSV table with a header row", "Check the file.")
    levels = _header_levels(rows)
    if levels == 1:
        names, skip = rows[0], 1
    else:
        names = [rows[levels][0], *("/".join(c) for c in zip(*(r[1:] for r in rows[:levels]), strict=False))]
        skip = levels + 1
    return names, skip, _csv_numeric(path, len(names), skip) if len(rows) > skip else [True] * len(names)


def _csv_numeric(path: str, columns: int, skip: int) -> list[bool]:
    """Which columns hold numbers, as far as the head of the file tells."""
    head = csv_blocks.head(path)
    head = head[: head.rfind(b"\n") + 1] or head
    options = pacsv.ReadOptions(
        column_names=[str(i) for i in range(columns)], skip_rows=skip, use_threads=False, block_size=len(head) + 1
    )
    try:
        table = pacsv.read_csv(
            pa.BufferReader(head),
            options,
            pacsv.ParseOptions(delimiter=csv_blocks.delimiter(path)),
            pacsv.ConvertOptions(null_values=csv_blocks.NULLS, strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        raise MissingInput(f"{path}: not a CSV table ({error})", "Check the file.") from None
    return [_is_number(f.type) and not pa.types.is_boolean(f.type) for f in table.schema]


def _header_levels(rows: list[list[str]]) -> int:
    """How many header rows: pandas ends several with a row that has only the name of the index."""
    for k in range(2, min(6, len(rows))):
        named = rows[k] and rows[k][0] and not _NUMBER.match(rows[k][0]) and not any(rows[k][1:])
        if named and not any(_NUMBER.match(cell) for cell in rows[1][1:]):
            return k
    return 1


def _wanted(table: FeatureTable) -> list[int]:
    return [table.id, *([] if table.label is None else [table.label]), *table.numeric]


def _block(table: FeatureTable, arrays: Sequence[pa.Array]) -> Block:
    """The block of the columns that `_wanted` names."""
    first = 1 if table.label is None else 2
    values = np.empty((len(table.numeric), len(arrays[0])), np.float32)
    for row, array in zip(values, arrays[first:], strict=True):
        row[:] = _as_float32(array).to_numpy(zero_copy_only=False)
    return Block(arrays[0], None if table.label is None else arrays[1], values)


def _as_float32(values: pa.Array) -> pa.Array:
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    return values.cast(pa.float32(), safe=False)


def _csv_blocks(table: FeatureTable) -> Iterator[Block]:
    texts = {table.id, table.label}
    # ids are read as text and tried as numbers: one rule for 2, 000002 and blues.00000.wav
    types = {i: pa.string() if i in texts else pa.float32() for i in _wanted(table)}
    return csv_blocks.parallel(
        table.path,
        list(table.names),
        table.skip,
        types,
        lambda batch: _block(table, batch.columns),
        nulls=table.nulls,
        fast=functools.partial(_plain, table) if _is_large(table) else lambda lines: None,
    )


def _is_large(table: FeatureTable) -> bool:
    """Whether the parser of plain numbers reads such a table, and saves more time than it takes to load."""
    fs, place = files.resolve(table.path)
    simple = table.label is None and csv_blocks.delimiter(table.path) == ","
    return simple and (fs.size(place) or 0) >= FAST_BYTES


def _plain(table: FeatureTable, lines: memoryview) -> Block | None:
    from featurestore.datasets import csv_numbers

    found = csv_numbers.parse(lines, len(table.names), table.id, table.numeric)
    return None if found is None else Block(pa.array(found[0]), None, found[1])


def _parquet_blocks(table: FeatureTable) -> Iterator[Block]:
    with csv_blocks.opened(table.path) as stream:
        columns = [table.names[i] for i in _wanted(table)]
        try:
            for batch in pq.ParquetFile(stream).iter_batches(PARQUET_ROWS, columns=columns):
                yield _block(table, [batch[c] for c in columns])
        except (OSError, pa.ArrowException) as error:
            raise MissingInput(f"{table.path}: not a sound Parquet file ({error})", "Check the file.") from None
