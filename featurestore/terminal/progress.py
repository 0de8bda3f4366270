"""Progress bars on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


class Bar:
    """A running progress bar; `advance` moves it. Nothing is drawn where standard error is not a terminal."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar = bar
        self._task = task

    def advance(self, steps: float = 1, text: str | None = None) -> None:
        """Move on by `steps`; `text` replaces the description."""
        self._bar.update(self._task, advance=steps, **({"description": text} if text else {}))


@contextlib.contextmanager
def bar(description: str, total: float | None) -> Iterator[Bar]:
    """A progress bar on standard error over `total` steps (None: unknown), removed when done.

    Where standard error is a file or a pipe, one line at the end says what was done and how long it took.
    """
    import time

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    layout = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*layout, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(description, total=total)
        yield Bar(shown, task)
    elapsed = time.monotonic() - started
    if elapsed > 2:
        console.print(f"{description}: {elapsed:.1f} s", highlight=False)
