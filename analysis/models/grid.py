"""The classical models: what each is made of and which hyper-parameters are tried. One row per model.

Every model is a Pipeline: median imputation of missing values, standardisation, where asked for PCA, and the
classifier. So everything that is fitted is fitted on the rows the Pipeline is given, and nothing else.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featurestore.errors import UsageError

Params = Mapping[str, Any]
MAX_K = 100
_FLOOR = 1e-6  # probabilities nearer to 0 or 1 than this say no more


@dataclasses.dataclass(frozen=True)
class Model:
    """One model: its classifier, and the values tried for each hyper-parameter.

    Parameters
    ----------
    name : str
        What the commands call it.
    estimator : str
        Class of scikit-learn, as `module.Class` below `sklearn`.
    grid : mapping of tuple
        Hyper-parameter -> values, simplest first: the first of equally good candidates wins.
    defaults : mapping
        Arguments of the class that are not varied.
    pca : tuple
        Variance kept by a PCA before the classifier; None: no PCA.
    halve : bool
        Whether candidates meet a quarter of the tracks first (see `analysis.models.search`).
    """

    name: str
    estimator: str
    grid: Mapping[str, tuple[Any, ...]]
    defaults: Params = dataclasses.field(default_factory=dict)
    pca: tuple[float | None, ...] = (None,)
    halve: bool = False


def _svm(kernel: str, **grid: tuple[Any, ...]) -> Model:
    return Model(f"svm_{kernel}", "svm.SVC", {"kernel": (kernel,), **grid}, {"cache_size": 500}, halve=True)


_PCA = (None, 0.95)
_KS = tuple(range(1, MAX_K + 1))
_SMOOTHING = tuple(10.0**e for e in range(-9, 2))
_LOGISTIC = {
    "solver": ("lbfgs", "newton-cg", "saga"),
    "C": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
}
_WIDTHS = {"width": (32, 64, 128, 256), "alpha": (1e-3, 0.1, 1.0)}
_TREES = {"max_iter": (60, 120), "max_leaf_nodes": (8, 16), "learning_rate": (0.1,), "max_features": (0.2,)}
_ENDS = {"max_iter": 300, "tol": 1e-3}
_BOOSTING = "ensemble.HistGradientBoostingClassifier"

_ROWS = (
    Model("majority", "dummy.DummyClassifier", {}, {"strategy": "prior"}),
    Model("logistic", "linear_model.LogisticRegression", _LOGISTIC, _ENDS, _PCA, halve=True),
    # brute force: trees gain nothing above some twenty columns, and do not persist safely
    Model("knn", "neighbors.KNeighborsClassifier", {"n_neighbors": _KS}, {"algorithm": "brute"}, _PCA),
    Model("naive_bayes", "naive_bayes.GaussianNB", {"var_smoothing": _SMOOTHING}, {}, _PCA),
    # the margin's C grows expensive long before it grows useful: with a linear kernel libsvm crawls above 0.1
    _svm("linear", C=(0.001, 0.003, 0.01, 0.03, 0.1)),
    _svm("poly", degree=(2, 3), gamma=(1.0,), coef0=(0.0, 1.0), C=(0.03, 0.1, 0.3, 1.0, 3.0)),
    _svm("rbf", gamma=(1.0, 0.3, 2.0), C=(0.5, 1.0, 2.0, 4.0, 8.0, 16.0)),
    _svm("sigmoid", gamma=(0.1, 0.03, 0.3), C=(0.3, 1.0, 3.0, 10.0)),
    Model("mlp", "neural_network.MLPClassifier", _WIDTHS, {**_ENDS, "max_iter": 60}, halve=True),
    # its own early stopping would hold out rows at random, artists on both sides
    Model("gradient_boosting", _BOOSTING, _TREES, {"early_stopping": False}, halve=True),
)
MODELS = {model.name: model for model in _ROWS}
CLASSICAL = ("logistic", "knn", "naive_bayes", "svm_rbf")

# the original study's settings, for studies that vary something else than hyper-parameters
FIXED: dict[str, Params] = {
    "majority": {},
    "logistic": {"C": 1.0},
    "knn": {"n_neighbors": 10},
    "naive_bayes": {},
    "svm_rbf": {"kernel": "rbf", "gamma": 1.0, "C": 2.0},
}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One setting of one model.

    Parameters
    ----------
    model : str
        Name of the model.
    pca : float or None
        Variance kept by a PCA before the classifier.
    params : mapping
        Hyper-parameters.
    """

    model: str
    pca: float | None
    params: Params

    def text(self) -> str:
        """Name what a search varies.

        Returns
        -------
        str
            `C=1, solver=lbfgs, pca=95%`; "" where nothing is varied.

        Examples
        --------
        >>> Candidate("knn", 0.95, {"n_neighbors": 5}).text()
        'n_neighbors=5, pca=95%'
        """
        grid = MODELS[self.model].grid
        varied = {k: v for k, v in self.params.items() if len(grid.get(k, (1, 2))) > 1}
        parts = [f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in varied.items()]
        return ", ".join(parts + ([f"pca={self.pca:.0%}"] if self.pca else []))


def candidates(model: Model) -> list[Candidate]:
    """Every setting of a model's grid.

    Parameters
    ----------
    model : Model

    Returns
    -------
    list of Candidate
        Simplest first.
    """
    settings = [dict(zip(model.grid, values, strict=True)) for values in itertools.product(*model.grid.values())]
    return [Candidate(model.name, pca, s) for pca in model.pca for s in settings]


def fixed(name: str, n_rows: int) -> Candidate:
    """A model at its fixed setting.

    Parameters
    ----------
    name : str
        One of FIXED.
    n_rows : int
        Rows that it learns from; no more neighbours than these are asked.

    Returns
    -------
    Candidate
    """
    params = dict(FIXED[name])
    if "n_neighbors" in params:
        params["n_neighbors"] = min(params["n_neighbors"], n_rows)
    return Candidate(name, None, params)


def require_fixed(names: Sequence[str]) -> None:
    """Check that models have a fixed setting.

    Parameters
    ----------
    names : sequence of str
        Names of models.

    Raises
    ------
    UsageError
        If one has none, or none is named.
    """
    unknown = [n for n in names if n not in FIXED]
    if unknown or not names:
        raise UsageError(
            f"no fixed setting for model {', '.join(map(repr, unknown)) or '(none named)'}",
            f"Choose from {', '.join(FIXED)}; `python -m analysis.compare` searches the settings of the others.",
        )


def svm_params(params: Params, n_columns: int) -> dict[str, Any]:
    """SVC's arguments from a candidate's.

    Parameters
    ----------
    params : mapping
        Hyper-parameters; `gamma` is a multiple of 1 / n_columns (scikit-learn's "scale" on standardised columns).
    n_columns : int
        Columns before any PCA, so that a PCA that keeps everything changes nothing.

    Returns
    -------
    dict
    """
    return {**params, **({"gamma": params["gamma"] / n_columns} if "gamma" in params else {})}


def prefix(pca: float | int | None) -> list[tuple[str, Any]]:
    """The unfitted Pipeline steps before the classifier: impute, scale, and PCA.

    Parameters
    ----------
    pca : float, int or None
        Share of the variance or number of components to keep; None: no PCA.

    Returns
    -------
    list of (name, transformer)
    """
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    steps: list[tuple[str, Any]] = [
        ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
        ("scale", StandardScaler()),
    ]
    return steps if pca is None else [*steps, ("pca", PCA(pca, svd_solver="full"))]


def classifier(candidate: Candidate, n_columns: int, seed: int = 0) -> Any:
    """The unfitted classifier of a candidate.

    Parameters
    ----------
    candidate : Candidate
    n_columns : int
        Columns of the rows before any PCA.
    seed : int
        Seed of what is random in its fit.

    Returns
    -------
    A classifier of scikit-learn.
    """
    model = MODELS[candidate.model]
    module, name = model.estimator.rsplit(".", 1)
    params = svm_params(candidate.params, n_columns) if name == "SVC" else dict(candidate.params)
    if "width" in params:
        params["hidden_layer_sizes"] = (params.pop("width"),)
    made = getattr(importlib.import_module(f"sklearn.{module}"), name)(**{**model.defaults, **params})
    return made.set_params(random_state=seed) if "random_state" in made.get_params() else made


def pipeline(candidate: Candidate, n_columns: int, seed: int = 0) -> Any:
    """The unfitted Pipeline of a candidate.

    Parameters
    ----------
    candidate : Candidate
    n_columns : int
        Columns of the rows it will be fitted on: X (n, n_columns) float32, y (n,) integers.
    seed : int
        Seed of what is random in its fit.

    Returns
    -------
    sklearn.pipeline.Pipeline
    """
    from sklearn.pipeline import Pipeline

    return Pipeline([*prefix(candidate.pca), ("classify", classifier(candidate, n_columns, seed))])


def row_scores(fitted: Any, X: np.ndarray, n_classes: int) -> np.ndarray:
    """Scores of every class for each row.

    Parameters
    ----------
    fitted : classifier
        Fitted on class codes.
    X : (n, d)
        Rows.
    n_classes : int
        Number of classes c.

    Returns
    -------
    (n, c) float64
        Higher is likelier: probabilities, or an SVM's decision values. -inf for classes that the model never saw.
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
    """Finite scores for a linear calibrator.

    Parameters
    ----------
    fitted, X, n_classes
        As for `row_scores`.

    Returns
    -------
    (n, c) float64
        Log-odds of probabilities, or decision values; a class that the model never saw gets the floor of its row.
    """
    scores = row_scores(fitted, X, n_classes)
    if hasattr(fitted, "predict_proba"):
        p = np.clip(scores, _FLOOR, 1 - _FLOOR)
        return np.log(p / (1 - p))
    lowest = np.where(np.isfinite(scores), scores, np.inf).min(axis=1, keepdims=True)
    return np.where(np.isfinite(scores), scores, lowest - 1)
