"""What a study leaves behind: `<output>/<study>/results.csv`, further tables, study.json, and PNG figures.

The CSV files hold no time and no path: the same seed and data give the same bytes. Times, versions and fingerprints
are in study.json. Results are written and printed before the first figure is drawn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import posixpath
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from analysis import evaluation
from analysis.data.samples import Data
from analysis.figures.base import png
from analysis.models.persist import PACKAGES
from featurestore.store import files, places
from featurestore.store.store import Store
from featurestore.terminal import tables, words

Rows = Sequence[Mapping[str, Any]]


class Clock:
    """Wall-clock seconds by stage, in the order the stages began."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time that the block takes.

        Parameters
        ----------
        name : str
            Stage that it is added to.
        """
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def text(self) -> str:
        """Say where the time went.

        Returns
        -------
        str
            `41.2 s: search 30.1 s (73%), ...`, the longest stage first.
        """
        total = sum(self.seconds.values()) or 1e-9
        parts = sorted(self.seconds.items(), key=lambda p: -p[1])
        return f"{total:.1f} s: " + ", ".join(f"{k} {v:.1f} s ({v / total:.0%})" for k, v in parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What a study found.

    Parameters
    ----------
    name : str
        Name of its folder.
    rows : list of dict
        The main table, results.csv.
    shown : pyarrow.Table
        The same for people: rounded, with the columns that differ from run to run.
    notes, sentences : sequence of str
        What a reader must know, and what was found.
    facts : mapping
        What study.json says beside the findings.
    clock : Clock
    tables : mapping of list of dict
        Other tables by name.
    figures : mapping of callable
        What draws each figure, by name; called after everything else is written.
    """

    name: str
    rows: Rows
    shown: pa.Table
    notes: Sequence[str]
    sentences: Sequence[str]
    facts: Mapping[str, Any]
    clock: Clock
    tables: Mapping[str, Rows] = dataclasses.field(default_factory=dict)
    figures: Mapping[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)


def table(rows: Rows) -> pa.Table:
    """Rows, dicts with the same keys, as an Arrow table.

    Parameters
    ----------
    rows : sequence of dict

    Returns
    -------
    pyarrow.Table
    """
    return pa.Table.from_pylist([dict(r) for r in rows])


def for_people(rows: Rows, headings: Mapping[str, str] | None = None) -> pa.Table:
    """Rows for the terminal: three decimals, and an estimate with its interval in one cell.

    Parameters
    ----------
    rows : sequence of dict
        At least one. The interval of `x` is `x_low` and `x_high`; that of `accuracy` is `low` and `high`.
    headings : mapping of str, optional
        Column -> heading, in order; an interval is shown where the heading ends in "[95 %]". None: every column.

    Returns
    -------
    pyarrow.Table
    """
    if headings is None:
        every = [n for n in rows[0] if n.rpartition("_")[2] not in ("low", "high")]
        headings = {n: f"{n} [95 %]" if _ends(n)[0] in rows[0] else n for n in every}
    return table([{heading: _cell(r, name, heading) for name, heading in headings.items()} for r in rows])


def _ends(name: str) -> tuple[str, str]:
    return ("low", "high") if name == "accuracy" else (f"{name}_low", f"{name}_high")


def _cell(row: Mapping[str, Any], name: str, heading: str) -> Any:
    value = row[name]
    if not isinstance(value, float):
        return "" if value is None else value
    if not heading.endswith("[95 %]"):
        return f"{value:.3f}"
    return evaluation.Interval(value, *(row[end] for end in _ends(name))).text()


def facts(store: Store, data: Data | None = None, **more: Any) -> dict[str, Any]:
    """What study.json says beside the findings.

    Parameters
    ----------
    store : Store
    data : Data, optional
        What was studied.
    **more
        The study's own settings.

    Returns
    -------
    dict
        Identity of store and data, split, settings, versions.
    """
    about: dict[str, Any] = {
        "store": {"url": store.url, "spec_fingerprint": store.spec.fingerprint, "batches": len(store.batches())}
    }
    if data:
        about |= {
            "data": {"fingerprint": data.fingerprint, "features": data.features, "columns": len(data.columns)},
            "split": {"scheme": data.scheme, "tracks": {k: s.n_tracks for k, s in data.splits.items()}},
            "classes": data.classes,
        }
    return {**about, **more, "versions": evaluation.versions(PACKAGES)}


def write(study: Study, output: str) -> list[str]:
    """Write a study's tables and study.json under `output`/<study>/.

    Parameters
    ----------
    study : Study
    output : str
        Path or fsspec URL.

    Returns
    -------
    list of str
        The paths, results.csv first.

    Raises
    ------
    UsageError
        If `output` lies inside a store.
    """
    places.refuse_inside(output, "--output")
    every = {"results": study.rows, **study.tables}
    made = {f"{name}.csv": (tables.render(table(rows), "csv") + "\n").encode() for name, rows in every.items()}
    about = {
        "study": study.name,
        **study.facts,
        "notes": list(study.notes),
        "findings": list(study.sentences),
        "seconds": {k: round(v, 3) for k, v in study.clock.seconds.items()},
    }
    made["study.json"] = (json.dumps(about, indent=1, ensure_ascii=False, default=str) + "\n").encode()
    return [_put(study, output, name, content) for name, content in made.items()]


def draw(study: Study, output: str) -> list[str]:
    """Draw a study's figures, each written before the next is drawn.

    Parameters
    ----------
    study : Study
    output : str
        Path or fsspec URL.

    Returns
    -------
    list of str
        The paths.
    """
    with study.clock.stage("figures"):
        return [_put(study, output, f"{name}.png", png(make)) for name, make in study.figures.items()]


def _put(study: Study, output: str, name: str, content: bytes) -> str:
    fs, root = files.resolve(posixpath.join(output, study.name))
    files.write_bytes(fs, posixpath.join(root, name), content)
    return posixpath.join(output, study.name, name)


def report(study: Study, output: str, format: str = "table") -> None:
    """Write a study, print it, and draw its figures.

    The table goes to standard output, everything else for people to standard error. People see the rounded table with
    its times; programs (csv, json, parquet) get the rows of results.csv.

    Parameters
    ----------
    study : Study
    output : str
        Folder, or fsspec URL, that gets the study's own folder.
    format : str
        table, csv, json, parquet or markdown.
    """
    made = write(study, output)
    tables.emit(study.shown if format in ("table", "markdown") else table(study.rows), format)
    for line in (*(f"note: {n}" for n in study.notes), *study.sentences):
        words.note(line)
    made += draw(study, output)
    words.note(f"time: {study.clock.text()}")
    words.note("wrote " + ", ".join(made[:1] + [posixpath.basename(m) for m in made[1:]]))
