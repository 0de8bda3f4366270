"""The examples in docstrings of the Python API are run: on a small store, in a folder of their own."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest

import warehouse
from featurestore.store.store import Store
from tests.factories import make_store

# {module: names its examples use}; the values are fixtures of `examples_names`
MODULES = {
    "warehouse.database.connection": ("store",),
    "warehouse.database.export": ("store", "folder"),
    "warehouse.database.sql": (),
    "warehouse.arrays.keys": ("store",),
    "warehouse.arrays.matrices": ("store",),
    "warehouse.arrays.streams": ("store",),
    "warehouse.shell.named": ("store",),
    "analysis.models.grid": (),
    "analysis.options": (),
    "analysis.studies.powerlaw": (),
    "training.networks.catalogue": (),
    "training.results.saved": (),
    "training.run.devices": (),
}

# modules whose examples need nothing
ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    path.relative_to(ROOT) for path in sorted((ROOT / "featurestore").rglob("*.py")) if ">>> " in path.read_text()
)
PURE = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """24 tracks of three genres, with arrays."""
    return make_store(str(tmp_path_factory.mktemp("examples") / "store"), tracks=24)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, store: Store, tmp_path: Path) -> None:
    names: dict[str, Any] = {"store": store, "folder": tmp_path}
    module = importlib.import_module(name)
    done = doctest.testmod(module, extraglobs={n: names[n] for n in MODULES[name]})
    assert done.attempted
    assert done.failed == 0


def test_everything_the_warehouse_offers_has_an_example() -> None:
    offered = {name: getattr(warehouse, name).__doc__ or "" for name in warehouse.__all__}
    assert [name for name, text in offered.items() if ">>>" not in text or "Examples\n" not in text] == []
    assert set(warehouse.__all__) <= set(dir(warehouse))


@pytest.mark.parametrize("name", PURE)
def test_examples_of_pure_functions_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
