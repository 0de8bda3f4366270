#!/usr/bin/env python3
"""Lines of code of the four rooms, without blank lines, comments and docstrings.

`python scripts/code_lines.py` prints a line a room and the sum; with `--files` a line for every file as well.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("featurestore", "warehouse", "analysis", "training")
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def code_lines(text: str) -> int:
    """Count the lines of a Python source that hold code."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            docstrings.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", action="store_true", help="a line for every file as well")
    files = parser.parse_args().files
    total = 0
    for room in ROOMS:
        counts = {path: code_lines(path.read_text()) for path in sorted((ROOT / room).rglob("*.py"))}
        total += sum(counts.values())
        for path, count in counts.items() if files else ():
            print(f"{count:6}  {path.relative_to(ROOT)}")
        print(f"{sum(counts.values()):6}  {room}/")
    print(f"{total:6}  all")


if __name__ == "__main__":
    main()
