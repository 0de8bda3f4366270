"""The warehouse: SQL over a feature store, and the arrays that studies and training read.

`connect` and `query` speak SQL; `matrix`, `iter_mels`, `iter_waves` and `examples` return arrays and keys.
Everything reads one snapshot of the store: committed batches only, superseded rows never.
"""

# ruff: noqa: F401 - what is imported below is for type checkers; the names are loaded at first use
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
    "arrays.keys": ["examples"],
    "arrays.matrices": ["Matrix", "matrix"],
    "arrays.streams": ["MelBatch", "WaveBatch", "iter_mels", "iter_waves"],
    "database.connection": ["connect", "query"],
    "database.export": ["write_database"],
    "shell.named": ["NamedQuery", "named_queries", "run_named"],
}
_MODULES = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    # DuckDB and pyarrow are loaded by the first use, so that `--help` answers at once
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"warehouse.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
