"""Results as people and programs want them: one set of output formats for every command.

`table` and `markdown` are for people: text that a terminal would obey is spelt out, numbers have six digits. `csv`,
`json` and `parquet` are for programs and hold every value as it is.
"""

from __future__ import annotations

import csv
import decimal
import io
import json
import math
import os
import posixpath
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from featurestore.errors import UsageError
from featurestore.store import files
from featurestore.terminal import words
from featurestore.terminal.grid import grid

LIST_ITEMS = 20  # of a long list, as many are shown on a terminal
_SUFFIXES = {
    "": "table",
    ".txt": "table",
    ".csv": "csv",
    ".json": "json",
    ".parquet": "parquet",
    ".md": "markdown",
    ".markdown": "markdown",
}


def format_for(output: str | None, format: str | None) -> str:
    """Choose the format of a result: `format`, else what the suffix of `output` says, else table.

    Parameters
    ----------
    output : str, optional
        File or URL that the result goes to.
    format : str, optional
        What `--format` says.

    Returns
    -------
    str
        table, csv, json, parquet or markdown.

    Raises
    ------
    UsageError
        The two contradict each other, or the suffix says nothing and no format is given.

    Examples
    --------
    >>> format_for("answer.CSV", None)
    'csv'
    """
    if output is None:
        return format or "table"
    suffix = posixpath.splitext(output)[1].lower()
    says = _SUFFIXES.get(suffix)
    if format is None and says is None:
        raise UsageError(
            f"{output}: the suffix {suffix} names no format",
            f"Give --format, or a name that ends in {', '.join(s for s in _SUFFIXES if s)}.",
        )
    if format and says and says != format and suffix not in ("", ".txt"):
        raise UsageError(f"{output} says {says}, and --format says {format}", "Leave out --format, or rename the file.")
    return format or str(says)


def refuse_inside(store: str, output: str) -> None:
    """Raise UsageError where the file `output` would lie inside the store, links followed."""
    (fs, path), (store_fs, root) = files.resolve(output), files.resolve(store)
    if files.is_local(fs):
        path, root = os.path.realpath(path), os.path.realpath(root)
    if type(fs) is type(store_fs) and f"{path}/".startswith(f"{root}/"):
        raise UsageError(
            f"{output} lies inside the store {store}",
            "Name a file elsewhere: only the store's own commands write there.",
        )


def render(table: pa.Table, format: str = "table") -> str:
    """Render a table as text.

    Parameters
    ----------
    table : pyarrow.Table
    format : str
        table (cut to its width on a terminal, else whole), csv, json (one array of objects) or markdown.

    Returns
    -------
    str
        Without a line break at the end.

    Raises
    ------
    UsageError
        A format that is not text.

    Examples
    --------
    >>> print(render(pa.table({"genre": ["Rock"], "n": [3]}), "markdown"))
    | genre | n |
    | --- | ---: |
    | Rock | 3 |
    """
    if format == "table":
        return _for_people(table)
    if format == "markdown":
        return _markdown(table)
    if format == "csv":
        return _csv(table)
    if format == "json":
        return json.dumps([_json_value(r) for r in table.to_pylist()], ensure_ascii=False, indent=1)
    raise UsageError(f"format {format!r} is not text", "Give --output FILE with --format parquet.")


def emit(table: pa.Table, format: str = "table", output: str | None = None) -> None:
    """Print a table, or write it to a file or URL in one piece.

    Parameters
    ----------
    table : pyarrow.Table
    format : str
        table, csv, json, parquet or markdown.
    output : str, optional
        File or URL; standard output by default.

    Raises
    ------
    UsageError
        Parquet for a terminal.
    FeatureStoreError
        The place cannot be written.
    """
    if output is None and format == "parquet":
        if sys.stdout.isatty():
            raise UsageError(
                "parquet is binary and the output is a terminal", "Give --output FILE, or redirect with > FILE."
            )
        sys.stdout.buffer.write(_parquet(table))
        return
    if output is None:
        print(render(table, format))
        return
    fs, path = files.resolve(output)
    data = _parquet(table) if format == "parquet" else (render(table, format) + "\n").encode()
    files.write_bytes(fs, path, data)


def _parquet(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _csv(table: pa.Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in _rows(table):
        writer.writerow(_csv_value(v) for v in row)
    return out.getvalue().removesuffix("\n")


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, float | decimal.Decimal):
        return value  # nan and inf too: an empty cell is a value that is not there
    plain = _json_value(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else plain


def cell(value: Any, items: int | None = None) -> str:
    """Write a value as a person reads it.

    Parameters
    ----------
    value : object
    items : int, optional
        How much of a list is shown; all of it by default.

    Returns
    -------
    str
        Six significant digits, bytes by number, NULL as such, text on one line.

    Examples
    --------
    >>> cell({"a": [None, 1 / 3], "b": b"12"})
    '{a: [NULL, 0.333333], b: <2 bytes>}'
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, list | tuple):
        left_out = items is not None and len(value) > items
        return "[" + ", ".join(cell(v, items) for v in value[:items]) + (", …]" if left_out else "]")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{cell(k)}: {cell(v, items)}" for k, v in value.items()) + "}"
    return words.printable(str(value))


def _markdown(table: pa.Table) -> str:
    def line(values: list[str]) -> str:
        return "| " + " | ".join(v.replace("|", "\\|") for v in values) + " |"

    rules = ["---:" if _numeric(f.type) else "---" for f in table.schema]
    head = [words.printable(name) for name in table.column_names]
    return "\n".join([line(head), line(rules), *(line([cell(v) for v in row]) for row in _rows(table))])


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(c.to_pylist() for c in table.columns), strict=True)


def _numeric(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _for_people(table: pa.Table) -> str:
    """A table whole in a file or a pipe, which have no width of their own; on a terminal cut to its width."""
    terminal = sys.stdout.isatty()
    items = LIST_ITEMS if terminal else None
    columns = [
        [words.printable(field.name), *(cell(v, items) for v in values.to_pylist())]
        for field, values in zip(table.schema, table.columns, strict=True)
    ]
    width = shutil.get_terminal_size((100, 24)).columns if terminal else None
    return grid(columns, [_numeric(field.type) for field in table.schema], width)
