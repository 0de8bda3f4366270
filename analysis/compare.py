"""Compare classical models: chosen on validation, fitted once, looked at once on test.

Hyper-parameters are searched on training rows and chosen on validation; the chosen setting learns once from training
and validation and is then shown the test tracks, once. Where the store has no test rows the figures are validation
figures, chosen by cross-validation inside training, and say so.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from analysis import options
from analysis.data.plan import Plan, make_plan
from analysis.data.samples import Data, load
from analysis.evaluation import Card, Evaluation
from analysis.figures import plots
from analysis.models import grid, persist, search
from analysis.models.search import Final, Trial
from analysis.results import output
from analysis.studies import comparison, leakage
from featurestore.errors import UsageError
from featurestore.store.store import OWN_SET, Store
from featurestore.terminal import cli

ALL = tuple(grid.MODELS)
HEADINGS = {
    "model": "model",
    "setting": "setting",
    "accuracy": "accuracy [95 %]",
    "macro_f1": "macro-F1",
    "train_accuracy": "train",
    "n": "n",
    "choice_score": "choice",
    "p_next": "p vs next",
    "fit_s": "fit s",
    "predict_s": "predict s",
}


def compare(
    store: Store,
    *,
    features: str = OWN_SET,
    scheme: str | None = None,
    subset: str | None = None,
    groups: Sequence[str] | None = None,
    models: Sequence[str] = ALL,
    grids: Mapping[str, grid.Model] = grid.MODELS,
    save: str = "best",
    models_dir: str = "models/compare",
    precision: float = 0.7,
    seed: int = 0,
) -> output.Study:
    """Search, fit and report each model on a feature set, as the module says.

    Parameters
    ----------
    store : Store
    features, scheme, subset, groups
        As for `analysis.data.samples.load`.
    models : sequence of str
        Names of the models.
    grids : mapping of Model
        What each name stands for.
    save : str
        best: the best model by *choice* score that is safe to load is kept; a name: that one; none: none.
    models_dir : str
        Folder of the kept model.
    precision : float
        The kept model answers "unknown" below the confidence from which on it was right this often, 0 to 1.
    seed : int

    Returns
    -------
    Study

    Raises
    ------
    MissingInput
        If there is nothing to compare.
    UsageError
        If a model is unknown, or may not be kept.
    """
    _check(models, save)
    clock = output.Clock()
    with clock.stage("read"):
        data = load(store, features=features, scheme=scheme, subset=subset, groups=groups)
        plan = make_plan(data, seed=seed)
    n_classes, chosen = len(data.classes), [grids[name] for name in models]
    with clock.stage("search"):
        trials = search.search(chosen, plan, n_classes, seed=seed)
    with clock.stage("final fits"):
        finals = search.finals(chosen, trials, plan, n_classes, seed=seed)
    finals.sort(key=lambda f: -f.report.accuracy)
    top = comparison.chosen(finals)
    with clock.stage("leakage gap"):
        gap, sentence = _leakage(top, data, plan, seed)
    with clock.stage("intervals"):
        read = comparison.readings(finals, data, plan, seed)
        rows = comparison.result_rows(finals, read)
    with clock.stage("kept model"):
        card, kept = _keep(store, data, plan, finals, save, models_dir, precision=precision, seed=seed)
    headline = comparison.headline(read[finals.index(top)], top.candidate.model, data, plan)
    timed = [{**r, "fit_s": f.fit_s, "predict_s": f.predict_s} for r, f in zip(rows, finals, strict=True)]
    return output.Study(
        name="compare",
        rows=rows,
        shown=output.for_people(timed, HEADINGS),
        notes=[*data.notes, *plan.notes, *comparison.trial_notes(trials)],
        sentences=[headline, sentence, *kept],
        facts=output.facts(
            store,
            data,
            chosen_on=plan.chosen_on,
            reported=plan.reported,
            leakage=gap,
            kept=card.as_dict() if card else None,
            model_seconds={f.candidate.model: comparison.seconds(f, trials) for f in finals},
        ),
        clock=clock,
        tables=comparison.tables(finals, read, trials, data.classes),
        figures=_figures(finals, read, top, trials, data, plan),
    )


def _check(names: Sequence[str], save: str) -> None:
    unknown = [n for n in names if n not in grid.MODELS]
    if unknown or not names:
        raise UsageError(f"no model {', '.join(map(repr, unknown)) or 'named'}", f"Choose from {', '.join(ALL)}.")
    if save not in ("best", "none", *names):
        raise UsageError(f"--save {save}: not among the models compared", f"Choose best, none, {', '.join(names)}.")
    if save in persist.UNSAFE:
        raise UsageError(f"--save {save}: {persist.UNSAFE[save]}", "Choose best, or another model.")


def _leakage(top: Final, data: Data, plan: Plan, seed: int) -> tuple[dict[str, Any] | None, str]:
    if data.scheme == "random":
        return None, "leakage gap: this is the random split; give --scheme artist or official to see the gap"
    found = leakage.leakage_gap(top.candidate, plan, top.report, len(data.classes), seed=seed)
    sentence = found.sentence(data.scheme)
    unknown = np.mean(np.concatenate([s.groups for s in data.splits.values()]) < 0)
    if data.scheme == "artist" and unknown > 0.5:
        sentence += f" (artists are unknown for {unknown:.0%} of the rows: the artist split is nearly a random one)"
    return dataclasses.asdict(found), sentence


def _keep(
    store: Store, data: Data, plan: Plan, finals: Sequence[Final], save: str, folder: str, **kwargs: Any
) -> tuple[Card | None, list[str]]:
    """Calibrate and write the model to keep: its card and the sentences about it."""
    safe = [f for f in finals if f.candidate.model not in persist.UNSAFE]
    if save == "none" or not safe:
        return None, []
    pick = comparison.chosen(safe) if save == "best" else next(f for f in safe if f.candidate.model == save)
    card, sentence = persist.keep(store, data, plan, pick, folder, **kwargs)
    top = comparison.chosen(finals)
    if save != "best" or pick is top:
        return card, [sentence]
    name = top.candidate.model
    why = f"kept model: not {name} ({persist.UNSAFE[name]}), but the next best, {pick.candidate.model}"
    return card, [why, sentence]


def _figures(
    finals: Sequence[Final], read: Sequence[Evaluation], top: Final, trials: Sequence[Trial], data: Data, plan: Plan
) -> dict[str, Callable[[], Any]]:
    names = [f.candidate.model for f in finals]
    what = f"{plan.reported}, n = {read[0].n} tracks"
    f1 = {n: [r["f1"] or 0.0 for r in e.per_class()] for n, e in zip(names, read, strict=True) if n != "majority"}
    best = read[finals.index(top)]
    out: dict[str, Callable[[], Any]] = {
        "accuracy": partial(
            plots.estimates,
            names,
            [e.accuracy for e in read],
            "accuracy (share of tracks)",
            f"{data.features} ({what}, {data.scheme} split)",
            train=[f.train.accuracy for f in finals],
        ),
        "confusion": partial(plots.confusion, best.confusion, data.classes, f"{top.candidate.model}: {what}"),
        "per_genre": partial(plots.f1_by_genre, data.classes, dict(list(f1.items())[:5]), f"F1 by genre ({what})"),
    }
    if curves := comparison.neighbour_curves(trials):
        out["knn_k"] = partial(plots.curves, {"": curves}, "k", "accuracy", f"kNN: choice of k on {plan.chosen_on}")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, compare the models, and print and write what was found.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code: 0.
    """
    parser = options.parser("compare", __doc__)
    add = parser.add_argument
    add("--models", metavar="A,B", type=options.names, default=",".join(ALL), help="models to compare")
    add("--save", metavar="MODEL", default="best", help="model to keep: best (by choice score), none, or a name")
    add("--models-dir", metavar="DIR", default="models/compare", help="folder of the kept model")
    add("--precision", metavar="P", type=options.share, default=0.7, help='how often answers above "unknown" are right')
    return options.run(compare, parser, argv)


if __name__ == "__main__":
    sys.exit(cli.run(main))
