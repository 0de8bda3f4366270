"""A table for people: whole where there is no edge; on a terminal cut to its width, every row one line.

Numbers are never cut. What has no room is left out of the middle, and a last line says so.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

NAME_WIDTH, TEXT_WIDTH = 32, 12  # characters that a column's name and its text keep at least
_EDGES, _BETWEEN = 2, 3  # characters around a row, and between two columns
_GAP = "…"


def grid(columns: Sequence[Sequence[str]], numeric: Sequence[bool], width: int | None = None) -> str:
    """Lay out a table.

    Parameters
    ----------
    columns : sequence of sequence of str
        Each column from its name down, text that is safe to show.
    numeric : sequence of bool
        Which columns are numbers, set to the right.
    width : int, optional
        Characters that a line may have; no limit by default.

    Returns
    -------
    str
    """
    natural = [_widest(c) for c in columns]
    if width is None:
        return _draw(columns, numeric, natural)
    least = [min(w, _least(c, n)) for w, c, n in zip(natural, columns, numeric, strict=True)]
    left, right = _ends(least, width)
    if left + right == len(columns):
        return _draw(columns, numeric, _fit(natural, least, width))
    shown = [*range(left), *range(len(columns) - right, len(columns))]
    widths = _fit([natural[i] for i in shown], [least[i] for i in shown], width - 1 - _BETWEEN)
    widths.insert(left, 1)
    parts, kinds = [columns[i] for i in shown], [numeric[i] for i in shown]
    parts.insert(left, [_GAP] * len(columns[0]))
    kinds.insert(left, False)
    note = f"{len(shown)} of {len(columns)} columns shown; a pipe, a file or --format csv has them all"
    return f"{_draw(parts, kinds, widths)}\n{note}"


def _widest(cells: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, cells), default=0)


def _least(column: Sequence[str], numeric: bool) -> int:
    """Characters under which a column says nothing."""
    name, cells = _widest(column[:1]), _widest(column[1:])
    return max(1, min(name, NAME_WIDTH), cells if numeric else min(cells, TEXT_WIDTH))


def _total(widths: Sequence[int]) -> int:
    return _EDGES + sum(widths) + _BETWEEN * (len(widths) - 1)


def _ends(least: list[int], width: int) -> tuple[int, int]:
    """How many columns fit from the left and from the right, taken in turn; at least the first."""
    if _total(least) <= width:
        return len(least), 0
    left, right = 1, 0
    while left + right < len(least):
        more = (left, right + 1) if right < left else (left + 1, right)
        if _total([*least[: more[0]], 1, *least[len(least) - more[1] :]]) > width:
            break
        left, right = more
    return left, right


def _fit(natural: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Widths that fill the room: the widest columns give way first, none below its least."""
    widths = [max(low, min(w, width)) for w, low in zip(natural, least, strict=True)]
    while _total(widths) > width and any(w > low for w, low in zip(widths, least, strict=True)):
        widest = max((i for i, w in enumerate(widths) if w > least[i]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _draw(columns: Sequence[Sequence[str]], numeric: Sequence[bool], widths: Sequence[int]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for (name, *_), right, width in zip(columns, numeric, widths, strict=True):
        # as Text, because rich would read [brackets] in a string as its markup
        table.add_column(Text(name), justify="right" if right else "left", width=width, no_wrap=True)
    for row in zip(*(c[1:] for c in columns), strict=True):
        table.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=_total(widths), highlight=False)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
