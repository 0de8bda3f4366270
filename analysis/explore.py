"""Look before you learn: counts, durations, missing values, distributions, correlations, and pictures of tracks.

Counts, durations and missing values describe every track of the store; distributions and correlations describe the
training rows alone, so that nothing learnt here has seen validation or test. Chosen tracks are drawn from what the
store holds: the mel spectrogram of the whole excerpt, and the stored window of the waveform, from which the
chromagram and the spectral centroid are computed for the picture.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from analysis import options
from analysis.data import samples as tables
from analysis.figures import audio_plots, explore_plots
from analysis.results import output
from featurestore.errors import MissingInput
from featurestore.store.store import OWN_SET, Store, default_scheme
from featurestore.terminal import cli

NONE = "(no genre)"
CLUSTER_AT = 0.7  # columns whose rank correlation exceeds this share a cluster
DEFAULT_TRACKS = 3


def explore(
    store: Store,
    *,
    features: str = OWN_SET,
    scheme: str | None = None,
    subset: str | None = None,
    groups: Sequence[str] | None = None,
    tracks: Sequence[int] | None = None,
    seed: int = 0,
) -> output.Study:
    """Describe the store and a feature set. tracks: ids to draw; None: the first of each of three genres.

    What the store does not hold (audio, features, spectrograms) is left out with a note. Raises MissingInput for a
    store without tracks or a track that was not measured.
    """
    clock, notes = output.Clock(), []
    scheme = scheme or default_scheme(store)
    with clock.stage("counts"):
        rows = genre_rows(store, scheme, subset)
    figures = {"class_counts": explore_plots.class_counts(rows, scheme)}
    extra: dict[str, pa.Table] = {}
    with clock.stage("durations"):
        seconds = durations(store, subset)
        if seconds:
            figures["durations"] = explore_plots.durations(seconds)
        else:
            notes.append("no durations: nothing was measured yet (python -m featurestore build)")
    with clock.stage("features"):
        try:
            found, drawn = _features(store, features, scheme, subset, groups, notes)
            extra |= found
            figures |= drawn
        except MissingInput as error:
            notes.append(f"no feature tables: {error.message}")
    with clock.stage("tracks"):
        figures |= _tracks(store, tracks, subset, notes)
    return output.Study(
        "explore",
        output.table(rows),
        [*(f"note: {n}" for n in notes), _sentence(rows)],
        {
            "store": {"url": store.url, "spec_fingerprint": store.spec.fingerprint, "batches": len(store.batches())},
            "features": features,
            "scheme": scheme,
            "subset": subset,
            "seed": seed,
            "notes": notes,
            "versions": output.versions(),
        },
        clock,
        tables=extra,
        figures=figures,
        timed=output.shown(rows),
    )


def genre_rows(store: Store, scheme: str, subset: str | None) -> list[dict[str, Any]]:
    """One row per genre (unlabelled tracks last): tracks, artists, tracks by split, measured excerpts."""
    import warehouse

    found = warehouse.query(
        store,
        f"""
        SELECT t.genre, count(*) AS tracks, count(DISTINCT t.artist_id) AS artists,
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
    return [{**r, "genre": NONE if r["genre"] is None else r["genre"]} for r in found]


def _where(subset: str | None) -> str:
    from featurestore import schemas

    if subset is None:
        return ""
    inside = schemas.SUBSETS[: schemas.SUBSETS.index(subset) + 1]
    return f"WHERE t.subset IN ({', '.join(repr(s) for s in inside)})"


def durations(store: Store, subset: str | None) -> dict[str, np.ndarray]:
    """Measured excerpt lengths in seconds by genre; {} where nothing was measured."""
    import warehouse

    found = warehouse.query(
        store,
        f"SELECT t.genre, e.duration_s FROM excerpts AS e JOIN tracks AS t USING (track_id) {_where(subset)} "
        "ORDER BY t.genre NULLS LAST, e.track_id, e.excerpt",
    )
    genre = np.array([NONE if g is None else g for g in found["genre"].to_pylist()], dtype=object)
    seconds = found["duration_s"].to_numpy()
    return {g: seconds[genre == g] for g in dict.fromkeys(genre)}


def _features(
    store: Store,
    features: str,
    scheme: str,
    subset: str | None,
    groups: Sequence[str] | None,
    notes: list[str],
) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    import warehouse

    every = warehouse.matrix(store, features=features, subset=subset, groups=groups, labelled=False)
    missing = [
        {"feature": c, "missing": int(n), "rows": len(every.X)}
        for c, n in zip(every.columns, np.isnan(every.X).sum(axis=0), strict=True)
    ]
    out = {"missing": output.table(missing)}
    figures: dict[str, Any] = {}
    if any(r["missing"] for r in missing):
        figures["missing"] = explore_plots.missing(missing)
    else:
        notes.append(f"no value is missing in the {len(every.X)} rows of {features}")
    del every
    data = tables.load(store, features=features, scheme=scheme, subset=subset, groups=groups)
    sample = data.splits.get("training") or next(iter(data.splits.values()))
    effect = effect_sizes(sample.X, sample.y)
    out["distributions"] = output.table(_distributions(sample, data, effect))
    figures["distributions"] = explore_plots.distributions(sample, data, effect)
    if len(data.columns) > 1:
        order, cluster, matrix = correlation_clusters(sample.X)
        out["clusters"] = output.table(
            [{"feature": data.columns[j], "cluster": int(cluster[j]), "place": i} for i, j in enumerate(order)]
        )
        figures["correlations"] = explore_plots.correlations(matrix, order, cluster, data.columns)
        notes.append(
            f"{len(data.columns)} columns form {len(np.unique(cluster))} clusters at rank correlation {CLUSTER_AT}"
        )
    return out, figures


def effect_sizes(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(d,) eta squared: share of each column's variance that lies between genres, 0 to 1; missing values left out."""
    known = np.isfinite(X)
    values = np.where(known, X, 0).astype(np.float64)
    n = known.sum(axis=0)
    mean = values.sum(axis=0) / np.maximum(1, n)
    total = (np.where(known, values - mean, 0) ** 2).sum(axis=0)
    between = np.zeros(X.shape[1])
    for c in np.unique(y):
        m = known[y == c].sum(axis=0)
        between += m * (values[y == c].sum(axis=0) / np.maximum(1, m) - mean) ** 2
    return np.divide(between, total, out=np.zeros_like(total), where=total > 0)


def _distributions(sample: tables.Sample, data: tables.Data, effect: np.ndarray) -> list[dict[str, Any]]:
    """Median and quartiles of every column by genre, columns that part the genres best first."""
    rows = []
    for j in np.argsort(-effect, kind="stable"):
        for c, genre in enumerate(data.classes):
            values = sample.X[sample.y == c, j].astype(np.float64)
            values = values[np.isfinite(values)]
            low, median, high = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else (None, None, None)
            cells = {"quarter": low, "median": median, "three_quarters": high}
            shown = {k: None if v is None else float(v) for k, v in cells.items()}
            rows.append(
                {"feature": data.columns[j], "effect": float(effect[j]), "genre": genre, "n": len(values), **shown}
            )
    return rows


def correlation_clusters(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(order (d,) that puts like columns together, cluster (d,) numbered along it, |rank correlation| (d, d)).

    Average-linkage clusters of Spearman correlation, cut at CLUSTER_AT; a constant column correlates with nothing.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform
    from scipy.stats import rankdata

    filled = np.where(np.isfinite(X), X, np.nanmedian(np.where(np.isfinite(X), X, np.nan), axis=0, keepdims=True))
    ranks = rankdata(np.nan_to_num(filled), axis=0)
    ranks -= ranks.mean(axis=0)
    size = np.sqrt((ranks**2).sum(axis=0))
    ranks = np.divide(ranks, size, out=np.zeros_like(ranks), where=size > 0)
    matrix = np.abs(ranks.T @ ranks)
    np.fill_diagonal(matrix, 1)
    tree = hierarchy.linkage(squareform(np.clip(1 - matrix, 0, 1), checks=False), "average", optimal_ordering=True)
    order = hierarchy.leaves_list(tree)
    raw = hierarchy.fcluster(tree, 1 - CLUSTER_AT, "distance")
    number = {c: i + 1 for i, c in enumerate(dict.fromkeys(raw[order]))}
    return order, np.array([number[c] for c in raw]), matrix


def _tracks(store: Store, tracks: Sequence[int] | None, subset: str | None, notes: list[str]) -> dict[str, Any]:
    if not store.batches():
        if tracks:
            raise MissingInput(
                f"store {store.url} measured nothing, so track {tracks[0]} has no picture",
                "Measure audio with `python -m featurestore build --dataset NAME --audio DIR`.",
            )
        return {}
    import warehouse

    listed = warehouse.query(
        store,
        "SELECT t.track_id, any_value(t.genre) AS genre, any_value(t.title) AS title FROM excerpts AS e "
        f"JOIN tracks AS t USING (track_id) {_where(subset)} GROUP BY 1 ORDER BY 1",
    ).to_pylist()
    known = {r["track_id"]: r for r in listed}
    if tracks is None:
        first: dict[Any, int] = {}
        for r in listed:
            first.setdefault(r["genre"], r["track_id"])
        tracks = sorted(first.values())[:DEFAULT_TRACKS]
    unknown = [t for t in tracks if t not in known]
    if unknown:
        raise MissingInput(
            f"store {store.url}: track {unknown[0]} was not measured",
            'See what was: python -m warehouse "SELECT DISTINCT track_id FROM excerpts LIMIT 20"',
        )
    if tracks and store.spec.wave_samples:
        notes.append(
            f"chromagram and centroid: computed for the picture from the stored {store.spec.wave_seconds:g} s window"
        )
    return {f"track_{t}": audio_plots.track(store, known[t]) for t in tracks}


def _sentence(rows: Sequence[dict[str, Any]]) -> str:
    labelled = [r["tracks"] for r in rows if r["genre"] != NONE]
    without = sum(r["tracks"] for r in rows) - sum(labelled)
    if not labelled:
        return f"{without} tracks, none with a genre"
    return f"{sum(labelled)} labelled tracks of {len(labelled)} genres, {min(labelled)} to {max(labelled)} each" + (
        f"; {without} without a genre" if without else ""
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, explore, print."""
    parser = cli.Parser(prog="python -m analysis.explore", description=__doc__)
    options.add_study(parser)
    parser.add_argument("--tracks", metavar="ID,ID", type=options.numbers, default=None, help="tracks to draw")
    args = parser.parse_args(argv)
    study = explore(
        Store.open(args.store),
        features=args.features,
        scheme=args.scheme,
        subset=args.subset,
        groups=args.groups,
        tracks=args.tracks,
        seed=args.seed,
    )
    output.report(study, args.output, args.format)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
