"""PCA over the single frames of spectrograms, in one pass and bounded memory, for stores larger than memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from featurestore.store.store import Store

KINDS = ("mel", "mfcc")
N_MFCC = 20
EVERY = 8  # frames are 23 ms apart and half overlap: neighbours say almost the same
_BLOCK = 8192  # frames per update
_BATCH = 16  # spectrograms in memory at once


@dataclasses.dataclass(frozen=True)
class FramePCA:
    """explained (k,) shares of variance; points (m, 2): a random sample of frames on the first two components;
    genres (m,) object and track_ids (m,) of those; n_frames: frames the PCA learnt from, of n_excerpts."""

    kind: str
    explained: np.ndarray
    components: np.ndarray
    points: np.ndarray
    genres: np.ndarray
    n_frames: int
    n_excerpts: int


def frame_pca(
    store: Store,
    *,
    kind: str = "mel",
    split: str = "training",
    scheme: str | None = None,
    subset: str | None = None,
    sample: int = 4000,
    seed: int = 0,
) -> FramePCA:
    """Incremental PCA of every EVERY-th frame of a split's labelled excerpts, in dB, centred but not rescaled.

    mel: the stored bands; mfcc: their first 20 DCT-II coefficients (librosa's mfcc). Raises MissingInput without mels.
    """
    from sklearn.decomposition import IncrementalPCA

    rng = np.random.default_rng(seed)
    model: IncrementalPCA | None = None
    keep, genres, priority = _empty(store, kind), np.empty(0, object), np.empty(0)
    n_frames = n_excerpts = 0
    for frames, labels, excerpts in _blocks(_frames(store, kind, split, scheme, subset)):
        n_excerpts += excerpts
        if model is None:
            model = IncrementalPCA(min(frames.shape))
        if len(frames) >= model.n_components:  # a last block may be too short to update with
            model.partial_fit(frames)
            n_frames += len(frames)
        # a uniform sample of a stream: the frames with the smallest random numbers
        priority = np.concatenate([priority, rng.random(len(frames))])
        best = np.sort(np.argsort(priority, kind="stable")[:sample])
        keep, genres = np.concatenate([keep, frames])[best], np.concatenate([genres, labels])[best]
        priority = priority[best]
    if model is None:
        from featurestore.errors import MissingInput

        raise MissingInput(
            f"store {store.url}: no labelled {split} spectrogram to take frames from",
            "Label the tracks, or measure audio with `python -m featurestore build`.",
        )
    points = model.transform(keep)[:, :2]
    ratio = model.explained_variance_ratio_
    return FramePCA(kind, ratio, model.components_, points, genres, n_frames, n_excerpts)


def _empty(store: Store, kind: str) -> np.ndarray:
    return np.empty((0, min(N_MFCC, store.spec.n_mels) if kind == "mfcc" else store.spec.n_mels))


def _frames(
    store: Store, kind: str, split: str, scheme: str | None, subset: str | None
) -> Iterator[tuple[np.ndarray, str]]:
    """(frames (n, bands) float64, genre) of each labelled excerpt."""
    import scipy.fft

    import warehouse

    for batch in warehouse.iter_mels(store, split=split, scheme=scheme, subset=subset, batch_size=_BATCH):
        for mel, genre in zip(batch.mels, batch.genres, strict=True):
            if genre is None:
                continue
            part = mel[:, ::EVERY].astype(np.float64)
            if kind == "mfcc":
                part = scipy.fft.dct(part, axis=0, norm="ortho")[:N_MFCC]
            yield part.T, genre


def _blocks(parts: Iterator[tuple[np.ndarray, str]]) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Whole excerpts gathered into blocks of at least _BLOCK frames: (frames, genre of each, excerpts)."""
    frames: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for part, genre in parts:
        frames.append(part)
        labels.append(np.full(len(part), genre, dtype=object))
        if sum(map(len, frames)) >= _BLOCK:
            yield np.concatenate(frames), np.concatenate(labels), len(frames)
            frames, labels = [], []
    if frames:
        yield np.concatenate(frames), np.concatenate(labels), len(frames)
