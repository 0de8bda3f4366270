"""The warehouse: SQL over a feature store, and the arrays that studies and training read.

`connect` and `query` speak SQL; `matrix`, `iter_mels`, `iter_waves` and `examples` return arrays and keys.
Everything reads one snapshot of the store: committed batches only, superseded rows never.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warehouse.arrays.keys import examples
    from warehouse.arrays.matrices import Matrix, matrix
    from warehouse.arrays.streams import MelBatch, WaveBatch, iter_mels, iter_waves
    from warehouse.database.connection import connect, query
    from warehouse.database.export import write_database
    from warehouse.shell.named import NamedQuery, named_queries, run_named

_HOME = {
    "connect": "database.connection",
    "query": "database.connection",
    "write_database": "database.export",
    "examples": "arrays.keys",
    "Matrix": "arrays.matrices",
    "matrix": "arrays.matrices",
    "NamedQuery": "shell.named",
    "named_queries": "shell.named",
    "run_named": "shell.named",
    "MelBatch": "arrays.streams",
    "WaveBatch": "arrays.streams",
    "iter_mels": "arrays.streams",
    "iter_waves": "arrays.streams",
}

__all__ = [
    "Matrix",
    "MelBatch",
    "NamedQuery",
    "WaveBatch",
    "connect",
    "examples",
    "iter_mels",
    "iter_waves",
    "matrix",
    "named_queries",
    "query",
    "run_named",
    "write_database",
]


def __getattr__(name: str) -> Any:
    # DuckDB and pyarrow are loaded by the first use, so that `--help` answers at once
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"warehouse.{_HOME[name]}"), name)
