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
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from featurestore import files
from featurestore.errors import FeatureStoreError, MissingInput

BLOCK_BYTES = 8 << 20
HEAD_BYTES = 1 << 20
NULLS = [
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
    *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
]


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
    path: str,
    names: list[str],
    skip: int,
    types: Mapping[int, pa.DataType],
    *,
    multiline: bool = False,
    nulls: Sequence[str] = NULLS,
    fast: Callable[[bytes], list[pa.Array] | None] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows after `skip` lines as record batches of a few megabytes, in the file's order.

    names       all the file's columns, in order (for messages; they need not be unique)
    types       {position: type} of the columns wanted; the batches have them in this order, named by position
    multiline   whether a quoted value may contain line breaks; if not, the blocks are parsed on all cores
    nulls       texts that mean empty
    fast        a quicker parser of whole lines, that says None to what it cannot read

    Raises FeatureStoreError naming file, column and value where a value does not fit its type.
    """
    convert = pacsv.ConvertOptions(
        column_types={str(i): kind for i, kind in types.items()},
        include_columns=[str(i) for i in types],
        null_values=list(nulls),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    parse = pacsv.ParseOptions(delimiter=delimiter(path), newlines_in_values=multiline)
    positions = [str(i) for i in range(len(names))]
    try:
        with opened(path) as stream:
            if multiline:
                read = pacsv.ReadOptions(column_names=positions, skip_rows=skip, block_size=BLOCK_BYTES)
                yield from pacsv.open_csv(stream, read, parse, convert)
            else:
                yield from _parallel(stream, positions, skip, parse, convert, fast)
    except pa.ArrowInvalid as error:
        raise ValueMismatch(f"{path}: {explain(str(error), names)}", "Mend the file, or fetch it again.") from None


class ValueMismatch(FeatureStoreError):
    """A value in a table does not fit the type of its column."""


def _parallel(
    stream: Any,
    positions: list[str],
    skip: int,
    parse: pacsv.ParseOptions,
    convert: pacsv.ConvertOptions,
    fast: Callable[[bytes], list[pa.Array] | None] | None,
) -> Iterator[pa.RecordBatch]:
    # pyarrow's own streaming reader converts one block at a time; here every core has a block of its own
    def read(lines: bytes, header: int) -> list[pa.RecordBatch]:
        lines = lines.split(b"\n", header)[-1] if header else lines
        if not lines.strip():
            return []  # a header and nothing else, which pyarrow takes for an error
        arrays = fast(lines) if fast else None
        if arrays is not None:
            return [pa.record_batch(arrays, convert.include_columns)]
        options = pacsv.ReadOptions(column_names=positions, block_size=len(lines) + 1, use_threads=False)
        return pacsv.read_csv(pa.BufferReader(lines), options, parse, convert).to_batches()

    workers = os.cpu_count() or 1
    waiting: collections.deque[concurrent.futures.Future[list[pa.RecordBatch]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for number, lines in enumerate(_whole_lines(stream)):
            waiting.append(pool.submit(read, lines, 0 if number else skip))
            if len(waiting) > workers + 8:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _whole_lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while data := stream.read(BLOCK_BYTES):
        end = data.rfind(b"\n") + 1
        if end:
            yield b"".join((rest, memoryview(data)[:end]))  # one copy of the block, not two
            rest = data[end:]
        else:
            rest += data
    if rest.strip():
        yield rest


def explain(message: str, names: list[str]) -> str:
    """pyarrow's message with the column's name in place of its number."""
    for i, name in sorted(enumerate(names), reverse=True):
        message = message.replace(f"In CSV column #{i}:", f"column {name}:")
    return message
