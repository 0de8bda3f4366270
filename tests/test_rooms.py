"""The rooms keep to the design: imports run one way, private names stay private, TensorFlow stays in training."""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("featurestore", "warehouse", "analysis", "training")
MAY_IMPORT = {
    "featurestore": ("featurestore.",),
    "warehouse": ("featurestore.", "warehouse."),
    "analysis": ("featurestore.", "warehouse.", "analysis."),
    "training": ("featurestore.", "warehouse.", "analysis.evaluation.", "training."),
}
NEVER = {
    "featurestore": {"duckdb", "sklearn", "tensorflow", "keras"},
    "warehouse": {"sklearn", "tensorflow", "keras", "librosa", "pandas"},
    "analysis": {"tensorflow", "keras"},
    "training": set(),
}
# the folders and modules of a room, in the order of the data: each imports only what stands before it (docs/design.md)
FLOORS = {
    "featurestore": (
        *("errors", "registry", "spec", "schemas", "extract", "audio", "store", "measure", "terminal"),
        *("datasets", "catalog", "maintenance", "fetch", "build", "commands", "__main__"),
    ),
    "warehouse": ("database", "arrays", "shell", "__init__", "__main__"),
    "analysis": (
        *("data", "evaluation", "models", "studies", "figures", "results", "options"),
        *("compare", "pca_study", "learning_curve", "feature_sets", "explore", "predict"),
    ),
    "training": (
        *("backend", "shards", "feed", "networks", "results", "run"),
        *("export_tfrecords", "fit", "evaluate", "predict"),
    ),
}


def _modules() -> dict[str, Path]:
    """Every module of the four rooms by its dotted name; a package is `name.__init__`."""
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


@functools.cache
def _imports(path: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(module, names taken from it) of every import of a file, those inside functions too."""
    return tuple(_walk(ast.parse(path.read_text())))


def _walk(tree: ast.AST) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ()
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, tuple(a.name for a in node.names)


def _edges() -> dict[str, set[str]]:
    """Which modules of the rooms each of them imports."""
    modules = _modules()

    def resolve(name: str) -> str | None:
        return name if name in modules else f"{name}.__init__" if f"{name}.__init__" in modules else None

    edges: dict[str, set[str]] = {}
    for module, path in modules.items():
        wanted: set[str | None] = set()
        for name, taken in _imports(path):
            inner = {t: resolve(f"{name}.{t}") for t in taken}
            wanted |= {found for found in inner.values() if found}
            if not taken or None in inner.values():
                wanted.add(resolve(name))
        edges[module] = {name for name in wanted if name and name != module}
    return edges


def _floor(module: str) -> tuple[str, int]:
    """(room, how far down the order of its room) of a module."""
    room, part = module.split(".")[:2]
    assert part in FLOORS[room] or part == "__init__", f"{module}: no place in FLOORS of tests/test_rooms.py"
    return room, FLOORS[room].index(part) if part in FLOORS[room] else -1


def test_every_folder_imports_only_earlier_ones() -> None:
    wrong = []
    for module, imported in _edges().items():
        room, floor = _floor(module)
        for other in sorted(imported):
            if _floor(other)[0] == room and _floor(other)[1] > floor:
                wrong.append(f"{module} -> {other}")
    assert not wrong, wrong


def test_there_is_no_circle() -> None:
    try:
        graphlib.TopologicalSorter(_edges()).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room: str) -> None:
    wrong = []
    edges = _edges()
    for module, path in _modules().items():
        if module.split(".")[0] != room:
            continue
        wrong += [f"{module} -> {other}" for other in edges[module] if not other.startswith(MAY_IMPORT[room])]
        for name, taken in _imports(path):
            top = name.split(".")[0]
            private = [n for n in (*name.split("."), *taken) if n.startswith("_") and not n.startswith("__")]
            if top in NEVER[room] or (top in ROOMS and top != room and private):
                wrong.append(f"{module}: {name} {private}")
    assert not wrong, wrong


def test_the_order_of_the_folders_is_the_documented_one() -> None:
    """docs/design.md draws the folders in the order that the tests hold them to."""
    text = (ROOT / "docs" / "design.md").read_text()
    for room, floors in FLOORS.items():
        folders = [name for name in floors if (ROOT / room / name).is_dir()]
        places = [text.find(f"  {name}/", text.find(f"\n{room}/")) for name in folders]
        assert -1 not in places, f"docs/design.md does not draw {room}/{folders[places.index(-1)]}"
        assert places == sorted(places), f"docs/design.md draws the folders of {room} in another order"


@pytest.mark.parametrize("room", ROOMS)
def test_no_unsafe_loading(room: str) -> None:
    """Nothing that executes code from a data file: no pickle, no eval, no unsafe Keras loading."""
    wrong = []
    for path in (ROOT / room).rglob("*.py"):
        wrong += [
            f"{path.name}: {m}" for m, _ in _imports(path) if m.split(".")[0] in {"pickle", "marshal", "shelve", "dill"}
        ]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
                wrong.append(f"{path.name}:{node.lineno}: {node.func.id}")
            if (
                isinstance(node, ast.keyword)
                and node.arg == "safe_mode"
                and getattr(node.value, "value", None) is False
            ):
                wrong.append(f"{path.name}:{node.value.lineno}: safe_mode=False")
            if (
                isinstance(node, ast.keyword)
                and node.arg == "allow_pickle"
                and getattr(node.value, "value", None) is True
            ):
                wrong.append(f"{path.name}:{node.value.lineno}: allow_pickle=True")
    assert not wrong, wrong
