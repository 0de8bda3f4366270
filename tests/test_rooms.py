"""The rooms keep to the design: imports run one way, private names stay private, TensorFlow stays in training."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("featurestore", "warehouse", "analysis", "training")
MAY_IMPORT = {
    "featurestore": {"featurestore"},
    "warehouse": {"featurestore", "warehouse"},
    "analysis": {"featurestore", "warehouse", "analysis"},
    "training": {"featurestore", "warehouse", "training"},
}
NEVER = {
    "featurestore": {"duckdb", "sklearn", "tensorflow", "keras"},
    "warehouse": {"sklearn", "tensorflow", "keras", "librosa", "pandas"},
    "analysis": {"tensorflow", "keras"},
    "training": set(),
}


def _imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, [a.name for a in node.names]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room: str) -> None:
    wrong = []
    for path in (ROOT / room).rglob("*.py"):
        for module, names in _imports(path):
            top = module.split(".")[0]
            where = f"{path.relative_to(ROOT)}: {module}"
            if top in ROOMS and top not in MAY_IMPORT[room]:
                wrong.append(where)
            if top in NEVER[room]:
                wrong.append(where)
            private = [n for n in (*module.split("."), *names) if n.startswith("_") and not n.startswith("__")]
            if top in ROOMS and top != room and private:
                wrong.append(f"{where} {private}")
    assert not wrong, wrong


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
