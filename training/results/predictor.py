"""A saved model on audio files: the same decoding, features and windows as in training, any length of music.

A file is read in up to `excerpts` evenly spaced stretches of the spec's length; each is cut into windows; scores are
averaged over windows, then over stretches. A file that cannot be read is reported and never stops the others.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from analysis.evaluation import Answers, Card, answer
from featurestore import registry
from featurestore.datasets import encode_name
from featurestore.datasets.scan import audio_files
from featurestore.errors import AudioError, MissingInput, SpecMismatch
from featurestore.spec import Spec
from featurestore.store.store import Store
from training.shards.encoding import resize

BATCH = 64


def predict(
    model: Any,
    card: Card,
    paths: Sequence[str],
    *,
    threshold: float | None = None,
    excerpts: int = 8,
    every_score: bool = False,
) -> Answers:
    """Answer for audio files.

    Parameters
    ----------
    model : keras.Model
    card : Card
    paths : sequence of str
        Files, or folders searched for audio.
    threshold : float or None
        Best score below which the answer is "unknown"; None is the card's.
    excerpts : int
        Stretches of a long file that are read, at most.
    every_score : bool
        One more column for each genre.

    Returns
    -------
    Answers
        One row per file that could be read: the columns of `analysis.evaluation.answer`, and the seconds measured.

    Raises
    ------
    MissingInput
        For a path that is not there, a folder without audio, or a model that audio cannot be measured for.
    SpecMismatch
        Where the model knows other feature columns.
    """
    columns = card.positions(registry.column_names(_spec(card).groups)) if card.kind == "features" else None
    limit = card.threshold if threshold is None else threshold
    rows, failures = [], {}
    for path in audio_files(paths):
        try:
            scores, seconds = score_file(model, card, path, excerpts, columns)
        except AudioError as error:
            failures[path] = error.message
            continue
        found = answer(scores, card.classes, limit, every_score=every_score)
        rows.append({"path": encode_name(path), **found, "seconds": round(seconds, 1)})
    return Answers(rows, failures, limit)


def require_same_spec(card: Card, store: Store | None) -> None:
    """Check that a model was made with the spec of a store, and of this code.

    Parameters
    ----------
    card : Card
    store : Store or None
        None checks the code alone.

    Raises
    ------
    SpecMismatch
        Naming the number that differs.
    """
    card.require_spec()
    if store is None:
        return
    try:
        card.require_spec(store.spec, store.url)
    except SpecMismatch as error:
        raise SpecMismatch(
            error.message, "Name the store that the model was made from with --store, or say --store none."
        ) from None


def score_file(
    model: Any, card: Card, path: str, excerpts: int, columns: list[int] | None = None
) -> tuple[np.ndarray, float]:
    """Scores of one audio file.

    Parameters
    ----------
    model : keras.Model
    card : Card
    path : str
    excerpts : int
        Stretches that are read, at most.
    columns : list of int or None
        Where the model's feature columns are among those that are measured.

    Returns
    -------
    scores : ndarray, shape (excerpts, classes)
        Of each stretch, the mean over its windows.
    seconds : float
        Measured.

    Raises
    ------
    AudioError
        Where it cannot be decoded.
    """
    from featurestore.audio.decode import decode

    measured = decode(path, dataclasses.replace(_spec(card), excerpts=excerpts))
    means = []
    for excerpt in measured:
        windows = np.stack(list(windows_of(card, _measure(card, excerpt.y, columns))))
        parts = [np.asarray(model.predict_on_batch(windows[i : i + BATCH])) for i in range(0, len(windows), BATCH)]
        means.append(np.concatenate(parts).mean(axis=0))
    return np.stack(means), sum(e.duration_s for e in measured)


def windows_of(card: Card, array: np.ndarray) -> Iterator[np.ndarray]:
    """Evenly spaced windows that cover an array; a shorter one is repeated to fill its window.

    The twin of training.feed.pipeline's windows: an excerpt of the training data gives the same ones.

    Parameters
    ----------
    card : Card
    array : ndarray, time first

    Yields
    ------
    ndarray, shape (window, ...)
        The array itself where the card has no window.
    """
    if card.window is None:
        yield array
        return
    n = len(array)
    room = max(n - card.window, 0)
    for share in np.linspace(0, 1, math.ceil(n / card.window)) if n > card.window else [0.0]:
        yield np.take(array, np.arange(card.window) + round(room * float(share)), axis=0, mode="wrap")


def _measure(card: Card, y: np.ndarray, columns: list[int] | None) -> np.ndarray:
    """The input of the network from samples: float32, time first."""
    if card.kind == "wave":
        return y
    from featurestore.extract import extract

    measured = extract(y, _spec(card))
    if card.kind == "features":
        return measured.features[columns]
    return resize(measured.mel.T, card.image, card.image) if card.image else measured.mel.T


def _spec(card: Card) -> Spec:
    """The numbers to measure audio with. Raises MissingInput where audio cannot be measured for the model."""
    if card.spec is None:
        raise MissingInput(
            f"the model {card.name} was trained on the imported feature set {card.feature_set!r}, "
            "which cannot be measured from audio",
            "Train one on our own: `python -m training.export_tfrecords --kind features`, then `fit mlp`.",
        )
    return card.spec
