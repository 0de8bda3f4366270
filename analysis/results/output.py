"""What a study leaves behind: `<output>/<study>/results.csv`, further tables, PNG figures and study.json.

The CSV files hold no time and no path: the same seed and data give the same bytes. Times, versions and fingerprints
are in study.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import io
import json
import platform
import posixpath
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from analysis.data.samples import Data
from featurestore.store import files, places
from featurestore.store.store import Store
from featurestore.terminal import tables, words

DPI = 110
_PACKAGES = ("numpy", "scipy", "scikit-learn", "pyarrow", "duckdb", "joblib", "matplotlib", "skops")


class Clock:
    """Wall-clock seconds by stage, in the order the stages began."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to stage `name`."""
        self.seconds.setdefault(name, 0.0)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def text(self) -> str:
        """`41.2 s: search 30.1 s (73 %), ...`, longest first."""
        total = sum(self.seconds.values()) or 1e-9
        parts = sorted(self.seconds.items(), key=lambda p: -p[1])
        return f"{total:.1f} s: " + ", ".join(f"{k} {v:.1f} s ({v / total:.0%})" for k, v in parts)


@dataclasses.dataclass(frozen=True)
class Study:
    """What a study found: its main table (results.csv), other tables, figures by name, sentences, facts, times.

    timed is the main table as it is printed: with the columns that differ from run to run.
    """

    name: str
    results: pa.Table
    sentences: Sequence[str]
    facts: Mapping[str, Any]
    clock: Clock
    tables: Mapping[str, pa.Table] = dataclasses.field(default_factory=dict)
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    timed: pa.Table | None = None


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> pa.Table:
    """Rows (dicts with the same keys) as an Arrow table; names gives the columns where there may be no row."""
    if not rows:
        return pa.table({n: pa.array([], pa.string()) for n in names or ()})
    return pa.Table.from_pylist([dict(r) for r in rows])


def shown(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows for the terminal: three decimals, and value, low, high in one cell. A family of columns is `x`, `x_low`
    and `x_high`; the plain `low` and `high` belong to `accuracy`."""
    out = []
    for row in rows:
        cells: dict[str, Any] = {}
        for key, value in row.items():
            name = key.removesuffix("low").removesuffix("high").rstrip("_")
            if name != key and (name in row or not name):
                continue
            low, high = ("low", "high") if key == "accuracy" else (f"{key}_low", f"{key}_high")
            if low in row and isinstance(value, float):
                cells[f"{key} [95 %]"] = f"{value:.3f} [{row[low]:.3f}, {row[high]:.3f}]"
            else:
                cells[key] = "" if value is None else f"{value:.3f}" if isinstance(value, float) else value
        out.append(cells)
    return table(out)


def facts(store: Store, data: Data, **more: Any) -> dict[str, Any]:
    """What study.json says beside the figures: identity of store and data, split, this study's settings, versions."""
    return {
        "store": {"url": store.url, "spec_fingerprint": store.spec.fingerprint, "batches": len(store.batches())},
        "data": {"fingerprint": data.fingerprint, "features": data.features, "columns": len(data.columns)},
        "split": {"scheme": data.scheme, "tracks": {k: s.n_tracks for k, s in data.splits.items()}},
        "classes": data.classes,
        **more,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries behind the figures."""
    return {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in _PACKAGES}}


def write(study: Study, output: str) -> list[str]:
    """Write the study under `output`/<study>/ (a path or an fsspec URL); returns the paths, results.csv first."""
    places.refuse_inside(output, "--output")
    fs, root = files.resolve(posixpath.join(output, study.name))
    made: dict[str, bytes] = {"results.csv": _csv(study.results)}
    made |= {f"{name}.csv": _csv(t) for name, t in study.tables.items()}
    made |= {f"{name}.png": png(figure) for name, figure in study.figures.items()}
    about = {
        "study": study.name,
        **study.facts,
        "findings": list(study.sentences),
        "seconds": {k: round(v, 3) for k, v in study.clock.seconds.items()},
    }
    made["study.json"] = (json.dumps(about, indent=1, ensure_ascii=False, default=str) + "\n").encode()
    for name, content in made.items():
        files.write_bytes(fs, posixpath.join(root, name), content)
    return [posixpath.join(output, study.name, name) for name in made]


def png(figure: Any) -> bytes:
    """A matplotlib figure as PNG bytes, without the date that would make each run differ."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=DPI, metadata={"Software": None})
    return sink.getvalue()


def report(study: Study, output: str, format: str = "table") -> None:
    """Write the study and print it: the table on standard output, everything else for people on standard error.

    People see the rounded table with its times; programs (csv, json, parquet) get the rows of results.csv.
    """
    made = write(study, output)
    readable = format in ("table", "markdown") and study.timed is not None
    tables.emit(study.timed if readable else study.results, format)
    for sentence in study.sentences:
        words.note(sentence)
    words.note(f"time: {study.clock.text()}")
    words.note("wrote " + ", ".join(made[:1] + [posixpath.basename(m) for m in made[1:]]))


def _csv(t: pa.Table) -> bytes:
    return (tables.render(t, "csv") + "\n").encode()
