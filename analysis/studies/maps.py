"""Two-dimensional maps of tracks, for looking at: PCA, t-SNE and, where the extra is installed, UMAP."""

from __future__ import annotations

import importlib.util

import numpy as np

from analysis.data.samples import Sample, subsample
from analysis.models import grid

DIMENSIONS = 50  # components that t-SNE and UMAP start from, which removes noise and time
_FEWEST = 5  # rows below which neighbour maps say nothing


def tracks_to_map(sample: Sample, most: int, seed: int = 0) -> Sample:
    """The first excerpts of at most `most` tracks, drawn with the sample's genre shares.

    Parameters
    ----------
    sample : Sample
    most : int
        Tracks on the map.
    seed : int

    Returns
    -------
    Sample
    """
    if sample.n_tracks > most:
        sample = sample.take(subsample(sample, most, np.random.default_rng(seed)))
    return sample.take(np.unique(sample.track_ids, return_index=True)[1])


def project(X: np.ndarray, seed: int = 0) -> tuple[dict[str, np.ndarray], tuple[float, float]]:
    """Project imputed and standardised rows to two dimensions.

    Parameters
    ----------
    X : (n, d)
        Rows; NaN where missing.
    seed : int

    Returns
    -------
    maps : dict of (n, 2)
        By name.
    shares : (float, float)
        Shares of variance of the first two components.
    """
    from sklearn.manifold import TSNE
    from sklearn.pipeline import Pipeline
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        steps = Pipeline(grid.prefix(min(*X.shape, DIMENSIONS))).fit(X)
        P = steps.transform(X)
        flat = np.pad(P[:, :2], ((0, 0), (0, max(0, 2 - P.shape[1]))))
        out = {"PCA": flat}
        if len(X) >= _FEWEST:
            perplexity = min(30.0, (len(X) - 1) / 3)
            start = flat / max(float(flat[:, 0].std()), 1e-12) * 1e-4
            out["t-SNE"] = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(P)
            if importlib.util.find_spec("umap"):
                import umap

                neighbours = min(15, len(P) - 1)
                mapped = umap.UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(P)
                out["UMAP"] = np.asarray(mapped)
    shares = np.pad(steps.named_steps["pca"].explained_variance_ratio_, (0, 1))
    return out, (float(shares[0]), float(shares[1]))
