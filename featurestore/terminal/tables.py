"""Results as people and programs want them: one set of output formats for every command."""

from __future__ import annotations

import csv
import decimal
import io
import json
import math
import posixpath
import sys
from typing import Any

import pyarrow as pa

from featurestore.errors import UsageError
from featurestore.store import files

_NO_EDGE = 1 << 30  # characters a line may have
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
    """The format of a result: `format`, else what the suffix of the file `output` says, else table.

    Raises UsageError where the two contradict each other, or the suffix says nothing and no format is given.
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


def render(table: pa.Table, format: str = "table") -> str:
    """`table` as text: table (for people), csv, json (one array of objects) or markdown."""
    if format == "table":
        return _rich_table(table)
    if format == "markdown":
        return _markdown(table)
    if format == "csv":
        return _csv(table)
    if format == "json":
        return json.dumps([_json_value(r) for r in table.to_pylist()], ensure_ascii=False, indent=1)
    raise UsageError(f"format {format!r} is not text", "Give --output FILE with --format parquet.")


def emit(table: pa.Table, format: str = "table", output: str | None = None) -> None:
    """Print `table` in `format`, or write it to the file or URL `output` (atomically)."""
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
    for row in zip(*(c.to_pylist() for c in table.columns), strict=True):
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
    """A value as a person reads it: six significant digits, bytes by number, NULL as such; `items` shortens lists."""
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
        return "{" + ", ".join(f"{k}: {cell(v, items)}" for k, v in value.items()) + "}"
    return " ".join(str(value).splitlines())


def _markdown(table: pa.Table) -> str:
    def line(values: list[str]) -> str:
        return "| " + " | ".join(v.replace("|", "\\|") for v in values) + " |"

    rules = ["---:" if _numeric(f.type) else "---" for f in table.schema]
    rows = zip(*(c.to_pylist() for c in table.columns), strict=True)
    return "\n".join([line(table.column_names), line(rules), *(line([cell(v) for v in r]) for r in rows)])


def _numeric(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _rich_table(table: pa.Table) -> str:
    import shutil

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for field in table.schema:
        grid.add_column(field.name, justify="right" if _numeric(field.type) else "left", overflow="fold")
    terminal = sys.stdout.isatty()
    items = LIST_ITEMS if terminal else None
    for row in zip(*(c.to_pylist() for c in table.columns), strict=True):
        grid.add_row(*(Text(cell(v, items), style="dim" if v is None else "") for v in row))
    # a file or pipe has no width of its own: never cut or fold what a person will search later
    width = shutil.get_terminal_size((100, 24)).columns if terminal else _NO_EDGE
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False)
    console.print(grid)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
