"""Keeping the chosen model: `model.skops` (no pickle, no code) beside the card that says what it is.

The file holds the fitted Pipeline and its calibrator. Loading trusts skops' own list of safe types and, beyond it,
EXTRA_TYPES; any other type is refused by name.
"""

from __future__ import annotations

import numpy as np

from analysis import evaluation
from analysis.data.plan import Plan
from analysis.data.samples import Data
from analysis.evaluation import Card, Scored
from analysis.models.calibration import Calibrated, calibrate, calibration_error, choose_threshold
from analysis.models.search import Final
from featurestore.errors import FeatureStoreError
from featurestore.store.store import OWN_SET, Store

MODEL_FILE = "model.skops"
AGAIN = "python -m analysis.compare"
# the imputer keeps the number type of its input; skops reads it from an .npy header with pickle off
EXTRA_TYPES = ("numpy.dtype",)
# why a model that is compared is not kept
UNSAFE = {
    "gradient_boosting": "fitted trees are a private type of scikit-learn that skops does not count as safe to load",
    "majority": "it answers without listening",
}
PACKAGES = ("numpy", "scipy", "scikit-learn", "pyarrow", "duckdb", "joblib", "matplotlib", "skops")


def keep(
    store: Store,
    data: Data,
    plan: Plan,
    final: Final,
    folder: str,
    *,
    precision: float = 0.7,
    seed: int = 0,
) -> tuple[Card | None, str]:
    """Calibrate a model on out-of-fold scores of its own rows, choose the threshold there, write model and card.

    Parameters
    ----------
    store, data, plan
        What it was made from.
    final : Final
        The model.
    folder : str
        Where it is kept.
    precision : float
        How often answers above the threshold are to be right, 0 to 1.
    seed : int

    Returns
    -------
    card : Card or None
        None where there are too few tracks per genre to calibrate.
    sentence : str
        What was kept, or why nothing was.
    """
    n_classes, report = len(data.classes), plan.report
    calibration = calibrate(final.candidate, plan.fit, n_classes, seed=seed)
    if calibration is None:
        return None, "no model kept: some genre has a single track or artist, so nothing can be calibrated"
    calibrator, unseen = calibration
    threshold, answered, right = choose_threshold(unseen, precision)
    model = Calibrated(final.pipeline, calibrator, n_classes)
    scored = evaluation.by_track(report.track_ids, report.y, report.groups, model.probabilities(report.X))
    read = evaluation.evaluate(scored, data.classes, split=plan.reported, scheme=data.scheme, seed=seed)
    card = Card(
        name=final.candidate.model,
        kind="features",
        classes=data.classes,
        threshold=threshold,
        feature_set=data.features,
        columns=data.columns,
        spec=store.spec if data.features == OWN_SET else None,
        evaluation={**read.as_dict(), **_certainty(scored, threshold)},
        versions=evaluation.versions(PACKAGES),
        facts={
            "setting": final.candidate.text(),
            "data_fingerprint": data.fingerprint,
            "chosen_on": plan.chosen_on,
            "n_train": plan.fit.n_tracks,
            "threshold_rule": f"right {precision:.0%} of the time above it, on out-of-fold answers; reached "
            f"{right:.1%} on {answered:.1%} of {len(unseen.truth)} tracks",
            "seed": seed,
        },
    )
    evaluation.save_model(folder, MODEL_FILE, _dump(model), card)
    return card, _sentence(card, folder)


def _certainty(scored: Scored, threshold: float) -> dict[str, float | None]:
    sure = scored.scores.max(axis=1) >= threshold
    return {
        "calibration_error": calibration_error(scored),
        "answered": float(np.mean(sure)),
        "right_when_answered": float(scored.correct[sure].mean()) if sure.any() else None,
    }


def _sentence(card: Card, folder: str) -> str:
    scores = card.evaluation
    right = scores["right_when_answered"]
    return (
        f"kept {card.name} in {folder}: calibrated {scores['split']} accuracy {scores['accuracy']:.3f}, calibration "
        f"error {scores['calibration_error']:.3f}; below confidence {card.threshold:.2f} it answers "
        f'"{evaluation.UNKNOWN}": it answers {scores["answered"]:.0%} and is right on '
        f"{'none' if right is None else format(right, '.0%')} of those"
    )


def _dump(model: Calibrated) -> bytes:
    import skops.io

    classify = model.pipeline.named_steps["classify"]
    if hasattr(classify, "_optimizer"):  # a solver's state is needed to go on training only, and is no safe type
        del classify._optimizer
    data = bytes(skops.io.dumps({"pipeline": model.pipeline, "calibrator": model.calibrator}))
    if unsafe := unknown_types(data):
        raise FeatureStoreError(
            f"{classify!r} cannot be saved safely: its file would hold {', '.join(unsafe)}",
            "Choose another model with --save.",
        )
    return data


def load(model: str) -> tuple[Card, Calibrated]:
    """Read a kept model.

    Parameters
    ----------
    model : str
        Its folder, the path of its file, or a name under `models/`.

    Returns
    -------
    card : Card
    model : Calibrated

    Raises
    ------
    MissingInput, SpecMismatch, FeatureStoreError
        As `analysis.evaluation.load_model`; FeatureStoreError also for a file that cannot be read, or that holds
        types that are not known to be safe.
    """
    import skops.io

    card, data = evaluation.load_model(model, MODEL_FILE, AGAIN)
    where = f"{model}: {MODEL_FILE}"
    try:
        unsafe = unknown_types(data)
        content = None if unsafe else skops.io.loads(data, trusted=list(EXTRA_TYPES))
    except Exception as error:  # a broken archive can fail anywhere inside zip, json or numpy
        raise FeatureStoreError(
            f"{where}: not a readable model ({type(error).__name__}: {error})", f"Run `{AGAIN}` again."
        ) from None
    if content is None:
        raise FeatureStoreError(
            f"{where}: holds types that are not known to be safe: {', '.join(unsafe)}",
            "The file was not written by this toolkit; do not use it.",
        )
    return card, Calibrated(content["pipeline"], content["calibrator"], len(card.classes))


def unknown_types(data: bytes) -> list[str]:
    """Types in a model's file that neither skops nor EXTRA_TYPES counts as safe.

    Parameters
    ----------
    data : bytes
        Content of the file.

    Returns
    -------
    list of str
        Their names, sorted.
    """
    import skops.io

    return sorted(set(skops.io.get_untrusted_types(data=data)) - set(EXTRA_TYPES))
