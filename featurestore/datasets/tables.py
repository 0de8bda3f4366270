"""Tables that others wrote, CSV of any dialect or Parquet, read in bounded memory wherever fsspec finds them.

Conventions: `inspect` reads the head of a file and says what its columns are; `TableFile.batches` reads the rows, each
once. Columns are addressed by position, for names need not be unique. Several header rows, as pandas writes the levels
of its columns, become one name (`mfcc/mean/01`). What counts as empty is what pandas counts as empty.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from featurestore.errors import FeatureStoreError, MissingInput, UsageError
from featurestore.store import files
from featurestore.terminal.words import examples

BLOCK_BYTES = 4 << 20  # of the file in memory at a time; no row can be longer
PARQUET_ROWS = 8192
DELIMITERS = (",", "\t", ";")
NULLS = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
    *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
_MOST_HEADER_ROWS = 5
_NUMBER = re.compile(r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")
_MISFIT = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to (\w+): (?:invalid value )?(.*)")


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    Attributes
    ----------
    delimiter : str
        One of DELIMITERS.
    encoding : str
        utf8 or utf16.
    header_rows : int
        Rows before the data.
    """

    delimiter: str
    encoding: str
    header_rows: int


@dataclasses.dataclass(frozen=True)
class TableFile:
    """A table and what its head says about it.

    Attributes
    ----------
    path : str
        File or URL.
    names : tuple of str
        All its columns, in order; levels are joined by `/`.
    head : pyarrow.RecordBatch
        Its first rows, with the types that they suggest.
    dialect : Dialect or None
        None where it is Parquet.
    """

    path: str
    names: tuple[str, ...]
    head: pa.RecordBatch
    dialect: Dialect | None

    def position(self, name: str) -> int:
        """Find a column by its name.

        Parameters
        ----------
        name : str
            One of `names`; of several equal ones the first is found.

        Returns
        -------
        int
            From 0.

        Raises
        ------
        UsageError
            There is no such column.
        """
        if name not in self.names:
            raise UsageError(f"{self.path}: no column {name!r}; it has {examples(list(self.names))}", "Check the name.")
        return self.names.index(name)

    def is_number(self, position: int) -> bool:
        """Say whether a column holds numbers, as far as the head tells; one that is empty there may.

        Parameters
        ----------
        position : int
            Of the column, from 0.

        Returns
        -------
        bool
        """
        kind, types = self.head.schema.field(position).type, pa.types
        if types.is_boolean(kind):
            return self.dialect is None
        return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind)

    def batches(
        self, types: Mapping[int, pa.DataType], *, nulls: Sequence[str] = NULLS, block_bytes: int = BLOCK_BYTES
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the file's order, a few megabytes at a time.

        Parameters
        ----------
        types : mapping of int to pyarrow.DataType
            The columns wanted, by position, and what their values become. A batch has them in this order, named by
            their position.
        nulls : sequence of str
            Texts of a CSV file that mean empty.
        block_bytes : int
            Bytes of a CSV file in memory at a time. A row, with the line breaks that its quoted values hold, is never
            cut; a longer one is refused.

        Yields
        ------
        pyarrow.RecordBatch

        Raises
        ------
        FeatureStoreError
            A value does not fit its type, or a row has another number of values: the message names row and column.
        MissingInput
            The file is not there, or is no sound Parquet file.
        """
        if self.dialect is None:
            yield from _parquet_batches(self.path, types)
            return
        with opened(self.path) as stream, _explained(self.path, self.names):
            yield from _csv_reader(stream, len(self.names), self.dialect, types, nulls, block_bytes)

    def read(self, types: Mapping[int, pa.DataType]) -> pa.Table:
        """Read what `batches` yields, in one table.

        Parameters
        ----------
        types : mapping of int to pyarrow.DataType
            As for `batches`.

        Returns
        -------
        pyarrow.Table
            Columns are named by their position.

        Raises
        ------
        FeatureStoreError, MissingInput
            As `batches`.
        """
        schema = pa.schema([(str(i), kind) for i, kind in types.items()])
        return pa.Table.from_batches(self.batches(types), schema)

    def read_columns(self, types: Mapping[str, pa.DataType]) -> pa.Table:
        """Read columns by name, whole.

        Parameters
        ----------
        types : mapping of str to pyarrow.DataType
            The columns wanted, and what their values become.

        Returns
        -------
        pyarrow.Table
            Columns in the order of `types`, with their names.

        Raises
        ------
        UsageError
            There is no such column.
        FeatureStoreError, MissingInput
            As `batches`.
        """
        return self.read({self.position(name): kind for name, kind in types.items()}).rename_columns(list(types))


def inspect(path: str) -> TableFile:
    """Read the head of a table: Parquet by its suffix (.parquet, .pq), else CSV.

    Parameters
    ----------
    path : str
        File or URL. A CSV file may be UTF-8 or UTF-16, compressed (.gz, .bz2, .xz, .zst), and delimited by comma, tab
        or semicolon: the one that cuts its first line into most names.

    Returns
    -------
    TableFile

    Raises
    ------
    MissingInput
        The file is not there, or is no table.
    FeatureStoreError
        The first rows of a CSV file have different numbers of values.
    """
    if path.lower().endswith((".parquet", ".pq")):
        return _inspect_parquet(path)
    rows, delimiter, encoding = _first_rows(path)
    names, header_rows = _header(rows)
    dialect = Dialect(delimiter, encoding, header_rows)
    with opened(path) as stream, _explained(path, names):
        reader = _csv_reader(stream, len(names), dialect, {}, NULLS, BLOCK_BYTES)
        head = next(iter(reader), pa.RecordBatch.from_pylist([], reader.schema))
    return TableFile(path, tuple(names), head, dialect)


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open a file for reading, decompressed where its suffix says .gz, .bz2, .xz or .zst.

    Parameters
    ----------
    path : str
        File or URL.

    Yields
    ------
    binary file object

    Raises
    ------
    MissingInput
        It is not there, or cannot be read.
    """
    fs, place = files.resolve(path)
    if fs.isdir(place):
        raise MissingInput(f"{path}: expected a file, found a folder", "Check the path.")
    try:
        # pyarrow reads a local file by itself, without Python between the blocks
        with pa.input_stream(place) if files.is_local(fs) else fs.open(place, "rb", compression="infer") as stream:
            yield stream
    except FileNotFoundError:
        raise MissingInput(f"{path}: no such file", "Check the path.") from None
    except OSError as error:
        raise MissingInput(f"{path}: cannot be read ({error.strerror or error})", "Check the file.") from None


def _inspect_parquet(path: str) -> TableFile:
    with _parquet(path) as file:
        schema = file.schema_arrow
        head = next(file.iter_batches(PARQUET_ROWS), pa.RecordBatch.from_pylist([], schema))
    return TableFile(path, tuple(schema.names), head, None)


def _parquet_batches(path: str, types: Mapping[int, pa.DataType]) -> Iterator[pa.RecordBatch]:
    with _parquet(path) as file:
        for batch in file.iter_batches(PARQUET_ROWS):
            columns = [_cast(batch.column(i), kind) for i, kind in types.items()]
            yield pa.RecordBatch.from_arrays(columns, [str(i) for i in types])


@contextlib.contextmanager
def _parquet(path: str) -> Iterator[pq.ParquetFile]:
    with opened(path) as stream:
        try:
            yield pq.ParquetFile(stream)
        except (OSError, pa.ArrowException) as error:
            raise MissingInput(f"{path}: not a sound Parquet file ({error})", "Check the file.") from None


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())  # from which there is a way to all other numbers
    return values.cast(kind, safe=False)


def _first_rows(path: str) -> tuple[list[list[str]], str, str]:
    """(the first rows as text, delimiter, encoding) of a CSV file."""
    with opened(path) as stream:
        head = bytes(stream.read(BLOCK_BYTES))
    encoding = "utf16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf8"
    text = head.decode(encoding, "replace").removeprefix("\ufeff")
    if "\0" in text[:1000]:
        raise MissingInput(f"{path}: expected a CSV table in UTF-8 or UTF-16, found NUL bytes", "Save it as UTF-8.")
    first_line = re.sub(r'"[^"]*"', "", text).lstrip("\r\n").splitlines()[:1]
    delimiter = max(DELIMITERS, key="".join(first_line).count)
    csv.field_size_limit(BLOCK_BYTES)  # 128 kB otherwise, for the whole process
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = list(itertools.islice(reader, _MOST_HEADER_ROWS + 1))
    if not rows or len(rows[0]) < 2:
        raise MissingInput(
            f"{path}: expected a CSV table with a header row of two columns or more", "Check the file and its name."
        )
    return rows, delimiter, encoding


def _header(rows: list[list[str]]) -> tuple[list[str], int]:
    """(names of the columns, number of header rows).

    pandas writes a row for each level of its columns, and ends them with a row that holds only the name of the index
    where the index has one; where it has none, the levels after the first begin with an empty cell.
    """
    levels = 1
    if len(rows) > 1 and all(cell and not _NUMBER.match(cell) for cell in rows[1][1:]):
        for k in range(2, len(rows)):
            index = rows[k][0] if rows[k] else ""
            if index and not _NUMBER.match(index) and not any(rows[k][1:]):
                return _joined(index, rows[:k]), k + 1
        while rows[0][0] == "" and levels < len(rows) and rows[levels] and rows[levels][0] == "":
            levels += 1
    return _joined(rows[0][0], rows[:levels]), levels


def _joined(index: str, levels: list[list[str]]) -> list[str]:
    return [index, *("/".join(parts) for parts in itertools.zip_longest(*(r[1:] for r in levels), fillvalue=""))]


def _csv_reader(
    stream: Any,
    columns: int,
    dialect: Dialect,
    types: Mapping[int, pa.DataType],
    nulls: Sequence[str],
    block_bytes: int,
) -> pacsv.CSVStreamingReader:
    """A reader of the columns in `types`, or of all with types of its own choice where that is empty."""
    read = pacsv.ReadOptions(
        column_names=[str(i) for i in range(columns)],
        skip_rows_after_names=dialect.header_rows,
        block_size=block_bytes,
        encoding=dialect.encoding,
        use_threads=False,  # only then its messages say which row; a second core would save a third of the time
    )
    convert = pacsv.ConvertOptions(
        column_types={str(i): kind for i, kind in types.items()},
        include_columns=[str(i) for i in types],
        null_values=list(nulls),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    parse = pacsv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True)
    return pacsv.open_csv(stream, read, parse, convert)


@contextlib.contextmanager
def _explained(path: str, names: Any) -> Iterator[None]:
    """Say what pyarrow found wrong in words of the table."""
    try:
        yield
    except (pa.ArrowException, UnicodeError) as error:
        message, advice = str(error), "Mend the file, or fetch it again."
        if misfit := _MISFIT.match(message):
            place = f"row {misfit[2]}, " if misfit[2] else ""
            expected = "text in UTF-8" if misfit[3] == "string" else "a number"
            message = f"{place}column {names[int(misfit[1])]!r}: expected {expected}, found {misfit[4]}"
        elif "straddling" in message:
            message = f"a row, or a quotation that nothing ends, is longer than {BLOCK_BYTES >> 20} MB"
        raise FeatureStoreError(f"{path}: {message}", advice) from None
