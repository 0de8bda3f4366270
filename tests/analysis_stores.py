"""Small stores and grids for the tests of the studies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from analysis import compare as compare_module
from analysis.models import grid
from analysis.results import output
from featurestore.store.store import Store
from tests.factories import SMALL_SPEC, make_store

SPEC = dataclasses.replace(SMALL_SPEC, groups=("fma",))
FEW = ("majority", "naive_bayes", "logistic")
SMALL_GRIDS = {
    "logistic": {"C": (0.01, 1.0)},
    "naive_bayes": {"var_smoothing": (1e-9, 1e-3)},
    "svm_rbf": {"kernel": ("rbf",), "gamma": (1.0,), "C": (1.0, 4.0)},
    "mlp": {"width": (8,), "alpha": (0.1,)},
    "gradient_boosting": {"max_iter": (5,), "max_leaf_nodes": (4,)},
}


def shrink_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting or two per model, so that a search takes no time."""
    for name, values in SMALL_GRIDS.items():
        monkeypatch.setitem(grid.MODELS, name, dataclasses.replace(grid.MODELS[name], grid=values, pca=(None,)))


def small_store(folder: Path) -> Store:
    """45 tracks x 2 excerpts of three separable genres, and the imported set `easy` of four columns on them."""
    made = make_store(str(folder / "store"), tracks=45, excerpts=2, spec=SPEC)
    add_set(made, "easy", 4)
    return made


def add_set(store: Store, name: str, width: int, hole: str | None = None, infinite: bool = False) -> np.ndarray:
    """Import columns that say the genre: x_0 to x_{width - 1}; `hole` all: a column of NaN, row: a row of them."""
    ids = store.read_catalog("tracks", ["track_id", "genre"])
    codes = np.unique([str(g) for g in ids["genre"].to_pylist()], return_inverse=True)[1]
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(len(codes), width)) + 2 * np.eye(width)[codes % width]).astype(np.float32)
    if hole == "all":
        X[:, 1] = np.nan
    if hole == "row":
        X[0] = np.nan
    if infinite:
        X[2, 2] = np.inf
    columns = {f"x_{j}": pa.array(X[:, j]) for j in range(width)}
    store.write_catalog(f"features_{name}", pa.table({"track_id": ids["track_id"], **columns}))
    return X


def edit_tracks(store: Store, genre: Sequence[str | None]) -> None:
    tracks = store.read_catalog("tracks")
    at = tracks.column_names.index("genre")
    store.write_catalog("tracks", tracks.set_column(at, "genre", pa.array(list(genre), pa.string())))


def run(store: Store, tmp_path: Path, **kwargs: object) -> output.Study:
    given = {"names": FEW, "save": "none", "models_dir": str(tmp_path / "model"), **kwargs}
    return compare_module.compare(store, **given)  # type: ignore[arg-type]
