"""The report of a run: metrics.json, history.json, curves.png with the overfitting gap marked, confusion.png."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import numpy as np

from featurestore.store import files
from training.results.metrics import Evaluation

LONGEST_TITLE = 110  # characters that fit above the curves; of a longer one the middle goes
WIDE_GAP = 0.15  # of accuracy; beyond it the report speaks of memorising
_INK, _TRAIN, _VALIDATION = "#222222", "#1f6f8b", "#d1603d"


def gap_at(history: list[dict[str, float]], epoch: int) -> float:
    """Training minus validation accuracy after that epoch, both in inference mode: how much was learnt by heart."""
    row = next(r for r in history if r["epoch"] == epoch)
    return row["training_accuracy"] - row["validation_accuracy"]


def write(folder: str, evaluation: Evaluation, history: list[dict[str, float]], best_epoch: int, *, title: str) -> None:
    """Write the report's files to `folder`, each atomically; title names model and data."""
    last = int(history[-1]["epoch"])
    facts = {
        "test": evaluation.as_dict(),
        "best_epoch": best_epoch,
        "gap_at_best_epoch": round(gap_at(history, best_epoch), 4),
        "gap_at_last_epoch": round(gap_at(history, last), 4),
    }
    _put(folder, "metrics.json", (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())
    _put(folder, "history.json", (json.dumps(history, indent=1) + "\n").encode())
    _put(folder, "curves.png", _png(curves(history, best_epoch, title)))
    _put(folder, "confusion.png", _png(confusion(evaluation)))


def write_evaluation(folder: str, evaluation: Evaluation) -> None:
    """Write what one reading of a split gives: <split>.json and <split>_confusion.png."""
    text = json.dumps(evaluation.as_dict(), indent=1, ensure_ascii=False) + "\n"
    _put(folder, f"{evaluation.split}.json", text.encode())
    _put(folder, f"{evaluation.split}_confusion.png", _png(confusion(evaluation)))


def curves(history: list[dict[str, float]], best_epoch: int, title: str) -> Any:
    """Accuracy and cross-entropy over epochs; the band between training and validation is the overfitting gap."""
    from matplotlib.figure import Figure

    epochs = np.array([r["epoch"] for r in history])
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    figure.suptitle(
        title if len(title) <= LONGEST_TITLE else f"{title[:24]}…{title[25 - LONGEST_TITLE :]}", fontsize=11
    )
    panels = figure.subplots(1, 2)
    for axes, name, label in zip(panels, ("accuracy", "loss"), ("accuracy", "cross-entropy"), strict=True):
        train = np.array([r[f"training_{name}"] for r in history])
        validation = np.array([r[f"validation_{name}"] for r in history])
        worse = train > validation if name == "accuracy" else train < validation
        axes.fill_between(
            epochs, train, validation, where=worse, color=_VALIDATION, alpha=0.15, label="overfitting gap"
        )
        axes.plot(epochs, train, color=_TRAIN, label="training", marker="." if len(epochs) < 3 else None)
        axes.plot(epochs, validation, color=_VALIDATION, label="validation", marker="." if len(epochs) < 3 else None)
        axes.axvline(best_epoch, color=_INK, linewidth=0.8, linestyle=":")
        axes.set(xlabel="epoch", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylim(0, 1.02)
    panels[1].set_ylim(bottom=0)
    _mark_gap(panels[0], history, best_epoch)
    panels[1].legend(frameon=False)
    return figure


def _mark_gap(axes: Any, history: list[dict[str, float]], best_epoch: int) -> None:
    row = next(r for r in history if r["epoch"] == best_epoch)
    low, high = sorted((row["validation_accuracy"], row["training_accuracy"]))
    axes.annotate(
        "",
        (best_epoch, low),
        (best_epoch, high),
        arrowprops={"arrowstyle": "<->", "color": _INK, "shrinkA": 0, "shrinkB": 0},
    )
    last = int(history[-1]["epoch"])
    title = f"gap {gap_at(history, best_epoch):+.2f} at the epoch kept ({best_epoch})"
    if last != best_epoch:
        title += f", {gap_at(history, last):+.2f} at the last ({last})"
    axes.set_title(title, fontsize=10, loc="left", color=_INK)


def confusion(evaluation: Evaluation) -> Any:
    """Tracks by true (rows) and predicted (columns) genre; colour is the share of the row."""
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
    low, high = evaluation.accuracy_interval
    axes.set_title(
        f"{evaluation.split}: accuracy {evaluation.accuracy:.2f} [{low:.2f}, {high:.2f}], {evaluation.tracks} tracks",
        fontsize=10,
        color=_INK,
    )
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true genre")
    return figure


def verdict(history: list[dict[str, float]], best_epoch: int) -> str:
    """One line on overfitting, for people."""
    last = int(history[-1]["epoch"])
    at_best, at_last = gap_at(history, best_epoch), gap_at(history, last)
    text = f"overfitting gap: {at_best:+.3f} at the epoch kept ({best_epoch}), {at_last:+.3f} at the last ({last})"
    return text + (": it learns by heart" if max(at_best, at_last) > WIDE_GAP else "")


def _png(figure: Any) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=120, metadata={"Software": None})
    return sink.getvalue()


def _put(folder: str, name: str, data: bytes) -> None:
    path = os.path.abspath(os.path.join(folder, name))
    files.write_bytes(files.resolve(path)[0], path, data)
