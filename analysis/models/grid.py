"""The classical models: what each is made of and which hyper-parameters are tried. One row per model.

Every model is a Pipeline: median imputation of missing values, standardisation, where asked for PCA, and the
classifier. So everything that is fitted is fitted on the rows the Pipeline is given, and nothing else.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from featurestore.errors import UsageError

Params = Mapping[str, Any]
KERNELS = ("linear", "poly", "rbf", "sigmoid")
MAX_K = 100
_FLOOR = 1e-6  # probabilities nearer to 0 or 1 than this say no more


@dataclasses.dataclass(frozen=True)
class Model:
    """One model: how its classifier is made from hyper-parameters, and the values tried for each.

    grid   hyper-parameter -> values, simplest first (the first of equally good candidates wins)
    pca    variance kept by a PCA before the classifier; None: no PCA
    halve  whether candidates meet a quarter of the tracks first (see analysis.search)
    """

    name: str
    make: Callable[[Params, int], Any]
    grid: Mapping[str, tuple[Any, ...]]
    pca: tuple[float | None, ...] = (None,)
    halve: bool = False


def _logistic(params: Params, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**{"max_iter": 300, "tol": 1e-3, "random_state": seed, **params})


def _knn(params: Params, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    # brute force: trees gain nothing above some twenty columns, and do not persist safely
    return KNeighborsClassifier(**{"algorithm": "brute", **params})


def _naive_bayes(params: Params, seed: int) -> Any:
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB(**params)


def _svm(params: Params, seed: int) -> Any:
    from sklearn.svm import SVC

    return SVC(**{"cache_size": 500, **params})


def _mlp(params: Params, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    width = params.get("width", 100)
    rest = {k: v for k, v in params.items() if k != "width"}
    return MLPClassifier((width,), **{"max_iter": 60, "tol": 1e-3, "random_state": seed, **rest})


def _boosting(params: Params, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # its own early stopping would hold out rows at random, artists on both sides
    return HistGradientBoostingClassifier(**{"early_stopping": False, "random_state": seed, **params})


def _majority(params: Params, seed: int) -> Any:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior")


def _svm_model(kernel: str, **grid: tuple[Any, ...]) -> Model:
    return Model(f"svm_{kernel}", _svm, {"kernel": (kernel,), **grid}, halve=True)


_C = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

MODELS: dict[str, Model] = {
    m.name: m
    for m in (
        Model("majority", _majority, {}),
        Model("logistic", _logistic, {"solver": ("lbfgs", "newton-cg", "saga"), "C": _C}, pca=(None, 0.95), halve=True),
        Model("knn", _knn, {"n_neighbors": tuple(range(1, MAX_K + 1))}, pca=(None, 0.95)),
        Model("naive_bayes", _naive_bayes, {"var_smoothing": tuple(10.0**e for e in range(-9, 2))}, pca=(None, 0.95)),
        # the margin's C grows expensive long before it grows useful: with a linear kernel libsvm crawls above 0.1
        _svm_model("linear", C=(0.001, 0.003, 0.01, 0.03, 0.1)),
        _svm_model("poly", degree=(2, 3), gamma=(1.0,), coef0=(0.0, 1.0), C=(0.03, 0.1, 0.3, 1.0, 3.0)),
        _svm_model("rbf", gamma=(1.0, 0.3, 2.0), C=(0.5, 1.0, 2.0, 4.0, 8.0, 16.0)),
        _svm_model("sigmoid", gamma=(0.1, 0.03, 0.3), C=(0.3, 1.0, 3.0, 10.0)),
        Model("mlp", _mlp, {"width": (32, 64, 128, 256), "alpha": (1e-3, 0.1, 1.0)}, halve=True),
        Model(
            "gradient_boosting",
            _boosting,
            {"max_iter": (60, 120), "max_leaf_nodes": (8, 16), "learning_rate": (0.1,), "max_features": (0.2,)},
            halve=True,
        ),
    )
}
CLASSICAL = ("logistic", "knn", "naive_bayes", "svm_rbf")

# the original study's settings, for studies that vary something else than hyper-parameters
FIXED: dict[str, Params] = {
    "majority": {},
    "logistic": {"C": 1.0},
    "knn": {"n_neighbors": 10},
    "naive_bayes": {},
    "svm_rbf": {"kernel": "rbf", "gamma": 1.0, "C": 2.0},
}


def require_fixed(names: Sequence[str]) -> None:
    """Raise UsageError where a name is no model that has a fixed setting."""
    unknown = [n for n in names if n not in FIXED]
    if unknown or not names:
        raise UsageError(
            f"no fixed setting for model {', '.join(map(repr, unknown)) or '(none named)'}",
            f"Choose from {', '.join(FIXED)}; `python -m analysis.compare` searches the settings of the others.",
        )


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One setting of one model."""

    model: str
    pca: float | None
    params: Params

    def text(self) -> str:
        """`C=1, solver=lbfgs, pca=95%`: what the search varied, as a table cell; "" for nothing."""
        grid = MODELS[self.model].grid
        varied = {k: v for k, v in self.params.items() if len(grid.get(k, (1, 2))) > 1}
        parts = [f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in varied.items()]
        return ", ".join(parts + ([f"pca={self.pca:.0%}"] if self.pca else []))


def candidates(name: str) -> list[Candidate]:
    """Every setting of the model's grid, simplest first."""
    model = MODELS[name]
    settings = [dict(zip(model.grid, values, strict=True)) for values in itertools.product(*model.grid.values())]
    return [Candidate(name, pca, s) for pca in model.pca for s in settings]


def svm_params(params: Params, n_columns: int) -> dict[str, Any]:
    """SVC's arguments: the grid's `gamma` is a multiple of 1 / n_columns (scikit-learn's "scale" on standardised
    columns), counted before any PCA: a PCA that keeps everything then changes nothing."""
    return {**params, **({"gamma": params["gamma"] / n_columns} if "gamma" in params else {})}


def prefix(pca: float | int | None) -> list[tuple[str, Any]]:
    """The Pipeline steps before the classifier: impute, scale, and PCA to a share of variance or a number."""
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    steps: list[tuple[str, Any]] = [
        ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
        ("scale", StandardScaler()),
    ]
    return steps if pca is None else [*steps, ("pca", PCA(pca, svd_solver="full"))]


def classifier(candidate: Candidate, n_columns: int, seed: int = 0) -> Any:
    """The unfitted classifier of a candidate, for rows that had `n_columns` columns."""
    model = MODELS[candidate.model]
    params = svm_params(candidate.params, n_columns) if candidate.model.startswith("svm_") else candidate.params
    return model.make(params, seed)


def pipeline(candidate: Candidate, n_columns: int, seed: int = 0) -> Any:
    """The unfitted Pipeline of a candidate for X (n, n_columns) float32 and integer y."""
    from sklearn.pipeline import Pipeline

    return Pipeline([*prefix(candidate.pca), ("classify", classifier(candidate, n_columns, seed))])


def class_scores(fitted: Any, X: np.ndarray, n_classes: int) -> np.ndarray:
    """(n, n_classes) float64, higher is likelier: probabilities, or an SVM's decision values.

    Classes that the model never saw have -inf.
    """
    if hasattr(fitted, "predict_proba"):
        known = fitted.predict_proba(X)
    else:
        known = fitted.decision_function(X)
        known = np.column_stack([-known, known]) if known.ndim == 1 else known
    out = np.full((len(X), n_classes), -np.inf)
    out[:, fitted.classes_] = known
    return out


def evidence(fitted: Any, X: np.ndarray, n_classes: int) -> np.ndarray:
    """(n, n_classes) finite scores for a linear calibrator: log-odds of probabilities, or decision values.

    A class that the model never saw gets the floor of its row.
    """
    scores = class_scores(fitted, X, n_classes)
    if hasattr(fitted, "predict_proba"):
        p = np.clip(scores, _FLOOR, 1 - _FLOOR)
        return np.log(p / (1 - p))
    lowest = np.where(np.isfinite(scores), scores, np.inf).min(axis=1, keepdims=True)
    return np.where(np.isfinite(scores), scores, lowest - 1)
