"""Every public function says what goes in: numpydoc's sections, held by a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("featurestore", "warehouse", "analysis", "training")


def _public(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from (member for member in node.body if isinstance(member, ast.FunctionDef))


@pytest.mark.parametrize("room", ROOMS)
def test_public_functions_document_their_parameters(room: str) -> None:
    missing = []
    for path in sorted((ROOT / room).rglob("*.py")):
        for function in _public(ast.parse(path.read_text())):
            arguments = [a for a in (*function.args.args, *function.args.kwonlyargs) if a.arg not in ("self", "cls")]
            text = ast.get_docstring(function) or ""
            if not function.name.startswith("_") and (not text or (arguments and "Parameters\n---" not in text)):
                missing.append(f"{path.relative_to(ROOT)}: {function.name}")
    assert not missing, missing


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_says_what_it_is_for(room: str) -> None:
    silent = [p for p in (ROOT / room).rglob("*.py") if not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent, silent
