"""Compare classical models: chosen on validation, fitted once, looked at once on test.

Hyper-parameters are searched on training rows and chosen on validation; the chosen setting learns once from training
and validation and is then shown the test tracks, once. Where the store has no test rows the figures are validation
figures, chosen by cross-validation inside training, and say so.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis import options
from analysis.data import samples as tables
from analysis.data.samples import Data, Plan
from analysis.models import grid, keep, search
from analysis.models.search import Final, Trial
from analysis.results import output
from analysis.studies import comparison, leakage
from featurestore.errors import UsageError
from featurestore.store.store import OWN_SET, Store
from featurestore.terminal import cli

ALL = tuple(grid.MODELS)


def compare(
    store: Store,
    *,
    features: str = OWN_SET,
    scheme: str | None = None,
    subset: str | None = None,
    groups: Sequence[str] | None = None,
    names: Sequence[str] = ALL,
    save: str = "best",
    models_dir: str = "models/compare",
    precision: float = 0.7,
    seed: int = 0,
    jobs: int = 1,
) -> output.Study:
    """Search, fit and report each of `names` on a feature set, as the module says.

    save       "best" keeps the best model by *choice* score that is safe to load, a name keeps that one, "none" none
    precision  the kept model answers "unknown" below the confidence from which on it was right this often
    Raises MissingInput where there is nothing to compare, UsageError for an unknown model.
    """
    _check(names, save)
    clock = output.Clock()
    with clock.stage("read"):
        data = tables.load(store, features=features, scheme=scheme, subset=subset, groups=groups)
        made = tables.plan(data, seed=seed)
    n_classes = len(data.classes)
    with clock.stage("search"):
        trials = search.search(names, made, n_classes, seed=seed, jobs=jobs)
    with clock.stage("final fits"):
        finals = search.finals(names, trials, made, n_classes, seed=seed, jobs=jobs)
    top = comparison.chosen(finals)
    with clock.stage("leakage gap"):
        gap, sentence = _leakage(top, data, made, seed, jobs)
    with clock.stage("intervals"):
        finals.sort(key=lambda f: -f.report.accuracy)
        rows = comparison.result_rows(finals, n_classes, seed)
    with clock.stage("kept model"):
        card, kept = _keep(store, data, made, finals, save, models_dir, precision, seed, jobs)
    with clock.stage("figures"):
        figures = comparison.figures(finals, rows, trials, data, made)
    notes = [*data.notes, *made.notes, *_trial_notes(trials)]
    facts = output.facts(
        store,
        data,
        seed=seed,
        subset=subset,
        jobs=jobs,
        chosen_on=made.chosen_on,
        reported=made.reported,
        notes=notes,
        leakage=gap,
        kept=card,
        model_seconds={f.candidate.model: comparison.seconds(f, trials) for f in finals},
    )
    return output.Study(
        "compare",
        output.table(rows),
        [*(f"note: {n}" for n in notes), comparison.headline(top, rows, data, made), sentence, *kept],
        facts,
        clock,
        tables={
            "per_genre": output.table(comparison.per_genre(finals, data)),
            "confusion": output.table(comparison.confusions(finals, data)),
            "search": comparison.search_table(trials),
        },
        figures=figures,
        timed=comparison.timed(rows, finals),
    )


def _check(names: Sequence[str], save: str) -> None:
    unknown = [n for n in names if n not in grid.MODELS]
    if unknown or not names:
        raise UsageError(f"no model {', '.join(map(repr, unknown)) or 'named'}", f"Choose from {', '.join(ALL)}.")
    if save not in ("best", "none", *names):
        raise UsageError(f"--save {save}: not among the models compared", f"Choose best, none, {', '.join(names)}.")
    if save in keep.UNSAFE:
        raise UsageError(f"--save {save}: {keep.UNSAFE[save]}", "Choose best, or another model.")


def _trial_notes(trials: Sequence[Trial]) -> list[str]:
    stopped: dict[str, int] = {}
    for t in trials:
        stopped[t.candidate.model] = stopped.get(t.candidate.model, 0) + (not t.converged)
    parts = [f"{n} of {m}" for m, n in stopped.items() if n]
    return [f"settings whose fit stopped at its iteration limit: {', '.join(parts)}"] if parts else []


def _leakage(top: Final, data: Data, made: Plan, seed: int, jobs: int) -> tuple[dict[str, Any] | None, str]:
    if data.scheme == "random":
        return None, "leakage gap: this is the random split; give --scheme artist or official to see the gap"
    found = leakage.leakage_gap(top.candidate, made, top.report, len(data.classes), seed=seed, jobs=jobs)
    sentence = found.sentence(data.scheme)
    # the warehouse gives a track of unknown artist a negative group of its own
    unknown = np.mean(np.concatenate([s.groups for s in data.splits.values()]) < 0)
    if data.scheme == "artist" and unknown > 0.5:
        sentence += f" (artists are unknown for {unknown:.0%} of the rows: the artist split is nearly a random one)"
    return dataclasses.asdict(found), sentence


def _keep(
    store: Store,
    data: Data,
    made: Plan,
    finals: Sequence[Final],
    save: str,
    folder: str,
    precision: float,
    seed: int,
    jobs: int,
) -> tuple[dict[str, Any] | None, list[str]]:
    """Calibrate and write the model to keep: its card and the sentences about it."""
    safe = [f for f in finals if f.candidate.model not in keep.UNSAFE]
    if save == "none" or not safe:
        return None, []
    top = comparison.chosen(finals)
    pick = comparison.chosen(safe) if save == "best" else next(f for f in safe if f.candidate.model == save)
    sentences = []
    if save == "best" and pick is not top:
        name = top.candidate.model
        sentences.append(f"kept model: not {name} ({keep.UNSAFE[name]}), but the next best, {pick.candidate.model}")
    card, sentence = keep.keep(store, data, made, pick, folder, precision=precision, seed=seed, jobs=jobs)
    return card, [*sentences, sentence]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, compare, print."""
    parser = cli.Parser(prog="python -m analysis.compare", description=__doc__)
    options.add_study(parser)
    add = parser.add_argument
    add("--models", metavar="A,B", type=options.names, default=",".join(ALL), help="models to compare")
    add("--save", metavar="MODEL", default="best", help="model to keep: best (by choice score), none, or a name")
    add("--models-dir", metavar="DIR", default="models/compare", help="folder of the kept model")
    add("--precision", metavar="P", type=options.share, default=0.7, help='how often answers above "unknown" are right')
    args = parser.parse_args(argv)
    with options.joblib_backend(args.backend):
        study = compare(
            Store.open(args.store),
            features=args.features,
            scheme=args.scheme,
            subset=args.subset,
            groups=args.groups,
            names=args.models,
            save=args.save,
            models_dir=args.models_dir,
            precision=args.precision,
            seed=args.seed,
            jobs=args.jobs,
        )
    output.report(study, args.output, args.format)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
