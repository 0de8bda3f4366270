"""Accuracy against the number of training tracks, and what the fitted power law says about more data.

Training sizes are log-spaced; each is drawn several times, artists taken whole and genre shares kept, and scored on
all of validation (never on test). The law error(n) = floor + scale * n^-rate is fitted per model; its interval comes
from refitting on resampled artists of the scored tracks and resampled draws. Extrapolation assumes more of the same
music: fma_medium and fma_large hold other genres in other shares, so read their figures as "this task, that size".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis import evaluation, options
from analysis.data import samples as tables
from analysis.data.samples import Data, Sample
from analysis.evaluation import Interval, Scored
from analysis.figures import plots
from analysis.models import grid, search
from analysis.models.grid import Candidate
from analysis.results import output
from analysis.studies import powerlaw
from featurestore.errors import MissingInput
from featurestore.store.store import OWN_SET, Store
from featurestore.terminal import cli

TARGETS = {"fma_medium": 25_000, "fma_large": 106_574}
DEFAULT_MODELS = ("logistic", "knn", "svm_rbf")
SIZES, REPEATS = 8, 5
_RESAMPLES = 500
_FEWEST_PER_GENRE = 4  # where there are enough; two otherwise


def learning_curve(
    store: Store,
    *,
    features: str = OWN_SET,
    scheme: str | None = None,
    subset: str | None = None,
    groups: Sequence[str] | None = None,
    names: Sequence[str] = DEFAULT_MODELS,
    n_sizes: int = SIZES,
    repeats: int = REPEATS,
    seed: int = 0,
    jobs: int = 1,
) -> output.Study:
    """Run the study at the models' fixed settings. Raises MissingInput where there are too few tracks for a curve."""
    grid.require_fixed(names)
    clock = output.Clock()
    with clock.stage("read"):
        data = tables.load(store, features=features, scheme=scheme, subset=subset, groups=groups)
        learn, score, scored = tables.study_fold(data, seed=seed)
        ladder = sizes(learn, n_sizes)
    with clock.stage("fits"):
        draws = _draws(learn, score, ladder, names, repeats, len(data.classes), seed, jobs)
    with clock.stage("power laws"):
        laws = {m: _law(draws, m, ladder, seed) for m in names}
    rows = [_row(draws[m, n], m, n, seed) for m in names for n in ladder]
    return output.Study(
        "learning_curve",
        output.table(rows),
        [*(f"note: {n}" for n in data.notes), *(_sentence(m, laws[m], ladder[-1]) for m in names), _caveat(ladder[-1])],
        output.facts(
            store,
            data,
            seed=seed,
            subset=subset,
            jobs=jobs,
            scored_on=scored,
            n_scored=score.n_tracks,
            repeats=repeats,
            settings={n: dict(grid.FIXED[n]) for n in names},
            notes=data.notes,
        ),
        clock,
        tables={"power_law": output.table([_law_row(m, laws[m], score.n_tracks) for m in names])},
        figures={"curve": _figure(rows, laws, names, data, scored, ladder[-1])},
        timed=output.shown(rows),
    )


def sizes(learn: Sample, n_sizes: int) -> list[int]:
    """Log-spaced numbers of training tracks up to all. Raises MissingInput for fewer than three of them."""
    n, classes = learn.n_tracks, len(np.unique(learn.y))
    least = 2 * classes
    first = min(_FEWEST_PER_GENRE * classes, max(least, n // 4))
    found = sorted({round(v) for v in np.geomspace(min(first, n), n, n_sizes)})
    if len(found) < 3 or 2 * n < 3 * least:
        raise MissingInput(
            f"a learning curve over {classes} genres needs at least {-(-3 * least // 2)} training tracks, found {n}",
            "Add tracks with `python -m featurestore build`, or study another --features set or --scheme.",
        )
    return found


def _draws(
    learn: Sample,
    score: Sample,
    ladder: Sequence[int],
    names: Sequence[str],
    repeats: int,
    n_classes: int,
    seed: int,
    jobs: int,
) -> dict[tuple[str, int], list[tuple[float, Scored]]]:
    """(model, size) -> one (train accuracy, answers) per draw; all models learn from the same draws."""
    tasks, keys = [], []
    for n in reversed(ladder):
        # every draw of all tracks would be the same one
        for r in range(repeats if n < ladder[-1] else 1):
            part = learn.take(tables.subsample(learn, n, np.random.default_rng([seed, n, r])))
            tasks += [(name, part, score, n_classes, seed) for name in names]
            keys += [(name, n) for name in names]
    out: dict[tuple[str, int], list[tuple[float, Scored]]] = {}
    for key, found in zip(keys, search.parallel(_fit, tasks, jobs=jobs, title="learning curve"), strict=True):
        out.setdefault(key, []).append(found)
    return out


def _fit(name: str, learn: Sample, score: Sample, n_classes: int, seed: int) -> tuple[float, Scored]:
    params = dict(grid.FIXED[name])
    if name == "knn":
        params["n_neighbors"] = min(params["n_neighbors"], len(learn))
    fitted = search.fit(Candidate(name, None, params), learn, seed)
    return search.answers(fitted, learn, n_classes).accuracy, search.answers(fitted, score, n_classes)


def _row(draws: Sequence[tuple[float, Scored]], model: str, n: int, seed: int) -> dict[str, Any]:
    right = np.mean([s.correct for _, s in draws], axis=0)
    accuracy = evaluation.interval(float(right.mean()), evaluation.bootstrap_mean(right, draws[0][1].groups, seed))
    return {
        "model": model,
        "n_train": n,
        "draws": len(draws),
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "train_accuracy": float(np.mean([t for t, _ in draws])),
        "n": len(right),
    }


def _law(
    draws: dict[tuple[str, int], list[tuple[float, Scored]]], model: str, ladder: Sequence[int], seed: int
) -> tuple[powerlaw.PowerLaw, list[powerlaw.PowerLaw]]:
    """The law fitted to the mean errors, and the laws of bootstrap resamples of scored groups and of draws."""
    wrong = [np.array([~s.correct for _, s in draws[model, n]], dtype=float) for n in ladder]
    first = draws[model, ladder[0]][0][1]
    _, code = np.unique(first.groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    x, weight = np.array(ladder), np.array([float(len(w)) for w in wrong])
    law = powerlaw.fit(x, np.array([w.mean() for w in wrong]), weight)
    resampled = []
    for block in evaluation.group_weights(int(code.max()) + 1, rng, _RESAMPLES):
        for times in block:
            tracks = times[code]
            picked = [w[rng.integers(len(w), size=len(w))].mean(axis=0) for w in wrong]
            resampled.append(powerlaw.fit(x, np.array([p @ tracks for p in picked]) / tracks.sum(), weight))
    return law, resampled


def predict(law: tuple[powerlaw.PowerLaw, list[powerlaw.PowerLaw]], n: float) -> Interval:
    """Accuracy that the law predicts at n training tracks, with the interval over its resamples."""
    return evaluation.interval(1 - float(law[0].error(n)), np.array([1 - float(r.error(n)) for r in law[1]]))


def _law_row(model: str, law: tuple[powerlaw.PowerLaw, list[powerlaw.PowerLaw]], n: int) -> dict[str, Any]:
    row: dict[str, Any] = {"model": model, "floor": law[0].floor, "scale": law[0].scale, "rate": law[0].rate, "n": n}
    for name, size in TARGETS.items():
        found = predict(law, size)
        row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return row


def _sentence(model: str, law: tuple[powerlaw.PowerLaw, list[powerlaw.PowerLaw]], most: int) -> str:
    told = "; ".join(f"{name} ({n:,} tracks) {predict(law, n).text()}" for name, n in TARGETS.items())
    fitted = law[0]
    return (
        f"{model}: error(n) = {fitted.floor:.3f} + {fitted.scale:.3f} n^-{fitted.rate:.2f} up to {most:,} tracks, "
        f"accuracy there {predict(law, most).text()}; predicted for {told}"
    )


def _caveat(most: int) -> str:
    far = TARGETS["fma_large"] / most
    return (
        f"the prediction reaches {far:.0f} times beyond the data and assumes more of the same music and genres; "
        "its interval holds the noise of these draws, not a change of the curve's shape"
    )


def _figure(
    rows: Sequence[dict[str, Any]],
    laws: dict[str, tuple[powerlaw.PowerLaw, list[powerlaw.PowerLaw]]],
    names: Sequence[str],
    data: Data,
    scored: str,
    most: int,
) -> Any:
    reach = np.geomspace(rows[0]["n_train"], max(TARGETS["fma_large"], most), 60)
    measured = {m: [r for r in rows if r["model"] == m] for m in names}
    return plots.extrapolation(
        {m: ([r["n_train"] for r in rs], [r["accuracy"] for r in rs]) for m, rs in measured.items()},
        {m: ([r["low"] for r in rs], [r["high"] for r in rs]) for m, rs in measured.items()},
        {m: (reach, [predict(laws[m], n) for n in reach]) for m in names},
        {name: n for name, n in TARGETS.items() if n > most},
        f"{data.features}: {scored} accuracy, n = {rows[0]['n']} tracks, 95 % intervals",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, study, print."""
    parser = cli.Parser(prog="python -m analysis.learning_curve", description=__doc__)
    options.add_study(parser)
    add = parser.add_argument
    add("--models", metavar="A,B", type=options.names, default=",".join(DEFAULT_MODELS), help="models to study")
    add("--sizes", metavar="N", type=cli.positive, default=SIZES, help="training sizes, log-spaced")
    add("--repeats", metavar="N", type=cli.positive, default=REPEATS, help="draws of each size")
    args = parser.parse_args(argv)
    with options.joblib_backend(args.backend):
        study = learning_curve(
            Store.open(args.store),
            features=args.features,
            scheme=args.scheme,
            subset=args.subset,
            groups=args.groups,
            names=args.models,
            n_sizes=args.sizes,
            repeats=args.repeats,
            seed=args.seed,
            jobs=args.jobs,
        )
    output.report(study, args.output, args.format)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
