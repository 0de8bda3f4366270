"""What every benchmark shares: interleaved timing, medians, and one way to print.

Machines are shared and noisy, so cases are timed in turn, round by round, and compared by their medians; a figure is
a ratio against a named baseline of the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from featurestore.terminal.tables import cell, render


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Make the parser of `python -m benchmarks.NAME`, with `--format table|json`.

    Parameters
    ----------
    name : str
        Of the benchmark's module.
    description : str, optional
        For `--help`.

    Returns
    -------
    argparse.ArgumentParser
    """
    out = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    out.add_argument("--format", choices=("table", "json"), default="table", help="a table, or one JSON object")
    return out


def interleaved(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time cases against each other, all of them once per round, in turn.

    Parameters
    ----------
    cases : mapping of str to callable
    repeats : int
        Rounds.

    Returns
    -------
    dict of str to float
        Median seconds of each case.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(t) for name, t in times.items()}


def report(format: str, tables: Mapping[str, Sequence[Mapping[str, Any]]], **facts: Any) -> None:
    """Print named results and single facts, as text or as one JSON object.

    Parameters
    ----------
    format : str
        table or json.
    tables : mapping of str to sequence of mapping
        Rows with the same keys, by the title of their table.
    **facts
        What is one number or word.
    """
    if format == "json":
        print(json.dumps({**{k: [dict(r) for r in v] for k, v in tables.items()}, **facts}, indent=1))
        return
    for title, rows in tables.items():
        print(f"\n{title}")
        print(render(pa.Table.from_pylist([dict(r) for r in rows])))
    if facts:
        print()
    for name, value in facts.items():
        print(f"{name.replace('_', ' ')}: {cell(value)}")
