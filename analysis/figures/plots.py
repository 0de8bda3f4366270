"""The studies' figures. Each function takes arrays and returns a matplotlib Figure; nothing is shown or saved here.

Colours are Okabe and Ito's (2008), told apart by colour-blind readers too; where there are more classes than colours
the marker or the dash changes. Figures are drawn without pyplot, so no display and no global state is involved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.evaluation import Interval

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#B8A900")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
Line = tuple[Any, Any]  # x and y: sequences or arrays of equal length
DASHES = ("-", "--", ":", "-.")


def style(i: int) -> dict[str, Any]:
    """Colour and marker of class i; 64 combinations."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]}


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Any, np.ndarray]:
    """(Figure, axes as a 2-D array), laid out so that labels do not overlap."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **kwargs)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


def accuracies(names: Sequence[str], reported: Sequence[Interval], train: Sequence[float], title: str) -> Any:
    """Accuracy of each model with its interval, and its accuracy on the rows it learnt from."""
    fig, axes = figure(8, 1.4 + 0.38 * len(names))
    ax, y = axes[0, 0], np.arange(len(names))[::-1]
    values = np.array([[i.value, i.low, i.high] for i in reported])
    ax.hlines(y, values[:, 0], train, color="#BBBBBB", lw=2, zorder=1, label="train-minus-reported gap")
    error = np.abs(values[:, 1:].T - values[:, 0])
    ax.errorbar(values[:, 0], y, xerr=error, fmt="o", color=COLOURS[0], capsize=3, label="reported, 95 % interval")
    ax.scatter(train, y, marker="D", color=COLOURS[1], zorder=3, label="on the rows it learnt from")
    ax.set_yticks(y, names)
    ax.set_xlim(0, 1.03)
    ax.set_xlabel("accuracy (share of tracks)")
    ax.grid(axis="x", alpha=0.3)
    ax.set_title(title, loc="left")
    fig.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return fig


def confusion(matrix: np.ndarray, classes: Sequence[str], title: str) -> Any:
    """Confusion counts (c, c): shade = share of the true genre's tracks, number = tracks."""
    n = len(classes)
    side = max(4.5, 0.62 * n + 2.2)
    fig, axes = figure(side + 0.8, side)
    ax = axes[0, 0]
    share = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=max(0.1, float(share.max())))
    for i in range(n):
        for j in range(n):
            if matrix[i, j]:
                colour = "white" if share[i, j] > 0.6 * share.max() else "black"
                ax.text(j, i, f"{matrix[i, j]}", ha="center", va="center", color=colour, fontsize=9)
    ax.set_xticks(range(n), classes, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(n), classes)
    ax.set_xlabel("answered")
    ax.set_ylabel("true")
    ax.spines[:].set_visible(False)
    ax.set_title(title, loc="left", fontsize=10)
    fig.colorbar(image, ax=ax, shrink=0.8, label="share of the true genre")
    return fig


def curves(
    series: Mapping[str, Line],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    log_x: bool = False,
    bands: Mapping[str, Line] | None = None,
    lines: Mapping[str, float] | None = None,
) -> Any:
    """Lines by name (x, y), with (low, high) bands where given and horizontal reference lines."""
    fig, axes = figure(8, 4.6)
    ax = axes[0, 0]
    for i, (name, (x, y)) in enumerate(series.items()):
        ax.plot(x, y, ls=DASHES[(i // len(COLOURS)) % 4], ms=4, lw=1.6, label=name, markevery=0.04, **style(i))
        if bands and name in bands:
            ax.fill_between(x, *bands[name], color=COLOURS[i % len(COLOURS)], alpha=0.15, lw=0)
    for i, (name, value) in enumerate((lines or {}).items()):
        ax.axhline(value, color="#555555", lw=1, ls=DASHES[(i + 1) % 4], label=name)
    if log_x:
        _log_axis(ax)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3)
    fig.suptitle(title, fontsize=11, x=0.01, ha="left")
    fig.legend(loc="outside right upper", frameon=False, fontsize=9)
    return fig


def _log_axis(ax: Any) -> None:
    """A logarithmic x axis whose ticks read 1, 2, 5, 10, 20 ... instead of powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def panels(
    groups: Mapping[str, Mapping[str, Line]],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    log_x: bool = False,
    reference: Mapping[str, Mapping[str, float]] | None = None,
) -> Any:
    """One panel of lines per group, sharing axes; reference: per panel, horizontal lines by the name of a series."""
    columns = min(2, len(groups))
    rows = math.ceil(len(groups) / columns)
    fig, axes = figure(9, 0.8 + 2.9 * rows, rows, columns, sharex=True, sharey=True)
    for ax, (name, series) in zip(axes.flat, groups.items(), strict=False):
        for i, (label, (x, y)) in enumerate(series.items()):
            ax.plot(x, y, ms=4, lw=1.6, label=label, **style(i))
            flat = (reference or {}).get(name, {}).get(label)
            if flat is not None:
                ax.axhline(flat, ls="--", lw=1.2, color=COLOURS[i % len(COLOURS)])
        ax.set_title(name, fontsize=10)
        ax.grid(alpha=0.3)
        if log_x:
            _log_axis(ax)
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, len(groups) - columns) : len(groups)]:
        ax.set_xlabel(xlabel)
        ax.tick_params(labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    fig.suptitle(title, fontsize=11)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return fig


def scatter(
    maps: Mapping[str, np.ndarray], codes: np.ndarray, classes: Sequence[str], title: str, labels: tuple[str, str]
) -> Any:
    """2-D maps (n, 2) side by side, coloured by class, points drawn in shuffled order so that none hides the rest."""
    fig, axes = figure(max(6.0, 4.6 * len(maps)), 5.2, 1, len(maps))
    order = np.random.default_rng(0).permutation(len(codes))
    for ax, (name, points) in zip(axes[0], maps.items(), strict=True):
        for part in np.array_split(order, 20):
            for c in np.unique(codes[part]):
                rows = part[codes[part] == c]
                ax.scatter(*points[rows].T, s=9 if len(codes) > 300 else 30, alpha=0.6, linewidths=0, **style(int(c)))
        low, high = np.quantile(points, [0.002, 0.998], axis=0) if len(points) > 500 else (points.min(0), points.max(0))
        room = 0.05 * (high - low) + 1e-9
        ax.set_xlim(low[0] - room[0], high[0] + room[0])
        ax.set_ylim(low[1] - room[1], high[1] + room[1])
        if len(maps) > 1:
            ax.set_title(name, fontsize=10)
        ax.set_xlabel(labels[0] if name == "PCA" or len(maps) == 1 else f"{name} 1")
        ax.set_ylabel(labels[1] if name == "PCA" or len(maps) == 1 else f"{name} 2")
    fig.suptitle(title, fontsize=11)
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], ls="", ms=7, label=g, **style(i)) for i, g in enumerate(classes)]
    fig.legend(handles=handles, loc="outside lower center", ncols=min(8, len(classes)), frameon=False, fontsize=9)
    return fig


def dots(
    names: Sequence[str], values: Sequence[Interval], *, xlabel: str, title: str, zero: float | None = None
) -> Any:
    """Estimates with intervals, one per line, top to bottom; zero draws a reference line."""
    fig, axes = figure(8, 1.3 + 0.27 * len(names))
    ax, y = axes[0, 0], np.arange(len(names))[::-1]
    cells = np.array([[v.value, v.low, v.high] for v in values])
    error = np.abs(cells[:, 1:].T - cells[:, 0])
    ax.errorbar(cells[:, 0], y, xerr=error, fmt="o", color=COLOURS[0], capsize=3, ms=5)
    if zero is not None:
        ax.axvline(zero, color="#555555", lw=1, ls="--")
    ax.set_yticks(y, names, fontsize=9)
    ax.set_ylim(-0.7, len(names) - 0.3)
    ax.set_xlabel(xlabel)
    ax.grid(axis="x", alpha=0.3)
    ax.set_title(title, loc="left", fontsize=11)
    return fig


def grouped_dots(names: Sequence[str], series: Mapping[str, np.ndarray], xlabel: str, title: str) -> Any:
    """Several series (c,) over the same names, one line of dots per name."""
    fig, axes = figure(8, 1.6 + 0.4 * len(names))
    ax, y = axes[0, 0], np.arange(len(names))[::-1]
    for i, (label, values) in enumerate(series.items()):
        ax.scatter(values, y + 0.28 - 0.14 * i, s=36, label=label, **style(i))
    ax.hlines(y[:-1] - 0.5, 0, 1, color="#DDDDDD", lw=0.8)
    ax.set_yticks(y, names)
    ax.set_xlim(-0.02, 1.02)
    ax.set_xlabel(xlabel)
    ax.grid(axis="x", alpha=0.3)
    ax.set_title(title, loc="left", fontsize=11)
    fig.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return fig


def loadings(components: np.ndarray, explained: np.ndarray, columns: Sequence[str], most: int = 12) -> Any:
    """The columns with the largest loadings of each component (k, d), signed, largest first."""
    fig, axes = figure(3.7 * len(components), 4.2, 1, len(components))
    for i, (ax, row) in enumerate(zip(axes[0], components, strict=True)):
        top = np.argsort(-np.abs(row), kind="stable")[:most][::-1]
        ax.barh(range(len(top)), row[top], color=[COLOURS[0] if v >= 0 else COLOURS[3] for v in row[top]])
        ax.set_yticks(range(len(top)), [columns[j] for j in top], fontsize=7.5)
        ax.axvline(0, color="#555555", lw=0.8)
        ax.grid(axis="x", alpha=0.3)
        ax.set_title(f"component {i + 1} ({explained[i]:.1%})", fontsize=10)
    fig.supxlabel("loading of the standardised column (share of variance above)", fontsize=10)
    return fig


def extrapolation(
    series: Mapping[str, Line],
    bands: Mapping[str, Line],
    fitted: Mapping[str, tuple[np.ndarray, Sequence[Interval]]],
    targets: Mapping[str, float],
    title: str,
) -> Any:
    """Measured accuracies with intervals against training size, the fitted curves beyond them, and sizes to reach."""
    fig, axes = figure(9, 5)
    ax = axes[0, 0]
    for i, (name, (x, y)) in enumerate(series.items()):
        low, high = (np.asarray(v) for v in bands[name])
        colour = COLOURS[i % len(COLOURS)]
        error = np.array([np.asarray(y) - low, high - np.asarray(y)])
        ax.errorbar(x, y, yerr=error, ls="", capsize=2, ms=5, label=name, **style(i))
        reach, values = fitted[name]
        ax.plot(reach, [v.value for v in values], color=colour, lw=1.4, ls="--")
        ax.fill_between(reach, [v.low for v in values], [v.high for v in values], color=colour, alpha=0.13, lw=0)
    for name, n in targets.items():
        ax.axvline(n, color="#555555", lw=1, ls=":")
        ax.text(
            n, 0.02, f"{name} ", rotation=90, ha="right", va="bottom", transform=ax.get_xaxis_transform(), fontsize=9
        )
    _log_axis(ax)
    ax.tick_params(axis="x", labelsize=9)
    ax.set_xlabel("training tracks (dashed: fitted power law and its interval)")
    ax.set_ylabel("accuracy (share of tracks)")
    ax.grid(alpha=0.3)
    ax.set_title(title, loc="left", fontsize=11)
    ax.legend(loc="upper left", frameon=False, fontsize=9)
    return fig
