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
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from analysis.data.plan import Folds, Plan
from analysis.data.samples import Sample, subsample
from analysis.evaluation import Scored, by_track
from analysis.models import grid
from analysis.models.grid import Candidate, Model
from featurestore.terminal import progress

HALVE_FROM = 1000  # training tracks below which halving saves nothing worth having
KERNEL_ROWS = 10_000


@dataclasses.dataclass(frozen=True)
class Trial:
    """How one setting did.

    Parameters
    ----------
    candidate : Candidate
    n_tracks : int
        Tracks it learnt from (the most of any fold).
    right, scored : int
        Tracks answered rightly, of those scored.
    converged : bool
        Whether no fit stopped at its iteration limit.
    seconds : float
        Work, summed over folds.
    """

    candidate: Candidate
    n_tracks: int
    right: int
    scored: int
    converged: bool
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of the scored tracks answered rightly."""
        return self.right / self.scored


@dataclasses.dataclass(frozen=True)
class Final:
    """A model's chosen setting, fitted once on all of the plan's rows and looked at once.

    Parameters
    ----------
    candidate : Candidate
    chosen_score : float or None
        The accuracy it was chosen by; None where nothing could be tried.
    pipeline : sklearn.pipeline.Pipeline
        Fitted.
    train, report : Scored
        Its answers to what it learnt from, and to what is reported.
    fit_s, predict_s : float
        Seconds of the fit and of answering what is reported.
    """

    candidate: Candidate
    chosen_score: float | None
    pipeline: Any
    train: Scored
    report: Scored
    fit_s: float
    predict_s: float


def parallel(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], title: str) -> list[Any]:
    """Call a function on many tasks through joblib, with progress.

    How many work at once, and where, is what `joblib.parallel_config` says; without it they work one by one.

    Parameters
    ----------
    function : callable
        One that a process can be sent.
    tasks : sequence of tuple
        Its arguments.
    title : str
        What the progress bar says.

    Returns
    -------
    list
        [function(*t) for t in tasks].
    """
    import joblib

    at_once = min(joblib.effective_n_jobs(None), len(tasks)) or 1
    pool = joblib.Parallel(n_jobs=at_once, return_as="generator")
    out = []
    with progress.bar(title, len(tasks)) as bar:
        for result in pool(joblib.delayed(_on_one_thread)(function, *task) for task in tasks):
            out.append(result)
            bar.advance()
    return out


def _on_one_thread(function: Callable[..., Any], *task: Any) -> Any:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return function(*task)


def search(
    models: Sequence[Model], plan: Plan, n_classes: int, *, seed: int = 0, halve_from: int = HALVE_FROM
) -> list[Trial]:
    """Try every setting of these models on the plan's folds; deterministic by seed.

    Parameters
    ----------
    models : sequence of Model
    plan : Plan
    n_classes : int
        Number of classes.
    seed : int
    halve_from : int
        Training tracks from which on the slow models first meet a quarter of them.

    Returns
    -------
    list of Trial
        Empty where the plan has no folds.
    """
    if not plan.folds:
        return []
    fit, rng = plan.fit, np.random.default_rng(seed)
    quarter = tuple((a[subsample(fit.take(a), _n_tracks(fit, a) // 4, rng)], b) for a, b in plan.folds)
    halve = all(_n_tracks(fit, a) >= halve_from for a, _ in plan.folds)
    first = [c for m in models if halve and m.halve for c in _possible(m, plan)]
    full = [c for m in models if not (halve and m.halve) for c in _possible(m, plan)]
    trials = _try(first, fit, quarter, n_classes, seed, "first look (a quarter of the tracks)")
    return trials + _try(full + _best_third(trials), fit, plan.folds, n_classes, seed, "search")


def best(trials: Iterable[Trial], name: str) -> Trial | None:
    """A model's best setting among its trials on the most tracks.

    Parameters
    ----------
    trials : iterable of Trial
    name : str
        Name of the model.

    Returns
    -------
    Trial or None
        The simplest of equals; None without trials.
    """
    mine = [t for t in trials if t.candidate.model == name]
    most = max((t.n_tracks for t in mine), default=0)
    return max((t for t in mine if t.n_tracks == most), key=lambda t: t.accuracy, default=None)


def finals(
    models: Sequence[Model], trials: Sequence[Trial], plan: Plan, n_classes: int, *, seed: int = 0
) -> list[Final]:
    """Fit each model's best setting on all of `plan.fit` and score it once on `plan.report`.

    Parameters
    ----------
    models : sequence of Model
    trials : sequence of Trial
        What `search` found; a model without trials takes its first setting.
    plan : Plan
    n_classes, seed : int
        As for `search`.

    Returns
    -------
    list of Final
        In the order of the models.
    """
    tasks = []
    for model in reversed(models):  # the slow models are the last of the list, and had better start first
        trial = best(trials, model.name)
        candidate = trial.candidate if trial else _possible(model, plan)[0]
        tasks.append((candidate, trial.accuracy if trial else None, plan.fit, plan.report, n_classes, seed))
    return parallel(_final, tasks, title="final fits")[::-1]


def fit(candidate: Candidate, learn: Sample, seed: int = 0) -> Any:
    """Fit a candidate's Pipeline.

    Parameters
    ----------
    candidate : Candidate
    learn : Sample
        What it learns from.
    seed : int

    Returns
    -------
    sklearn.pipeline.Pipeline
    """
    return _quietly(grid.pipeline(candidate, learn.X.shape[1], seed).fit, learn.X, learn.y)[0]


def answers(fitted: Any, sample: Sample, n_classes: int) -> Scored:
    """A fitted Pipeline's answers by track.

    Parameters
    ----------
    fitted : sklearn.pipeline.Pipeline
    sample : Sample
        What it is to answer.
    n_classes : int
        Number of classes.

    Returns
    -------
    Scored
    """
    return _by_track(sample, grid.row_scores(fitted, sample.X, n_classes))


def fit_and_answer(
    candidate: Candidate, learn: Sample, ask: Sequence[Sample], n_classes: int, seed: int
) -> list[Scored]:
    """One fit, and its answers to samples.

    Parameters
    ----------
    candidate : Candidate
    learn : Sample
        What it learns from.
    ask : sequence of Sample
        What it answers.
    n_classes, seed : int

    Returns
    -------
    list of Scored
        One for each of `ask`.
    """
    fitted = fit(candidate, learn, seed)
    return [answers(fitted, sample, n_classes) for sample in ask]


def _by_track(sample: Sample, scores: np.ndarray) -> Scored:
    return by_track(sample.track_ids, sample.y, sample.groups, scores)


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


def _possible(model: Model, plan: Plan) -> list[Candidate]:
    """The model's settings without those that the smallest fold cannot hold: more neighbours than rows."""
    rows = min([len(a) for a, _ in plan.folds] or [len(plan.fit)])
    return [c for c in grid.candidates(model) if c.params.get("n_neighbors", 1) <= rows]


def _best_third(trials: Sequence[Trial]) -> list[Candidate]:
    out = []
    for name in dict.fromkeys(t.candidate.model for t in trials):
        mine = sorted((t for t in trials if t.candidate.model == name), key=lambda t: -t.accuracy)
        out += [t.candidate for t in mine[: max(2, -(-len(mine) // 3))]]
    return out


def _try(
    settings: Sequence[Candidate], sample: Sample, folds: Folds, n_classes: int, seed: int, title: str
) -> list[Trial]:
    """Score settings on folds: one task per fold and bundle of settings that share work."""
    bundles: dict[Any, list[Candidate]] = {}
    for c in settings:
        bundles.setdefault(_shared_work(c), []).append(c)
    tasks = [(b, sample, *fold, n_classes, seed) for b in reversed(bundles.values()) for fold in folds]
    parts: dict[tuple[str, str], list[Trial]] = {(c.model, c.text()): [] for c in settings}
    for t in itertools.chain(*parallel(_try_bundle, tasks, title=title)) if tasks else ():
        parts[t.candidate.model, t.candidate.text()].append(t)
    return [_over_folds(p) for p in parts.values()]


def _over_folds(parts: Sequence[Trial]) -> Trial:
    return Trial(
        parts[0].candidate,
        max(p.n_tracks for p in parts),
        sum(p.right for p in parts),
        sum(p.scored for p in parts),
        all(p.converged for p in parts),
        sum(p.seconds for p in parts),
    )


def _shared_work(c: Candidate) -> tuple[Any, ...]:
    if c.model.startswith("svm_"):
        return (c.model, *(v for k, v in c.params.items() if k != "C"))
    if c.model in ("knn", "naive_bayes"):
        return (c.model, c.pca)
    return (c.model, c.pca, *c.params.values())


def _try_bundle(
    bundle: list[Candidate], sample: Sample, a: np.ndarray, b: np.ndarray, n_classes: int, seed: int
) -> list[Trial]:
    """Each setting of one bundle on one fold."""
    from sklearn.pipeline import Pipeline

    started = time.perf_counter()
    if bundle[0].model.startswith("svm_") and len(a) > KERNEL_ROWS:
        tracks = _n_tracks(sample, a) * KERNEL_ROWS // len(a)
        a = a[subsample(sample.take(a), tracks, np.random.default_rng(seed))]
    learn, score = sample.take(a), sample.take(b)
    before = Pipeline(grid.prefix(bundle[0].pca)).fit(learn.X)
    A, B = before.transform(learn.X), before.transform(score.X)
    out = []
    every = bundle_scores(bundle, A, learn.y, B, sample.X.shape[1], n_classes, seed)
    for c, (scores, converged) in zip(bundle, every, strict=True):
        correct = _by_track(score, scores).correct
        took, started = time.perf_counter() - started, time.perf_counter()
        out.append(Trial(c, learn.n_tracks, int(correct.sum()), len(correct), converged, took))
    return out


def bundle_scores(
    bundle: list[Candidate], A: np.ndarray, y: np.ndarray, B: np.ndarray, n_columns: int, n_classes: int, seed: int
) -> Iterator[tuple[np.ndarray, bool]]:
    """Scores of each setting of one model after learning A -> y; the settings share what they can.

    Parameters
    ----------
    bundle : list of Candidate
        Settings of one model; of one kernel they differ in C alone, of kNN in n_neighbors.
    A, B : (n, d), (m, d)
        Prepared rows (scaled, projected) to learn from and to answer.
    y : (n,) int64
        Class codes of A.
    n_columns : int
        Columns that the rows had before they were prepared.
    n_classes, seed : int

    Yields
    ------
    scores : (m, n_classes) float64
    converged : bool
    """
    name = bundle[0].model
    if name == "knn":
        yield from _neighbour_scores(bundle, A, y, B, n_columns, n_classes)
    elif name.startswith("svm_"):
        yield from _kernel_scores(bundle, A, y, B, n_columns, n_classes)
    else:
        for c in bundle:
            fitted, converged = _quietly(grid.classifier(c, n_columns, seed).fit, A, y)
            yield grid.row_scores(fitted, B, n_classes), converged


def _neighbour_scores(
    bundle: list[Candidate], A: np.ndarray, y: np.ndarray, B: np.ndarray, n_columns: int, n_classes: int
) -> Iterator[tuple[np.ndarray, bool]]:
    """Every k from one query: votes of the first k neighbours, as KNeighborsClassifier counts them."""
    ks = [c.params["n_neighbors"] for c in bundle]
    fitted = grid.classifier(dataclasses.replace(bundle[0], params={"n_neighbors": max(ks)}), n_columns)
    nearest = y[fitted.fit(A, y).kneighbors(B, return_distance=False)]
    votes = np.cumsum(nearest[:, :, None] == np.arange(n_classes), axis=1)
    for k in ks:
        yield votes[:, k - 1] / k, True


def _kernel_scores(
    bundle: list[Candidate], A: np.ndarray, y: np.ndarray, B: np.ndarray, n_columns: int, n_classes: int
) -> Iterator[tuple[np.ndarray, bool]]:
    """Every C from one kernel matrix: the numbers SVC itself would use."""
    from sklearn.metrics.pairwise import pairwise_kernels
    from sklearn.svm import SVC

    params = grid.svm_params(bundle[0].params, n_columns)
    kernel = {k: v for k, v in params.items() if k != "C"}
    metric = kernel.pop("kernel")
    if metric in ("poly", "sigmoid"):
        kernel.setdefault("coef0", 0.0)  # SVC's own default, where the functions of sklearn.metrics say 1
    left = A.astype(np.float64)
    K = pairwise_kernels(left, metric=metric, **kernel)
    L = pairwise_kernels(B.astype(np.float64), left, metric=metric, **kernel)
    for c in bundle:
        fitted, converged = _quietly(SVC(kernel="precomputed", C=c.params["C"], cache_size=500).fit, K, y)
        yield grid.row_scores(fitted, L, n_classes), converged


def _quietly(fit: Callable[..., Any], X: np.ndarray, y: np.ndarray) -> tuple[Any, bool]:
    """Fit; a solver that stopped at its limit is reported as False instead of as a page of warnings."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = fit(X, y)
    return fitted, not any(issubclass(w.category, ConvergenceWarning) for w in caught)
