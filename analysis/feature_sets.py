"""Whose features are better? Sets and their features alone, left out and together, on the tracks that all sets share.

One model at one fixed setting learns from training and answers validation (never test), each time from other columns
of the same tracks. Every variant is compared with everything together, paired track by track: a difference with its
interval, and McNemar's p adjusted for the number of comparisons (Holm).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from analysis import options
from analysis.data.columns import column_groups
from analysis.data.plan import study_fold
from analysis.data.samples import Data, Sample, join, load
from analysis.evaluation import Interval, Scored, accuracy_interval, holm, mcnemar, paired_difference
from analysis.figures import plots
from analysis.models import grid, search
from analysis.results import output
from featurestore.errors import MissingInput
from featurestore.store.store import OWN_SET, Store
from featurestore.terminal import cli

TOGETHER = "everything"
Units = Mapping[str, Mapping[str, Sequence[int]]]  # set -> feature -> column positions


@dataclasses.dataclass(frozen=True)
class Variant:
    """A choice of columns.

    Parameters
    ----------
    name : str
    kind : str
        How it was made: together, set, alone or without.
    columns : tuple of int
        Column positions.
    """

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
) -> output.Study:
    """Compare feature sets with one model at its fixed setting.

    Parameters
    ----------
    store : Store
    sets : sequence of str, optional
        Names of feature sets; None: every set of the store.
    scheme, subset
        As for `analysis.data.samples.load`.
    model : str
        A model that has a fixed setting.
    seed : int

    Returns
    -------
    Study

    Raises
    ------
    MissingInput
        If the sets share too few tracks.
    UsageError
        If the model has no fixed setting.
    """
    grid.require_fixed([model])
    clock = output.Clock()
    with clock.stage("read"):
        loaded = _load(store, sets, scheme, subset)
        data, units = combine(loaded)
        learn, score, scored = study_fold(data, seed=seed)
    choices = variants(units)
    with clock.stage("fits"):
        setting = grid.fixed(model, len(learn))
        parts = [(learn.columns(v.columns), score.columns(v.columns)) for v in choices]
        tasks = [(setting, mine, [mine, other], len(data.classes), seed) for mine, other in parts]
        answers = search.parallel(search.fit_and_answer, tasks, title="feature sets")
    with clock.stage("intervals"):
        rows = _rows(choices, answers, seed)
    return output.Study(
        name="feature_sets",
        rows=rows,
        shown=output.for_people(rows),
        notes=data.notes,
        sentences=[_sentence(rows, list(loaded), model, scored)],
        facts=output.facts(
            store,
            data,
            sets=list(loaded),
            model=model,
            setting=dict(grid.FIXED[model]),
            scored_on=scored,
            shared_tracks=data.n_tracks,
        ),
        clock=clock,
        figures={"feature_sets": _figure(rows, scored)},
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
            found[name] = load(store, features=name, scheme=scheme, subset=subset)
        except MissingInput:
            if sets or len(wanted) == 1:
                raise
    return found


def combine(loaded: Mapping[str, Data]) -> tuple[Data, Units]:
    """The tracks that all sets share, with every set's columns.

    Rows are those of the first set (its excerpts); the other sets' rows are repeated for each.

    Parameters
    ----------
    loaded : mapping of Data
        The sets by name.

    Returns
    -------
    data : Data
    units : dict of dict of list of int
        Set -> feature -> column positions.

    Raises
    ------
    MissingInput
        If the sets share no training tracks of two genres; the message says how many tracks each has.
    """
    first, *others = loaded.values()
    shared = set.intersection(*({int(i) for s in d.splits.values() for i in s.track_ids} for d in loaded.values()))
    parts = {name: _widen(s, others, shared) for name, s in first.splits.items()}
    parts = {name: s for name, s in parts.items() if len(s)}
    genres = sorted({int(c) for s in parts.values() for c in np.unique(s.y)})
    if len(genres) < 2 or "training" not in parts:
        each = ", ".join(f"{name}: {d.n_tracks} tracks of {len(d.classes)} genres" for name, d in loaded.items())
        raise MissingInput(
            f"the sets share {len(shared)} tracks of {len(genres)} genres, too few to compare ({each})",
            "Name sets that cover the same tracks: `python -m analysis.feature_sets --sets A,B`.",
        )
    notes = [f"{name}: {n}" for name, d in loaded.items() for n in d.notes]
    if len(loaded) > 1:
        each = ", ".join(f"{name} has {d.n_tracks}" for name, d in loaded.items())
        notes.append(f"{len(shared)} tracks are in every set ({each})")
    data = Data(
        features="+".join(loaded),
        scheme=first.scheme,
        classes=tuple(first.classes[g] for g in genres),
        columns=tuple(f"{name}.{c}" for name, d in loaded.items() for c in d.columns),
        splits={name: dataclasses.replace(s, y=np.searchsorted(genres, s.y)) for name, s in parts.items()},
        notes=tuple(notes),
    )
    return data, _units(loaded)


def _units(loaded: Mapping[str, Data]) -> Units:
    units, start = {}, 0
    for name, d in loaded.items():
        units[name] = {g: [start + j for j in at] for g, at in column_groups(d.columns).items()}
        start += len(d.columns)
    return units


def _widen(base: Sample, others: Sequence[Data], shared: set[int]) -> Sample:
    base = base.take(np.isin(base.track_ids, list(shared)))
    blocks = [base.X]
    for other in others:
        rows = join(list(other.splits.values()))
        # a set with several excerpts of a track gives the first; imported sets have one row
        ids, first = np.unique(rows.track_ids, return_index=True)
        blocks.append(rows.X[first[np.searchsorted(ids, base.track_ids)]])
    return dataclasses.replace(base, X=np.hstack(blocks))


def variants(units: Units) -> list[Variant]:
    """Everything together, each set, each set left out, each feature alone, each feature left out.

    Parameters
    ----------
    units : mapping of mapping of list of int
        Set -> feature -> column positions.

    Returns
    -------
    list of Variant
        None with the columns of an earlier one.
    """
    sets = {name: [j for at in features.values() for j in at] for name, features in units.items()}
    several = len(units) > 1
    features = {f"{s}.{f}" if several else f: list(at) for s, named in units.items() for f, at in named.items()}
    every = sorted(j for at in sets.values() for j in at)
    out = [(TOGETHER, "together", every)]
    for kind, parts in (("set", sets), ("alone", features)):
        out += [(name, kind, sorted(at)) for name, at in parts.items()]
        out += [(f"without {name}", "without", sorted({*every} - {*at})) for name, at in parts.items()]
    unique: dict[tuple[int, ...], Variant] = {}
    for name, kind, columns in out:
        if columns:
            unique.setdefault(tuple(columns), Variant(name, kind, tuple(columns)))
    return list(unique.values())


def _rows(choices: Sequence[Variant], answers: Sequence[Sequence[Scored]], seed: int) -> list[dict[str, Any]]:
    whole = answers[0][1]
    adjusted = [None, *holm([mcnemar(scored, whole)[2] for _, scored in answers[1:]])]
    rows = [
        {
            "features": v.name,
            "kind": v.kind,
            "columns": len(v.columns),
            **accuracy_interval(scored, seed).cells("accuracy"),
            **paired_difference(scored, whole, seed).cells("change"),
            "p_holm": p,
            "train_accuracy": train.accuracy,
            "n": len(scored.truth),
        }
        for v, (train, scored), p in zip(choices, answers, adjusted, strict=True)
    ]
    order = ("together", "set", "alone", "without")
    return sorted(rows, key=lambda r: (order.index(r["kind"]), -r["accuracy"]))


def _sentence(rows: Sequence[dict[str, Any]], sets: Sequence[str], model: str, scored: str) -> str:
    whole = rows[0]
    text = (
        f"{model}, {scored}, n = {whole['n']} tracks: everything ({whole['columns']} columns of {', '.join(sets)}) "
        f"{_interval(whole, 'accuracy', '').text()}"
    )
    singles = [r for r in rows if r["kind"] == "set"] or [r for r in rows if r["kind"] == "alone"]
    if not singles:
        return text
    best = singles[0]
    sure = "a difference" if best["p_holm"] is not None and best["p_holm"] < 0.05 else "no difference shown"
    change = _interval(best, "change", "change_").text(100, 1, sign=True)
    return (
        f"{text}; best alone is {best['features']} with {best['accuracy']:.3f} "
        f"({change} points against everything: {sure})"
    )


def _interval(row: Mapping[str, Any], name: str, ends: str) -> Interval:
    return Interval(row[name], row[f"{ends}low"], row[f"{ends}high"])


def _figure(rows: Sequence[dict[str, Any]], scored: str) -> Callable[[], Any]:
    names = {"together": "all: ", "set": "set: ", "alone": "only ", "without": ""}
    return partial(
        plots.estimates,
        [names[r["kind"]] + r["features"] for r in rows],
        [_interval(r, "accuracy", "") for r in rows],
        f"{scored} accuracy (share of {rows[0]['n']} tracks), 95 % intervals; dashed: everything together",
        "features alone, together and left out",
        reference=rows[0]["accuracy"],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the study, and print and write what was found.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code: 0.
    """
    parser = options.parser("feature_sets", __doc__, features=False)
    add = parser.add_argument
    add("--sets", metavar="A,B", type=options.names, default=None, help="sets to compare; every set of the store")
    add("--model", choices=tuple(grid.FIXED), default="svm_rbf", help="model that judges")
    return options.run(feature_sets, parser, argv)


if __name__ == "__main__":
    sys.exit(cli.run(main))
