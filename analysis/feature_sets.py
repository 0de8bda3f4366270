"""Whose features are better? Sets and their features alone, left out and together, on the tracks that all sets share.

One model at one fixed setting learns from training and answers validation (never test), each time from other columns
of the same tracks. Every variant is compared with everything together, paired track by track: a difference with its
interval, and McNemar's p adjusted for the number of comparisons (Holm).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis import evaluation, options
from analysis.data import samples as tables
from analysis.data.samples import Data, Sample
from analysis.evaluation import Scored
from analysis.figures import plots
from analysis.models import grid, search
from analysis.models.grid import Candidate
from analysis.results import output
from featurestore.errors import MissingInput
from featurestore.store.store import OWN_SET, Store
from featurestore.terminal import cli

TOGETHER = "everything"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A choice of columns: what it is called, how it was made (together, set, alone, without), and the columns."""

    name: str
    kind: str
    columns: tuple[int, ...]


def feature_sets(
    store: Store,
    *,
    sets: Sequence[str] | None = None,
    scheme: str | None = None,
    subset: str | None = None,
    model: str = "svm_rbf",
    seed: int = 0,
    jobs: int = 1,
) -> output.Study:
    """Compare `sets` (default: every set of the store) with `model` at its fixed setting.

    Raises UsageError for a model without a fixed setting, MissingInput where the sets share too few tracks.
    """
    grid.require_fixed([model])
    clock = output.Clock()
    with clock.stage("read"):
        loaded = _load(store, sets, scheme, subset)
        data, units = combine(loaded)
        learn, score, scored = tables.study_fold(data, seed=seed)
    choices = variants(units)
    with clock.stage("fits"):
        tasks = [(model, learn.columns(v.columns), score.columns(v.columns), len(data.classes), seed) for v in choices]
        answers = search.parallel(_fit, tasks, jobs=jobs, title="feature sets")
    with clock.stage("intervals"):
        rows = _rows(choices, answers, len(learn.X), seed)
    return output.Study(
        "feature_sets",
        output.table(rows),
        [*(f"note: {n}" for n in data.notes), _sentence(rows, list(loaded), model, scored)],
        output.facts(
            store,
            data,
            seed=seed,
            subset=subset,
            jobs=jobs,
            sets=list(loaded),
            model=model,
            setting=dict(grid.FIXED[model]),
            scored_on=scored,
            shared_tracks=data.n_tracks,
            notes=data.notes,
        ),
        clock,
        figures=_figures(rows, scored),
        timed=output.shown(rows),
    )


def _load(store: Store, sets: Sequence[str] | None, scheme: str | None, subset: str | None) -> dict[str, Data]:
    """The sets by name. Of sets not asked for by name, those without usable rows are left out."""
    wanted = sets or [*([OWN_SET] if store.batches() else []), *store.feature_sets()]
    if not wanted:
        raise MissingInput(
            f"store {store.url} has no feature set",
            "Measure audio with `python -m featurestore build`, or import a table with "
            "`python -m featurestore import-features --set NAME TABLE`.",
        )
    found = {}
    for name in dict.fromkeys(wanted):
        try:
            found[name] = tables.load(store, features=name, scheme=scheme, subset=subset)
        except MissingInput:
            if sets or len(wanted) == 1:
                raise
    return found


def combine(loaded: Mapping[str, Data]) -> tuple[Data, dict[str, dict[str, list[int]]]]:
    """(one Data over the shared tracks with every set's columns, {set: {feature: column positions}}).

    Rows are those of the first set (its excerpts); the other sets' rows are repeated for each. Raises MissingInput
    where the sets share no training tracks of two genres, naming how many tracks each has.
    """
    first, *others = loaded.values()
    shared = set.intersection(*({int(i) for s in d.splits.values() for i in s.track_ids} for d in loaded.values()))
    parts = {name: _widen(s, others, shared) for name, s in first.splits.items()}
    parts = {name: s for name, s in parts.items() if len(s)}
    genres = sorted({int(c) for s in parts.values() for c in np.unique(s.y)})
    if len(genres) < 2 or "training" not in parts:
        told = ", ".join(f"{name}: {d.n_tracks} tracks of {len(d.classes)} genres" for name, d in loaded.items())
        raise MissingInput(
            f"the sets share {len(shared)} tracks of {len(genres)} genres, too few to compare ({told})",
            "Name sets that cover the same tracks: `python -m analysis.feature_sets --sets A,B`.",
        )
    parts = {name: dataclasses.replace(s, y=np.searchsorted(genres, s.y)) for name, s in parts.items()}
    units: dict[str, dict[str, list[int]]] = {}
    start = 0
    for name, d in loaded.items():
        units[name] = {g: [start + j for j in at] for g, at in tables.column_groups(d.columns).items()}
        start += len(d.columns)
    notes = [f"{name}: {n}" for name, d in loaded.items() for n in d.notes]
    if len(loaded) > 1:
        notes.append(
            f"{len(shared)} tracks are in every set ("
            + ", ".join(f"{name} has {d.n_tracks}" for name, d in loaded.items())
            + ")"
        )
    whole = dataclasses.replace(
        first,
        features="+".join(loaded),
        classes=tuple(first.classes[g] for g in genres),
        columns=tuple(f"{name}.{c}" for name, d in loaded.items() for c in d.columns),
        splits=parts,
        notes=tuple(notes),
    )
    return dataclasses.replace(whole, fingerprint=tables.fingerprint(parts, whole.classes, whole.columns)), units


def _widen(base: Sample, others: Sequence[Data], shared: set[int]) -> Sample:
    base = base.take(np.isin(base.track_ids, list(shared)))
    blocks = [base.X]
    for other in others:
        rows = tables.join(list(other.splits.values()))
        # a set with several excerpts of a track gives the first; imported sets have one row
        ids, first = np.unique(rows.track_ids, return_index=True)
        blocks.append(rows.X[first[np.searchsorted(ids, base.track_ids)]])
    return dataclasses.replace(base, X=np.hstack(blocks))


def variants(units: Mapping[str, Mapping[str, Sequence[int]]]) -> list[Variant]:
    """Everything together, each set, each set left out, each feature alone, each feature left out; none twice."""
    features = {(s, f): tuple(at) for s, fs in units.items() for f, at in fs.items()}
    every = tuple(sorted(j for at in features.values() for j in at))
    sets = {s: tuple(sorted(j for at in fs.values() for j in at)) for s, fs in units.items()}
    label = {(s, f): f"{s}.{f}" if len(units) > 1 else f for s, f in features}
    out = [Variant(TOGETHER, "together", every)]
    out += [Variant(s, "set", at) for s, at in sets.items()]
    out += [Variant(f"without {s}", "without", _rest(every, at)) for s, at in sets.items()]
    out += [Variant(label[k], "alone", at) for k, at in features.items()]
    out += [Variant(f"without {label[k]}", "without", _rest(every, at)) for k, at in features.items()]
    unique: dict[tuple[int, ...], Variant] = {}
    for v in out:
        if v.columns:
            unique.setdefault(v.columns, v)
    return list(unique.values())


def _rest(every: tuple[int, ...], at: tuple[int, ...]) -> tuple[int, ...]:
    gone = set(at)
    return tuple(j for j in every if j not in gone)


def _fit(model: str, learn: Sample, score: Sample, n_classes: int, seed: int) -> tuple[float, Scored]:
    params = dict(grid.FIXED[model])
    if model == "knn":
        params["n_neighbors"] = min(params["n_neighbors"], len(learn))
    fitted = search.fit(Candidate(model, None, params), learn, seed)
    return search.answers(fitted, learn, n_classes).accuracy, search.answers(fitted, score, n_classes)


def _rows(
    choices: Sequence[Variant], answers: Sequence[tuple[float, Scored]], n_train: int, seed: int
) -> list[dict[str, Any]]:
    whole = answers[0][1]
    p = [evaluation.mcnemar(s, whole)[2] for _, s in answers[1:]]
    rows = []
    for v, (train, scored), adjusted in zip(choices, answers, [None, *evaluation.holm(p)], strict=True):
        accuracy = evaluation.accuracy_interval(scored, seed)
        change = evaluation.paired_difference(scored, whole, seed)
        rows.append(
            {
                "features": v.name,
                "kind": v.kind,
                "columns": len(v.columns),
                "accuracy": accuracy.value,
                "low": accuracy.low,
                "high": accuracy.high,
                "change": change.value,
                "change_low": change.low,
                "change_high": change.high,
                "p_holm": adjusted,
                "train_accuracy": train,
                "n": len(scored.truth),
            }
        )
    order = {"together": 0, "set": 1, "alone": 2, "without": 3}
    return sorted(rows, key=lambda r: (order[r["kind"]], -r["accuracy"]))


def _sentence(rows: Sequence[dict[str, Any]], sets: Sequence[str], model: str, scored: str) -> str:
    whole = rows[0]
    singles = [r for r in rows if r["kind"] == "set"] or [r for r in rows if r["kind"] == "alone"]
    told = [
        f"{model}, {scored}, n = {whole['n']} tracks: everything ({whole['columns']} columns of {', '.join(sets)}) "
        f"{whole['accuracy']:.3f} [{whole['low']:.3f}, {whole['high']:.3f}]"
    ]
    if singles:
        best = singles[0]
        sure = "a difference" if best["p_holm"] is not None and best["p_holm"] < 0.05 else "no difference shown"
        told.append(
            f"best alone is {best['features']} with {best['accuracy']:.3f} "
            f"({100 * best['change']:+.1f} [{100 * best['change_low']:+.1f}, {100 * best['change_high']:+.1f}] points "
            f"against everything: {sure})"
        )
    return "; ".join(told)


def _figures(rows: Sequence[dict[str, Any]], scored: str) -> dict[str, Any]:
    names = {"together": "all: ", "set": "set: ", "alone": "only ", "without": ""}
    accuracy = [evaluation.Interval(r["accuracy"], r["low"], r["high"]) for r in rows]
    return {
        "feature_sets": plots.dots(
            [names[r["kind"]] + r["features"] for r in rows],
            accuracy,
            xlabel=f"{scored} accuracy (share of {rows[0]['n']} tracks), 95 % intervals; dashed: everything together",
            title="features alone, together and left out",
            zero=rows[0]["accuracy"],
        )
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, study, print."""
    parser = cli.Parser(prog="python -m analysis.feature_sets", description=__doc__)
    options.add_study(parser, features=False)
    add = parser.add_argument
    add("--sets", metavar="A,B", type=options.names, default=None, help="sets to compare; every set of the store")
    add("--model", choices=tuple(grid.FIXED), default="svm_rbf", help="model that judges")
    args = parser.parse_args(argv)
    with options.joblib_backend(args.backend):
        study = feature_sets(
            Store.open(args.store),
            sets=args.sets,
            scheme=args.scheme,
            subset=args.subset,
            model=args.model,
            seed=args.seed,
            jobs=args.jobs,
        )
    output.report(study, args.output, args.format)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
