"""How long the studies take, where the time goes, and what the search's shortcuts save.

The store is synthetic (tests.factories: 8 genres, 60 artists each, features of the FMA paper's 518 columns) and hard
enough that models err, since an SVM's time grows with its errors. Seconds are wall clock; memory is the largest
resident size of this process and of any of its workers. The shortcuts are timed against plain scikit-learn on the
same folds: one fit per setting, as GridSearchCV would do it.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterable
from typing import Any

import joblib
import numpy as np

from analysis import compare, learning_curve, pca_study
from analysis.data.plan import study_fold
from analysis.data.samples import Sample, load, subsample
from analysis.models import grid, search
from analysis.models.grid import Candidate
from analysis.results.output import Study
from benchmarks import common
from featurestore.spec import Spec
from featurestore.store.store import Store
from tests.factories import make_store

GENRES = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
STUDIES = ("compare", "pca_study", "learning_curve")


def make(folder: str, tracks: int) -> Store:
    """A store of `tracks` x 518 features whose genres overlap."""
    spec = Spec(groups=("fma",))
    return make_store(
        folder,
        tracks=tracks,
        genres=GENRES,
        artists_per_genre=60,
        spec=spec,
        signal=0.3,
        artist_signal=0.6,
        arrays_too=False,
        batch_tracks=512,
    )


def run_study(name: str, store: Store, folder: str) -> Study:
    """One study with its default settings."""
    if name == "compare":
        return compare.compare(store, models_dir=f"{folder}/model")
    if name == "pca_study":
        return pca_study.pca_study(store, frames="none")
    return learning_curve.learning_curve(store)


def study_rows(store: Store, names: Iterable[str], folder: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(seconds in all and by stage, and memory, of each study; seconds of work of each model of compare)."""
    rows: list[dict[str, Any]] = []
    by_model: list[dict[str, Any]] = []
    for name in names:
        started = time.perf_counter()
        study = run_study(name, store, folder)
        total = time.perf_counter() - started
        by_model += [{"model": m, **seconds} for m, seconds in study.facts.get("model_seconds", {}).items()]
        stages = sorted(study.clock.seconds.items(), key=lambda p: -p[1])[:4]
        rows.append(
            {
                "study": name,
                "seconds": round(total, 1),
                "where": ", ".join(f"{k} {v:.0f}" for k, v in stages),
                "this_process_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "largest_worker_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
            }
        )
    return rows, by_model


def shortcut_rows(store: Store, repeats: int, rows_used: int) -> list[dict[str, Any]]:
    """Searching with shared work against one plain Pipeline fit per setting, on the same rows."""
    data = load(store)
    learn, score, _ = study_fold(data)
    learn = learn.take(subsample(learn, rows_used, np.random.default_rng(0)))
    bundles = {
        "svm_rbf, 4 values of C": [
            Candidate("svm_rbf", None, {"kernel": "rbf", "gamma": 1.0, "C": c}) for c in (0.5, 1.0, 2.0, 4.0)
        ],
        "knn, k = 1 to 100": [Candidate("knn", None, {"n_neighbors": k}) for k in range(1, 101)],
    }
    out = []
    for what, bundle in bundles.items():
        times = common.interleaved(
            {
                "shared": lambda bundle=bundle: _shared(bundle, learn, score, len(data.classes)),
                "plain": lambda bundle=bundle: _plain(bundle, learn, score, len(data.classes)),
            },
            repeats,
        )
        out.append(
            {
                "search": what,
                "plain_s": round(times["plain"], 2),
                "shared_s": round(times["shared"], 2),
                "times_faster": round(times["plain"] / times["shared"], 1),
            }
        )
    return out


def _shared(bundle: list[Candidate], learn: Sample, score: Sample, n_classes: int) -> None:
    from sklearn.pipeline import Pipeline

    before = Pipeline(grid.prefix(None)).fit(learn.X)
    A, B = before.transform(learn.X), before.transform(score.X)
    for _ in search.bundle_scores(bundle, A, learn.y, B, learn.X.shape[1], n_classes, 0):
        pass


def _plain(bundle: list[Candidate], learn: Sample, score: Sample, n_classes: int) -> None:
    for candidate in bundle:
        search.fit_and_answer(candidate, learn, [score], n_classes, 0)


def main() -> None:
    """Print both tables."""
    parser = common.parser("studies", __doc__)
    parser.add_argument("--tracks", type=int, default=8000, help="tracks of the synthetic store")
    parser.add_argument("--studies", default=",".join(STUDIES), help="studies to run")
    parser.add_argument("--jobs", type=int, default=2, help="processes working at once")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the shortcut comparison")
    parser.add_argument("--shortcut-rows", type=int, default=2000, help="training tracks of the shortcut comparison")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="studies-") as folder:
        store = make(f"{folder}/store", args.tracks)
        shortcuts = shortcut_rows(store, args.repeats, min(args.shortcut_rows, args.tracks // 2))
        with joblib.parallel_config(n_jobs=args.jobs):
            studies, by_model = study_rows(store, [s for s in args.studies.split(",") if s], folder)
    found = {"studies": studies, "shortcuts": shortcuts, **({"models of compare": by_model} if by_model else {})}
    common.report(args.format, found, tracks=args.tracks, columns=518, jobs=args.jobs)


if __name__ == "__main__":
    main()
