"""Principal components: how much dimension is there, what is it made of, and does leaving it out reduce overfitting?

Everything is fitted on training and measured on validation; test is never looked at. Per feature and for all:
explained variance and the components needed for 80, 90, 95 and 99 %. For each classical model, at one fixed setting:
accuracy and train-minus-validation gap with and without PCA. The answer is one sentence with its interval, judged at
95 % of the variance, a point fixed beforehand. Also: frames of the stored spectrograms, and 2-D maps of the tracks.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis import options
from analysis.data import samples as tables
from analysis.data.samples import Data, Sample
from analysis.figures import plots
from analysis.models import grid
from analysis.models.search import KERNEL_ROWS
from analysis.results import output
from analysis.studies import components, frames, maps
from featurestore.errors import MissingInput
from featurestore.store.store import OWN_SET, Store
from featurestore.terminal import cli

N_LOADINGS = 5  # components whose loadings are written
MAP_TRACKS = 2000


def pca_study(
    store: Store,
    *,
    features: str = OWN_SET,
    scheme: str | None = None,
    subset: str | None = None,
    groups: Sequence[str] | None = None,
    names: Sequence[str] = grid.CLASSICAL,
    frame_kind: str = "mel",
    map_tracks: int = MAP_TRACKS,
    seed: int = 0,
    jobs: int = 1,
) -> output.Study:
    """Run the study. frame_kind: mel, mfcc or none; map_tracks: most tracks on the 2-D maps (0: no maps).

    Raises MissingInput where there are no rows to learn from or to score.
    """
    grid.require_fixed(names)
    clock = output.Clock()
    with clock.stage("read"):
        data = tables.load(store, features=features, scheme=scheme, subset=subset, groups=groups)
        learn, score, scored = tables.study_fold(data, seed=seed)
    notes = list(data.notes)
    learn = _bounded(learn, notes, seed)
    with clock.stage("decompose"):
        parts = components.by_group(learn, data.columns)
    whole = parts["all"]
    at95 = whole.needed(components.JUDGED_AT)
    with clock.stage("models x components"):
        ks = components.counts(len(whole.explained), [whole.needed(s) for s in components.SHARES])
        points = components.sweep(learn, score, len(data.classes), ks, names, seed=seed, jobs=jobs)
    with clock.stage("intervals"):
        rows = _rows(points, whole, seed)
        verdict = components.judge(points, at95, seed)
    figures = _figures(parts, points, data, scored)
    sentences: list[str] = []
    if frame_kind != "none":
        with clock.stage("frames"):
            extra, found = _frames(store, frame_kind, data, subset, seed)
        figures |= extra
        sentences.append(found)
    if map_tracks > 0:
        with clock.stage("maps"):
            figures["maps"] = maps.figure(learn, data.classes, f"{data.features}: training tracks", map_tracks, seed)
    return output.Study(
        "pca_study",
        output.table(rows),
        [
            *(f"note: {n}" for n in notes),
            _variance_sentence(whole, len(data.columns)),
            *sentences,
            components.by_model(verdict),
            components.answer(verdict, len(data.columns), len(names), score.n_tracks, scored),
        ],
        output.facts(
            store,
            data,
            seed=seed,
            subset=subset,
            jobs=jobs,
            scored_on=scored,
            settings={n: dict(grid.FIXED[n]) for n in names},
            verdict={"components": verdict.components, "gap": vars(verdict.gap), "accuracy": vars(verdict.score)},
            notes=notes,
        ),
        clock,
        tables={
            "variance": output.table(_variance_rows(parts)),
            "explained": output.table(_explained_rows(parts)),
            "loadings": output.table(_loading_rows(whole, data.columns)),
            "verdict": output.table(_verdict_rows(verdict)),
        },
        figures=figures,
        timed=output.table(_shown(rows, at95)),
    )


def _bounded(learn: Sample, notes: list[str], seed: int) -> Sample:
    if len(learn) <= KERNEL_ROWS:
        return learn
    n = learn.n_tracks * KERNEL_ROWS // len(learn)
    notes.append(f"learning from {n} of {learn.n_tracks} training tracks: kernel matrices grow with the square")
    return learn.take(tables.subsample(learn, n, np.random.default_rng(seed)))


def _rows(points: Sequence[components.Point], whole: components.Components, seed: int) -> list[dict[str, Any]]:
    kept = np.cumsum(whole.explained)
    rows = []
    for p, (gap, accuracy) in zip(points, components.intervals(points, seed), strict=True):
        rows.append(
            {
                "model": p.model,
                "components": p.components,
                "variance": None if p.components is None else float(kept[p.components - 1]),
                "train_accuracy": p.train.accuracy,
                "accuracy": accuracy.value,
                "low": accuracy.low,
                "high": accuracy.high,
                "gap": gap.value,
                "gap_low": gap.low,
                "gap_high": gap.high,
                "n": len(p.score.truth),
                "n_train": len(p.train.truth),
            }
        )
    return rows


def _shown(rows: Sequence[dict[str, Any]], at95: int) -> list[dict[str, Any]]:
    """For the terminal: without PCA, at 95 % of the variance and at a few more; every row is in results.csv."""
    return [
        {
            "model": r["model"],
            "components": "no PCA" if r["components"] is None else str(r["components"]),
            "variance": "" if r["variance"] is None else f"{r['variance']:.1%}",
            "train": f"{r['train_accuracy']:.3f}",
            "accuracy [95 %]": f"{r['accuracy']:.3f} [{r['low']:.3f}, {r['high']:.3f}]",
            "gap [95 %]": f"{r['gap']:+.3f} [{r['gap_low']:+.3f}, {r['gap_high']:+.3f}]",
            "n": r["n"],
        }
        for r in rows
        if r["components"] in (None, 2, 5, 10, 20, 50, 100, at95)
    ]


def _variance_rows(parts: dict[str, components.Components]) -> list[dict[str, Any]]:
    return [
        {
            "group": name,
            "columns": p.loadings.shape[1],
            "first_component": float(p.explained[0]),
            **{f"components_{s:.0%}".rstrip("%"): p.needed(s) for s in components.SHARES},
        }
        for name, p in parts.items()
    ]


def _explained_rows(parts: dict[str, components.Components]) -> list[dict[str, Any]]:
    return [
        {"group": name, "component": i + 1, "variance": float(v), "cumulative": float(c)}
        for name, p in parts.items()
        for i, (v, c) in enumerate(zip(p.explained, np.cumsum(p.explained), strict=True))
    ]


def _loading_rows(whole: components.Components, columns: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"component": i + 1, "feature": columns[j], "loading": float(row[j])}
        for i, row in enumerate(whole.loadings[:N_LOADINGS])
        for j in np.argsort(-np.abs(row), kind="stable")
    ]


def _verdict_rows(verdict: components.Verdict) -> list[dict[str, Any]]:
    every = {**verdict.by_model, "mean": (verdict.gap, verdict.score)}
    return [
        {
            "model": name,
            "components": verdict.components,
            **{f"gap_change{e}": getattr(gap, k) for e, k in (("", "value"), ("_low", "low"), ("_high", "high"))},
            **{f"accuracy_change{e}": getattr(acc, k) for e, k in (("", "value"), ("_low", "low"), ("_high", "high"))},
        }
        for name, (gap, acc) in every.items()
    ]


def _variance_sentence(whole: components.Components, n_columns: int) -> str:
    needed = ", ".join(f"{whole.needed(s)} for {s:.0%}" for s in components.SHARES)
    return f"components of {n_columns} standardised columns: {needed} of the training rows' variance"


def _figures(
    parts: dict[str, components.Components], points: Sequence[components.Point], data: Data, scored: str
) -> dict[str, Any]:
    by_model: dict[str, dict[str, Any]] = {}
    flat: dict[str, dict[str, float]] = {}
    for p in points:
        gap = p.train.accuracy - p.score.accuracy
        if p.components is None:
            flat[p.model] = {"train": p.train.accuracy, scored: p.score.accuracy, "gap": gap}
            continue
        series = by_model.setdefault(p.model, {"train": ([], []), scored: ([], []), "gap": ([], [])})
        for name, value in (("train", p.train.accuracy), (scored, p.score.accuracy), ("gap", gap)):
            series[name][0].append(p.components)
            series[name][1].append(value)
    cumulative = {
        f"{name} ({p.loadings.shape[1]})": (np.arange(1, len(p.explained) + 1), np.cumsum(p.explained))
        for name, p in parts.items()
    }
    return {
        "explained": plots.curves(
            cumulative,
            xlabel="components",
            ylabel="cumulative share of variance",
            title=f"{data.features}: explained variance by feature (columns)",
            log_x=True,
        ),
        "components": plots.panels(
            by_model,
            xlabel="principal components (dashed: without PCA)",
            ylabel="accuracy, and their difference",
            title=f"{data.features}: train, {scored} and gap against the number of components",
            log_x=True,
            reference=flat,
        ),
        "loadings": plots.loadings(parts["all"].loadings[:3], parts["all"].explained[:3], data.columns),
    }


def _frames(store: Store, kind: str, data: Data, subset: str | None, seed: int) -> tuple[dict[str, Any], str]:
    try:
        found = frames.frame_pca(store, kind=kind, scheme=data.scheme, subset=subset, seed=seed)
    except MissingInput as error:
        return {}, f"note: no frame-level PCA: {error.message}"
    classes = sorted(set(found.genres.tolist()))
    codes = np.searchsorted(classes, found.genres.astype(str))
    kept = np.cumsum(found.explained)
    axes = tuple(f"component {i + 1} ({v:.0%}), dB" for i, v in enumerate(found.explained[:2]))
    title = f"{len(codes)} of {found.n_frames:,} {kind} frames (training)"
    figure = plots.scatter({"frames": found.points}, codes, classes, title, (axes[0], axes[-1]))
    most = ", ".join(f"{int(np.searchsorted(kept, s - 1e-9)) + 1} for {s:.0%}" for s in components.SHARES)
    return {"frames": figure}, (
        f"{kind} frames: of {len(kept)} dimensions {most} of the variance of {found.n_frames:,} frames "
        f"of {found.n_excerpts:,} training excerpts (incremental, every {frames.EVERY}th frame)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, study, print."""
    parser = cli.Parser(prog="python -m analysis.pca_study", description=__doc__)
    options.add_study(parser)
    add = parser.add_argument
    add("--models", metavar="A,B", type=options.names, default=",".join(grid.CLASSICAL), help="models to study")
    add("--frames", choices=(*frames.KINDS, "none"), default="mel", help="frames to decompose")
    add("--map-tracks", metavar="N", type=int, default=MAP_TRACKS, help="most tracks on the 2-D maps; 0: no maps")
    args = parser.parse_args(argv)
    with options.joblib_backend(args.backend):
        study = pca_study(
            Store.open(args.store),
            features=args.features,
            scheme=args.scheme,
            subset=args.subset,
            groups=args.groups,
            names=args.models,
            frame_kind=args.frames,
            map_tracks=args.map_tracks,
            seed=args.seed,
            jobs=args.jobs,
        )
    output.report(study, args.output, args.format)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
