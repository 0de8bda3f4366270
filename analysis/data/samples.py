"""From the store to arrays: labelled rows by split, and what was left out and why.

Rows are excerpts. Whatever divides them moves whole tracks and, where it can, whole groups (artists). Features come
through the warehouse only.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featurestore import schemas
from featurestore.errors import MissingInput
from featurestore.store.store import OWN_SET, Store, default_scheme

if TYPE_CHECKING:
    from warehouse import Matrix


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows to learn from or to answer.

    Parameters
    ----------
    X : (n, d) float32
        Feature values; NaN where missing.
    y, track_ids, groups : (n,) int64
        Class code, track and artist of each row; a track of unknown artist has a negative group of its own.
    """

    X: np.ndarray
    y: np.ndarray
    track_ids: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: np.ndarray) -> Sample:
        """Choose rows.

        Parameters
        ----------
        rows : (m,) int64, or (n,) bool
            Indices, or a mask.

        Returns
        -------
        Sample
            Of m rows, or of those where the mask is true.
        """
        return Sample(self.X[rows], self.y[rows], self.track_ids[rows], self.groups[rows])

    def columns(self, columns: Sequence[int]) -> Sample:
        """Choose columns; the rows stay.

        Parameters
        ----------
        columns : sequence of k int
            Positions of the columns, in the order wanted.

        Returns
        -------
        Sample
            With X (n, k).
        """
        return dataclasses.replace(self, X=np.ascontiguousarray(self.X[:, list(columns)]))

    @property
    def n_tracks(self) -> int:
        """Number of different tracks."""
        return len(np.unique(self.track_ids))


def join(samples: Sequence[Sample]) -> Sample:
    """Samples over the same columns, one after the other.

    Parameters
    ----------
    samples : sequence of Sample
        At least one.

    Returns
    -------
    Sample
    """
    return Sample(*(np.concatenate([getattr(s, f.name) for s in samples]) for f in dataclasses.fields(Sample)))


@dataclasses.dataclass(frozen=True)
class Data:
    """Labelled rows of a store by split, with what a reader of any figure must know.

    Parameters
    ----------
    features, scheme : str
        Feature set and split scheme.
    classes : tuple of str
        Genres in alphabetical order; `y` indexes them.
    columns : tuple of d str
        Names of the feature columns.
    splits : mapping of Sample
        By name; only splits that have rows.
    notes : tuple of str
        What was left out or is odd.
    """

    features: str
    scheme: str
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    splits: Mapping[str, Sample]
    notes: tuple[str, ...]

    @property
    def n_tracks(self) -> int:
        """Tracks over all splits."""
        return sum(s.n_tracks for s in self.splits.values())

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over ids, labels, groups, splits and values: equal data, equal text."""
        digest = hashlib.sha256("\x1f".join([*self.classes, "", *self.columns]).encode())
        for name, s in sorted(self.splits.items()):
            order = np.argsort(s.track_ids, kind="stable")
            digest.update(name.encode())
            for array in (s.track_ids, s.y, s.groups, s.X):
                digest.update(np.ascontiguousarray(array[order]).tobytes())
        return digest.hexdigest()[:16]


def load(
    store: Store,
    *,
    features: str = OWN_SET,
    scheme: str | None = None,
    subset: str | None = None,
    groups: Sequence[str] | None = None,
) -> Data:
    """Read a feature set's labelled rows of every split.

    Parameters
    ----------
    store : Store
    features : str
        `librosa` (measured here) or an imported set.
    scheme : str, optional
        official, artist or random; None: official where the store has it, otherwise artist.
    subset : str, optional
        FMA subset, the smaller ones included.
    groups : sequence of str, optional
        Feature groups, features or columns to keep.

    Returns
    -------
    Data

    Raises
    ------
    MissingInput
        If the store has no such rows, or only one genre, or no value at all.
    """
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
    return _assemble(m, split, features, scheme, where)


def _assemble(m: Matrix, split: np.ndarray, features: str, scheme: str, where: str) -> Data:
    names, codes = np.unique(np.asarray(m.y, dtype=np.str_), return_inverse=True)
    if len(names) < 2:
        raise MissingInput(
            f"{where}: a study of genres needs at least two, found one: {str(names[0])!r}",
            'Label more tracks; `python -m warehouse "SELECT genre, count(*) FROM tracks GROUP BY 1"` counts them.',
        )
    X, notes = m.X, list[str]()
    if infinite := int(np.isinf(X).sum()):
        notes.append(f"{infinite} infinite values are taken as missing")
        X = np.where(np.isfinite(X), X, np.float32("nan"))
    kept = ~np.isnan(X).all(axis=1)
    if not kept.any():
        raise MissingInput(f"{where}: every value is missing", "Look at the table and import the set again.")
    if not kept.all():
        notes.append(f"{(~kept).sum()} of {len(X)} rows have no value in any column and are left out")
    rows = Sample(X, codes.astype(np.int64), m.track_ids, m.groups)
    parts = {name: rows.take(kept & (split == name)) for name in schemas.SPLITS}
    notes += _missing_notes(X[kept], m.columns)
    return Data(features, scheme, tuple(names.tolist()), m.columns, {k: s for k, s in parts.items() if s}, tuple(notes))


def _missing_notes(X: np.ndarray, columns: Sequence[str]) -> list[str]:
    share = np.isnan(X).mean(axis=0)
    notes = []
    if gone := [c for c, v in zip(columns, share, strict=True) if v == 1]:
        notes.append(f"{len(gone)} columns have no value at all and carry nothing: {', '.join(gone[:5])}")
    partly = np.where(share < 1, share, 0)
    if partly.any():
        worst = columns[int(partly.argmax())]
        notes.append(
            f"{(partly > 0).sum()} columns have missing values (most: {worst}, {partly.max():.1%}); "
            "the median of the training rows takes their place"
        )
    return notes


def subsample(sample: Sample, n_tracks: int, rng: np.random.Generator) -> np.ndarray:
    """Draw tracks: genre shares kept, groups taken whole until the last one.

    Parameters
    ----------
    sample : Sample
    n_tracks : int
        Tracks to draw; every genre of the sample keeps at least one.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    (m,) int64
        Row indices, ascending.
    """
    ids, first = np.unique(sample.track_ids, return_index=True)
    y, groups = sample.y[first], sample.groups[first]
    names, code = np.unique(groups, return_inverse=True)
    order = rng.permutation(len(names))[code]  # tracks of a group stay together in a random order of groups
    order = np.lexsort((rng.random(len(ids)), order))
    chosen = [order[y[order] == c][:quota] for c, quota in _quotas(y, n_tracks)]
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
