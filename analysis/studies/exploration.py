"""What a store and a feature set look like: counts, lengths, missing values, distributions, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.data.samples import Data, Sample
from featurestore import schemas
from featurestore.errors import MissingInput
from featurestore.store.store import Store

NONE = "(no genre)"
CLUSTER_AT = 0.7  # columns whose rank correlation exceeds this share a cluster
N_TRACKS = 3  # tracks drawn where none is named


def genre_rows(store: Store, scheme: str, subset: str | None) -> list[dict[str, Any]]:
    """Tracks, artists, tracks by split and measured excerpts of each genre.

    Parameters
    ----------
    store : Store
    scheme : str
        How the splits were drawn.
    subset : str, optional
        FMA subset, the smaller ones included.

    Returns
    -------
    list of dict
        One per genre, unlabelled tracks last.

    Raises
    ------
    MissingInput
        If the store has no tracks.
    """
    import warehouse

    found = warehouse.query(
        store,
        f"""
        SELECT coalesce(t.genre, '{NONE}') AS genre, count(*) AS tracks, count(DISTINCT t.artist_id) AS artists,
               count(*) FILTER (s.split = 'training') AS training,
               count(*) FILTER (s.split = 'validation') AS validation,
               count(*) FILTER (s.split = 'test') AS test,
               CAST(coalesce(sum(e.excerpts), 0) AS BIGINT) AS excerpts
        FROM tracks AS t
        LEFT JOIN splits AS s ON s.track_id = t.track_id AND s.scheme = '{scheme}'
        LEFT JOIN (SELECT track_id, count(*) AS excerpts FROM excerpts GROUP BY 1) AS e ON e.track_id = t.track_id
        {_where(subset)}
        GROUP BY t.genre ORDER BY t.genre NULLS LAST
        """,
    ).to_pylist()
    if not found:
        raise MissingInput(
            f"store {store.url} has no tracks" + (f" of subset {subset!r}" if subset else ""),
            "Add some with `python -m featurestore build` or `python -m featurestore catalog`.",
        )
    return found


def _where(subset: str | None) -> str:
    if subset is None:
        return ""
    inside = schemas.SUBSETS[: schemas.SUBSETS.index(subset) + 1]
    return f"WHERE t.subset IN ({', '.join(repr(s) for s in inside)})"


def durations(store: Store, subset: str | None) -> dict[str, np.ndarray]:
    """Lengths of the measured excerpts.

    Parameters
    ----------
    store : Store
    subset : str, optional
        FMA subset, the smaller ones included.

    Returns
    -------
    dict of (n,) float64
        Seconds by genre; empty where nothing was measured.
    """
    import warehouse

    found = warehouse.query(
        store,
        f"SELECT coalesce(t.genre, '{NONE}') AS genre, list(e.duration_s ORDER BY e.track_id, e.excerpt) AS seconds "
        f"FROM excerpts AS e JOIN tracks AS t USING (track_id) {_where(subset)} GROUP BY t.genre "
        "ORDER BY t.genre NULLS LAST",
    )
    return {r["genre"]: np.array(r["seconds"]) for r in found.to_pylist()}


def missing_rows(X: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Missing values of each column.

    Parameters
    ----------
    X : (n, d)
        Rows; NaN where missing.
    columns : sequence of d str

    Returns
    -------
    list of dict
    """
    counts = np.isnan(X).sum(axis=0).tolist()
    return [{"feature": c, "missing": n, "rows": len(X)} for c, n in zip(columns, counts, strict=True)]


def effect_sizes(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Eta squared: the share of each column's variance that lies between genres. Missing values are left out.

    Parameters
    ----------
    X : (n, d)
        Rows.
    y : (n,) int64
        Class codes.

    Returns
    -------
    (d,) float64
        0 to 1.
    """
    import pandas as pd

    values = pd.DataFrame(X.astype(np.float64)).replace([np.inf, -np.inf], np.nan)
    centred = values - values.mean()
    between = centred.groupby(y).transform("mean").where(values.notna())
    return ((between**2).sum() / (centred**2).sum()).fillna(0).to_numpy()


def distribution_rows(sample: Sample, data: Data, effect: np.ndarray) -> list[dict[str, Any]]:
    """Median and quartiles of every column by genre, columns that part the genres best first.

    Parameters
    ----------
    sample : Sample
    data : Data
        What its rows are.
    effect : (d,)
        How well each column parts the genres.

    Returns
    -------
    list of dict
    """
    rows = []
    for j in np.argsort(-effect, kind="stable"):
        for c, genre in enumerate(data.classes):
            values = sample.X[sample.y == c, j].astype(np.float64)
            values = values[np.isfinite(values)]
            cells = np.quantile(values, [0.25, 0.5, 0.75]).tolist() if len(values) else [None] * 3
            quartiles = dict(zip(("quarter", "median", "three_quarters"), cells, strict=True))
            about = {"feature": data.columns[j], "effect": float(effect[j]), "genre": genre, "n": len(values)}
            rows.append(about | quartiles)
    return rows


def correlation_clusters(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average-linkage clusters of columns by Spearman correlation, cut at CLUSTER_AT.

    Parameters
    ----------
    X : (n, d)
        Rows; the median takes the place of missing values. A constant column correlates with nothing.

    Returns
    -------
    order : (d,) int64
        Columns so that like ones stand together.
    cluster : (d,) int64
        Cluster of each column, numbered from 1 along that order.
    matrix : (d, d) float64
        |rank correlation|, 0 to 1.
    """
    import pandas as pd
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    values = pd.DataFrame(X).replace([np.inf, -np.inf], np.nan)
    ranks = values.fillna(values.median()).fillna(0).rank()
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.abs(np.nan_to_num(np.corrcoef(ranks, rowvar=False)))
    np.fill_diagonal(matrix, 1)
    tree = hierarchy.linkage(squareform(np.clip(1 - matrix, 0, 1), checks=False), "average", optimal_ordering=True)
    order = hierarchy.leaves_list(tree)
    raw = hierarchy.fcluster(tree, 1 - CLUSTER_AT, "distance")
    number = {c: i + 1 for i, c in enumerate(dict.fromkeys(raw[order]))}
    return order, np.array([number[c] for c in raw]), matrix


def tracks_to_draw(store: Store, tracks: Sequence[int] | None, subset: str | None) -> list[dict[str, Any]]:
    """The measured tracks whose pictures are drawn.

    Parameters
    ----------
    store : Store
    tracks : sequence of int, optional
        Their ids; None: the first of each of three genres.
    subset : str, optional
        FMA subset, the smaller ones included.

    Returns
    -------
    list of dict
        track_id, genre, title.

    Raises
    ------
    MissingInput
        If a track that is named was not measured.
    """
    import warehouse

    listed = warehouse.query(
        store,
        "SELECT t.track_id, any_value(t.genre) AS genre, any_value(t.title) AS title FROM excerpts AS e "
        f"JOIN tracks AS t USING (track_id) {_where(subset)} GROUP BY 1 ORDER BY 1",
    ).to_pylist()
    if tracks is None:
        first = {r["genre"]: r for r in reversed(listed)}
        return sorted(first.values(), key=lambda r: r["track_id"])[:N_TRACKS]
    known = {r["track_id"]: r for r in listed}
    for track in tracks:
        if track not in known:
            raise MissingInput(
                f"store {store.url}: track {track} was not measured",
                'Measure audio with `python -m featurestore build`, or see what was: python -m warehouse "SELECT '
                'DISTINCT track_id FROM excerpts LIMIT 20"',
            )
    return [known[t] for t in tracks]


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """How many tracks of how many genres there are.

    Parameters
    ----------
    rows : list of dict
        As `genre_rows` gives them.

    Returns
    -------
    str
    """
    labelled = [r["tracks"] for r in rows if r["genre"] != NONE]
    without = sum(r["tracks"] for r in rows) - sum(labelled)
    if not labelled:
        return f"{without} tracks, none with a genre"
    return f"{sum(labelled)} labelled tracks of {len(labelled)} genres, {min(labelled)} to {max(labelled)} each" + (
        f"; {without} without a genre" if without else ""
    )
