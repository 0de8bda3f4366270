"""Progress on standard error: a bar on a terminal, now and then a line in a file or a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from featurestore.terminal import words

EVERY_S = 10.0
_LINE_WIDTH = 200  # characters of a line where there is no terminal to fit


class Bar:
    """Progress that `bar` shows; `advance` moves it."""

    def __init__(self, progress: Any, task: Any, every_s: float) -> None:
        self._progress, self._task, self._every_s = progress, task, every_s
        self._failed, self._last = 0, time.monotonic()

    def advance(self, steps: float = 1, *, failed: int = 0) -> None:
        """Move on.

        Parameters
        ----------
        steps : float
            How far.
        failed : int
            How many more did not succeed; shown as a sum where there are any.
        """
        self._failed += failed
        self._progress.update(self._task, advance=steps, failed=f"{self._failed:,} failed" if self._failed else "")
        if self._progress.disable and time.monotonic() >= self._last + self._every_s:
            self._last = time.monotonic()
            self._progress.console.print(self._progress.get_renderable())


@contextlib.contextmanager
def bar(description: str, total: float | None, *, every_s: float = EVERY_S) -> Iterator[Bar]:
    """Show progress on standard error until the block ends: done of all, rate, remaining time, failures.

    A terminal has a bar, removed at the end. A file or a pipe gets a line every `every_s` seconds, and one at the end
    of what took longer than 2 s.

    Parameters
    ----------
    description : str
        What is done, with the unit of a step where it is no plain count.
    total : float, optional
        Steps in all; None where that is not known.
    every_s : float
        Seconds between two lines.

    Yields
    ------
    Bar
    """
    from rich import progress
    from rich.console import Console

    class Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Any:
            return progress.TaskProgressColumn.render_speed(task.speed)

    terminal = sys.stderr.isatty()
    layout = (
        progress.TextColumn("{task.description}", markup=False),
        *([progress.BarColumn()] if terminal else []),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("left"),
        progress.TextColumn("{task.fields[failed]}"),
    )
    console = Console(stderr=True, width=None if terminal else _LINE_WIDTH)
    started = time.monotonic()
    with progress.Progress(*layout, console=console, transient=True, disable=not terminal) as shown:
        task = shown.add_task(words.printable(description), total=total, failed="")
        yield Bar(shown, task, every_s)
    if time.monotonic() - started > 2:
        words.note(f"{description}: {time.monotonic() - started:.1f} s")
