"""Answers by track: the scores of a track's excerpts averaged, and the class that scores highest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Scored:
    """A model's answers, one row per track.

    Parameters
    ----------
    track_ids : (t,) int64
        Tracks in ascending order.
    truth, answer : (t,) int64
        Class codes: what is true, and what scores highest.
    groups : (t,) int64
        What is resampled as a whole: the artist.
    scores : (t, c) float64
        Mean scores of the track's excerpts.
    excerpts, excerpts_right : (t,) int64
        How many excerpts a track has, and how many of them alone would be answered rightly.
    """

    track_ids: np.ndarray
    truth: np.ndarray
    answer: np.ndarray
    groups: np.ndarray
    scores: np.ndarray
    excerpts: np.ndarray
    excerpts_right: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Which tracks are answered rightly: (t,) bool."""
        return self.truth == self.answer

    @property
    def accuracy(self) -> float:
        """Share of tracks answered rightly, 0 to 1; NaN without tracks."""
        return float(self.correct.mean()) if len(self.truth) else float("nan")


def by_track(track_ids: np.ndarray, truth: np.ndarray, groups: np.ndarray, scores: np.ndarray) -> Scored:
    """Average the scores of excerpts into those of their tracks.

    Parameters
    ----------
    track_ids, truth, groups : (n,) int64
        Track, class code and group of each excerpt. Excerpts of a track agree in the other two.
    scores : (n, c)
        Score of each class, higher is likelier; -inf for a class that can never be answered.

    Returns
    -------
    Scored
        One row per track; of equal scores the lower class code is the answer.

    Raises
    ------
    ValueError
        If the arrays differ in length.

    Examples
    --------
    >>> scores = np.array([[0.6, 0.4], [0.0, 1.0], [0.9, 0.1]])
    >>> found = by_track(np.array([7, 7, 3]), np.array([1, 1, 0]), np.array([5, 5, 6]), scores)
    >>> found.track_ids.tolist(), found.answer.tolist(), found.excerpts.tolist()
    ([3, 7], [0, 1], [1, 2])
    """
    if not len(track_ids) == len(truth) == len(groups) == len(scores):
        raise ValueError(f"expected scores of {len(track_ids)} excerpts, found {len(scores)}")
    ids, first, inverse = np.unique(track_ids, return_index=True, return_inverse=True)
    total = np.zeros((len(ids), scores.shape[1]))
    np.add.at(total, inverse, scores)
    excerpts = np.bincount(inverse, minlength=len(ids))
    right = np.bincount(inverse, weights=scores.argmax(axis=1) == truth, minlength=len(ids)).astype(np.int64)
    total /= excerpts[:, None]
    return Scored(ids, truth[first], total.argmax(axis=1), groups[first], total, excerpts, right)


def concat(parts: Sequence[Scored]) -> Scored:
    """Answers to several sets of tracks as one.

    Parameters
    ----------
    parts : sequence of Scored
        At least one; a track may be in several (the random deals of a leakage study).

    Returns
    -------
    Scored
        The rows of all parts, in order.
    """
    return Scored(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Scored)))


def cross_entropy(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean of -log of the probability of the true class, in nats.

    Parameters
    ----------
    scores : (n, c)
        Probabilities, 0 to 1.
    truth : (n,) int64
        Class codes.

    Returns
    -------
    float
        0 for certain and right answers; a probability below 1e-12 counts as 1e-12.

    Examples
    --------
    >>> round(cross_entropy(np.array([[0.5, 0.5]]), np.array([1])), 4)
    0.6931
    """
    chosen = scores[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())
