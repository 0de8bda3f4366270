"""A trained model on disk: `model.keras`, loadable by any Keras, and `card.json`, which says what it is.

The network that is saved computes in float32 and takes the store's units (dB, samples, feature values), whatever it was
trained in. Loading executes no code from the file: Keras's safe mode, and layers of Keras alone.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from typing import Any

from analysis.evaluation import Card, Evaluation, find_model, load_model, save_model
from featurestore.errors import FeatureStoreError
from featurestore.store.store import OWN_SET
from training.backend import keras, tensorflow
from training.networks import catalogue
from training.networks.catalogue import Settings
from training.shards.check import DataSet

MODEL = "model.keras"
AGAIN = "python -m training.fit cnn"


def default_threshold(classes: int) -> float:
    """The score below which an answer is "unknown" where nothing else is asked for.

    Parameters
    ----------
    classes : int
        Number of genres.

    Returns
    -------
    float
        Twice the score of an answer at random, at most one half.

    Examples
    --------
    >>> default_threshold(8)
    0.25
    """
    return min(0.5, 2 / classes)


def network(data: DataSet, settings: Settings, window: int | None) -> Any:
    """The network as it is saved, without weights.

    Parameters
    ----------
    data : DataSet
    settings : Settings
    window : int or None
        Frames or samples it sees at once.

    Returns
    -------
    keras.Model
        In float32; its first layer normalises the store's units.
    """
    policy = keras().config.dtype_policy()
    keras().config.set_dtype_policy("float32")
    try:
        shape = catalogue.input_shape(data.sidecar, window)
        return catalogue.build(settings, shape, len(data.sidecar.classes), data.sidecar.normalisation, empty=True)
    finally:
        keras().config.set_dtype_policy(policy)


def save(
    folder: str,
    model: Any,
    data: DataSet,
    settings: Settings,
    *,
    window: int | None,
    best_epoch: int,
    evaluation: Evaluation | None = None,
) -> None:
    """Write model.keras and card.json, each atomically.

    Parameters
    ----------
    folder : str
    model : keras.Model
        Of `network`, with weights.
    data : DataSet
        What it was trained on.
    settings : Settings
    window : int or None
    best_epoch : int
        Whose weights they are, from 1.
    evaluation : Evaluation or None
        Of the test split; None while training goes on.
    """
    side = data.sidecar
    card = Card(
        name=model.name,
        kind=side.kind,
        classes=side.classes,
        threshold=default_threshold(len(side.classes)),
        feature_set=side.feature_set,
        columns=side.columns,
        spec=side.spec if side.feature_set in (None, OWN_SET) else None,
        window=window,
        image=side.image,
        evaluation=evaluation.as_dict() if evaluation else {},
        versions={"keras": keras().__version__, "tensorflow": tensorflow().__version__},
        facts={
            "preprocessing": _preprocessing(data, window),
            "data": _facts(data),
            "settings": dataclasses.asdict(settings),
            "parameters": int(model.count_params()),
            "best_epoch": best_epoch,
        },
    )
    save_model(os.path.abspath(folder), MODEL, _bytes_of(model), card)


def load(model: str) -> tuple[Any, Card]:
    """A saved model and its card.

    Parameters
    ----------
    model : str
        A folder, the path of a model.keras, or a name under models/.

    Returns
    -------
    model : keras.Model
    card : Card

    Raises
    ------
    MissingInput
        Where one of the two files is missing.
    FeatureStoreError
        Where they cannot be read or do not belong together.
    """
    card, _ = load_model(model, MODEL, AGAIN)
    path = os.path.join(find_model(model, MODEL, AGAIN), MODEL)
    try:
        return keras().saving.load_model(path, compile=False, safe_mode=True), card
    except (ValueError, TypeError, OSError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FeatureStoreError(f"{path}: Keras cannot load it ({reason})", "Train it again.") from None


def _bytes_of(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, MODEL)
        model.save(path)
        with open(path, "rb") as f:
            return f.read()


def _facts(data: DataSet) -> dict[str, Any]:
    names = ("plan", "store", "scheme", "subset", "counts", "tracks")
    return {n: getattr(data.sidecar, n) for n in names} | {"damaged_records_left_out": dict(data.lost)}


def _preprocessing(data: DataSet, window: int | None) -> str:
    side, spec = data.sidecar, data.sidecar.spec
    what = {
        "mel": f"mel spectrogram in dB, {spec.n_mels} bands, hop {spec.hop_length} at {spec.sample_rate} Hz",
        "wave": f"mono samples at full scale, {spec.sample_rate} Hz",
        "features": f"{len(side.columns)} columns of the feature set {side.feature_set}, in order",
    }[side.kind]
    resized = f", the excerpt resized to {side.image} x {side.image}" if side.image else ""
    seen = f", windows of {window}" if window else ""
    return f"{what}{resized}{seen}; normalised by the first layer with the training split's mean and deviation"
