"""From the store to arrays: labelled rows by split, what was left out and why, and how a study divides them.

Rows are excerpts; every division here moves whole tracks, and wherever it can whole groups (artists). Features come
through the warehouse only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featurestore import registry, schemas
from featurestore.errors import MissingInput
from featurestore.store.store import OWN_SET, Store, default_scheme

if TYPE_CHECKING:
    from warehouse import Matrix

SMALL = 30  # tracks in a split below which its figures are called coarse
_SUFFIX = re.compile(r"_(mean|var|std|median|min|max|skew|kurtosis|value|\d+)$")


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows to learn from or to answer: X (n, d) float32; y class codes, track_ids, groups, each (n,) int64."""

    X: np.ndarray
    y: np.ndarray
    track_ids: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: np.ndarray) -> Sample:
        """The rows given by index or mask."""
        return Sample(self.X[rows], self.y[rows], self.track_ids[rows], self.groups[rows])

    def columns(self, columns: Sequence[int]) -> Sample:
        """The same rows with only these columns."""
        return dataclasses.replace(self, X=np.ascontiguousarray(self.X[:, list(columns)]))

    @property
    def n_tracks(self) -> int:
        """Number of different tracks."""
        return len(np.unique(self.track_ids))


def join(samples: Sequence[Sample]) -> Sample:
    """Samples over the same columns, one after the other."""
    return Sample(*(np.concatenate([getattr(s, f.name) for s in samples]) for f in dataclasses.fields(Sample)))


@dataclasses.dataclass(frozen=True)
class Data:
    """Labelled rows of a store by split, with what a reader of any figure must know.

    splits holds only splits with rows; classes are the genres in alphabetical order (y indexes them); notes say what
    was left out or is odd; fingerprint is SHA-256 over ids, labels, splits and values: equal data, equal text.
    """

    features: str
    scheme: str
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    splits: Mapping[str, Sample]
    notes: tuple[str, ...]
    fingerprint: str

    @property
    def n_tracks(self) -> int:
        """Tracks over all splits."""
        return sum(s.n_tracks for s in self.splits.values())


@dataclasses.dataclass(frozen=True)
class Plan:
    """Who may learn from whom. Candidates are tried on `folds` (index pairs into `fit`: learn, score), the chosen one
    learns once from all of `fit`, and is looked at once on `report`, whose split is named `reported`."""

    fit: Sample
    folds: tuple[tuple[np.ndarray, np.ndarray], ...]
    report: Sample
    reported: str
    chosen_on: str
    notes: tuple[str, ...] = ()


def load(
    store: Store,
    *,
    features: str = OWN_SET,
    scheme: str | None = None,
    subset: str | None = None,
    groups: Sequence[str] | None = None,
) -> Data:
    """Read a feature set's labelled rows of every split. Raises MissingInput where there is nothing to compare."""
    import warehouse

    if features == OWN_SET and not store.batches() and store.feature_sets():
        raise MissingInput(
            f"store {store.url} has no measured features; it has the imported sets {', '.join(store.feature_sets())}",
            f"Name one with --features {store.feature_sets()[0]}, or measure audio: `python -m featurestore build`.",
        )
    scheme = scheme or default_scheme(store)
    m = warehouse.matrix(store, features=features, scheme=scheme, subset=subset, groups=groups, labelled=True)
    table = warehouse.query(store, f"SELECT track_id, split FROM splits WHERE scheme = '{scheme}' ORDER BY track_id")
    at = np.searchsorted(table["track_id"].to_numpy(), m.track_ids)
    split = np.asarray(table["split"].to_pylist(), dtype=np.str_)[at]
    where = f"store {store.url}, set {features!r}, scheme {scheme!r}" + (f", subset {subset!r}" if subset else "")
    return assemble(m, split, features=features, scheme=scheme, where=where)


def assemble(m: Matrix, split: np.ndarray, *, features: str, scheme: str, where: str = "the data") -> Data:
    """Data from a labelled matrix and the split (n,) of each row. Raises MissingInput: one genre, or no value."""
    names, codes = np.unique(np.asarray(m.y, dtype=np.str_), return_inverse=True)
    classes = tuple(names.tolist())
    if len(classes) < 2:
        raise MissingInput(
            f"{where}: a study of genres needs at least two, found one: {classes[0]!r}",
            'Label more tracks; `python -m warehouse "SELECT genre, count(*) FROM tracks GROUP BY 1"` counts them.',
        )
    notes: list[str] = []
    whole, kept = _with_values(Sample(m.X, codes.astype(np.int64), m.track_ids, m.groups), notes)
    if not len(whole):
        raise MissingInput(f"{where}: every value is missing", "Look at the table and import the set again.")
    _note_missing(whole.X, m.columns, notes)
    parts = {name: whole.take(split[kept] == name) for name in schemas.SPLITS}
    splits = {name: part for name, part in parts.items() if len(part)}
    return Data(features, scheme, classes, m.columns, splits, tuple(notes), fingerprint(splits, classes, m.columns))


def _with_values(sample: Sample, notes: list[str]) -> tuple[Sample, np.ndarray]:
    """Infinite values become missing ones; rows with no value at all are left out: the rest, and which they are."""
    missing = ~np.isfinite(sample.X)
    infinite = int(np.isinf(sample.X).sum())
    if infinite:
        notes.append(f"{infinite} infinite values are taken as missing")
        sample = dataclasses.replace(sample, X=np.where(missing, np.float32("nan"), sample.X))
    empty = missing.all(axis=1)
    if empty.any():
        notes.append(f"{int(empty.sum())} of {len(sample)} rows have no value in any column and are left out")
        sample = sample.take(~empty)
    return sample, ~empty


def _note_missing(X: np.ndarray, columns: Sequence[str], notes: list[str]) -> None:
    share = np.isnan(X).mean(axis=0)
    gone = [c for c, v in zip(columns, share, strict=True) if v == 1]
    if gone:
        notes.append(f"{len(gone)} columns have no value at all and carry nothing: {', '.join(gone[:5])}")
    partly = [(c, v) for c, v in zip(columns, share, strict=True) if 0 < v < 1]
    if partly:
        worst = max(partly, key=lambda p: p[1])
        notes.append(
            f"{len(partly)} columns have missing values (most: {worst[0]}, {worst[1]:.1%}); "
            "the median of the training rows takes their place"
        )


def fingerprint(splits: Mapping[str, Sample], classes: Sequence[str], columns: Sequence[str]) -> str:
    """16 hexadecimal digits over ids, labels, groups, splits and values."""
    digest = hashlib.sha256("\x1f".join([*classes, "", *columns]).encode())
    for name, s in sorted(splits.items()):
        order = np.argsort(s.track_ids, kind="stable")
        digest.update(name.encode())
        for array in (s.track_ids, s.y, s.groups, s.X):
            digest.update(np.ascontiguousarray(array[order]).tobytes())
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------- dividing


def plan(data: Data, *, seed: int = 0, n_folds: int = 3) -> Plan:
    """How a comparison of this data is run, by which splits it has.

    training + validation + test: chosen on validation, learnt from both, reported on test.
    no test: chosen by group-aware cross-validation inside training, reported on validation and called so.
    no validation: the same, reported on test. Raises MissingInput where nothing is left to report on.
    """
    splits = data.splits
    if "training" not in splits or len(splits) < 2:
        raise MissingInput(
            f"set {data.features!r}, scheme {data.scheme!r}: a study needs training rows and others to answer; found "
            + ", ".join(f"{s.n_tracks} tracks in {k}" for k, s in splits.items()),
            "Draw splits with `python -m featurestore splits --scheme artist`, then give --scheme artist.",
        )
    training = splits["training"]
    if len(np.unique(training.y)) < 2:
        raise MissingInput(
            f"set {data.features!r}, scheme {data.scheme!r}: training has one genre, {data.classes[training.y[0]]!r}",
            "Draw splits with `python -m featurestore splits --scheme artist`, or label more tracks.",
        )
    if len(splits) == 3:
        fit = join([training, splits["validation"]])
        fold = (np.arange(len(training)), np.arange(len(training), len(fit)))
        made = Plan(fit, (fold,), splits["test"], "test", "validation")
    else:
        reported = "test" if "test" in splits else "validation"
        folds = group_folds(training, n_folds, seed)
        how = f"{len(folds)}-fold group-aware cross-validation inside training" if folds else "nothing (defaults)"
        made = Plan(training, folds, splits[reported], reported, how)
    return dataclasses.replace(made, notes=tuple(_plan_notes(data, made)))


def _plan_notes(data: Data, made: Plan) -> list[str]:
    notes = []
    if made.reported == "validation":
        notes.append("no test rows here: the figures are VALIDATION figures; nothing was chosen on validation")
    elif "validation" not in data.splits:
        notes.append("no validation rows here: hyper-parameters are chosen inside training")
    # the warehouse gives a track of unknown artist a negative group of its own
    if len(data.splits) < 3 and made.folds and (made.fit.groups < 0).mean() > 0.5:
        notes.append("most artists are unknown: cross-validation cannot keep them apart, so choice scores flatter")
    if not made.folds:
        notes.append("too few tracks per genre to choose anything: every model keeps its first candidate")
    for name, s in data.splits.items():
        if s.n_tracks < SMALL:
            notes.append(f"{name} has {s.n_tracks} tracks: figures on it are coarse")
    seen = set(np.unique(data.splits["training"].y))
    for name, s in data.splits.items():
        unseen = [data.classes[c] for c in np.unique(s.y) if c not in seen]
        if unseen:
            n = s.take(~np.isin(s.y, list(seen))).n_tracks
            names = ", ".join(unseen)
            notes.append(f"{name} has {n} tracks of genres absent from training ({names}): they count as wrong")
    return notes


def group_folds(sample: Sample, n_folds: int, seed: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Folds over rows, stratified by genre, no group on both sides; fewer where a genre has fewer groups.

    () where some genre has a single group, so that no fold could both learn and score it.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    per_class = [len(np.unique(sample.groups[sample.y == c])) for c in np.unique(sample.y)]
    n_folds = min(n_folds, min(per_class))
    if n_folds < 2:
        return ()
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = tuple(splitter.split(sample.X, sample.y, sample.groups))
    # a large artist with several genres can still leave a fold without one of them
    complete = all(len(np.unique(sample.y[a])) == len(per_class) and len(b) for a, b in folds)
    return folds if complete else ()


def subsample(sample: Sample, n_tracks: int, rng: np.random.Generator) -> np.ndarray:
    """Row indices (sorted) of `n_tracks` tracks: genre shares kept, groups taken whole until the last one.

    Every genre of the sample keeps at least one track.
    """
    ids, first = np.unique(sample.track_ids, return_index=True)
    y, groups = sample.y[first], sample.groups[first]
    names, code = np.unique(groups, return_inverse=True)
    order = rng.permutation(len(names))[code]  # tracks of a group stay together in a random order of groups
    order = np.lexsort((rng.random(len(ids)), order))
    chosen = []
    for c, quota in _quotas(y, n_tracks):
        members = order[y[order] == c]
        chosen.append(members[:quota])
    return np.flatnonzero(np.isin(sample.track_ids, ids[np.concatenate(chosen)]))


def _quotas(y: np.ndarray, total: int) -> list[tuple[int, int]]:
    """(class, tracks) in the classes' shares, at least one each, adding up to `total` where that leaves room."""
    classes, counts = np.unique(y, return_counts=True)
    total = max(len(classes), min(total, len(y)))
    exact = counts * total / len(y)
    quota = np.maximum(1, np.floor(exact)).astype(int)
    while quota.sum() != total:  # the class furthest from its share gives or takes one
        step = 1 if quota.sum() < total else -1
        able = (quota < counts) if step > 0 else (quota > 1)
        quota[np.argmax(np.where(able, step * (exact - quota), -np.inf))] += step
    return list(zip(classes.tolist(), quota.tolist(), strict=True))


def study_fold(data: Data, *, seed: int = 0) -> tuple[Sample, Sample, str]:
    """(learn, score, name of what is scored) for studies that never look at test: training and validation.

    Without a validation split a fifth of the training groups is held out instead, and the name says so.
    """
    made = plan(data, seed=seed)
    training = data.splits["training"]
    if "validation" in data.splits:
        return training, data.splits["validation"], "validation"
    folds = group_folds(training, 5, seed)
    if not folds:
        raise MissingInput(
            f"set {data.features!r}: no validation rows, and too few tracks per genre to hold some out of "
            f"{made.fit.n_tracks}",
            "Draw splits with `python -m featurestore splits --scheme artist`.",
        )
    learn, score = folds[0]
    return training.take(learn), training.take(score), "held-out training groups (no validation split)"


# ---------------------------------------------------------------- columns


def column_group(name: str) -> str:
    """The feature a column belongs to: `mfcc_mean_01` -> `mfcc`; in imported tables statistics and numbers go."""
    parsed = registry.parse_column(name)
    if parsed:
        return parsed[0]
    while _SUFFIX.search(name) and _SUFFIX.sub("", name):
        name = _SUFFIX.sub("", name)
    stem = re.sub(r"\d+(_\w+)?$", "", name) if re.match(r"^[A-Za-z_]+\d+(_(mean|var|std))?$", name) else name
    return stem or name


def column_groups(columns: Sequence[str], of: Callable[[str], str] = column_group) -> dict[str, list[int]]:
    """Column positions by feature, in order of first appearance."""
    out: dict[str, list[int]] = {}
    for j, name in enumerate(columns):
        out.setdefault(of(name), []).append(j)
    return out
