"""Accuracy against the number of training tracks, and what the fitted power law says about more data.

Training sizes are log-spaced; each is drawn several times, artists taken whole and genre shares kept, and scored on
all of validation (never on test). The law error(n) = floor + scale * n^-rate is fitted per model; its interval comes
from refitting on resampled artists of the scored tracks and resampled draws. Extrapolation assumes more of the same
music: fma_medium and fma_large hold other genres in other shares, so read their figures as "this task, that size".
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from analysis import options
from analysis.data.plan import study_fold
from analysis.data.samples import Sample, load, subsample
from analysis.evaluation import Interval, Scored, bootstrap_mean, group_weights, interval
from analysis.figures import plots
from analysis.models import grid, search
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
Draws = dict[tuple[str, int], list[list[Scored]]]  # (model, size) -> answers on (train, scored) of each draw


@dataclasses.dataclass(frozen=True)
class Law:
    """A fitted power law and its uncertainty.

    Parameters
    ----------
    fitted : PowerLaw
    resampled : sequence of PowerLaw
        Those of bootstrap resamples of scored groups and of draws.
    """

    fitted: powerlaw.PowerLaw
    resampled: Sequence[powerlaw.PowerLaw]

    def accuracy(self, n: float) -> Interval:
        """Predict the accuracy at a training size.

        Parameters
        ----------
        n : float
            Training tracks, above 0.

        Returns
        -------
        Interval
            The fitted law's accuracy, 0 to 1, and the interval over the resamples.
        """
        return interval(1 - float(self.fitted.error(n)), np.array([1 - float(r.error(n)) for r in self.resampled]))

    def row(self, model: str, n: int) -> dict[str, Any]:
        """Give the law's row of power_law.csv.

        Parameters
        ----------
        model : str
        n : int
            Tracks scored.

        Returns
        -------
        dict
            The three numbers of the law, and the accuracy predicted for each of TARGETS.
        """
        row = {"model": model, **dataclasses.asdict(self.fitted), "n": n}
        for name, size in TARGETS.items():
            row |= self.accuracy(size).cells(name)
        return row

    def sentence(self, model: str, most: int) -> str:
        """Say the law and what it predicts.

        Parameters
        ----------
        model : str
        most : int
            The largest training size that was measured, in tracks.

        Returns
        -------
        str
        """
        law = self.fitted
        predicted = "; ".join(f"{name} ({n:,} tracks) {self.accuracy(n).text()}" for name, n in TARGETS.items())
        return (
            f"{model}: error(n) = {law.floor:.3f} + {law.scale:.3f} n^-{law.rate:.2f} up to {most:,} tracks, "
            f"accuracy there {self.accuracy(most).text()}; predicted for {predicted}"
        )


def learning_curve(
    store: Store,
    *,
    features: str = OWN_SET,
    scheme: str | None = None,
    subset: str | None = None,
    groups: Sequence[str] | None = None,
    models: Sequence[str] = DEFAULT_MODELS,
    sizes: int = SIZES,
    repeats: int = REPEATS,
    seed: int = 0,
) -> output.Study:
    """Run the study at the models' fixed settings.

    Parameters
    ----------
    store : Store
    features, scheme, subset, groups
        As for `analysis.data.samples.load`.
    models : sequence of str
        Models that have a fixed setting.
    sizes, repeats : int
        Training sizes, and draws of each.
    seed : int

    Returns
    -------
    Study

    Raises
    ------
    MissingInput
        If there are too few tracks for a curve.
    UsageError
        If a model has no fixed setting.
    """
    grid.require_fixed(models)
    clock = output.Clock()
    with clock.stage("read"):
        data = load(store, features=features, scheme=scheme, subset=subset, groups=groups)
        learn, score, scored = study_fold(data, seed=seed)
        ladder = training_sizes(learn, sizes)
    with clock.stage("fits"):
        draws = _draws(learn, score, ladder, models, repeats, len(data.classes), seed)
    with clock.stage("power laws"):
        laws = {m: _law(draws, m, ladder, seed) for m in models}
    accuracy = {key: _accuracy(found, seed) for key, found in draws.items()}
    rows = [_row(draws[m, n], accuracy[m, n], m, n) for m in models for n in ladder]
    title = f"{data.features}: {scored} accuracy, n = {score.n_tracks} tracks, 95 % intervals"
    return output.Study(
        name="learning_curve",
        rows=rows,
        shown=output.for_people(rows),
        notes=data.notes,
        sentences=[*(law.sentence(m, ladder[-1]) for m, law in laws.items()), _caveat(ladder[-1])],
        facts=output.facts(
            store,
            data,
            scored_on=scored,
            n_scored=score.n_tracks,
            repeats=repeats,
            fixed_settings={n: dict(grid.FIXED[n]) for n in models},
        ),
        clock=clock,
        tables={"power_law": [law.row(m, score.n_tracks) for m, law in laws.items()]},
        figures={"curve": _figure(accuracy, laws, ladder, title)},
    )


def training_sizes(learn: Sample, n_sizes: int) -> list[int]:
    """Log-spaced numbers of training tracks up to all.

    Parameters
    ----------
    learn : Sample
        All there is to learn from.
    n_sizes : int
        How many.

    Returns
    -------
    list of int
        Ascending.

    Raises
    ------
    MissingInput
        If there are fewer than three different ones.
    """
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
    models: Sequence[str],
    repeats: int,
    n_classes: int,
    seed: int,
) -> Draws:
    """All models learn from the same draws."""
    tasks, keys = [], []
    for n in reversed(ladder):
        # every draw of all tracks would be the same one
        for r in range(repeats if n < ladder[-1] else 1):
            part = learn.take(subsample(learn, n, np.random.default_rng([seed, n, r])))
            tasks += [(grid.fixed(m, len(part)), part, [part, score], n_classes, seed) for m in models]
            keys += [(m, n) for m in models]
    out: Draws = {}
    answers = search.parallel(search.fit_and_answer, tasks, title="learning curve")
    for key, found in zip(keys, answers, strict=True):
        out.setdefault(key, []).append(found)
    return out


def _accuracy(draws: Sequence[Sequence[Scored]], seed: int) -> Interval:
    right = np.mean([scored.correct for _, scored in draws], axis=0)
    return interval(float(right.mean()), bootstrap_mean(right, draws[0][1].groups, seed))


def _row(draws: Sequence[Sequence[Scored]], accuracy: Interval, model: str, n: int) -> dict[str, Any]:
    return {
        "model": model,
        "n_train": n,
        "draws": len(draws),
        **accuracy.cells("accuracy"),
        "train_accuracy": float(np.mean([train.accuracy for train, _ in draws])),
        "n": len(draws[0][1].truth),
    }


def _law(draws: Draws, model: str, ladder: Sequence[int], seed: int) -> Law:
    wrong = [np.array([~scored.correct for _, scored in draws[model, n]], dtype=float) for n in ladder]
    _, code = np.unique(draws[model, ladder[0]][0][1].groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    x, weight = np.array(ladder), np.array([float(len(w)) for w in wrong])
    fitted = powerlaw.fit(x, np.array([w.mean() for w in wrong]), weight)
    resampled = []
    for block in group_weights(int(code.max()) + 1, rng, _RESAMPLES):
        for times in block:
            tracks = times[code]
            picked = [w[rng.integers(len(w), size=len(w))].mean(axis=0) for w in wrong]
            resampled.append(powerlaw.fit(x, np.array([p @ tracks for p in picked]) / tracks.sum(), weight))
    return Law(fitted, resampled)


def _caveat(most: int) -> str:
    far = TARGETS["fma_large"] / most
    return (
        f"the prediction reaches {far:.0f} times beyond the data and assumes more of the same music and genres; "
        "its interval holds the noise of these draws, not a change of the curve's shape"
    )


def _figure(
    accuracy: Mapping[tuple[str, int], Interval], laws: Mapping[str, Law], ladder: Sequence[int], title: str
) -> Callable[[], Any]:
    reach = np.geomspace(ladder[0], max(TARGETS["fma_large"], ladder[-1]), 60)
    return partial(
        plots.extrapolation,
        {m: (ladder, [accuracy[m, n] for n in ladder]) for m in laws},
        {m: (reach, [law.accuracy(n) for n in reach]) for m, law in laws.items()},
        {name: n for name, n in TARGETS.items() if n > ladder[-1]},
        title,
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
    parser = options.parser("learning_curve", __doc__)
    add = parser.add_argument
    add("--models", metavar="A,B", type=options.names, default=",".join(DEFAULT_MODELS), help="models to study")
    add("--sizes", metavar="N", type=cli.positive, default=SIZES, help="training sizes, log-spaced")
    add("--repeats", metavar="N", type=cli.positive, default=REPEATS, help="draws of each size")
    return options.run(learning_curve, parser, argv)


if __name__ == "__main__":
    sys.exit(cli.run(main))
