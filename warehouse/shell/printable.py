"""Results as every output format can hold them: unique column names, and text for types that have no other form."""

from __future__ import annotations

from typing import Any

import duckdb

from warehouse.database.sql import identifier

# types that Arrow or Parquet have not, or would show as DuckDB's own bytes
_ALWAYS_TEXT = frozenset(
    {"bignum", "bit", "enum", "geometry", "interval", "time with time zone", "tuple", "uhugeint", "union"}
)
# their range is larger than that of Python's classes; Parquet holds all of it
_TIMES = frozenset(
    {
        "date",
        "time",
        "time_ns",
        "timestamp",
        "timestamp_s",
        "timestamp_ms",
        "timestamp_ns",
        "timestamp with time zone",
        "timestamptz_ns",
    }
)


def printable(rows: duckdb.DuckDBPyRelation, format: str) -> duckdb.DuckDBPyRelation:
    """Rows that an output format can hold: unique column names, and text in place of values that it has no form for.

    Parameters
    ----------
    rows : duckdb.DuckDBPyRelation
    format : str
        One of `cli.FORMATS`.

    Returns
    -------
    duckdb.DuckDBPyRelation
        Repeated names are numbered as DuckDB does (a, a_1).
    """
    text = _ALWAYS_TEXT if format == "parquet" else _ALWAYS_TEXT | _TIMES
    types = [_type(kind, text) for kind in rows.types]
    if types == [str(kind) for kind in rows.types] and len({name.lower() for name in rows.columns}) == len(types):
        return rows
    unique = rows.project("*")
    columns = enumerate(zip(types, unique.columns, strict=True), 1)
    return unique.project(", ".join(f"#{at}::{kind} AS {identifier(name)}" for at, (kind, name) in columns))


def _type(kind: Any, text: frozenset[str]) -> str:
    """DuckDB's name of the type `kind`, with VARCHAR in place of those in `text` and of structs without fields."""
    if kind.id in text:
        return "VARCHAR"
    if kind.id not in ("list", "array", "struct", "map"):
        return str(kind)
    inside = dict(kind.children)
    if kind.id == "struct":
        fields = ", ".join(f"{identifier(name)} {_type(field, text)}" for name, field in inside.items())
        return f"STRUCT({fields})" if fields else "VARCHAR"
    if kind.id == "map":
        return f"MAP({_type(inside['key'], text)}, {_type(inside['value'], text)})"
    return f"{_type(inside['child'], text)}[{inside['size'] if kind.id == 'array' else ''}]"
