"""2-D maps of tracks: PCA, t-SNE and, where the extra is installed, UMAP. For looking at, never for scoring."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.data import samples as tables
from analysis.data.samples import Sample
from analysis.figures import plots
from analysis.models import grid

DIMENSIONS = 50  # components that t-SNE and UMAP start from, which removes noise and time
_FEWEST = 5  # rows below which neighbour maps say nothing


def figure(sample: Sample, classes: Sequence[str], title: str, most: int, seed: int = 0) -> Any:
    """The maps side by side, coloured by genre, of at most `most` tracks (a stratified subsample, first excerpts)."""
    if sample.n_tracks > most:
        sample = sample.take(tables.subsample(sample, most, np.random.default_rng(seed)))
    sample = sample.take(np.unique(sample.track_ids, return_index=True)[1])
    points, shares = project(sample.X, seed)
    labels = [f"component {i + 1} ({v:.0%})" for i, v in enumerate(shares)]
    return plots.scatter(points, sample.y, classes, f"{title}, n = {len(sample)}", (labels[0], labels[1]))


def project(X: np.ndarray, seed: int = 0) -> tuple[dict[str, np.ndarray], tuple[float, float]]:
    """({map: (n, 2)}, shares of variance of the first two components) of rows X (n, d), imputed and standardised."""
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
                out["UMAP"] = _umap(P, seed)
    shares = np.pad(steps.named_steps["pca"].explained_variance_ratio_, (0, 1))
    return out, (float(shares[0]), float(shares[1]))


def _umap(P: np.ndarray, seed: int) -> np.ndarray:
    import umap

    return np.asarray(umap.UMAP(n_neighbors=min(15, len(P) - 1), random_state=seed, n_jobs=1).fit_transform(P))
