"""Principal components of standardised features, and how models fare on ever more of them. Arrays in, numbers out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.data.columns import column_groups
from analysis.data.samples import Sample
from analysis.evaluation import Interval, Scored, accuracy_interval, bootstrap_mean, by_track, interval
from analysis.models import grid, search

SHARES = (0.80, 0.90, 0.95, 0.99)
JUDGED_AT = 0.95  # fixed beforehand: choosing the best-looking number would decide the answer


@dataclasses.dataclass(frozen=True)
class Components:
    """A PCA of standardised columns.

    Parameters
    ----------
    explained : (k,)
        Shares of variance, adding up to 1.
    loadings : (k, d)
        Weights of the columns.
    """

    explained: np.ndarray
    loadings: np.ndarray


def components_for(explained: np.ndarray, share: float) -> int:
    """The smallest number of components that keep a share of the variance.

    Parameters
    ----------
    explained : (k,)
        Shares of variance, largest first.
    share : float
        0 to 1.

    Returns
    -------
    int
        1 to k.
    """
    return min(len(explained), int(np.searchsorted(np.cumsum(explained), share - 1e-9)) + 1)


@dataclasses.dataclass(frozen=True)
class Point:
    """A model on a number of principal components.

    Parameters
    ----------
    model : str
    components : int or None
        None: on the columns themselves.
    train, score : Scored
        Its answers to what it learnt from, and to what is scored.
    """

    model: str
    components: int | None
    train: Scored
    score: Scored

    @property
    def gap(self) -> float:
        """Train minus scored accuracy."""
        return self.train.accuracy - self.score.accuracy


def decompose(X: np.ndarray) -> Components:
    """PCA of imputed and standardised rows.

    Parameters
    ----------
    X : (n, d)
        Rows; NaN where missing.

    Returns
    -------
    Components
        Columns that are all constant have nothing to explain: zeros.
    """
    from sklearn.pipeline import Pipeline

    fitted = Pipeline(grid.prefix(min(X.shape))).fit(X).named_steps["pca"]
    return Components(np.nan_to_num(fitted.explained_variance_ratio_), fitted.components_)


def by_group(learn: Sample, columns: Sequence[str]) -> dict[str, Components]:
    """`decompose` of all columns and of each feature's own.

    Parameters
    ----------
    learn : Sample
    columns : sequence of str
        Names of its columns.

    Returns
    -------
    dict of Components
        "all", then the features that have more than one column.
    """
    groups = {name: at for name, at in column_groups(columns).items() if len(at) > 1}
    return {name: decompose(learn.columns(at).X) for name, at in ({"all": range(len(columns))} | groups).items()}


def counts(most: int, needed: Sequence[int]) -> list[int]:
    """Numbers of components to try: 1, 2, 5, 10, 20, 50, ... and those needed, none above `most`.

    Parameters
    ----------
    most : int
        The last of them.
    needed : sequence of int
        Numbers that must be among them.

    Returns
    -------
    list of int
        Ascending.
    """
    steps = [m * 10**e for e in range(6) for m in (1, 2, 5)]
    return sorted({k for k in (*steps, *needed, most) if 1 <= k <= most})


def sweep(
    learn: Sample, score: Sample, n_classes: int, ks: Sequence[int], names: Sequence[str], *, seed: int
) -> list[Point]:
    """Each model, at its fixed setting, without PCA and on the first k components; all fitted on `learn` alone.

    The components are computed once: the first k of a full PCA are the PCA with k components.

    Parameters
    ----------
    learn, score : Sample
        What is learnt from, and what is answered.
    n_classes : int
    ks : sequence of int
        Numbers of components.
    names : sequence of str
        Models that have a fixed setting.
    seed : int

    Returns
    -------
    list of Point
        By model; without PCA first, then by number of components.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline

    before = Pipeline(grid.prefix(None)).fit(learn.X)
    A, B = before.transform(learn.X), before.transform(score.X)
    rotate = PCA(svd_solver="full").fit(A)
    P, Q = rotate.transform(A), rotate.transform(B)
    tasks = []
    for name in sorted(names, key=lambda n: n != "svm_rbf"):  # the slowest first
        for k in (None, *sorted(ks, reverse=True)):
            left, right = (A, B) if k is None else (P[:, :k], Q[:, :k])
            tasks.append((name, k, left, right, learn, score, n_classes, seed))
    points = search.parallel(_point, tasks, title="models x components")
    order = {n: i for i, n in enumerate(names)}
    return sorted(points, key=lambda p: (order[p.model], p.components is not None, p.components or 0))


def _point(
    name: str, k: int | None, A: np.ndarray, B: np.ndarray, learn: Sample, score: Sample, n_classes: int, seed: int
) -> Point:
    setting, both = grid.fixed(name, len(A)), np.vstack([A, B])
    scores, _ = next(search.bundle_scores([setting], A, learn.y, both, learn.X.shape[1], n_classes, seed))
    train = by_track(learn.track_ids, learn.y, learn.groups, scores[: len(A)])
    return Point(name, k, train, by_track(score.track_ids, score.y, score.groups, scores[len(A) :]))


def intervals(points: Sequence[Point], seed: int = 0) -> list[tuple[Interval, Interval]]:
    """The gap and the scored accuracy of each point.

    Parameters
    ----------
    points : sequence of Point
    seed : int
        Seed of the bootstraps.

    Returns
    -------
    list of (gap, accuracy)
        The gap's interval is that of independent bootstraps of both sides.
    """
    gaps, _, draws = _both_sides(points[0], lambda side: _correct(points, side), seed)
    return [
        (gap, accuracy_interval(p.score, seed, draws[:, i]))
        for i, (p, gap) in enumerate(zip(points, gaps, strict=True))
    ]


def _correct(points: Sequence[Point], side: str) -> np.ndarray:
    return np.column_stack([getattr(p, side).correct for p in points]).astype(float)


def _both_sides(
    first: Point, values: Callable[[str], np.ndarray], seed: int
) -> tuple[list[Interval], np.ndarray, np.ndarray]:
    """Train minus scored means of each column, with intervals; the scored means, and their bootstrap draws."""
    means, draws = [], []
    for i, side in enumerate(("train", "score")):
        means.append(values(side).mean(axis=0))
        draws.append(bootstrap_mean(values(side), getattr(first, side).groups, seed + i))
    gaps = zip(means[0] - means[1], (draws[0] - draws[1]).T, strict=True)
    return [interval(value, drawn) for value, drawn in gaps], means[1], draws[1]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What PCA changes: in the gap and in the scored accuracy.

    Parameters
    ----------
    components : int
        Dimensions that are left.
    gap, score : Interval
        The changes averaged over models.
    by_model : mapping of (gap, score)
        Those of each model.
    """

    components: int
    gap: Interval
    score: Interval
    by_model: Mapping[str, tuple[Interval, Interval]]

    def rows(self) -> list[dict[str, Any]]:
        """Give the rows of verdict.csv.

        Returns
        -------
        list of dict
            The changes with their intervals: one row per model, and one of their mean.
        """
        every = {**self.by_model, "mean": (self.gap, self.score)}
        return [
            {"model": m, "components": self.components, **gap.cells("gap_change"), **score.cells("accuracy_change")}
            for m, (gap, score) in every.items()
        ]


def judge(points: Sequence[Point], components: int, seed: int = 0) -> Verdict:
    """PCA minus no PCA on the same tracks, paired, per model and averaged over the models.

    Parameters
    ----------
    points : sequence of Point
        Each model without PCA and with it.
    components : int
        The number of components to judge.
    seed : int
        Seed of the bootstraps.

    Returns
    -------
    Verdict
    """
    without = [p for p in points if p.components is None]
    by_name = {p.model: p for p in points if p.components == components}
    using = [by_name[p.model] for p in without]

    def change(side: str) -> np.ndarray:
        by_model = _correct(using, side) - _correct(without, side)
        return np.column_stack([by_model, by_model.mean(axis=1)])

    gaps, means, draws = _both_sides(without[0], change, seed)
    scores = [interval(value, drawn) for value, drawn in zip(means, draws.T, strict=True)]
    by_model = {p.model: (gaps[i], scores[i]) for i, p in enumerate(without)}
    return Verdict(components, gaps[-1], scores[-1], by_model)


def answer(verdict: Verdict, n_columns: int, n_models: int, n: int, scored: str) -> str:
    """The sentence the study exists for.

    Parameters
    ----------
    verdict : Verdict
    n_columns, n_models, n : int
        Columns, models, and tracks scored.
    scored : str
        What is scored, in words.

    Returns
    -------
    str
    """
    yes = {
        -1: "Yes: it reduces overfitting",
        0: "Not shown: the interval of the gap's change holds zero",
        1: "No: it makes overfitting worse",
    }[verdict.gap.sign]
    cost = f"and {scored} accuracy " + {-1: "falls", 0: "does not measurably change", 1: "rises"}[verdict.score.sign]
    if verdict.gap.sign < 0 and verdict.score.sign < 0:
        cost += ", so the smaller gap comes from learning less, not from generalising better"
    return (
        f"Does reducing dimension reduce overfitting here? {yes}, {cost}. PCA to {JUDGED_AT:.0%} of the variance "
        f"({verdict.components} of {n_columns} dimensions) changes the train-minus-{scored} gap by "
        f"{verdict.gap.text(100, 1, sign=True)} points and {scored} accuracy by "
        f"{verdict.score.text(100, 1, sign=True)} points (mean of {n_models} models, n = {n} tracks, 95 % intervals)."
    )


def by_model(verdict: Verdict) -> str:
    """The gap's change of each model, for a mean that may hide opposite effects.

    Parameters
    ----------
    verdict : Verdict

    Returns
    -------
    str
    """
    parts = (f"{m} {gap.text(100, 1, sign=True)}" for m, (gap, _) in verdict.by_model.items())
    return f"change of the gap by model, in points: {'; '.join(parts)}"
