"""The comparison as tables and figures: what `python -m analysis.compare` found, arranged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from analysis import evaluation
from analysis.data.samples import Data, Plan
from analysis.figures import plots
from analysis.models import grid
from analysis.models.search import Final, Trial
from analysis.results import output


def chosen(finals: Sequence[Final]) -> Final:
    """The model with the best choice score, never the best test score; of equals the first of MODELS."""
    order = list(grid.MODELS)
    return max(
        finals, key=lambda f: (f.chosen_score or 0.0, f.candidate.model != "majority", -order.index(f.candidate.model))
    )


def result_rows(finals: Sequence[Final], n_classes: int, seed: int) -> list[dict[str, Any]]:
    """Rows of results.csv, in the order given; p_next is McNemar's mid-p against the next row."""
    rows = []
    for i, f in enumerate(finals):
        accuracy = evaluation.accuracy_interval(f.report, seed)
        f1 = evaluation.macro_f1_interval(f.report, n_classes, seed)
        p = evaluation.mcnemar(f.report, finals[i + 1].report)[2] if i + 1 < len(finals) else None
        rows.append(
            {
                "model": f.candidate.model,
                "setting": f.candidate.text(),
                "choice_score": f.chosen_score,
                "accuracy": accuracy.value,
                "low": accuracy.low,
                "high": accuracy.high,
                "macro_f1": f1.value,
                "f1_low": f1.low,
                "f1_high": f1.high,
                "train_accuracy": f.train.accuracy,
                "n": len(f.report.truth),
                "n_train": len(f.train.truth),
                "p_next": p,
            }
        )
    return rows


def timed(rows: Sequence[dict[str, Any]], finals: Sequence[Final]) -> pa.Table:
    """The table for people: fewer digits, intervals in one cell, and the seconds that results.csv must not hold."""
    shown = []
    for r, f in zip(rows, finals, strict=True):
        shown.append(
            {
                "model": r["model"],
                "setting": r["setting"],
                "accuracy [95 %]": f"{r['accuracy']:.3f} [{r['low']:.3f}, {r['high']:.3f}]",
                "macro-F1": f"{r['macro_f1']:.3f}",
                "train": f"{r['train_accuracy']:.3f}",
                "n": r["n"],
                "choice": "" if r["choice_score"] is None else f"{r['choice_score']:.3f}",
                "p vs next": "" if r["p_next"] is None else f"{r['p_next']:.3f}",
                "fit s": f"{f.fit_s:.2f}",
                "predict s": f"{f.predict_s:.2f}",
            }
        )
    return output.table(shown)


def headline(top: Final, rows: Sequence[dict[str, Any]], data: Data, made: Plan) -> str:
    """What was compared and what came out, with its n, split and interval."""
    row = next(r for r in rows if r["model"] == top.candidate.model)
    return (
        f"{data.features}, {data.scheme} split: {made.fit.n_tracks} tracks learnt from, {row['n']} {made.reported} "
        f"tracks reported, {len(data.classes)} genres; settings chosen on {made.chosen_on}. "
        f"Best there: {top.candidate.model}, {made.reported} accuracy {row['accuracy']:.3f} "
        f"[{row['low']:.3f}, {row['high']:.3f}]. p vs next: McNemar mid-p; above 0.05 two neighbours are not ranked."
    )


def seconds(f: Final, trials: Sequence[Trial]) -> dict[str, float]:
    """Seconds of work by stage for one model: search (summed over workers), fit, predict."""
    searched = sum(t.seconds for t in trials if t.candidate.model == f.candidate.model)
    return {"search": round(searched, 3), "fit": round(f.fit_s, 3), "predict": round(f.predict_s, 3)}


def per_genre(finals: Sequence[Final], data: Data) -> list[dict[str, Any]]:

    return [{"model": f.candidate.model, **row} for f in finals for row in _class_scores(f, data)]


def confusions(finals: Sequence[Final], data: Data) -> list[dict[str, Any]]:

    out = []
    for f in finals:
        matrix = evaluation.confusion(f.report, len(data.classes))
        for i, true in enumerate(data.classes):
            cells = {answer: int(matrix[i, j]) for j, answer in enumerate(data.classes)}
            out.append({"model": f.candidate.model, "true": true, **cells})
    return out


def search_table(trials: Sequence[Trial]) -> pa.Table:

    names = ("model", "setting", "n_tracks", "accuracy", "converged")
    return output.table(
        [
            {
                "model": t.candidate.model,
                "setting": t.candidate.text(),
                "n_tracks": t.n_tracks,
                "accuracy": t.accuracy,
                "converged": t.converged,
            }
            for t in trials
        ],
        names,
    )


def figures(
    finals: Sequence[Final], rows: Sequence[dict[str, Any]], trials: Sequence[Trial], data: Data, made: Plan
) -> dict[str, Any]:

    top = chosen(finals)
    matrix = evaluation.confusion(top.report, len(data.classes))
    what = f"{made.reported}, n = {rows[0]['n']} tracks"
    out = {
        "accuracy": plots.accuracies(
            [r["model"] for r in rows],
            [evaluation.Interval(r["accuracy"], r["low"], r["high"]) for r in rows],
            [r["train_accuracy"] for r in rows],
            f"{data.features} ({what}, {data.scheme} split)",
        ),
        "confusion": plots.confusion(matrix, data.classes, f"{top.candidate.model}: {what}"),
        "per_genre": _genre_figure(finals, data, what),
    }
    ks = [t for t in trials if t.candidate.model == "knn"]
    if len(ks) > 1:
        series: dict[str, tuple[list[float], list[float]]] = {}
        for t in ks:
            name = "PCA, 95 % of variance" if t.candidate.pca else "all columns"
            x, y = series.setdefault(name, ([], []))
            x.append(t.candidate.params["n_neighbors"])
            y.append(t.accuracy)
        title = f"kNN: choice of k on {made.chosen_on}"
        out["knn_k"] = plots.curves(series, xlabel="k", ylabel="accuracy", title=title, log_x=True)
    return out


def _genre_figure(finals: Sequence[Final], data: Data, what: str) -> Any:

    shown = [f for f in finals if f.candidate.model != "majority"][:5]
    f1 = {f.candidate.model: [r["f1"] or 0.0 for r in _class_scores(f, data)] for f in shown}
    return plots.grouped_dots(
        list(data.classes), {k: np.array(v) for k, v in f1.items()}, "F1", f"F1 by genre ({what})"
    )


def _class_scores(final: Final, data: Data) -> list[dict[str, Any]]:
    return evaluation.class_scores(evaluation.confusion(final.report, len(data.classes)), data.classes)
