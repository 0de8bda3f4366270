"""How FMA's CSV files write lists (as Python) and dates (in four ways)."""

from __future__ import annotations

import ast
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

DATE_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%m/%d/%Y %I:%M:%S %p", "%Y")


def parse_lists(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Lists written as Python (`[21, 12]`, `['lo-fi']`) as Arrow lists; NULL stays. Raises ValueError on other text."""
    coded = values.dictionary_encode()
    parsed = pa.array([_literal(text) for text in coded.dictionary.to_pylist()], pa.list_(kind))
    return parsed.take(coded.indices)


def _literal(text: str) -> list[Any]:
    try:
        value = [] if text == "[]" else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, list):
        raise ValueError(f"expected a list such as [21, 12], found {text!r}")
    return value


def parse_dates(values: pa.Array) -> tuple[pa.Array, list[str]]:
    """Text as timestamp[s], and up to three texts that are no date in any known form (they become NULL)."""
    result = pa.nulls(len(values), pa.timestamp("s"))
    for form in DATE_FORMATS:
        if result.null_count > values.null_count:
            result = pc.coalesce(result, pc.strptime(values, format=form, unit="s", error_is_null=True))
    lost = values.filter(pc.and_(pc.is_null(result), pc.is_valid(values)))
    return result, lost.slice(0, 3).to_pylist()
