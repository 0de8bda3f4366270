"""CSV read in blocks, each once, in bounded memory, wherever fsspec finds it.

What counts as empty is what pandas counts as empty: the tables people share were mostly written by it.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.csv as pacsv

from featurestore.errors import FeatureStoreError, MissingInput
from featurestore.store import files

BLOCK_BYTES = 4 << 20
HEAD_BYTES = 1 << 20
MOST_THREADS = 8  # each has a block in memory
NULLS = [
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
    *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
]
T = TypeVar("T")


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """The file or URL as a binary stream, decompressed where its suffix says .gz, .bz2, .xz or .zst.

    Raises MissingInput where it is not there or cannot be read.
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


def head(path: str) -> bytes:
    """The first megabyte."""
    with opened(path) as stream:
        return bytes(stream.read(HEAD_BYTES))


def delimiter(path: str) -> str:
    """A tab for `.tsv`, else a comma."""
    return "\t" if ".tsv" in path.lower().rpartition("/")[2] else ","


def first_rows(path: str, rows: int) -> list[list[str]]:
    """The first `rows` records of the file, as text."""
    text = head(path).decode("utf-8-sig", "replace")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(path))
    try:
        return [row for _, row in zip(range(rows), reader, strict=False)]
    except csv.Error as error:
        raise MissingInput(f"{path}: not a CSV table ({error})", "Check the file.") from None


def blocks(
    path: str, names: list[str], skip: int, types: Mapping[int, pa.DataType], *, nulls: Sequence[str] = NULLS
) -> Iterator[pa.RecordBatch]:
    """Yield the rows after `skip` lines as record batches of a few megabytes, in the file's order.

    names   all the file's columns, in order (for messages; they need not be unique)
    types   {position: type} of the columns wanted; the batches have them in this order, named by position
    nulls   texts that mean empty

    A quoted value may contain line breaks. Raises FeatureStoreError naming file, column and value where a value does
    not fit its type.
    """
    parse = pacsv.ParseOptions(delimiter=delimiter(path), newlines_in_values=True)
    read = pacsv.ReadOptions(column_names=_positions(names), skip_rows=skip, block_size=BLOCK_BYTES)
    with _naming(path, names), opened(path) as stream:
        yield from pacsv.open_csv(stream, read, parse, _conversion(types, nulls))


def parallel(
    path: str,
    names: list[str],
    skip: int,
    types: Mapping[int, pa.DataType],
    made: Callable[[pa.RecordBatch], T],
    *,
    nulls: Sequence[str] = NULLS,
    fast: Callable[[memoryview], T | None] = lambda lines: None,
) -> Iterator[T]:
    """What `blocks` does where no value contains a line break: on all cores, each with a block of its own.

    made    what is to become of a batch
    fast    a quicker parser of whole lines to the same end, that says None to what it cannot read; what it returns
            does not refer to them
    """
    positions, conversion = _positions(names), _conversion(types, nulls)
    parse = pacsv.ParseOptions(delimiter=delimiter(path))

    def read(lines: memoryview) -> list[T]:
        if not bytes(lines[:64]).strip() and not bytes(lines).strip():
            return []  # a header and nothing else, which pyarrow takes for an error
        found = fast(lines)
        if found is not None:
            return [found]
        options = pacsv.ReadOptions(column_names=positions, block_size=len(lines) + 1, use_threads=False)
        table = pacsv.read_csv(pa.BufferReader(lines), options, parse, conversion)
        return [made(batch) for batch in table.to_batches()]

    with _naming(path, names), opened(path) as stream:
        yield from _in_threads(stream, skip, read)


class ValueMismatch(FeatureStoreError):
    """A value in a table does not fit the type of its column."""


@contextlib.contextmanager
def _naming(path: str, names: list[str]) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise ValueMismatch(f"{path}: {explain(str(error), names)}", "Mend the file, or fetch it again.") from None


def _positions(names: list[str]) -> list[str]:
    return [str(i) for i in range(len(names))]


def _conversion(types: Mapping[int, pa.DataType], nulls: Sequence[str]) -> pacsv.ConvertOptions:
    return pacsv.ConvertOptions(
        column_types={str(i): kind for i, kind in types.items()},
        include_columns=[str(i) for i in types],
        null_values=list(nulls),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )


def _in_threads(stream: Any, skip: int, read: Callable[[memoryview], list[T]]) -> Iterator[T]:
    """Yield what `read` makes of each block of whole lines, in order. Blocks are read into a few buffers, over and
    over: fresh memory for each would cost as much as parsing it."""
    workers = min(os.cpu_count() or 1, MOST_THREADS)
    waiting: collections.deque[tuple[concurrent.futures.Future[list[T]], bytearray]] = collections.deque()
    spare: list[bytearray] = []
    rest = b""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        while True:
            buffer = spare.pop() if spare else bytearray(BLOCK_BYTES)
            buffer, filled, ended = _fill(stream, buffer, rest)
            end = filled if ended else buffer.rfind(b"\n", 0, filled) + 1
            rest = bytes(memoryview(buffer)[end:filled])
            start, skip = _after_lines(buffer, skip, end)
            waiting.append((pool.submit(read, memoryview(buffer)[start:end]), buffer))
            while len(waiting) > (0 if ended else workers + 1):
                done, buffer = waiting.popleft()
                yield from done.result()
                spare.append(buffer)
            if ended:
                return


def _fill(stream: Any, buffer: bytearray, rest: bytes) -> tuple[bytearray, int, bool]:
    """(a buffer, how much is in it, whether the stream has ended): `rest`, then bytes of the stream, a line at least.
    It is `buffer`, or a larger one where a line is longer."""
    filled = len(rest)
    if filled >= len(buffer):
        buffer = bytearray(2 * filled)
    buffer[:filled] = rest
    while True:
        while filled < len(buffer):
            count = stream.readinto(memoryview(buffer)[filled:])
            if not count:
                return buffer, filled, True
            filled += count
        if buffer.rfind(b"\n") >= 0:
            return buffer, filled, False
        buffer = buffer + bytearray(len(buffer))


def _after_lines(buffer: bytearray, lines: int, end: int) -> tuple[int, int]:
    """(where the next rows begin, how many more lines to leave out) behind at most `lines` lines of a buffer."""
    start = 0
    while lines and start < end:
        found = buffer.find(b"\n", start, end)
        start, lines = (found + 1, lines - 1) if found >= 0 else (end, lines)
    return start, lines


def explain(message: str, names: list[str]) -> str:
    """pyarrow's message with the column's name in place of its number."""
    for i, name in sorted(enumerate(names), reverse=True):
        message = message.replace(f"In CSV column #{i}:", f"column {name}:")
    return message
