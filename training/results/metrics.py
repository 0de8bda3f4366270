"""What a classifier's scores are worth: accuracy with an interval, macro-F1, confusions; per excerpt and per track."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from training.feed.pipeline import Keys

RESAMPLES = 1000
LEVEL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One reading of one split.

    Tracks are judged by the mean score of their excerpts, excerpts by the mean score of their windows. Intervals are
    95 % percentile bootstraps over artists (1,000 resamples): tracks of one artist resemble each other, and resampling
    them one by one would promise more certainty than there is.
    confusion is int64 (classes, classes): tracks, rows true, columns predicted. chance is the share of the largest
    class of the split: what always answering it would score.
    """

    split: str
    scheme: str
    classes: tuple[str, ...]
    tracks: int
    excerpts: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    excerpt_accuracy: float
    chance: float
    confusion: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        values = dataclasses.asdict(self)
        return values | {"confusion": self.confusion.tolist(), "per_class": self.per_class()}

    def per_class(self) -> list[dict[str, Any]]:
        """One row per class: genre, tracks, precision, recall, f1 (0 to 1; 0 where nothing was predicted)."""
        precision, recall, f1 = _class_scores(self.confusion[None])
        rows = zip(self.classes, self.confusion.sum(axis=1), precision[0], recall[0], f1[0], strict=True)
        return [
            {
                "genre": g,
                "tracks": int(n),
                "precision": round(float(p), 4),
                "recall": round(float(r), 4),
                "f1": round(float(f), 4),
            }
            for g, n, p, r, f in rows
        ]

    def summary(self) -> str:
        """One line: accuracy with interval, n and scheme; macro-F1; chance."""
        low, high = self.accuracy_interval
        return (
            f"{self.split}: accuracy {self.accuracy:.3f} [{low:.3f}, {high:.3f}] on {self.tracks} tracks "
            f"({self.scheme} split), macro-F1 {self.macro_f1:.3f}, always the largest genre {self.chance:.3f}"
        )


def evaluate(
    scores: np.ndarray, keys: Keys, *, classes: tuple[str, ...], split: str, scheme: str, seed: int = 0
) -> Evaluation:
    """Judge the scores (excerpts, classes) of one split. Raises ValueError if their number is not that of the keys."""
    if len(scores) != len(keys.labels):
        raise ValueError(f"{len(scores)} scores for {len(keys.labels)} records")
    track_scores, labels, artists = by_track(scores, keys)
    n = len(classes)
    predicted = track_scores.argmax(axis=1)
    confusion = np.bincount(labels * n + predicted, minlength=n * n).reshape(n, n)
    low_high = _intervals(labels, predicted, artists, n, seed)
    return Evaluation(
        split=split,
        scheme=scheme,
        classes=classes,
        tracks=len(labels),
        excerpts=len(scores),
        accuracy=float((predicted == labels).mean()),
        accuracy_interval=low_high[0],
        macro_f1=float(_macro_f1(confusion[None])[0]),
        macro_f1_interval=low_high[1],
        excerpt_accuracy=float((scores.argmax(axis=1) == keys.labels).mean()),
        chance=float(np.bincount(labels).max() / len(labels)),
        confusion=confusion,
    )


def by_track(scores: np.ndarray, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean scores (tracks, classes), labels (tracks,) and artists (tracks,) of the tracks, by track id."""
    ids, index = np.unique(keys.track_ids, return_inverse=True)
    total = np.zeros((len(ids), scores.shape[1]))
    np.add.at(total, index, scores)
    first = np.unique(keys.track_ids, return_index=True)[1]
    return total / np.bincount(index)[:, None], keys.labels[first], keys.artists[first]


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log of the score of the true class (natural logarithm)."""
    chosen = scores[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def _intervals(
    labels: np.ndarray, predicted: np.ndarray, artists: np.ndarray, classes: int, seed: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Percentile intervals of accuracy and macro-F1 over resampled artists."""
    groups, code = np.unique(artists, return_inverse=True)
    if len(groups) == 1:  # nothing to resample but the tracks
        code = np.arange(len(labels))
    n = int(code.max()) + 1
    cells = np.zeros((n, classes * classes))
    np.add.at(cells, (code, labels * classes + predicted), 1)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    drawn = (draws @ cells).reshape(-1, classes, classes)
    accuracy = np.trace(drawn, axis1=1, axis2=2) / drawn.sum(axis=(1, 2))
    tails = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    low_high, f1 = (np.percentile(v, tails) for v in (accuracy, _macro_f1(drawn)))
    share = (labels == predicted).mean()
    bound = ((1 - LEVEL) / 2) ** (1 / n)
    if share in (0.0, 1.0):
        # without one differing answer a bootstrap claims certainty; the exact binomial bound does not
        low_high = np.array([bound, 1.0]) if share else np.array([0.0, 1 - bound])
    return (float(low_high[0]), float(low_high[1])), (float(f1[0]), float(f1[1]))


def _class_scores(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 (n, classes) of confusion matrices (n, classes, classes); 0 where undefined."""
    right = np.diagonal(confusion, axis1=1, axis2=2).astype(float)
    predicted, true = confusion.sum(axis=1), confusion.sum(axis=2)
    precision = np.divide(right, predicted, out=np.zeros_like(right), where=predicted > 0)
    recall = np.divide(right, true, out=np.zeros_like(right), where=true > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(right), where=both > 0)
    return precision, recall, f1


def _macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Unweighted mean F1 (n,) over the classes that occur, as truth or as answer."""
    f1 = _class_scores(confusion)[2]
    occurs = (confusion.sum(axis=1) + confusion.sum(axis=2)) > 0
    return (f1 * occurs).sum(axis=1) / np.maximum(1, occurs.sum(axis=1))
