"""Answers class by class: confusions, precision, recall, F1, and macro-F1 with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.evaluation.intervals import Interval, group_weights, interval, resampled_units
from analysis.evaluation.scored import Scored


def confusion(scored: Scored, n_classes: int) -> np.ndarray:
    """Count tracks by what is true and what is answered.

    Parameters
    ----------
    scored : Scored
        Answers by track.
    n_classes : int
        Number of classes c.

    Returns
    -------
    (c, c) int64
        Row: truth; column: answer.

    Examples
    --------
    >>> from analysis.evaluation import by_track
    >>> ids = np.arange(3)
    >>> confusion(by_track(ids, np.array([0, 0, 1]), ids, np.eye(2)[[0, 1, 1]]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    cells = np.bincount(scored.truth * n_classes + scored.answer, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes)


def f1_by_class(matrix: np.ndarray) -> np.ndarray:
    """F1 of each class.

    Parameters
    ----------
    matrix : (..., c, c)
        Confusion counts.

    Returns
    -------
    (..., c) float64
        0 to 1; 0 for a class that is neither true nor answered.

    Examples
    --------
    >>> f1_by_class(np.array([[1, 1], [0, 1]])).round(3).tolist()
    [0.667, 0.667]
    """
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    both = matrix.sum(axis=-1) + matrix.sum(axis=-2)
    return np.divide(2 * hit, both, out=np.zeros(hit.shape, dtype=float), where=both > 0)


def macro_f1_interval(scored: Scored, n_classes: int, seed: int = 0) -> Interval:
    """Macro-F1, the mean F1 of the classes that occur as truth or as answer, with its bootstrap interval over groups.

    It is scikit-learn's f1_score(average="macro"); in every resample the classes averaged stay those of the sample.

    Parameters
    ----------
    scored : Scored
        Answers by track.
    n_classes : int
        Number of classes.
    seed : int
        Seed of the resamples.

    Returns
    -------
    Interval

    Examples
    --------
    >>> from analysis.evaluation import by_track
    >>> ids = np.arange(4)
    >>> macro_f1_interval(by_track(ids, np.array([0, 0, 1, 1]), ids, np.eye(2)[[0, 1, 1, 1]]), 2).text(digits=2)
    '0.73 [0.20, 1.00]'
    """
    code = resampled_units(scored.groups)
    cells = np.zeros((code.max() + 1, n_classes * n_classes))
    np.add.at(cells, (code, scored.truth * n_classes + scored.answer), 1)
    matrix = cells.sum(axis=0).reshape(n_classes, n_classes)
    present = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    draws = [
        f1_by_class((w @ cells).reshape(-1, n_classes, n_classes))[:, present].mean(axis=1)
        for w in group_weights(len(cells), np.random.default_rng(seed))
    ]
    return interval(float(f1_by_class(matrix)[present].mean()), np.concatenate(draws))


def class_scores(matrix: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class.

    Parameters
    ----------
    matrix : (c, c) int64
        Confusion counts.
    classes : sequence of c str
        Names of the classes.

    Returns
    -------
    list of dict
        genre; precision, 0 to 1, None where the class was never answered; recall and f1, None where it is never true;
        n, its true tracks; answered, the tracks answered with it.

    Examples
    --------
    >>> class_scores(np.array([[1, 1], [0, 0]]), ("Jazz", "Rock"))[1]
    {'genre': 'Rock', 'precision': 0.0, 'recall': None, 'f1': None, 'n': 0, 'answered': 1}
    """
    hit, true, answered = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    f1 = f1_by_class(matrix)
    return [
        {
            "genre": genre,
            "precision": float(hit[c] / answered[c]) if answered[c] else None,
            "recall": float(hit[c] / true[c]) if true[c] else None,
            "f1": float(f1[c]) if true[c] else None,
            "n": int(true[c]),
            "answered": int(answered[c]),
        }
        for c, genre in enumerate(classes)
    ]
