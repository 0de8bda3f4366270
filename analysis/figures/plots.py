"""The figures of compare, pca_study, learning_curve and feature_sets, and maps of tracks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.evaluation import Interval
from analysis.figures.base import COLOURS, DASHES, figure, legend_below, log_axis, named_lines, style

LOADINGS = 12  # columns drawn of each component
Line = tuple[Any, Any]  # x and y: sequences or arrays of equal length


def _errors(values: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Values (n,), and how far their intervals reach below and above: (2, n)."""
    cells = np.array([[v.value, v.low, v.high] for v in values])
    return cells[:, 0], np.abs(cells[:, 1:].T - cells[:, 0])


def estimates(
    names: Sequence[str],
    values: Sequence[Interval],
    xlabel: str,
    title: str,
    *,
    train: Sequence[float] | None = None,
    reference: float | None = None,
) -> Any:
    """Estimates with their intervals, one a line.

    Parameters
    ----------
    names : sequence of n str
        What is estimated.
    values : sequence of n Interval
    xlabel, title : str
    train : sequence of n float, optional
        Accuracies of the same models on what they learnt from, drawn beside.
    reference : float, optional
        Where a dashed line stands.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax, y = named_lines(names, xlabel, title)
    middle, error = _errors(values)
    ax.errorbar(middle, y, xerr=error, fmt="o", color=COLOURS[0], capsize=3, ms=5, label="reported, 95 % interval")
    if reference is not None:
        ax.axvline(reference, color="#555555", lw=1, ls="--")
    if train is not None:
        ax.hlines(y, middle, train, color="#BBBBBB", lw=2, zorder=1, label="train-minus-reported gap")
        ax.scatter(train, y, marker="D", color=COLOURS[1], zorder=3, label="on the rows it learnt from")
        ax.set_xlim(0, 1.03)
        legend_below(fig)
    return fig


def f1_by_genre(classes: Sequence[str], series: Mapping[str, Sequence[float]], title: str) -> Any:
    """F1 of several models, a line of dots per genre.

    Parameters
    ----------
    classes : sequence of c str
        Genres.
    series : mapping of (c,) float
        F1 by model, 0 to 1.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax, y = named_lines(classes, "F1", title, 0.4)
    for i, (label, values) in enumerate(series.items()):
        ax.scatter(values, y + 0.28 - 0.14 * i, s=36, label=label, **style(i))
    ax.hlines(y[:-1] - 0.5, 0, 1, color="#DDDDDD", lw=0.8)
    ax.set_xlim(-0.02, 1.02)
    legend_below(fig, 5)
    return fig


def confusion(matrix: np.ndarray, classes: Sequence[str], title: str) -> Any:
    """Confusion counts; the shade is the share of the true genre's tracks.

    Parameters
    ----------
    matrix : (c, c) int64
        Tracks; row: truth, column: answer.
    classes : sequence of c str
        Genres.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    n = len(classes)
    side = max(4.5, 0.62 * n + 2.2)
    fig, axes = figure(side + 0.8, side)
    ax = axes[0, 0]
    share = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=max(0.1, float(share.max())))
    for i, j in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if share[i, j] > 0.6 * share.max() else "black"
        ax.text(j, i, f"{matrix[i, j]}", ha="center", va="center", color=colour, fontsize=9)
    ax.set_xticks(range(n), classes, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(n), classes)
    ax.set(xlabel="answered", ylabel="true")
    ax.spines[:].set_visible(False)
    ax.set_title(title, loc="left", fontsize=10)
    fig.colorbar(image, ax=ax, shrink=0.8, label="share of the true genre")
    return fig


def curves(
    panels: Mapping[str, Mapping[str, Line]],
    xlabel: str,
    ylabel: str,
    title: str,
    reference: Mapping[str, Mapping[str, float]] | None = None,
) -> Any:
    """Lines over a logarithmic axis, one panel per group, all on the same axes.

    Parameters
    ----------
    panels : mapping of mapping of (x, y)
        Group -> name of the line -> its points.
    xlabel, ylabel, title : str
    reference : mapping of mapping of float, optional
        Group -> name of a line -> height of a dashed line of the same colour.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    fig, axes = figure(9, 0.8 + (2.9 if columns > 1 else 4.4) * rows, rows, columns, sharex=True, sharey=True)
    for ax, (name, series) in zip(axes.flat, panels.items(), strict=False):
        for i, (label, (x, y)) in enumerate(series.items()):
            dash = DASHES[(i // len(COLOURS)) % len(DASHES)]
            ax.plot(x, y, ls=dash, ms=4, lw=1.6, label=label, markevery=0.04, **style(i))
            flat = (reference or {}).get(name, {}).get(label)
            if flat is not None:
                ax.axhline(flat, ls="--", lw=1.2, color=COLOURS[i % len(COLOURS)])
        ax.set_title(name, fontsize=10)
        ax.grid(alpha=0.3)
        log_axis(ax)
        ax.tick_params(labelbottom=True)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, len(panels) - columns) : len(panels)]:
        ax.set_xlabel(xlabel)
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    fig.suptitle(title, fontsize=11)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    legend_below(fig, handles=handles, labels=labels)
    return fig


def scatter(
    maps: Mapping[str, np.ndarray],
    labels: Mapping[str, Sequence[str]],
    codes: np.ndarray,
    classes: Sequence[str],
    title: str,
) -> Any:
    """Two-dimensional maps side by side, coloured by class.

    Parameters
    ----------
    maps : mapping of (n, 2)
        Points by the name of the map, drawn in shuffled order so that no class hides the rest.
    labels : mapping of (str, str)
        What the two axes of a map are, where they mean something.
    codes : (n,) int64
        Class of each point.
    classes : sequence of str
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.lines import Line2D

    fig, axes = figure(max(6.0, 4.6 * len(maps)), 5.2, 1, len(maps))
    many = len(codes) > 500
    order = np.random.default_rng(0).permutation(len(codes))
    for ax, (name, points) in zip(axes[0], maps.items(), strict=True):
        for part in np.array_split(order, 20):
            for c in np.unique(codes[part]):
                rows = part[codes[part] == c]
                ax.scatter(*points[rows].T, s=9 if many else 30, alpha=0.6, linewidths=0, **style(int(c)))
        low, high = np.quantile(points, [0.002, 0.998] if many else [0, 1], axis=0)
        room = 0.05 * (high - low) + 1e-9
        across, up = labels.get(name, (f"{name} 1", f"{name} 2"))
        ax.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
        ax.set(xlabel=across, ylabel=up, title=name if len(maps) > 1 else "")
    fig.suptitle(title, fontsize=11)
    handles = [Line2D([], [], ls="", ms=7, label=g, **style(i)) for i, g in enumerate(classes)]
    legend_below(fig, min(8, len(classes)), handles=handles)
    return fig


def loadings(components: np.ndarray, explained: np.ndarray, columns: Sequence[str]) -> Any:
    """The columns with the largest loadings of each component, signed, largest first.

    Parameters
    ----------
    components : (k, d)
        Loadings.
    explained : (k,)
        Shares of variance.
    columns : sequence of d str

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, axes = figure(3.7 * len(components), 4.2, 1, len(components))
    for i, (ax, row) in enumerate(zip(axes[0], components, strict=True)):
        top = np.argsort(-np.abs(row), kind="stable")[:LOADINGS][::-1]
        ax.barh(range(len(top)), row[top], color=[COLOURS[0] if v >= 0 else COLOURS[3] for v in row[top]])
        ax.set_yticks(range(len(top)), [columns[j] for j in top], fontsize=7.5)
        ax.axvline(0, color="#555555", lw=0.8)
        ax.grid(axis="x", alpha=0.3)
        ax.set_title(f"component {i + 1} ({explained[i]:.1%})", fontsize=10)
    fig.supxlabel("loading of the standardised column (share of variance above)", fontsize=10)
    return fig


def extrapolation(
    measured: Mapping[str, tuple[Sequence[int], Sequence[Interval]]],
    fitted: Mapping[str, tuple[np.ndarray, Sequence[Interval]]],
    targets: Mapping[str, float],
    title: str,
) -> Any:
    """Measured accuracies against training size, the fitted curves beyond them, and sizes to reach.

    Parameters
    ----------
    measured, fitted : mapping of (sizes, accuracies)
        By model: tracks learnt from, and accuracies with their intervals, drawn as points and as a band.
    targets : mapping of float
        Sizes by name, drawn as vertical lines.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, axes = figure(9, 5)
    ax = axes[0, 0]
    for i, (name, (sizes, accuracy)) in enumerate(measured.items()):
        values, error = _errors(accuracy)
        ax.errorbar(sizes, values, yerr=error, ls="", capsize=2, ms=5, label=name, **style(i))
        reach, curve = fitted[name]
        colour = COLOURS[i % len(COLOURS)]
        ax.plot(reach, [v.value for v in curve], color=colour, lw=1.4, ls="--")
        ax.fill_between(reach, [v.low for v in curve], [v.high for v in curve], color=colour, alpha=0.13, lw=0)
    for name, n in targets.items():
        ax.axvline(n, color="#555555", lw=1, ls=":")
        where = {"ha": "right", "va": "bottom", "transform": ax.get_xaxis_transform()}
        ax.text(n, 0.02, f"{name} ", rotation=90, fontsize=9, **where)
    log_axis(ax)
    ax.tick_params(axis="x", labelsize=9)
    ax.set_xlabel("training tracks (dashed: fitted power law and its interval)")
    ax.set_ylabel("accuracy (share of tracks)")
    ax.grid(alpha=0.3)
    ax.set_title(title, loc="left", fontsize=11)
    ax.legend(loc="upper left", frameon=False, fontsize=9)
    return fig
