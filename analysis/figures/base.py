"""What every figure is made with: colours, axes, and PNG bytes.

Figure functions take arrays and return a matplotlib Figure. They are called by `png` alone, which draws every text as
it is: genres, titles and file names may hold `$`, which matplotlib would read as mathematics. Figures are made without
pyplot, so no display and no global state is involved.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Okabe and Ito (2008): colour-blind readers can tell them apart too; for more classes the marker or the dash changes
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#B8A900")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
DASHES = ("-", "--", ":", "-.")
DPI = 110


def png(make: Callable[[], Any]) -> bytes:
    """Draw a figure.

    Parameters
    ----------
    make : callable
        Returns the matplotlib Figure.

    Returns
    -------
    bytes
        PNG, without the date that would make each run differ.
    """
    import matplotlib

    sink = io.BytesIO()
    with matplotlib.rc_context({"text.parse_math": False}):
        make().savefig(sink, format="png", dpi=DPI, metadata={"Software": None})
    return sink.getvalue()


def style(i: int) -> dict[str, Any]:
    """Colour and marker of a class.

    Parameters
    ----------
    i : int
        Code of the class; 64 codes look different.

    Returns
    -------
    dict
        Keyword arguments of matplotlib's plot and scatter.
    """
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]}


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Any, np.ndarray]:
    """An empty figure, laid out so that labels do not overlap.

    Parameters
    ----------
    width, height : float
        Inches.
    rows, columns : int
        Axes in each direction.
    **kwargs
        For matplotlib's `Figure.subplots`.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : (rows, columns) array of matplotlib.axes.Axes
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **kwargs)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


def named_lines(
    names: Sequence[str], xlabel: str, title: str, line: float = 0.3, size: float = 10
) -> tuple[Any, Any, np.ndarray]:
    """A figure with one line per name, the first on top.

    Parameters
    ----------
    names : sequence of n str
        Written at the left.
    xlabel, title : str
    line : float
        Height of a line in inches.
    size : float
        Size of the names in points.

    Returns
    -------
    figure, axes
    y : (n,) int64
        Height of each line.
    """
    fig, axes = figure(8, 1.5 + line * len(names))
    ax, y = axes[0, 0], np.arange(len(names))[::-1]
    ax.set_yticks(y, names, fontsize=size)
    ax.set_ylim(-0.7, len(names) - 0.3)
    ax.set_xlabel(xlabel)
    ax.grid(axis="x", alpha=0.3)
    ax.set_title(title, loc="left", fontsize=11)
    return fig, ax, y


def legend_below(fig: Any, columns: int = 4, **kwargs: Any) -> None:
    """Put the legend of a whole figure under it.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    columns : int
        Entries side by side.
    **kwargs
        For matplotlib's `Figure.legend`: handles and labels, where they are not those of the axes.
    """
    fig.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9, **kwargs)


def log_axis(ax: Any) -> None:
    """Make the x axis logarithmic, with ticks that read 1, 2, 5, 10, 20 and so on instead of powers.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
