"""From scores to probabilities, and the confidence below which a model had better say "unknown".

The calibrator is a multinomial logistic regression on standardised scores (Platt's method for several classes), fitted
on out-of-fold scores only: each was given to a track by a fit that had not seen its group.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from analysis.data.plan import group_folds
from analysis.data.samples import Sample
from analysis.evaluation import Scored, by_track
from analysis.models import grid, search
from analysis.models.grid import Candidate

FOLDS = 5
BINS = 10  # of confidence, for the calibration error


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A fitted Pipeline and the calibrator that turns its scores into probabilities.

    Parameters
    ----------
    pipeline, calibrator : sklearn.pipeline.Pipeline
        Fitted; the calibrator on the evidence that `grid.evidence` gives of the first.
    n_classes : int
        Number of classes.
    """

    pipeline: Any
    calibrator: Any
    n_classes: int

    def probabilities(self, X: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of rows.

        Parameters
        ----------
        X : (n, d) float32
            Rows with the columns that the Pipeline learnt from; NaN where missing.

        Returns
        -------
        (n, c) float64
            Each row adds up to 1; 0 for a class that the calibrator never saw.
        """
        return _known_classes(self.calibrator, grid.evidence(self.pipeline, X, self.n_classes))


def calibrate(candidate: Candidate, fit: Sample, n_classes: int, *, seed: int = 0) -> tuple[Any, Scored] | None:
    """Fit the calibrator of a candidate on out-of-fold scores.

    Parameters
    ----------
    candidate : Candidate
    fit : Sample
        What the model learnt from.
    n_classes, seed : int

    Returns
    -------
    calibrator : sklearn.pipeline.Pipeline
    scored : Scored
        Probabilities of the same tracks, cross-fitted once more (each fold's by a calibrator from the other folds), so
        that a threshold chosen on them is chosen on answers to unseen tracks.
    None, instead of both, where no group-aware folds exist.
    """
    folds = group_folds(fit, FOLDS, seed)
    if not folds:
        return None
    tasks = [(candidate, fit.take(a), fit.take(b), n_classes, seed) for a, b in folds]
    scores, probabilities = np.empty((len(fit), n_classes)), np.empty((len(fit), n_classes))
    for (_, b), part in zip(folds, search.parallel(_evidence, tasks, title="calibration"), strict=True):
        scores[b] = part
    for a, b in folds:
        probabilities[b] = _known_classes(_fit(scores[a], fit.y[a], seed), scores[b])
    return _fit(scores, fit.y, seed), by_track(fit.track_ids, fit.y, fit.groups, probabilities)


def _evidence(candidate: Candidate, learn: Sample, score: Sample, n_classes: int, seed: int) -> np.ndarray:
    return grid.evidence(search.fit(candidate, learn, seed), score.X, n_classes)


def _fit(scores: np.ndarray, y: np.ndarray, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed)).fit(scores, y)


def _known_classes(calibrator: Any, scores: np.ndarray) -> np.ndarray:
    out = np.zeros(scores.shape)
    out[:, calibrator.classes_] = calibrator.predict_proba(scores)
    return out


def choose_threshold(scored: Scored, precision: float) -> tuple[float, float, float]:
    """The lowest confidence from which on answers are right often enough.

    Parameters
    ----------
    scored : Scored
        Answers with probabilities as scores.
    precision : float
        How often answers are to be right, 0 to 1.

    Returns
    -------
    threshold : float
        Where no confidence is right that often, the one that comes nearest (of at least 5 % of the tracks).
    answered, right : float
        Share of tracks answered from it on, and share of those that are right.
    """
    confidence = scored.scores.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(scored.correct[order]) / np.arange(1, len(order) + 1)
    # a threshold cannot part equal confidences
    usable = np.append(np.diff(confidence[order]) != 0, True)
    usable[: max(1, len(order) // 20) - 1] = False
    good = np.flatnonzero(usable & (right >= precision))
    last = int(good[-1]) if len(good) else int(np.flatnonzero(usable)[right[usable].argmax()])
    threshold = 0.0 if last == len(order) - 1 else float(confidence[order][last])
    return threshold, (last + 1) / len(order), float(right[last])


def calibration_error(scored: Scored) -> float:
    """Expected calibration error: mean |confidence - accuracy| over 10 equal-width bins, weighted by tracks.

    Parameters
    ----------
    scored : Scored
        Answers with probabilities as scores.

    Returns
    -------
    float
        0 to 1.
    """
    confidence = scored.scores.max(axis=1)
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.bincount(which, weights=confidence - scored.correct)
    return float(np.abs(gap).sum() / len(confidence))
