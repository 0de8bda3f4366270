"""PCA over the single frames of spectrograms, in one pass and bounded memory, for stores larger than memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from featurestore.errors import MissingInput
from featurestore.store.store import Store

KINDS = ("mel", "mfcc")
N_MFCC = 20
EVERY = 8  # frames are 23 ms apart and half overlap: neighbours say almost the same
AT_ONCE = 64  # spectrograms in memory, and per update


@dataclasses.dataclass(frozen=True)
class FramePCA:
    """A PCA of frames.

    Parameters
    ----------
    explained : (k,)
        Shares of variance.
    points : (m, 2)
        A random sample of frames on the first two components.
    genres : (m,) object
        Their genres.
    n_frames, n_excerpts : int
        Frames that the PCA learnt from, of how many excerpts.
    """

    explained: np.ndarray
    points: np.ndarray
    genres: np.ndarray
    n_frames: int
    n_excerpts: int


def frame_pca(
    store: Store,
    *,
    kind: str = "mel",
    scheme: str | None = None,
    subset: str | None = None,
    sample: int = 4000,
    seed: int = 0,
    at_once: int = AT_ONCE,
) -> FramePCA:
    """Incremental PCA of every EVERY-th frame of the labelled training excerpts, in dB, centred but not rescaled.

    Parameters
    ----------
    store : Store
    kind : str
        mel: the stored bands; mfcc: their first 20 DCT-II coefficients (librosa's mfcc).
    scheme, subset : str, optional
        Split scheme, and FMA subset, of the excerpts.
    sample : int
        Frames to keep as points.
    seed : int
        Seed of that sample.
    at_once : int
        Spectrograms in memory, and per update of the PCA; the result is the same for any number.

    Returns
    -------
    FramePCA

    Raises
    ------
    MissingInput
        If the store has no such spectrogram.
    """
    from sklearn.decomposition import IncrementalPCA

    rng, model = np.random.default_rng(seed), IncrementalPCA()
    kept, genres, priority = list[np.ndarray](), np.empty(0, object), np.empty(0)
    n_frames = n_excerpts = 0
    for parts, labels in _batches(store, kind, batch_size=at_once, split="training", scheme=scheme, subset=subset):
        frames = np.concatenate(parts)
        if not n_frames:
            model.set_params(n_components=min(frames.shape))
        if len(frames) >= model.n_components:  # the last may be too few to update with
            model.partial_fit(frames)
            n_frames += len(frames)
        n_excerpts += len(parts)
        # a uniform sample of a stream: the frames with the smallest random numbers
        priority = np.concatenate([priority, rng.random(len(frames))])
        best = np.sort(np.argsort(priority, kind="stable")[:sample])
        each = np.repeat(np.array(labels, dtype=object), [len(p) for p in parts])
        kept, genres = [np.concatenate([*kept, frames])[best]], np.concatenate([genres, each])[best]
        priority = priority[best]
    if not n_frames:
        raise MissingInput(
            f"store {store.url}: no labelled training spectrogram to take frames from",
            "Label the tracks, or measure audio with `python -m featurestore build`.",
        )
    points = model.transform(kept[0])[:, :2]
    return FramePCA(model.explained_variance_ratio_, points, genres, n_frames, n_excerpts)


def _batches(store: Store, kind: str, **which: Any) -> Iterator[tuple[list[np.ndarray], list[str]]]:
    """(frames (n, bands) float64, genre) of labelled excerpts, several at once."""
    import scipy.fft

    import warehouse

    for batch in warehouse.iter_mels(store, **which):
        labelled = [(m, g) for m, g in zip(batch.mels, batch.genres, strict=True) if g is not None]
        parts = [mel[:, ::EVERY].astype(np.float64) for mel, _ in labelled]
        if kind == "mfcc":
            parts = [scipy.fft.dct(part, axis=0, norm="ortho")[:N_MFCC] for part in parts]
        if parts:
            yield [part.T for part in parts], [genre for _, genre in labelled]
