"""Principal components: how much dimension is there, what is it made of, and does leaving it out reduce overfitting?

Everything is fitted on training and measured on validation; test is never looked at. Per feature and for all:
explained variance and the components needed for 80, 90, 95 and 99 %. For each classical model, at one fixed setting:
accuracy and train-minus-validation gap with and without PCA. The answer is one sentence with its interval, judged at
95 % of the variance, a point fixed beforehand. Also: frames of the stored spectrograms, and 2-D maps of the tracks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from analysis import options
from analysis.data.plan import study_fold
from analysis.data.samples import Data, Sample, load, subsample
from analysis.figures import plots
from analysis.models import grid
from analysis.models.search import KERNEL_ROWS
from analysis.results import output
from analysis.studies import components, maps
from analysis.studies.components import SHARES, Components, Point
from analysis.studies.frames import EVERY, KINDS, frame_pca
from featurestore.errors import MissingInput
from featurestore.store.store import OWN_SET, Store
from featurestore.terminal import cli

N_LOADINGS = 5  # components whose loadings are written
MAP_TRACKS = 2000
HEADINGS = {
    "model": "model",
    "components": "components",
    "variance": "variance",
    "train_accuracy": "train",
    "accuracy": "accuracy [95 %]",
    "gap": "gap [95 %]",
    "n": "n",
}
Figures = dict[str, Callable[[], Any]]


def pca_study(
    store: Store,
    *,
    features: str = OWN_SET,
    scheme: str | None = None,
    subset: str | None = None,
    groups: Sequence[str] | None = None,
    models: Sequence[str] = grid.CLASSICAL,
    frames: str = "mel",
    map_tracks: int = MAP_TRACKS,
    seed: int = 0,
) -> output.Study:
    """Run the study.

    Parameters
    ----------
    store : Store
    features, scheme, subset, groups
        As for `analysis.data.samples.load`.
    models : sequence of str
        Models that have a fixed setting.
    frames : str
        Frames to decompose: mel, mfcc or none.
    map_tracks : int
        Most tracks on the 2-D maps; 0: no maps.
    seed : int

    Returns
    -------
    Study

    Raises
    ------
    MissingInput
        If there are no rows to learn from or to score.
    UsageError
        If a model has no fixed setting.
    """
    grid.require_fixed(models)
    clock = output.Clock()
    with clock.stage("read"):
        data = load(store, features=features, scheme=scheme, subset=subset, groups=groups)
        learn, score, scored = study_fold(data, seed=seed)
        learn, notes = _bounded(learn, seed)
    with clock.stage("decompose"):
        parts = components.by_group(learn, data.columns)
    whole = parts["all"]
    needed = [components.components_for(whole.explained, s) for s in SHARES]
    judged = needed[SHARES.index(components.JUDGED_AT)]
    with clock.stage("models x components"):
        ks = components.counts(len(whole.explained), needed)
        points = components.sweep(learn, score, len(data.classes), ks, models, seed=seed)
    with clock.stage("intervals"):
        rows = _rows(points, whole, seed)
        verdict = components.judge(points, judged, seed)
    figures, sentences = _figures(parts, points, data, scored), list[str]()
    if frames != "none":
        with clock.stage("frames"):
            sentences.append(_frames(store, frames, data, subset, seed, figures))
    if map_tracks > 0:
        with clock.stage("maps"):
            figures["maps"] = _map(maps.tracks_to_map(learn, map_tracks, seed), data, seed)
    most = ", ".join(f"{k} for {s:.0%}" for k, s in zip(needed, SHARES, strict=True))
    return output.Study(
        name="pca_study",
        rows=rows,
        shown=_shown(rows, judged),
        notes=[*data.notes, *notes],
        sentences=[
            f"components of {len(data.columns)} standardised columns: {most} of the training rows' variance",
            *sentences,
            components.by_model(verdict),
            components.answer(verdict, len(data.columns), len(models), score.n_tracks, scored),
        ],
        facts=output.facts(
            store,
            data,
            scored_on=scored,
            fixed_settings={n: dict(grid.FIXED[n]) for n in models},
            verdict={"components": verdict.components, "gap": vars(verdict.gap), "accuracy": vars(verdict.score)},
        ),
        clock=clock,
        tables={**_variance_tables(parts), "loadings": _loading_rows(whole, data.columns), "verdict": verdict.rows()},
        figures=figures,
    )


def _bounded(learn: Sample, seed: int) -> tuple[Sample, list[str]]:
    if len(learn) <= KERNEL_ROWS:
        return learn, []
    n = learn.n_tracks * KERNEL_ROWS // len(learn)
    note = f"learning from {n} of {learn.n_tracks} training tracks: kernel matrices grow with the square"
    return learn.take(subsample(learn, n, np.random.default_rng(seed))), [note]


def _rows(points: Sequence[Point], whole: Components, seed: int) -> list[dict[str, Any]]:
    kept = np.cumsum(whole.explained)
    return [
        {
            "model": p.model,
            "components": p.components,
            "variance": None if p.components is None else float(kept[p.components - 1]),
            "train_accuracy": p.train.accuracy,
            **accuracy.cells("accuracy"),
            **gap.cells("gap"),
            "n": len(p.score.truth),
            "n_train": len(p.train.truth),
        }
        for p, (gap, accuracy) in zip(points, components.intervals(points, seed), strict=True)
    ]


def _shown(rows: Sequence[Mapping[str, Any]], judged: int) -> Any:
    """Without PCA, at 95 % of the variance and at a few more numbers; every row is in results.csv."""
    few = [r for r in rows if r["components"] in (None, 2, 5, 10, 20, 50, 100, judged)]
    return output.for_people([{**r, "components": str(r["components"] or "no PCA")} for r in few], HEADINGS)


def _variance_tables(parts: Mapping[str, Components]) -> dict[str, output.Rows]:
    variance = [
        {
            "group": name,
            "columns": p.loadings.shape[1],
            "first_component": float(p.explained[0]),
            **{f"components_{100 * s:.0f}": components.components_for(p.explained, s) for s in SHARES},
        }
        for name, p in parts.items()
    ]
    explained = [
        {"group": name, "component": i + 1, "variance": float(v), "cumulative": float(c)}
        for name, p in parts.items()
        for i, (v, c) in enumerate(zip(p.explained, np.cumsum(p.explained), strict=True))
    ]
    return {"variance": variance, "explained": explained}


def _loading_rows(whole: Components, columns: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"component": i + 1, "feature": columns[j], "loading": float(row[j])}
        for i, row in enumerate(whole.loadings[:N_LOADINGS])
        for j in np.argsort(-np.abs(row), kind="stable")
    ]


def _figures(parts: Mapping[str, Components], points: Sequence[Point], data: Data, scored: str) -> Figures:
    by_model: dict[str, dict[str, Any]] = {}
    flat: dict[str, dict[str, float]] = {}
    for p in points:
        values = {"train": p.train.accuracy, scored: p.score.accuracy, "gap": p.gap}
        if p.components is None:
            flat[p.model] = values
            continue
        series = by_model.setdefault(p.model, {name: ([], []) for name in values})
        for name, value in values.items():
            series[name][0].append(p.components)
            series[name][1].append(value)
    cumulative = {
        f"{name} ({p.loadings.shape[1]})": (np.arange(1, len(p.explained) + 1), np.cumsum(p.explained))
        for name, p in parts.items()
    }
    whole, title = parts["all"], f"{data.features}: explained variance by feature (columns)"
    return {
        "explained": partial(plots.curves, {"": cumulative}, "components", "cumulative share of variance", title),
        "components": partial(
            plots.curves,
            by_model,
            "principal components (dashed: without PCA)",
            "accuracy, and their difference",
            f"{data.features}: train, {scored} and gap against the number of components",
            flat,
        ),
        "loadings": partial(plots.loadings, whole.loadings[:3], whole.explained[:3], data.columns),
    }


def _map(sample: Sample, data: Data, seed: int) -> Callable[[], Any]:
    points, shares = maps.project(sample.X, seed)
    axes = {"PCA": [f"component {i + 1} ({v:.0%})" for i, v in enumerate(shares)]}
    title = f"{data.features}: training tracks, n = {len(sample)}"
    return partial(plots.scatter, points, axes, sample.y, data.classes, title)


def _frames(store: Store, kind: str, data: Data, subset: str | None, seed: int, figures: Figures) -> str:
    """The finding about frames; adds their map to the figures."""
    try:
        found = frame_pca(store, kind=kind, scheme=data.scheme, subset=subset, seed=seed)
    except MissingInput as error:
        return f"note: no frame-level PCA: {error.message}"
    classes, codes = np.unique(found.genres.astype(str), return_inverse=True)
    axes = {"frames": [f"component {i + 1} ({v:.0%}), dB" for i, v in enumerate(found.explained[:2])]}
    title = f"{len(codes)} of {found.n_frames:,} {kind} frames (training)"
    figures["frames"] = partial(plots.scatter, {"frames": found.points}, axes, codes, classes.tolist(), title)
    most = ", ".join(f"{components.components_for(found.explained, s)} for {s:.0%}" for s in SHARES)
    return (
        f"{kind} frames: of {len(found.explained)} dimensions {most} of the variance of {found.n_frames:,} frames "
        f"of {found.n_excerpts:,} training excerpts (incremental, every {EVERY}th frame)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the study, and print and write what was found.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code: 0.
    """
    parser = options.parser("pca_study", __doc__)
    add = parser.add_argument
    add("--models", metavar="A,B", type=options.names, default=",".join(grid.CLASSICAL), help="models to study")
    add("--frames", choices=(*KINDS, "none"), default="mel", help="frames to decompose")
    add("--map-tracks", metavar="N", type=int, default=MAP_TRACKS, help="most tracks on the 2-D maps; 0: no maps")
    return options.run(pca_study, parser, argv)


if __name__ == "__main__":
    sys.exit(cli.run(main))
