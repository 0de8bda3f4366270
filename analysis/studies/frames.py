"""PCA over the single frames of spectrograms, in one pass and bounded memory, for stores larger than memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from featurestore.errors import MissingInput
from featurestore.store.store import Store

KINDS = ("mel", "mfcc")
N_MFCC = 20
EVERY = 8  # frames are 23 ms apart and half overlap: neighbours say almost the same
BLOCK = 8192  # frames per update
_BATCH = 16  # spectrograms in memory at once


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
    split: str = "training",
    scheme: str | None = None,
    subset: str | None = None,
    sample: int = 4000,
    seed: int = 0,
    block: int = BLOCK,
) -> FramePCA:
    """Incremental PCA of every EVERY-th frame of a split's labelled excerpts, in dB, centred but not rescaled.

    Parameters
    ----------
    store : Store
    kind : str
        mel: the stored bands; mfcc: their first 20 DCT-II coefficients (librosa's mfcc).
    split, scheme, subset : str
        Which excerpts.
    sample : int
        Frames to keep as points.
    seed : int
        Seed of that sample.
    block : int
        Frames per update, at least as many as there are dimensions.

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
    for frames, labels, excerpts in _blocks(_frames(store, kind, split, scheme, subset), block):
        n_excerpts += excerpts
        if not n_frames:
            model.set_params(n_components=min(frames.shape))
        if len(frames) >= model.n_components:  # a last block may be too short to update with
            model.partial_fit(frames)
            n_frames += len(frames)
        # a uniform sample of a stream: the frames with the smallest random numbers
        priority = np.concatenate([priority, rng.random(len(frames))])
        best = np.sort(np.argsort(priority, kind="stable")[:sample])
        kept, genres = [np.concatenate([*kept, frames])[best]], np.concatenate([genres, labels])[best]
        priority = priority[best]
    if not n_frames:
        raise MissingInput(
            f"store {store.url}: no labelled {split} spectrogram to take frames from",
            "Label the tracks, or measure audio with `python -m featurestore build`.",
        )
    points = model.transform(kept[0])[:, :2]
    return FramePCA(model.explained_variance_ratio_, points, genres, n_frames, n_excerpts)


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


def _blocks(parts: Iterator[tuple[np.ndarray, str]], size: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Whole excerpts gathered into blocks of at least `size` frames: (frames, genre of each, excerpts)."""
    gathered: list[tuple[np.ndarray, str]] = []
    for part in parts:
        gathered.append(part)
        if sum(len(frames) for frames, _ in gathered) >= size:
            yield _joined(gathered)
            gathered = []
    if gathered:
        yield _joined(gathered)


def _joined(parts: list[tuple[np.ndarray, str]]) -> tuple[np.ndarray, np.ndarray, int]:
    labels = [np.full(len(frames), genre, dtype=object) for frames, genre in parts]
    return np.concatenate([frames for frames, _ in parts]), np.concatenate(labels), len(parts)
