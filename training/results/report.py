"""The report of a run: metrics.json, curves.png with the overfitting gap marked, confusion.png.

A history has one row per epoch, counted from 1: loss and accuracy of the training curve, val_loss and val_accuracy of
the validation, measured alike.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from analysis.evaluation import Evaluation
from featurestore.store import files

LONGEST_TITLE = 110  # characters that fit above the curves; of a longer one the middle goes
WIDE_GAP = 0.15  # of accuracy; beyond it the report speaks of memorising
_INK, _TRAIN, _VALIDATION = "#222222", "#1f6f8b", "#d1603d"


def best_epoch(history: list[dict[str, float]]) -> int:
    """Find the epoch whose weights are kept.

    Parameters
    ----------
    history : list of dict
        One row per epoch.

    Returns
    -------
    int
        The epoch of the lowest validation loss, from 1; the first of equals.
    """
    return int(min(history, key=lambda row: row["val_loss"])["epoch"])


def gap_at(history: list[dict[str, float]], epoch: int) -> float:
    """How much better the network is on what it learnt from: training minus validation accuracy, in inference mode.

    Parameters
    ----------
    history : list of dict
    epoch : int
        From 1.

    Returns
    -------
    float
        -1 to 1.
    """
    row = next(r for r in history if r["epoch"] == epoch)
    return row["accuracy"] - row["val_accuracy"]


def write(folder: str, evaluation: Evaluation, history: list[dict[str, float]], *, title: str) -> None:
    """Write the report's files, each atomically.

    Parameters
    ----------
    folder : str
    evaluation : Evaluation
        Of the test split.
    history : list of dict
    title : str
        Names model and data.
    """
    best, last = best_epoch(history), int(history[-1]["epoch"])
    facts = {
        "test": evaluation.as_dict(),
        "best_epoch": best,
        "gap_at_best_epoch": round(gap_at(history, best), 4),
        "gap_at_last_epoch": round(gap_at(history, last), 4),
    }
    _put(folder, "metrics.json", _json(facts))
    _put(folder, "curves.png", _png(curves, history, title))
    _put(folder, "confusion.png", _png(confusion, evaluation))


def write_evaluation(folder: str, evaluation: Evaluation) -> None:
    """Write what one reading of a split gives: <split>.json and <split>_confusion.png, each atomically.

    Parameters
    ----------
    folder : str
    evaluation : Evaluation
    """
    _put(folder, f"{evaluation.split}.json", _json(evaluation.as_dict()))
    _put(folder, f"{evaluation.split}_confusion.png", _png(confusion, evaluation))


def curves(history: list[dict[str, float]], title: str) -> Any:
    """Accuracy and cross-entropy over epochs; the band between training and validation is the overfitting gap.

    Parameters
    ----------
    history : list of dict
    title : str
        Cut in its middle where it is longer than `LONGEST_TITLE`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    epochs = np.array([r["epoch"] for r in history])
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    figure.suptitle(
        title if len(title) <= LONGEST_TITLE else f"{title[:24]}…{title[25 - LONGEST_TITLE :]}", fontsize=11
    )
    panels = figure.subplots(1, 2)
    for axes, name, label in zip(panels, ("accuracy", "loss"), ("accuracy", "cross-entropy"), strict=True):
        train = np.array([r[name] for r in history])
        validation = np.array([r[f"val_{name}"] for r in history])
        worse = train > validation if name == "accuracy" else train < validation
        axes.fill_between(
            epochs, train, validation, where=worse, color=_VALIDATION, alpha=0.15, label="overfitting gap"
        )
        axes.plot(epochs, train, color=_TRAIN, label="training", marker="." if len(epochs) < 3 else None)
        axes.plot(epochs, validation, color=_VALIDATION, label="validation", marker="." if len(epochs) < 3 else None)
        axes.axvline(best_epoch(history), color=_INK, linewidth=0.8, linestyle=":")
        axes.set(xlabel="epoch", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylim(0, 1.02)
    panels[1].set_ylim(bottom=0)
    _mark_gap(panels[0], history)
    panels[1].legend(frameon=False)
    return figure


def _mark_gap(axes: Any, history: list[dict[str, float]]) -> None:
    best = best_epoch(history)
    row = next(r for r in history if r["epoch"] == best)
    low, high = sorted((row["val_accuracy"], row["accuracy"]))
    axes.vlines(best, low, high, color=_INK, linewidth=2)
    last = int(history[-1]["epoch"])
    title = f"gap {gap_at(history, best):+.2f} at the epoch kept ({best})"
    if last != best:
        title += f", {gap_at(history, last):+.2f} at the last ({last})"
    axes.set_title(title, fontsize=10, loc="left", color=_INK)


def confusion(evaluation: Evaluation) -> Any:
    """Draw tracks by true (rows) and predicted (columns) genre; the colour is the share of the row.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    counts, n = evaluation.confusion, len(evaluation.classes)
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = max(4.0, 0.55 * n + 2.2)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i in range(n):
        for j in range(n):
            if counts[i, j]:
                axes.text(
                    j, i, str(counts[i, j]), ha="center", va="center", color="white" if share[i, j] > 0.55 else _INK
                )
    axes.set_xticks(range(n), evaluation.classes, rotation=45, ha="right")
    axes.set_yticks(range(n), evaluation.classes)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(
        f"{evaluation.split}: accuracy {evaluation.accuracy.text(digits=2)}, {evaluation.n} tracks",
        fontsize=10,
        color=_INK,
    )
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true genre")
    return figure


def verdict(history: list[dict[str, float]]) -> str:
    """Say in one line how far the network overfits.

    Parameters
    ----------
    history : list of dict

    Returns
    -------
    str
        The gaps at the epoch kept and at the last one.
    """
    best, last = best_epoch(history), int(history[-1]["epoch"])
    at_best, at_last = gap_at(history, best), gap_at(history, last)
    text = f"overfitting gap: {at_best:+.3f} at the epoch kept ({best}), {at_last:+.3f} at the last ({last})"
    return text + (": it learns by heart" if max(at_best, at_last) > WIDE_GAP else "")


def _json(facts: dict[str, Any]) -> bytes:
    return (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode()


def _png(draw: Callable[..., Any], *args: Any) -> bytes:
    import matplotlib

    sink = io.BytesIO()
    # genres and paths may hold `$`, which matplotlib would read as mathematics
    with matplotlib.rc_context({"text.parse_math": False}):
        draw(*args).savefig(sink, format="png", dpi=120, metadata={"Software": None})
    return sink.getvalue()


def _put(folder: str, name: str, data: bytes) -> None:
    path = os.path.abspath(os.path.join(folder, name))
    files.write_bytes(files.resolve(path)[0], path, data)
