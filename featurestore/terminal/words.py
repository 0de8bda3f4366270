"""Words for people: a line on standard error, and a few names that stand for many."""

from __future__ import annotations

import sys

MAX_EXAMPLES = 3


def note(message: str) -> None:
    """A line for people, on standard error, so that standard output stays data."""
    print(message, file=sys.stderr, flush=True)


def examples(names: list[str]) -> str:
    """`3 (a, b, c)` or `120 (a, b, c, ...)`."""
    shown = ", ".join(sorted(names)[:MAX_EXAMPLES]) + (", ..." if len(names) > MAX_EXAMPLES else "")
    return f"{len(names)} ({shown})"
