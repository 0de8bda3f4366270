"""Trying settings on training rows and scoring them on others; then learning once from everything allowed.

Where time is saved without changing an answer:
- the rows are imputed, scaled and projected once for all settings that share those steps;
- one query for the 100 nearest neighbours scores every k;
- a kernel matrix is computed once by BLAS and shared by every C (libsvm's own kernel loop is ten times slower).
Where it might change one: settings of the slow models first meet a quarter of the training tracks, and the best third
goes on to all of them; kernels are searched on at most KERNEL_ROWS rows. Both are said in the trials (`n_tracks`).
Every task runs on one BLAS thread, so the numbers do not depend on how many work side by side.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from analysis import evaluation
from analysis.data.samples import Plan, Sample, subsample
from analysis.models import grid
from analysis.models.grid import Candidate
from featurestore.terminal import progress

HALVE_FROM = 1000  # training tracks below which halving saves nothing worth having
KERNEL_ROWS = 10_000
_WEIGHT = ("gradient_boosting", "svm_linear", "svm_poly", "svm_rbf", "svm_sigmoid", "mlp", "logistic")


@dataclasses.dataclass(frozen=True)
class Trial:
    """A setting's accuracy over the tracks scored, after learning from n_tracks; converged: no fit hit its limit."""

    candidate: Candidate
    n_tracks: int
    accuracy: float
    converged: bool
    seconds: float


@dataclasses.dataclass(frozen=True)
class Final:
    """The chosen setting, fitted once on all of the plan's rows and looked at once."""

    candidate: Candidate
    chosen_score: float | None
    pipeline: Any
    train: evaluation.Scored
    report: evaluation.Scored
    fit_s: float
    predict_s: float


def parallel(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], *, jobs: int, title: str) -> list[Any]:
    """[function(*t) for t in tasks] through joblib (any backend set with joblib.parallel_config), with progress."""
    import joblib

    pool = joblib.Parallel(n_jobs=min(jobs, len(tasks)) or 1, return_as="generator_unordered")
    calls = (joblib.delayed(_indexed)(function, i, t) for i, t in enumerate(tasks))
    out: list[Any] = [None] * len(tasks)
    with progress.bar(title, len(tasks)) as bar:
        for i, result in pool(calls):
            out[i] = result
            bar.advance()
    return out


def _indexed(function: Callable[..., Any], i: int, task: tuple[Any, ...]) -> tuple[int, Any]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return i, function(*task)


def search(names: Sequence[str], made: Plan, n_classes: int, *, seed: int = 0, jobs: int = 1) -> list[Trial]:
    """Every setting of these models on the plan's folds; deterministic by seed. [] where the plan has no folds."""
    if not made.folds:
        return []
    rng = np.random.default_rng(seed)
    quarter = [(a[subsample(made.fit.take(a), _n_tracks(made.fit, a) // 4, rng)], b) for a, b in made.folds]
    halve = all(_n_tracks(made.fit, a) >= HALVE_FROM for a, _ in made.folds)
    first: list[Candidate] = []
    full: list[Candidate] = []
    for name in names:
        settings = _possible(grid.candidates(name), made)
        (first if halve and grid.MODELS[name].halve else full).extend(settings)
    trials = _try(first, made.fit, quarter, n_classes, seed, jobs, "first look (a quarter of the tracks)")
    return trials + _try(full + _best_third(trials), made.fit, made.folds, n_classes, seed, jobs, "search")


def best(trials: Iterable[Trial], name: str) -> Trial | None:
    """The model's best setting among the trials on the most tracks; the simplest of equals; None without trials."""
    mine = [t for t in trials if t.candidate.model == name]
    most = max((t.n_tracks for t in mine), default=0)
    return max((t for t in mine if t.n_tracks == most), key=lambda t: t.accuracy, default=None)


def finals(
    names: Sequence[str], trials: Sequence[Trial], made: Plan, n_classes: int, *, seed: int = 0, jobs: int = 1
) -> list[Final]:
    """Each model's best setting, fitted on all of `made.fit` and scored once on `made.report`."""
    order = sorted(names, key=lambda n: _WEIGHT.index(n) if n in _WEIGHT else len(_WEIGHT))
    tasks = []
    for name in order:
        trial = best(trials, name)
        candidate = trial.candidate if trial else _possible(grid.candidates(name), made)[0]
        tasks.append((candidate, trial.accuracy if trial else None, made.fit, made.report, n_classes, seed))
    found = parallel(_final, tasks, jobs=jobs, title="final fits")
    return sorted(found, key=lambda f: list(names).index(f.candidate.model))


def fit(candidate: Candidate, learn: Sample, seed: int = 0) -> Any:
    """The candidate's Pipeline fitted on `learn`."""
    return _quietly(grid.pipeline(candidate, learn.X.shape[1], seed).fit, learn.X, learn.y)[0]


def fit_and_score(
    candidate: Candidate, learn: Sample, score: Sample, n_classes: int, seed: int = 0
) -> evaluation.Scored:
    """One fit, and its answers to other tracks."""
    return answers(fit(candidate, learn, seed), score, n_classes)


def answers(fitted: Any, sample: Sample, n_classes: int) -> evaluation.Scored:
    """A fitted Pipeline's answers, by track."""
    scores = grid.class_scores(fitted, sample.X, n_classes)
    return evaluation.by_track(sample.track_ids, sample.y, sample.groups, scores)


def _final(
    candidate: Candidate, chosen: float | None, learn: Sample, report: Sample, n_classes: int, seed: int
) -> Final:
    started = time.perf_counter()
    fitted = fit(candidate, learn, seed)
    fit_s = time.perf_counter() - started
    train = answers(fitted, learn, n_classes)
    started = time.perf_counter()
    reported = answers(fitted, report, n_classes)
    return Final(candidate, chosen, fitted, train, reported, fit_s, time.perf_counter() - started)


def _n_tracks(sample: Sample, rows: np.ndarray) -> int:
    return len(np.unique(sample.track_ids[rows]))


def _possible(settings: list[Candidate], made: Plan) -> list[Candidate]:
    """Without the settings that the smallest fold cannot hold: more neighbours than rows."""
    rows = min([len(a) for a, _ in made.folds] or [len(made.fit)])
    return [c for c in settings if c.params.get("n_neighbors", 1) <= rows]


def _best_third(trials: Sequence[Trial]) -> list[Candidate]:
    out = []
    for name in dict.fromkeys(t.candidate.model for t in trials):
        mine = sorted((t for t in trials if t.candidate.model == name), key=lambda t: -t.accuracy)
        out += [t.candidate for t in mine[: max(2, -(-len(mine) // 3))]]
    return out


def _try(
    settings: Sequence[Candidate],
    sample: Sample,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    n_classes: int,
    seed: int,
    jobs: int,
    title: str,
) -> list[Trial]:
    """Score settings on folds: one task per bundle of settings that share work, and fold."""
    bundles: dict[Any, list[Candidate]] = {}
    for c in settings:
        bundles.setdefault(_shared_work(c), []).append(c)
    ordered = sorted(
        bundles.values(), key=lambda b: _WEIGHT.index(b[0].model) if b[0].model in _WEIGHT else len(_WEIGHT)
    )
    tasks = [(b, sample, a, v, n_classes, seed) for b in ordered for a, v in folds]
    results = parallel(_try_bundle, tasks, jobs=jobs, title=title) if tasks else []
    trials = []
    for i, bundle in enumerate(ordered):
        parts = results[i * len(folds) : (i + 1) * len(folds)]
        for j, c in enumerate(bundle):
            right = sum(p[j][0] for p in parts) / sum(p[j][1] for p in parts)
            learnt = max(p[j][4] for p in parts)
            trials.append(Trial(c, learnt, right, all(p[j][2] for p in parts), sum(p[j][3] for p in parts)))
    rank = {(c.model, c.text()): i for i, c in enumerate(settings)}
    return sorted(trials, key=lambda t: rank[t.candidate.model, t.candidate.text()])


def _shared_work(c: Candidate) -> tuple[Any, ...]:
    if c.model.startswith("svm_"):
        return (c.model, *(v for k, v in c.params.items() if k != "C"))
    if c.model in ("knn", "naive_bayes"):
        return (c.model, c.pca)
    return (c.model, c.pca, *c.params.values())


def _try_bundle(
    bundle: list[Candidate], sample: Sample, a: np.ndarray, v: np.ndarray, n_classes: int, seed: int
) -> list[tuple[int, int, bool, float, int]]:
    """(tracks right, tracks, converged, seconds, tracks learnt from) of each setting of one bundle on one fold."""
    from sklearn.pipeline import Pipeline

    started = time.perf_counter()
    kernel = bundle[0].model.startswith("svm_")
    if kernel and len(a) > KERNEL_ROWS:
        tracks = _n_tracks(sample, a) * KERNEL_ROWS // len(a)
        a = a[subsample(sample.take(a), tracks, np.random.default_rng(seed))]
    learn, score = sample.take(a), sample.take(v)
    before = Pipeline(grid.prefix(bundle[0].pca)).fit(learn.X)
    A, B = before.transform(learn.X), before.transform(score.X)
    out = []
    for scores, converged in bundle_scores(bundle, A, learn.y, B, sample.X.shape[1], n_classes, seed):
        scored = evaluation.by_track(score.track_ids, score.y, score.groups, scores)
        took, started = time.perf_counter() - started, time.perf_counter()
        out.append((int(scored.correct.sum()), len(scored.truth), converged, took, learn.n_tracks))
    return out


def bundle_scores(
    bundle: list[Candidate], A: np.ndarray, y: np.ndarray, B: np.ndarray, n_columns: int, n_classes: int, seed: int
) -> Iterable[tuple[np.ndarray, bool]]:
    """(scores (len(B), n_classes), converged) of each setting of one model after learning A -> y.

    A and B are prepared rows (scaled, projected) that had n_columns columns before. The settings share what they can:
    those of one kernel differ in C alone, those of kNN in n_neighbors.
    """
    name = bundle[0].model
    method = _neighbour_scores if name == "knn" else _kernel_scores if name.startswith("svm_") else _plain_scores
    return method(bundle, A, y, B, n_columns, n_classes, seed)


def _plain_scores(
    bundle: list[Candidate], A: np.ndarray, y: np.ndarray, B: np.ndarray, n_columns: int, n_classes: int, seed: int
) -> Iterable[tuple[np.ndarray, bool]]:
    for c in bundle:
        fitted, converged = _quietly(grid.classifier(c, n_columns, seed).fit, A, y)
        yield grid.class_scores(fitted, B, n_classes), converged


def _neighbour_scores(
    bundle: list[Candidate], A: np.ndarray, y: np.ndarray, B: np.ndarray, n_columns: int, n_classes: int, seed: int
) -> Iterable[tuple[np.ndarray, bool]]:
    """Every k from one query: votes of the first k neighbours, as KNeighborsClassifier counts them."""
    ks = [c.params["n_neighbors"] for c in bundle]
    fitted = grid.classifier(dataclasses.replace(bundle[0], params={"n_neighbors": max(ks)}), n_columns, seed)
    nearest = y[fitted.fit(A, y).kneighbors(B, return_distance=False)]
    votes = np.cumsum(nearest[:, :, None] == np.arange(n_classes), axis=1)
    for k in ks:
        yield votes[:, k - 1] / k, True


def _kernel_scores(
    bundle: list[Candidate], A: np.ndarray, y: np.ndarray, B: np.ndarray, n_columns: int, n_classes: int, seed: int
) -> Iterable[tuple[np.ndarray, bool]]:
    """Every C from one kernel matrix: the numbers SVC itself would use."""
    from sklearn.metrics.pairwise import pairwise_kernels
    from sklearn.svm import SVC

    params = grid.svm_params(bundle[0].params, n_columns)
    kernel = {k: v for k, v in params.items() if k != "C"}
    metric = kernel.pop("kernel")
    # SVC's own default, where the functions of sklearn.metrics say 1
    offset = {"coef0": kernel.pop("coef0", 0.0)} if metric in ("poly", "sigmoid") else {}
    left = A.astype(np.float64)
    K = pairwise_kernels(left, metric=metric, **kernel, **offset)
    L = pairwise_kernels(B.astype(np.float64), left, metric=metric, **kernel, **offset)
    for c in bundle:
        fitted, converged = _quietly(SVC(kernel="precomputed", C=c.params["C"], cache_size=500).fit, K, y)
        yield grid.class_scores(fitted, L, n_classes), converged


def _quietly(fit: Callable[..., Any], X: np.ndarray, y: np.ndarray) -> tuple[Any, bool]:
    """Fit; a solver that stopped at its limit is reported as False instead of as a page of warnings."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = fit(X, y)
    return fitted, not any(issubclass(w.category, ConvergenceWarning) for w in caught)
