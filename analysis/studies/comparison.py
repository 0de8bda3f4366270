"""What a comparison of models found, as tables: `python -m analysis.compare` arranges and draws it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from analysis.data.plan import Plan
from analysis.data.samples import Data
from analysis.evaluation import Evaluation, evaluate, mcnemar
from analysis.models import grid
from analysis.models.search import Final, Trial


def chosen(finals: Sequence[Final]) -> Final:
    """The model with the best choice score, never the best test score.

    Parameters
    ----------
    finals : sequence of Final
        At least one.

    Returns
    -------
    Final
        Of equals the first of MODELS.
    """
    order = list(grid.MODELS)
    return max(
        finals, key=lambda f: (f.chosen_score or 0.0, f.candidate.model != "majority", -order.index(f.candidate.model))
    )


def readings(finals: Sequence[Final], data: Data, plan: Plan, seed: int) -> list[Evaluation]:
    """What each model's answers to the reported split are worth.

    Parameters
    ----------
    finals : sequence of Final
    data : Data
    plan : Plan
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    list of Evaluation
    """
    return [evaluate(f.report, data.classes, split=plan.reported, scheme=data.scheme, seed=seed) for f in finals]


def result_rows(finals: Sequence[Final], read: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Rows of results.csv.

    Parameters
    ----------
    finals : sequence of n Final
        In the order of the table.
    read : sequence of n Evaluation
        Their readings.

    Returns
    -------
    list of dict
        p_next is McNemar's mid-p against the next row.
    """
    following = [*(f.report for f in finals[1:]), None]
    return [
        {
            "model": f.candidate.model,
            "setting": f.candidate.text(),
            "choice_score": f.chosen_score,
            **e.accuracy.cells("accuracy"),
            **e.macro_f1.cells("macro_f1"),
            "train_accuracy": f.train.accuracy,
            "n": e.n,
            "n_train": len(f.train.truth),
            "p_next": mcnemar(f.report, other)[2] if other else None,
        }
        for f, e, other in zip(finals, read, following, strict=True)
    ]


def headline(top: Evaluation, model: str, data: Data, plan: Plan) -> str:
    """What was compared and what came out, with its n, split and interval.

    Parameters
    ----------
    top : Evaluation
        The reading of the model that was chosen.
    model : str
        Its name.
    data, plan
        What it was made from.

    Returns
    -------
    str
    """
    return (
        f"{data.features}, {data.scheme} split: {plan.fit.n_tracks} tracks learnt from, {top.n} {plan.reported} "
        f"tracks reported, {len(data.classes)} genres; settings chosen on {plan.chosen_on}. "
        f"Best there: {model}, {plan.reported} accuracy {top.accuracy.text()}. "
        "p vs next: McNemar mid-p; above 0.05 two neighbours are not ranked."
    )


def seconds(f: Final, trials: Sequence[Trial]) -> dict[str, float]:
    """Seconds of work for one model: its search (summed over workers), fit and predict.

    Parameters
    ----------
    f : Final
    trials : sequence of Trial
        Of all models.

    Returns
    -------
    dict of float
    """
    searched = sum(t.seconds for t in trials if t.candidate.model == f.candidate.model)
    return {"search": round(searched, 3), "fit": round(f.fit_s, 3), "predict": round(f.predict_s, 3)}


def tables(
    finals: Sequence[Final], read: Sequence[Evaluation], trials: Sequence[Trial], classes: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """The further tables: per_genre, confusion, search.

    Parameters
    ----------
    finals : sequence of n Final
    read : sequence of n Evaluation
        Their readings.
    trials : sequence of Trial
    classes : sequence of str

    Returns
    -------
    dict of list of dict
    """
    read_by_model = [(f.candidate.model, e) for f, e in zip(finals, read, strict=True)]
    return {
        "per_genre": [{"model": model, **row} for model, e in read_by_model for row in e.per_class()],
        "confusion": [
            {"model": model, "true": true, **dict(zip(classes, counts.tolist(), strict=True))}
            for model, e in read_by_model
            for true, counts in zip(classes, e.confusion, strict=True)
        ],
        "search": [
            {
                "model": t.candidate.model,
                "setting": t.candidate.text(),
                "n_tracks": t.n_tracks,
                "accuracy": t.accuracy,
                "converged": t.converged,
            }
            for t in trials
        ],
    }


def trial_notes(trials: Sequence[Trial]) -> list[str]:
    """Which models had settings that stopped at an iteration limit.

    Parameters
    ----------
    trials : sequence of Trial

    Returns
    -------
    list of str
        One line, or none.
    """
    stopped = Counter(t.candidate.model for t in trials if not t.converged)
    parts = ", ".join(f"{n} of {model}" for model, n in stopped.items())
    return [f"settings whose fit stopped at its iteration limit: {parts}"] if parts else []


def neighbour_curves(trials: Sequence[Trial]) -> dict[str, tuple[list[float], list[float]]]:
    """How kNN's accuracy follows k.

    Parameters
    ----------
    trials : sequence of Trial

    Returns
    -------
    dict of (k, accuracy)
        With and without PCA; empty where fewer than two k were tried.
    """
    tried = [t for t in trials if t.candidate.model == "knn"]
    out: dict[str, tuple[list[float], list[float]]] = {}
    for t in tried if len(tried) > 1 else []:
        k, accuracy = out.setdefault("PCA, 95 % of variance" if t.candidate.pca else "all columns", ([], []))
        k.append(t.candidate.params["n_neighbors"])
        accuracy.append(t.accuracy)
    return out
