"""Figures of `python -m analysis.explore`: counts, durations, missing values, distributions, correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.data.columns import column_group
from analysis.data.samples import Data, Sample
from analysis.figures.base import COLOURS, figure, legend_below, named_lines
from featurestore.schemas import SPLITS

_BOXES = 6  # columns whose distributions are drawn
_NAMED = 60  # columns up to which a correlation map can name them
_BARS = 30


def class_counts(rows: Sequence[Mapping[str, Any]], scheme: str) -> Any:
    """Tracks by genre, stacked by split.

    Parameters
    ----------
    rows : sequence of dict
        genre, tracks, training, validation and test of each genre.
    scheme : str
        How the splits were drawn.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names, title = [r["genre"] for r in rows], f"tracks by genre and split ({scheme})"
    fig, ax, y = named_lines(names, "tracks", title, 0.34)
    left = np.zeros(len(rows))
    total = np.array([r["tracks"] for r in rows], dtype=float)
    parts = {s: np.array([r[s] for r in rows], dtype=float) for s in SPLITS}
    parts["no split"] = total - sum(parts.values())
    for colour, (name, values) in zip((*COLOURS[:3], "#BBBBBB"), parts.items(), strict=True):
        if values.any():
            ax.barh(y, values, left=left, color=colour, label=name)
            left += values
    ax.bar_label(ax.containers[-1], [f"{int(n):,}" for n in total], padding=3, fontsize=9)
    ax.set_xlim(0, 1.1 * total.max())
    legend_below(fig)
    return fig


def durations(seconds: Mapping[str, np.ndarray]) -> Any:
    """Measured excerpt lengths: how many of each, all genres stacked.

    Parameters
    ----------
    seconds : mapping of (n,) float
        Lengths in seconds by genre.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, axes = figure(8, 4.2)
    ax = axes[0, 0]
    together = np.concatenate(list(seconds.values()))
    low, high = together.min(), together.max()
    if high - low < 0.5:  # equal but for a frame or two: half a second around them says so better than slivers
        low, high = low - 0.25, high + 0.25
    names = list(seconds)
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    ax.hist([seconds[g] for g in names], bins=30, range=(low, high), stacked=True, color=colours, label=names)
    ax.set(xlabel="seconds measured", ylabel="excerpts")
    ax.set_title(f"length of {len(together):,} excerpts: {together.min():.2f} to {together.max():.2f} s", loc="left")
    fig.legend(loc="outside right upper", frameon=False, fontsize=9)
    return fig


def missing(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Share of missing values of the columns that miss most.

    Parameters
    ----------
    rows : sequence of dict
        feature, missing and rows of each column; one misses some.

    Returns
    -------
    matplotlib.figure.Figure
    """
    every = sorted((r for r in rows if r["missing"]), key=lambda r: -r["missing"])
    worst = every[:_BARS]
    title = f"{len(every)} of {len(rows)} columns have missing values"
    xlabel = f"share missing of {worst[0]['rows']:,} rows"
    fig, ax, y = named_lines([r["feature"] for r in worst], xlabel, title, 0.24, 8)
    ax.barh(y, [r["missing"] / r["rows"] for r in worst], color=COLOURS[3])
    return fig


def distributions(sample: Sample, data: Data, effect: np.ndarray) -> Any:
    """Boxes by genre of the columns that part the genres best, one per feature first.

    Parameters
    ----------
    sample : Sample
        Rows to describe.
    data : Data
        What they are.
    effect : (d,)
        How well each column parts the genres, 0 to 1.

    Returns
    -------
    matplotlib.figure.Figure
    """
    chosen = _boxed(data.columns, effect)
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    fig, axes = figure(3.6 * columns + 1, 0.6 + (1.2 + 0.24 * len(data.classes)) * rows, rows, columns, sharey=True)
    for ax, j in zip(axes.flat, chosen, strict=False):
        parts = [sample.X[(sample.y == c) & np.isfinite(sample.X[:, j]), j] for c in range(len(data.classes))]
        ax.boxplot(
            parts[::-1],
            orientation="horizontal",
            tick_labels=data.classes[::-1],
            showfliers=False,
            patch_artist=True,
            widths=0.6,
            boxprops={"facecolor": "#CFE3F2", "edgecolor": COLOURS[0]},
            medianprops={"color": COLOURS[3], "lw": 1.6},
        )
        ax.set_title(f"{data.columns[j]} (η² = {effect[j]:.2f})", fontsize=9)
        ax.tick_params(axis="x", labelsize=8)
        ax.grid(axis="x", alpha=0.3)
    for ax in axes.flat[len(chosen) :]:
        ax.set_axis_off()
    rest = ", training rows" if columns > 1 else ""
    fig.suptitle(f"{data.features}: what parts the genres best{rest}", fontsize=11)
    return fig


def _boxed(columns: Sequence[str], effect: np.ndarray) -> list[int]:
    ranked = [int(j) for j in np.argsort(-effect, kind="stable")]
    best: dict[str, int] = {}
    for j in ranked:
        best.setdefault(column_group(columns[j]), j)
    # a set with few features fills up with their next best columns
    return [*best.values(), *(j for j in ranked if j not in best.values())][:_BOXES]


def correlations(matrix: np.ndarray, order: np.ndarray, cluster: np.ndarray, columns: Sequence[str]) -> Any:
    """|Rank correlation| of columns in clustered order, clusters of several columns framed.

    Parameters
    ----------
    matrix : (d, d)
        |Spearman correlation|, 0 to 1.
    order, cluster : (d,) int64
        Columns in the order drawn, and the cluster of each column.
    columns : sequence of d str

    Returns
    -------
    matplotlib.figure.Figure
    """
    n = len(order)
    fig, axes = figure(9.2, 8)
    ax = axes[0, 0]
    image = ax.imshow(matrix[np.ix_(order, order)], cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    placed = cluster[order]
    starts = np.flatnonzero(np.diff(placed, prepend=placed[0] - 1))
    for start, stop in zip(starts, [*starts[1:], n], strict=True):
        if stop - start > 1:
            box = np.array([start, stop, stop, start, start]) - 0.5
            ax.plot(box, np.array([start, start, stop, stop, start]) - 0.5, color=COLOURS[3], lw=1.2)
    if n <= _NAMED:
        ax.set_yticks(range(n), [columns[j] for j in order], fontsize=7)
    else:
        ax.set_ylabel(f"{n} columns in clustered order (names in clusters.csv)")
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    ax.set_title(f"rank correlation of columns; {len(starts)} clusters, framed", loc="left", fontsize=11)
    fig.colorbar(image, ax=ax, shrink=0.7, label="|Spearman correlation|")
    return fig
