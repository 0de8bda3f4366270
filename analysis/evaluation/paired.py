"""Two models on the same tracks: McNemar's test, the paired difference, and Holm's adjustment for many tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.evaluation.intervals import Interval, bootstrap_mean, interval
from analysis.evaluation.scored import Scored


def mcnemar(a: Scored, b: Scored) -> tuple[int, int, float]:
    """McNemar's test, mid-p, that two models are equally good.

    The exact binomial test, corrected by half of the observed point (Fagerland et al. 2013, BMC Med Res Meth 13:91),
    which keeps its level without the exact test's caution. It takes tracks as independent: with several tracks of an
    artist it is optimistic, so a large p is to be trusted more than a small one.

    Parameters
    ----------
    a, b : Scored
        Answers to the same tracks.

    Returns
    -------
    only_a, only_b : int
        Tracks that only a, and only b, has right.
    p : float
        Two-sided p value; 1.0 where they never disagree.

    Raises
    ------
    ValueError
        If the two answered different tracks.

    Examples
    --------
    >>> from analysis.evaluation import by_track
    >>> ids = np.arange(5)
    >>> a = by_track(ids, np.zeros(5, int), ids, np.eye(2)[[0, 0, 0, 0, 1]])
    >>> b = by_track(ids, np.zeros(5, int), ids, np.eye(2)[[1, 1, 1, 1, 1]])
    >>> only_a, only_b, p = mcnemar(a, b)
    >>> only_a, only_b, round(p, 4)
    (4, 0, 0.0625)
    """
    from scipy.stats import binom

    _require_same_tracks(a, b)
    only_a, only_b = int((a.correct & ~b.correct).sum()), int((b.correct & ~a.correct).sum())
    n, least = only_a + only_b, min(only_a, only_b)
    if not n:
        return only_a, only_b, 1.0
    p = 2 * binom.cdf(least, n, 0.5) - binom.pmf(least, n, 0.5)
    return only_a, only_b, float(min(1.0, p))


def paired_difference(a: Scored, b: Scored, seed: int = 0) -> Interval:
    """Accuracy of a minus accuracy of b, with its bootstrap interval over groups.

    Parameters
    ----------
    a, b : Scored
        Answers to the same tracks.
    seed : int
        Seed of the resamples.

    Returns
    -------
    Interval

    Raises
    ------
    ValueError
        If the two answered different tracks.
    """
    _require_same_tracks(a, b)
    difference = a.correct.astype(float) - b.correct.astype(float)
    return interval(float(difference.mean()), bootstrap_mean(difference, a.groups, seed))


def _require_same_tracks(a: Scored, b: Scored) -> None:
    if not np.array_equal(a.track_ids, b.track_ids):
        raise ValueError("a paired comparison needs answers of both models to the same tracks in the same order")


def holm(p: Sequence[float]) -> list[float]:
    """P values adjusted for how many there are (Holm 1979).

    Parameters
    ----------
    p : sequence of float
        P values, 0 to 1.

    Returns
    -------
    list of float
        In the same order, each at least its own.

    Examples
    --------
    >>> [round(v, 2) for v in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    scaled = [min(1.0, (len(p) - i) * p[j]) for i, j in enumerate(order)]
    out = np.empty(len(p))
    out[order] = np.maximum.accumulate(scaled) if len(p) else []
    return [float(v) for v in out]
