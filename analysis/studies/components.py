"""Principal components of standardised features, and how models fare on ever more of them. Arrays in, numbers out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis import evaluation
from analysis.data.samples import Sample, column_groups
from analysis.evaluation import Interval, Scored
from analysis.models import grid, search
from analysis.models.grid import Candidate

SHARES = (0.80, 0.90, 0.95, 0.99)
JUDGED_AT = 0.95  # fixed beforehand: choosing the best-looking number would decide the answer


@dataclasses.dataclass(frozen=True)
class Components:
    """A PCA of standardised columns: explained (k,) shares of variance adding up to 1, loadings (k, d)."""

    explained: np.ndarray
    loadings: np.ndarray

    def needed(self, share: float) -> int:
        """The smallest number of components that keep this share of the variance."""
        return min(len(self.explained), int(np.searchsorted(np.cumsum(self.explained), share - 1e-9)) + 1)


@dataclasses.dataclass(frozen=True)
class Point:
    """A model on `components` principal components (None: on the columns themselves): answers on both sides."""

    model: str
    components: int | None
    train: Scored
    score: Scored


def decompose(X: np.ndarray) -> Components:
    """PCA of X (n, d), imputed and standardised. A group of constant columns has nothing to explain: zeros."""
    from sklearn.pipeline import Pipeline

    return _components(Pipeline(grid.prefix(min(X.shape))).fit(X).named_steps["pca"])


def _components(fitted: Any) -> Components:
    return Components(np.nan_to_num(fitted.explained_variance_ratio_), fitted.components_)


def by_group(learn: Sample, columns: Sequence[str]) -> dict[str, Components]:
    """`decompose` of all columns ("all") and of each feature's own, where a feature has more than one."""
    groups = {name: at for name, at in column_groups(columns).items() if len(at) > 1}
    single = {"all": list(range(len(columns)))}
    return {name: decompose(learn.columns(at).X) for name, at in (single | groups).items()}


def counts(most: int, needed: Sequence[int]) -> list[int]:
    """Numbers of components to try: 1, 2, 5, 10, 20, 50, ... and those `needed`, none above `most`."""
    steps = [m * 10**e for e in range(6) for m in (1, 2, 5)]
    return sorted({k for k in (*steps, *needed, most) if 1 <= k <= most})


def sweep(
    learn: Sample, score: Sample, n_classes: int, ks: Sequence[int], names: Sequence[str], *, seed: int, jobs: int
) -> list[Point]:
    """Each model, at its fixed setting, without PCA and on the first k components; all fitted on `learn` alone.

    The components are computed once: the first k of a full PCA are the PCA with k components.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline

    before = Pipeline(grid.prefix(None)).fit(learn.X)
    A, B = before.transform(learn.X), before.transform(score.X)
    rotate = PCA(svd_solver="full").fit(A)
    P, Q = rotate.transform(A), rotate.transform(B)
    tasks = []
    for name in sorted(names, key=lambda n: n != "svm_rbf"):
        for k in (None, *sorted(ks, reverse=True)):
            left, right = (A, B) if k is None else (P[:, :k], Q[:, :k])
            tasks.append((name, k, left, right, learn, score, n_classes, seed))
    points = search.parallel(_point, tasks, jobs=jobs, title="models x components")
    order = {n: i for i, n in enumerate(names)}
    return sorted(points, key=lambda p: (order[p.model], p.components is not None, p.components or 0))


def _point(
    name: str, k: int | None, A: np.ndarray, B: np.ndarray, learn: Sample, score: Sample, n_classes: int, seed: int
) -> Point:
    params = dict(grid.FIXED[name])
    if name == "knn":
        params["n_neighbors"] = min(params["n_neighbors"], len(A))
    one = [Candidate(name, None, params)]
    both, _ = next(iter(search.bundle_scores(one, A, learn.y, np.vstack([A, B]), learn.X.shape[1], n_classes, seed)))
    train = evaluation.by_track(learn.track_ids, learn.y, learn.groups, both[: len(A)])
    return Point(name, k, train, evaluation.by_track(score.track_ids, score.y, score.groups, both[len(A) :]))


def intervals(points: Sequence[Point], seed: int = 0) -> list[tuple[Interval, Interval]]:
    """(train-minus-scored gap, scored accuracy) of each point; the gap's by independent bootstraps of both sides."""
    draws = {}
    for i, side in enumerate(("train", "score")):
        right = np.column_stack([getattr(p, side).correct for p in points]).astype(float)
        draws[side] = evaluation.bootstrap_mean(right, getattr(points[0], side).groups, seed + i)
    gaps = draws["train"] - draws["score"]
    return [
        (
            evaluation.interval(p.train.accuracy - p.score.accuracy, gaps[:, i]),
            evaluation.accuracy_interval(p.score, seed, draws["score"][:, i]),
        )
        for i, p in enumerate(points)
    ]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What PCA to `components` changes in the gap and the scored accuracy: averaged over models, and by model."""

    components: int
    gap: Interval
    score: Interval
    by_model: Mapping[str, tuple[Interval, Interval]]


def judge(points: Sequence[Point], components: int, seed: int = 0) -> Verdict:
    """PCA minus no PCA on the same tracks, paired, per model (gap, scored accuracy) and averaged over the models."""
    without = {p.model: p for p in points if p.components is None}
    using = {p.model: p for p in points if p.components == components}
    sides = {}
    for i, side in enumerate(("train", "score")):
        pairs = [(getattr(using[m], side), getattr(without[m], side)) for m in without]
        change = np.column_stack([a.correct.astype(float) - b.correct for a, b in pairs])
        change = np.column_stack([change, change.mean(axis=1)])
        sides[side] = change.mean(axis=0), evaluation.bootstrap_mean(change, pairs[0][0].groups, seed + i)
    (train, train_draws), (score, score_draws) = sides["train"], sides["score"]
    gaps = [evaluation.interval(v, d) for v, d in zip(train - score, (train_draws - score_draws).T, strict=True)]
    scores = [evaluation.interval(v, d) for v, d in zip(score, score_draws.T, strict=True)]
    by_model = {m: (gaps[i], scores[i]) for i, m in enumerate(without)}
    return Verdict(components, gaps[-1], scores[-1], by_model)


def answer(verdict: Verdict, n_columns: int, n_models: int, n: int, scored: str) -> str:
    """The sentence the study exists for."""
    if verdict.gap.high < 0:
        yes = "Yes: it reduces overfitting"
    elif verdict.gap.low > 0:
        yes = "No: it makes overfitting worse"
    else:
        yes = "Not shown: the interval of the gap's change holds zero"
    if verdict.score.high < 0:
        cost = f"and {scored} accuracy falls, so the smaller gap comes from learning less, not from generalising better"
        cost = cost if verdict.gap.high < 0 else f"and {scored} accuracy falls"
    elif verdict.score.low > 0:
        cost = f"and {scored} accuracy rises"
    else:
        cost = f"and {scored} accuracy does not measurably change"
    return (
        f"Does reducing dimension reduce overfitting here? {yes}, {cost}. PCA to {JUDGED_AT:.0%} of the variance "
        f"({verdict.components} of {n_columns} dimensions) changes the train-minus-{scored} gap by "
        f"{verdict.gap.text(100, 1, sign=True)} points and {scored} accuracy by "
        f"{verdict.score.text(100, 1, sign=True)} points (mean of {n_models} models, n = {n} tracks, 95 % intervals)."
    )


def by_model(verdict: Verdict) -> str:
    """The gap's change of each model, for a mean that may hide opposite effects."""
    parts = (f"{m} {gap.text(100, 1, sign=True)}" for m, (gap, _) in verdict.by_model.items())
    return f"change of the gap by model, in points: {'; '.join(parts)}"
