"""Keeping the chosen model: calibrated, with a threshold for "unknown" and a card that says what it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis import evaluation
from analysis.data.samples import Data, Plan, Sample
from analysis.models import persist
from analysis.models.search import Final
from analysis.results import output
from featurestore.store.store import OWN_SET, Store

# why a model that is compared is not saved
UNSAFE = {
    "gradient_boosting": "fitted trees are a private type of scikit-learn that skops does not count as safe to load",
    "majority": "it answers without listening",
}


def keep(
    store: Store,
    data: Data,
    made: Plan,
    final: Final,
    folder: str,
    *,
    precision: float = 0.7,
    seed: int = 0,
    jobs: int = 1,
) -> tuple[dict[str, Any] | None, str]:
    """Calibrate `final` on out-of-fold scores of its own rows, choose the threshold there, write model and card.

    Returns the card and a sentence; (None, why not) where there are too few tracks per genre to calibrate.
    """
    c = len(data.classes)
    calibration = persist.calibrate(final.candidate, made.fit, c, seed=seed, jobs=jobs)
    if calibration is None:
        return (
            None,
            "no model kept: some genre has a single track or artist to learn from, so nothing can be calibrated",
        )
    threshold, answered, right = persist.choose_threshold(calibration.scored, precision)
    scored = _reported(final, calibration, made.report)
    card = {
        "model": final.candidate.model,
        "setting": final.candidate.text(),
        "classes": list(data.classes),
        "features": data.features,
        "columns": list(data.columns),
        "spec": store.spec.as_dict() if data.features == OWN_SET else None,
        "spec_fingerprint": store.spec.fingerprint if data.features == OWN_SET else None,
        "data_fingerprint": data.fingerprint,
        "split": {"scheme": data.scheme, "chosen_on": made.chosen_on, "reported": made.reported},
        "n_train": made.fit.n_tracks,
        "threshold": threshold,
        "threshold_rule": f"right {precision:.0%} of the time above it, on out-of-fold answers; reached {right:.1%} "
        f"on {answered:.1%} of {len(calibration.scored.truth)} tracks",
        "metrics": _metrics(scored, threshold, c, seed),
        "seed": seed,
        "versions": output.versions(),
    }
    paths = persist.save(folder, final.pipeline, calibration.calibrator, card)
    m = card["metrics"]
    assert isinstance(m, dict)
    return card, (
        f"kept {final.candidate.model} in {folder} ({', '.join(p.rsplit('/', 1)[-1] for p in paths)}): calibrated "
        f"{made.reported} accuracy {m['accuracy']:.3f}, calibration error {m['calibration_error']:.3f}; below "
        f'confidence {threshold:.2f} it answers "unknown": it answers {m["answered"]:.0%} and is right on '
        f"{'none' if m['right_when_answered'] is None else format(m['right_when_answered'], '.0%')} of those"
    )


def _reported(final: Final, calibration: persist.Calibration, report: Sample) -> evaluation.Scored:
    saved = persist.Saved(final.pipeline, calibration.calibrator, {"classes": range(final.report.scores.shape[1])}, ())
    return evaluation.by_track(report.track_ids, report.y, report.groups, saved.probabilities(report.X))


def _metrics(scored: evaluation.Scored, threshold: float, n_classes: int, seed: int) -> dict[str, Any]:
    """What the calibrated model did on the reported split, excerpts averaged per track."""
    sure = scored.scores.max(axis=1) >= threshold
    accuracy = evaluation.accuracy_interval(scored, seed)
    return {
        "n": len(scored.truth),
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "macro_f1": evaluation.macro_f1(scored, n_classes),
        "calibration_error": persist.calibration_error(scored),
        "answered": float(np.mean(sure)),
        "right_when_answered": float(scored.correct[sure].mean()) if sure.any() else None,
    }
