"""A saved model on audio files: the same decoding, features and windows as in training, any length of music.

A file is heard in up to `excerpts` evenly spaced stretches of the spec's length; each is cut into windows; scores are
averaged over windows, then over stretches. A file that cannot be read is reported and never stops the others.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from featurestore import registry
from featurestore.datasets import encode_name
from featurestore.errors import AudioError, MissingInput, SpecMismatch
from featurestore.spec import Spec
from featurestore.store.store import OWN_SET, Store
from training.results.saved import Card
from training.shards.encoding import resize

UNKNOWN = "unknown"
BATCH = 64


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One row per file that could be heard, and (file, message) of those that could not."""

    table: pa.Table
    failures: list[tuple[str, str]]


def predict(
    model: Any,
    card: Card,
    paths: Sequence[str],
    *,
    threshold: float | None = None,
    excerpts: int = 8,
    all_scores: bool = False,
) -> Predictions:
    """Answer for each audio file in `paths` (files, or folders searched for audio).

    Columns: file, genre ("unknown" where the best score is below `threshold`, None: the card's), score, guess (the
    best genre whatever the score), second, second_score, seconds heard; with all_scores one `score_<genre>` each.
    Raises MissingInput for a path that is not there, or where no audio is found.
    """
    _require_measurable(card)
    limit = card.threshold if threshold is None else threshold
    rows, failures = [], []
    for path in audio_files(paths):
        try:
            scores, seconds = score_file(model, card, path, excerpts)
        except AudioError as error:
            failures.append((path, error.message))
            continue
        rows.append(_row(card, path, scores, seconds, limit, all_scores))
    return Predictions(pa.Table.from_pylist(rows) if rows else pa.table({}), failures)


def require_same_spec(card: Card, store: Store | None) -> None:
    """Raise SpecMismatch, naming the number, where the model was made with another spec than `store` or this code."""
    here = dataclasses.replace(card.spec, extractor=Spec().extractor)
    here.require(card.spec, here="this version of the toolkit", there=f"the model {card.name}")
    if store is None:
        return
    try:
        store.spec.require(card.spec, here=f"store {store.url}", there=f"the model {card.name}")
    except SpecMismatch as error:
        raise SpecMismatch(
            error.message, "Name the store that the model was made from with --store, or say --store none."
        ) from None


def audio_files(paths: Sequence[str]) -> list[str]:
    """The files named, and all audio below the folders named, sorted within each folder."""
    from featurestore.datasets import AUDIO_SUFFIXES

    out: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            found = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
            out += sorted(f for f in found if os.path.splitext(f)[1].lower() in AUDIO_SUFFIXES)
        elif os.path.exists(path):
            out.append(path)
        else:
            raise MissingInput(f"{path}: no such file or folder", "Name audio files, or folders that hold some.")
    if not out:
        raise MissingInput(f"no audio below {', '.join(paths)}", f"Looked for {', '.join(sorted(AUDIO_SUFFIXES))}.")
    return out


def score_file(model: Any, card: Card, path: str, excerpts: int) -> tuple[np.ndarray, float]:
    """Mean scores (classes,) of a file, and the seconds heard. Raises AudioError where it cannot be decoded."""
    from featurestore.audio.decode import decode

    heard = decode(path, dataclasses.replace(card.spec, excerpts=excerpts))
    means = []
    for excerpt in heard:
        windows = np.stack(list(windows_of(card, _measure(card, excerpt.y))))
        parts = [np.asarray(model.predict_on_batch(windows[i : i + BATCH])) for i in range(0, len(windows), BATCH)]
        means.append(np.concatenate(parts).mean(axis=0))
    return np.mean(means, axis=0), sum(e.duration_s for e in heard)


def windows_of(card: Card, array: np.ndarray) -> Iterator[np.ndarray]:
    """Evenly spaced windows that cover an array, time first; a shorter one is repeated to fill its window.

    The twin of training.pipeline's windows: an excerpt of the training data gives the same ones.
    """
    if card.window is None:
        yield array
        return
    n = len(array)
    room = max(n - card.window, 0)
    for share in np.linspace(0, 1, math.ceil(n / card.window)) if n > card.window else [0.0]:
        yield np.take(array, np.arange(card.window) + round(room * float(share)), axis=0, mode="wrap")


def _measure(card: Card, y: np.ndarray) -> np.ndarray:
    """What the network eats, from samples: float32, time first."""
    if card.kind == "wave":
        return y
    from featurestore.extract import extract

    measured = extract(y, card.spec)
    if card.kind == "features":
        return measured.features
    return resize(measured.mel.T, card.image, card.image) if card.image else measured.mel.T


def _require_measurable(card: Card) -> None:
    if card.kind != "features":
        return
    if card.feature_set != OWN_SET:
        raise MissingInput(
            f"the model {card.name} was trained on the imported feature set {card.feature_set!r}, "
            "which cannot be measured from audio",
            "Train one on our own: `python -m training.export_tfrecords --kind features`, then `fit mlp`.",
        )
    columns = registry.column_names(card.spec.groups)
    if card.columns != columns:
        raise SpecMismatch(
            f"the model {card.name} knows {len(card.columns)} feature columns, this version measures {len(columns)}",
            "Use the version of this toolkit that trained it, or train again.",
        )


def _row(
    card: Card, path: str, scores: np.ndarray, seconds: float, threshold: float, all_scores: bool
) -> dict[str, Any]:
    first, second = np.argsort(-scores, kind="stable")[:2]
    best = float(scores[first])
    row = {
        "file": encode_name(path),
        "genre": card.classes[first] if best >= threshold else UNKNOWN,
        "score": round(best, 4),
        "guess": card.classes[first],
        "second": card.classes[second],
        "second_score": round(float(scores[second]), 4),
        "seconds": round(seconds, 1),
    }
    if all_scores:
        row |= {f"score_{g}": round(float(s), 4) for g, s in zip(card.classes, scores, strict=True)}
    return row
