"""Models on disk: `model.skops` (no pickle, no code) and `card.json` (what it is, what it may be asked).

The file holds the fitted Pipeline and a calibrator that turns its scores into probabilities. The calibrator is a
multinomial logistic regression on standardised scores (Platt's method for several classes), fitted on
out-of-fold scores only: every score it learns from was given to a track by a fit that had not seen its group.
Loading trusts skops' own list of safe types and, beyond it, EXTRA_TYPES; any other type is refused by name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis import evaluation
from analysis.data.samples import Sample, group_folds
from analysis.models import grid, search
from analysis.models.grid import Candidate
from featurestore.errors import FeatureStoreError, MissingInput, SpecMismatch
from featurestore.store import files

FORMAT = 1
MODEL_FILE, CARD_FILE = "model.skops", "card.json"
# the imputer keeps the number type of its input; skops reads it from an .npy header with pickle off
EXTRA_TYPES = ("numpy.dtype",)
CALIBRATION_FOLDS = 5


@dataclasses.dataclass(frozen=True)
class Saved:
    """A loaded model: the fitted Pipeline, its calibrator, its card, and the types its file holds."""

    pipeline: Any
    calibrator: Any
    card: Mapping[str, Any]
    types: tuple[str, ...]

    def probabilities(self, X: np.ndarray) -> np.ndarray:
        """(n, classes) calibrated probabilities of rows X (n, columns of the card)."""
        return _calibrated(self.calibrator, grid.evidence(self.pipeline, X, len(self.card["classes"])))


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A fitted calibrator and what it says of the tracks it was cross-fitted on: probabilities in `scored`."""

    calibrator: Any
    scored: evaluation.Scored


def calibrate(candidate: Candidate, fit: Sample, n_classes: int, *, seed: int = 0, jobs: int = 1) -> Calibration | None:
    """Fit the calibrator for `candidate` on out-of-fold scores of `fit`; None where no group-aware folds exist.

    The probabilities returned are cross-fitted once more (each fold's by a calibrator from the other folds), so a
    threshold chosen on them is chosen on answers to unseen tracks.
    """
    folds = group_folds(fit, CALIBRATION_FOLDS, seed)
    if not folds:
        return None
    tasks = [(candidate, fit.take(a), fit.take(b), n_classes, seed) for a, b in folds]
    parts = search.parallel(_row_scores, tasks, jobs=jobs, title="calibration")
    scores, probabilities = np.empty((len(fit), n_classes)), np.empty((len(fit), n_classes))
    for (_, b), part in zip(folds, parts, strict=True):
        scores[b] = part
    for a, b in folds:
        probabilities[b] = _calibrated(_fit_calibrator(scores[a], fit.y[a], seed), scores[b])
    scored = evaluation.by_track(fit.track_ids, fit.y, fit.groups, probabilities)
    return Calibration(_fit_calibrator(scores, fit.y, seed), scored)


def _row_scores(candidate: Candidate, learn: Sample, score: Sample, n_classes: int, seed: int) -> np.ndarray:
    fitted = search.fit(candidate, learn, seed)
    return grid.evidence(fitted, score.X, n_classes)


def _fit_calibrator(scores: np.ndarray, y: np.ndarray, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    steps = [("scale", StandardScaler()), ("classify", LogisticRegression(max_iter=1000, random_state=seed))]
    return Pipeline(steps).fit(scores, y)


def _calibrated(calibrator: Any, scores: np.ndarray) -> np.ndarray:
    """Probabilities (n, c); a class the calibrator never saw has 0."""
    out = np.zeros(scores.shape)
    out[:, calibrator.classes_] = calibrator.predict_proba(scores)
    return out


def choose_threshold(scored: evaluation.Scored, precision: float) -> tuple[float, float, float]:
    """(threshold, share answered, share of those right): the lowest confidence from which on answers are right at
    least `precision` of the time. Where no confidence reaches that, the one that comes nearest (of at least 5 % of
    the tracks). Probabilities are `scored.scores`."""
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


def calibration_error(scored: evaluation.Scored, bins: int = 10) -> float:
    """Expected calibration error: mean |confidence - accuracy| over equal-width bins, weighted by tracks."""
    confidence = scored.scores.max(axis=1)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(which, weights=confidence - scored.correct, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


# ---------------------------------------------------------------- files


def save(folder: str, pipeline: Any, calibrator: Any, card: Mapping[str, Any]) -> list[str]:
    """Write model and card under `folder`, card last; returns the two paths. Same model, same card: same meaning."""
    import skops.io

    classify = pipeline.named_steps["classify"]
    if hasattr(classify, "_optimizer"):  # a solver's state is needed to go on training only, and is no safe type
        del classify._optimizer
    data = skops.io.dumps({"pipeline": pipeline, "calibrator": calibrator})
    unsafe = _unsafe(data)
    if unsafe:
        raise FeatureStoreError(
            f"{classify!r} cannot be saved safely: its file would hold {', '.join(unsafe)}",
            "Choose another model with --save.",
        )
    fs, root = files.resolve(folder)
    text = {**card, "format": FORMAT, "model_sha256": hashlib.sha256(data).hexdigest()}
    files.write_bytes(fs, f"{root}/{MODEL_FILE}", data)
    files.write_bytes(fs, f"{root}/{CARD_FILE}", (json.dumps(text, indent=1, ensure_ascii=False) + "\n").encode())
    return [os.path.join(folder, MODEL_FILE), os.path.join(folder, CARD_FILE)]


def load(folder: str) -> Saved:
    """Read a saved model. Raises MissingInput, SpecMismatch (other format), FeatureStoreError (broken or unsafe)."""
    import skops.io

    where = Path(folder)
    card = _read_card(where)
    try:
        data = (where / MODEL_FILE).read_bytes()
    except OSError as error:
        raise MissingInput(
            f"{where / MODEL_FILE}: cannot be read ({error.strerror})", "Run `python -m analysis.compare` again."
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != card["model_sha256"]:
        raise FeatureStoreError(
            f"{where / MODEL_FILE}: its card expects SHA-256 {card['model_sha256'][:16]}…, found {found[:16]}…",
            "Model and card are not of one run, or the file is damaged: run `python -m analysis.compare` again.",
        )
    try:
        unsafe = _unsafe(data)
        if unsafe:
            raise FeatureStoreError(
                f"{where / MODEL_FILE}: holds types that are not known to be safe: {', '.join(unsafe)}",
                "The file was not written by this toolkit; do not use it.",
            )
        types = tuple(sorted(skops.io.get_untrusted_types(data=data)))
        content = skops.io.loads(data, trusted=list(types))
        return Saved(content["pipeline"], content["calibrator"], card, types)
    except FeatureStoreError:
        raise
    except Exception as error:  # a broken archive can fail anywhere inside zip, json or numpy
        raise FeatureStoreError(
            f"{where / MODEL_FILE}: not a readable model ({type(error).__name__}: {error})",
            "Run `python -m analysis.compare` again.",
        ) from None


def _unsafe(data: bytes) -> list[str]:
    import skops.io

    return sorted(set(skops.io.get_untrusted_types(data=data)) - set(EXTRA_TYPES))


def _read_card(where: Path) -> dict[str, Any]:
    try:
        card = json.loads((where / CARD_FILE).read_text("utf-8"))
    except FileNotFoundError:
        raise MissingInput(
            f"no model at {where}: expected a folder with {MODEL_FILE} and {CARD_FILE}",
            "Make one with `python -m analysis.compare` (it is kept in models/compare), then name that folder.",
        ) from None
    except (OSError, ValueError) as error:
        raise FeatureStoreError(
            f"{where / CARD_FILE}: not a readable card ({error})", "Save the model again."
        ) from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise SpecMismatch(
            f"{where / CARD_FILE}: expected card format {FORMAT}, "
            f"found {card.get('format') if isinstance(card, dict) else type(card).__name__}",
            "Use the version of this toolkit that made it, or run `python -m analysis.compare` again.",
        )
    needed = {"classes", "columns", "features", "threshold", "model_sha256", "spec", "model"}
    if missing := sorted(needed - set(card)):
        raise FeatureStoreError(
            f"{where / CARD_FILE}: the card lacks {', '.join(missing)}", "Run `python -m analysis.compare` again."
        )
    return card
