"""Who learns from whom: which rows a study fits, chooses and reports on, by which splits a store has."""

from __future__ import annotations

import dataclasses

import numpy as np

from analysis.data.samples import Data, Sample, join
from featurestore.errors import MissingInput

SMALL = 30  # tracks in a split below which its figures are called coarse
FOLDS = 3  # of a cross-validation inside training, at most
DRAW = "Draw splits with `python -m featurestore splits --scheme artist`"
Folds = tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Who may learn from whom.

    Parameters
    ----------
    fit : Sample
        What the chosen candidate learns from, once.
    folds : tuple of (learn, score)
        Row indices into `fit`, on which candidates are tried.
    report : Sample
        What the chosen candidate is looked at on, once.
    reported, chosen_on : str
        The name of that split, and what the choice is plan on, in words.
    notes : tuple of str
        What a reader of the figures must know.
    """

    fit: Sample
    folds: Folds
    report: Sample
    reported: str
    chosen_on: str
    notes: tuple[str, ...] = ()


def make_plan(data: Data, *, seed: int = 0) -> Plan:
    """How a comparison of this data is run.

    With three splits, candidates are chosen on validation, learn from both and are reported on test. Without test they
    are chosen by group-aware cross-validation inside training and reported on validation, and the notes say so.
    Without validation the same, reported on test.

    Parameters
    ----------
    data : Data
    seed : int
        Seed of the folds.

    Returns
    -------
    Plan

    Raises
    ------
    MissingInput
        If nothing is left to learn from or to report on.
    """
    splits, where = data.splits, f"set {data.features!r}, scheme {data.scheme!r}"
    if "training" not in splits or len(splits) < 2:
        raise MissingInput(
            f"{where}: a study needs training rows and others to answer; found "
            + ", ".join(f"{s.n_tracks} tracks in {k}" for k, s in splits.items()),
            f"{DRAW}, then give --scheme artist.",
        )
    training = splits["training"]
    if len(np.unique(training.y)) < 2:
        raise MissingInput(
            f"{where}: training has one genre, {data.classes[training.y[0]]!r}", f"{DRAW}, or label more tracks."
        )
    if len(splits) == 3:
        fit = join([training, splits["validation"]])
        fold = (np.arange(len(training)), np.arange(len(training), len(fit)))
        plan = Plan(fit, (fold,), splits["test"], "test", "validation")
    else:
        reported = "test" if "test" in splits else "validation"
        folds = group_folds(training, FOLDS, seed)
        how = f"{len(folds)}-fold group-aware cross-validation inside training" if folds else "nothing (defaults)"
        plan = Plan(training, folds, splits[reported], reported, how)
    return dataclasses.replace(plan, notes=(*_choice_notes(data, plan), *_split_notes(data)))


def _choice_notes(data: Data, plan: Plan) -> list[str]:
    notes = []
    if plan.reported == "validation":
        notes.append("no test rows here: the figures are VALIDATION figures; nothing was chosen on validation")
    elif "validation" not in data.splits:
        notes.append("no validation rows here: hyper-parameters are chosen inside training")
    if len(data.splits) < 3 and plan.folds and (plan.fit.groups < 0).mean() > 0.5:
        notes.append("most artists are unknown: cross-validation cannot keep them apart, so choice scores flatter")
    if not plan.folds:
        notes.append("too few tracks per genre to choose anything: every model keeps its first candidate")
    return notes


def _split_notes(data: Data) -> list[str]:
    few = {name: s.n_tracks for name, s in data.splits.items() if s.n_tracks < SMALL}
    notes = [f"{name} has {n} tracks: figures on it are coarse" for name, n in few.items()]
    seen = np.unique(data.splits["training"].y)
    for name, s in data.splits.items():
        unseen = s.take(~np.isin(s.y, seen))
        if len(unseen):
            names = ", ".join(data.classes[c] for c in np.unique(unseen.y))
            notes.append(
                f"{name} has {unseen.n_tracks} tracks of genres absent from training ({names}): they count as wrong"
            )
    return notes


def group_folds(sample: Sample, n_folds: int, seed: int) -> Folds:
    """Folds over rows, stratified by genre, no group on both sides.

    Parameters
    ----------
    sample : Sample
    n_folds : int
        Most folds; fewer where a genre has fewer groups.
    seed : int
        Seed of the shuffle.

    Returns
    -------
    tuple of (learn, score)
        Row indices; empty where some genre has too few groups for every fold to both learn and score it.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    per_class = [len(np.unique(sample.groups[sample.y == c])) for c in np.unique(sample.y)]
    n_folds = min(n_folds, *per_class)
    if n_folds < 2:
        return ()
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = tuple(splitter.split(sample.X, sample.y, sample.groups))
    # a large artist with several genres can still leave a fold without one of them
    complete = all(len(np.unique(sample.y[a])) == len(per_class) and len(b) for a, b in folds)
    return folds if complete else ()


def study_fold(data: Data, *, seed: int = 0) -> tuple[Sample, Sample, str]:
    """What studies that never look at test learn from, and what they score.

    Parameters
    ----------
    data : Data
    seed : int
        Seed of the folds.

    Returns
    -------
    learn, score : Sample
        Training and validation; without a validation split a fifth of the training groups is held out to be scored.
    scored : str
        What is scored, in words.

    Raises
    ------
    MissingInput
        If nothing can be scored.
    """
    plan = make_plan(data, seed=seed)
    training = data.splits["training"]
    if "validation" in data.splits:
        return training, data.splits["validation"], "validation"
    folds = group_folds(training, 5, seed)
    if not folds:
        raise MissingInput(
            f"set {data.features!r}: no validation rows, and too few tracks per genre to hold some out of "
            f"{plan.fit.n_tracks}",
            f"{DRAW}.",
        )
    learn, score = folds[0]
    return training.take(learn), training.take(score), "held-out training groups (no validation split)"
