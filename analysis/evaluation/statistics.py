"""How good answers are: per-track scores, intervals, paired tests. Arrays in, numbers out; nothing is fitted here.

Conventions. An excerpt's scores are averaged into its track's, so n always counts tracks. Classes are integer codes;
a code that no training track had can never be answered and counts as wrong. Intervals are 95 % percentile
bootstraps over *groups* (artists; a track whose artist is unknown is its own group): tracks of one artist resemble
each other, and resampling them one by one would promise more certainty than there is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
_CHUNK_CELLS = 4_000_000  # cells of a block of bootstrap weights: 32 MB


@dataclasses.dataclass(frozen=True)
class Scored:
    """One model's answers, one row per track: ids, truth, answer and group, each (t,) int64; scores (t, c) float64."""

    track_ids: np.ndarray
    truth: np.ndarray
    answer: np.ndarray
    groups: np.ndarray
    scores: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """(t,) bool."""
        return self.truth == self.answer

    @property
    def accuracy(self) -> float:
        """Share of tracks answered right, 0 to 1; NaN without tracks."""
        return float(self.correct.mean()) if len(self.truth) else float("nan")


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    def text(self, scale: float = 1.0, digits: int = 3, sign: bool = False) -> str:
        """`0.512 [0.478, 0.545]`; with sign, `+0.034 [...]`."""
        form = f"{{:{'+' if sign else ''}.{digits}f}}"
        value, low, high = (form.format(scale * v) for v in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


def by_track(track_ids: np.ndarray, truth: np.ndarray, groups: np.ndarray, scores: np.ndarray) -> Scored:
    """Average the excerpts' scores (n, c) into tracks; the answer is the highest (the lower code wins a tie)."""
    ids, first, inverse = np.unique(track_ids, return_index=True, return_inverse=True)
    total = np.zeros((len(ids), scores.shape[1]))
    np.add.at(total, inverse, scores)
    total /= np.bincount(inverse, minlength=len(ids))[:, None]
    return Scored(ids, truth[first], total.argmax(axis=1), groups[first], total)


def concat(parts: Sequence[Scored]) -> Scored:
    """Answers to disjoint sets of tracks (the folds of a cross-validation) as one."""
    return Scored(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Scored)))


def group_weights(n_groups: int, rng: np.random.Generator, resamples: int = RESAMPLES) -> list[np.ndarray]:
    """How often each group is drawn in each bootstrap resample: blocks of (b, n_groups), `resamples` rows in all."""
    step = max(1, _CHUNK_CELLS // max(1, n_groups))
    share = np.full(n_groups, 1 / n_groups)
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    return [rng.multinomial(n_groups, share, size=size).astype(np.float64) for size in sizes]


def _units(groups: np.ndarray) -> np.ndarray:
    """Codes from 0 of what is resampled: groups; the single rows where all are of one group (it has no spread)."""
    names, code = np.unique(groups, return_inverse=True)
    return code if len(names) > 1 else np.arange(len(groups))


def bootstrap_mean(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Bootstrap draws (RESAMPLES,) of the mean of per-track `values` (t,), whole groups resampled.

    For values (t, m) the draws are (RESAMPLES, m): every column meets the same resamples.
    """
    code = _units(groups)
    columns = values.reshape(len(values), -1)
    total = np.column_stack([np.bincount(code, weights=column) for column in columns.T])
    count = np.bincount(code).astype(np.float64)
    rng = np.random.default_rng(seed)
    draws = np.concatenate([(w @ total) / (w @ count)[:, None] for w in group_weights(len(count), rng)])
    return draws.reshape(-1, *values.shape[1:])


def interval(value: float, draws: np.ndarray) -> Interval:
    """The percentile interval of bootstrap draws around an estimate."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def accuracy_interval(scored: Scored, seed: int = 0, draws: np.ndarray | None = None) -> Interval:
    """Accuracy with its bootstrap interval over groups; `draws` spares computing them again.

    Where every track (or none) is right a bootstrap has no spread and would claim certainty; the exact binomial
    bound over groups takes its place: with all of g groups right, the lower end is 0.025 ** (1 / g).
    """
    if not len(scored.truth):
        return Interval(float("nan"), float("nan"), float("nan"))
    value = scored.accuracy
    if value in (0.0, 1.0):
        bound = ((1 - LEVEL) / 2) ** (1 / len(np.unique(scored.groups)))
        return Interval(value, bound if value else 0.0, 1.0 if value else 1 - bound)
    if draws is None:
        draws = bootstrap_mean(scored.correct.astype(float), scored.groups, seed)
    return interval(value, draws)


def confusion(scored: Scored, n_classes: int) -> np.ndarray:
    """(c, c) int64 counts of tracks: row = truth, column = answer."""
    cells = np.bincount(scored.truth * n_classes + scored.answer, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes)


def f1_by_class(matrix: np.ndarray) -> np.ndarray:
    """F1 of each class from confusion counts (..., c, c); 0 where a class is neither answered rightly nor at all."""
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    both = matrix.sum(axis=-1) + matrix.sum(axis=-2)
    return np.divide(2 * hit, both, out=np.zeros(hit.shape, dtype=float), where=both > 0)


def macro_f1(scored: Scored, n_classes: int) -> float:
    """Mean F1 over the classes that occur as truth or answer (scikit-learn's f1_score(average="macro"))."""
    matrix = confusion(scored, n_classes)
    present = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    return float(f1_by_class(matrix)[present].mean())


def macro_f1_interval(scored: Scored, n_classes: int, seed: int = 0) -> Interval:
    """`macro_f1` with its bootstrap interval over groups; the classes averaged stay those of the sample."""
    code = _units(scored.groups)
    cells = np.zeros((code.max() + 1, n_classes * n_classes))
    np.add.at(cells, (code, scored.truth * n_classes + scored.answer), 1)
    matrix = cells.sum(axis=0).reshape(n_classes, n_classes)
    present = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    rng = np.random.default_rng(seed)
    draws = [
        f1_by_class((w @ cells).reshape(-1, n_classes, n_classes))[:, present].mean(axis=1)
        for w in group_weights(len(cells), rng)
    ]
    return interval(macro_f1(scored, n_classes), np.concatenate(draws))


def precision_recall(scored: Scored, n_classes: int) -> list[dict[str, float | int | None]]:
    """Per class: precision (None where never answered), recall (None where never true), f1, n (true tracks)."""
    matrix = confusion(scored, n_classes)
    f1 = f1_by_class(matrix)
    rows: list[dict[str, float | int | None]] = []
    for c in range(n_classes):
        hit, answered, true = int(matrix[c, c]), int(matrix[:, c].sum()), int(matrix[c].sum())
        rows.append(
            {
                "precision": hit / answered if answered else None,
                "recall": hit / true if true else None,
                "f1": float(f1[c]) if true else None,
                "n": true,
                "answered": answered,
            }
        )
    return rows


def mcnemar(a: Scored, b: Scored) -> tuple[int, int, float]:
    """Tracks only a has right, tracks only b has right, and the two-sided mid-p value that both are equally good.

    The exact binomial test, corrected by half of the observed point (Fagerland et al. 2013, BMC Med Res Meth 13:91),
    which keeps its level without the exact test's caution. 1.0 where they never disagree. It takes tracks as
    independent: with several tracks per artist it is optimistic, so a large p is the trustworthy half of it.
    """
    from scipy.stats import binom

    if not np.array_equal(a.track_ids, b.track_ids):
        raise ValueError("McNemar's test is paired: both models must answer the same tracks in the same order")
    only_a, only_b = int((a.correct & ~b.correct).sum()), int((b.correct & ~a.correct).sum())
    n, least = only_a + only_b, min(only_a, only_b)
    if not n:
        return only_a, only_b, 1.0
    p = 2 * binom.cdf(least, n, 0.5) - binom.pmf(least, n, 0.5)
    return only_a, only_b, float(min(1.0, p))


def paired_difference(a: Scored, b: Scored, seed: int = 0) -> Interval:
    """Accuracy of a minus accuracy of b on the same tracks, with its bootstrap interval over groups."""
    if not np.array_equal(a.track_ids, b.track_ids):
        raise ValueError("a paired difference needs the same tracks in the same order")
    difference = a.correct.astype(float) - b.correct.astype(float)
    return interval(float(difference.mean()), bootstrap_mean(difference, a.groups, seed))


def holm(p: Sequence[float]) -> list[float]:
    """P values adjusted for how many there are (Holm 1979): each at least its own, in the same order."""
    order = np.argsort(p, kind="stable")
    scaled = [min(1.0, (len(p) - i) * p[j]) for i, j in enumerate(order)]
    out = np.empty(len(p))
    out[order] = np.maximum.accumulate(scaled) if len(p) else []
    return [float(v) for v in out]
