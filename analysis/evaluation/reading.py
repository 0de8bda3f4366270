"""One reading of one split: everything that is said about a model's answers there."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from analysis.evaluation.classes import class_scores, confusion, macro_f1_interval
from analysis.evaluation.intervals import Interval, accuracy_interval
from analysis.evaluation.scored import Scored


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model's answers to one split are worth.

    Parameters
    ----------
    split, scheme : str
        What was read, and how the splits were drawn.
    classes : tuple of c str
        Names of the classes.
    n, excerpts : int
        Tracks, and their excerpts.
    accuracy, macro_f1 : Interval
        By track, with 95 % intervals over artists.
    excerpt_accuracy : float
        Share of single excerpts answered rightly.
    chance : float
        Share of the split's largest class: the accuracy of always answering it.
    confusion : (c, c) int64
        Tracks; row: truth, column: answer.
    """

    split: str
    scheme: str
    classes: tuple[str, ...]
    n: int
    excerpts: int
    accuracy: Interval
    macro_f1: Interval
    excerpt_accuracy: float
    chance: float
    confusion: np.ndarray

    def per_class(self) -> list[dict[str, Any]]:
        """Score each class.

        Returns
        -------
        list of dict
            Precision, recall and F1, as `class_scores` gives them.
        """
        return class_scores(self.confusion, self.classes)

    def as_dict(self) -> dict[str, Any]:
        """Give everything as JSON can hold it, the class scores included.

        Returns
        -------
        dict
            Intervals are three entries each: `low` and `high` are those of `accuracy`.
        """
        return {
            "split": self.split,
            "scheme": self.scheme,
            "classes": list(self.classes),
            "n": self.n,
            "excerpts": self.excerpts,
            **self.accuracy.cells("accuracy"),
            **self.macro_f1.cells("macro_f1"),
            "excerpt_accuracy": self.excerpt_accuracy,
            "chance": self.chance,
            "confusion": self.confusion.tolist(),
            "per_class": self.per_class(),
        }

    def summary(self) -> str:
        """Say in one line what was reached.

        Returns
        -------
        str
            Accuracy with interval, n and scheme; macro-F1; the accuracy of always answering the largest class.
        """
        return (
            f"{self.split}: accuracy {self.accuracy.text()} on {self.n} tracks ({self.scheme} split), "
            f"macro-F1 {self.macro_f1.value:.3f}, always the largest genre {self.chance:.3f}"
        )


def evaluate(scored: Scored, classes: tuple[str, ...], *, split: str, scheme: str, seed: int = 0) -> Evaluation:
    """Judge the answers to one split.

    Parameters
    ----------
    scored : Scored
        Answers by track, at least one; `by_track` makes them from the scores of excerpts.
    classes : tuple of str
        Names of the classes, by code.
    split, scheme : str
        What was read, and how the splits were drawn.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Evaluation

    Examples
    --------
    >>> from analysis.evaluation import by_track
    >>> ids = np.arange(4)
    >>> scored = by_track(ids, np.array([0, 0, 1, 1]), ids, np.eye(2)[[0, 1, 1, 1]])
    >>> evaluate(scored, ("Jazz", "Rock"), split="test", scheme="artist").summary()
    'test: accuracy 0.750 [0.250, 1.000] on 4 tracks (artist split), macro-F1 0.733, always the largest genre 0.500'
    """
    n = len(classes)
    return Evaluation(
        split=split,
        scheme=scheme,
        classes=tuple(classes),
        n=len(scored.truth),
        excerpts=int(scored.excerpts.sum()),
        accuracy=accuracy_interval(scored, seed),
        macro_f1=macro_f1_interval(scored, n, seed),
        excerpt_accuracy=float(scored.excerpts_right.sum() / scored.excerpts.sum()),
        chance=float(np.bincount(scored.truth).max() / len(scored.truth)),
        confusion=confusion(scored, n),
    )
