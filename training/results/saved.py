"""A trained model on disk: `model.keras`, loadable by any Keras, and `card.json`, which says what it is.

The card holds what `predict` and `evaluate` must know (classes, window, spec) and what a reader wants to know (data,
settings, metrics). Loading executes no code from the file: Keras's safe mode, and layers of Keras alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from typing import Any

from featurestore.errors import FeatureStoreError, MissingInput
from featurestore.spec import Spec
from featurestore.store import files
from training.backend import keras, tensorflow
from training.feed.dataset import DataSet
from training.networks import catalogue
from training.networks.catalogue import Settings
from training.results.metrics import Evaluation

MODEL, CARD = "model.keras", "card.json"
CARD_FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What a saved model needs to be used rightly.

    window      frames or samples the network sees at once, None for the whole record
    image       side of the images that mel spectrograms are resized to first, None for none
    frames      frames of a full record of the training data (what an image covers)
    feature_set, columns   of the feature vector
    threshold   a track whose best mean score is below is answered "unknown"
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    window: int | None
    image: int | None
    feature_set: str | None
    columns: tuple[str, ...]
    threshold: float
    spec: Spec
    facts: dict[str, Any]


def default_threshold(classes: int) -> float:
    """Twice the score of an answer at random, at most one half."""
    return min(0.5, 2 / classes)


def save(
    folder: str,
    model: Any,
    data: DataSet,
    settings: Settings,
    *,
    window: int | None,
    evaluation: Evaluation,
    best_epoch: int,
) -> None:
    """Write model.keras and card.json, each atomically. The model is saved in float32, whatever it was trained in."""
    side = data.sidecar
    twin = _float32_twin(model, data, settings, window)
    blob = _bytes_of(twin)
    facts = {
        "format": CARD_FORMAT,
        "name": model.name,
        "kind": side.kind,
        "classes": list(side.classes),
        "window": window,
        "image": side.image,
        "feature_set": side.feature_set,
        "columns": list(side.columns),
        "threshold": default_threshold(len(side.classes)),
        "preprocessing": _preprocessing(data, window),
        "spec": side.spec.as_dict(),
        "spec_fingerprint": side.spec.fingerprint,
        "data": {
            "plan": side.plan,
            "store": dict(side.store),
            "scheme": side.scheme,
            "subset": side.subset,
            "counts": side.counts,
            "tracks": side.tracks,
            "damaged_records_left_out": dict(data.lost),
        },
        "settings": dataclasses.asdict(settings),
        "parameters": int(model.count_params()),
        "best_epoch": best_epoch,
        "test": evaluation.as_dict(),
        "versions": {
            "keras": keras().__version__,
            "tensorflow": tensorflow().__version__,
            "backend": keras().backend.backend(),
        },
        "sha256": hashlib.sha256(blob).hexdigest(),
    }
    fs, root = files.resolve(os.path.abspath(folder))
    files.write_bytes(fs, os.path.join(root, MODEL), blob)
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    files.write_bytes(fs, os.path.join(root, CARD), text.encode())


def load(model: str) -> tuple[Any, Card]:
    """The Keras model and the card of `model`: a folder, the path of a model.keras, or a name under models/.

    Raises MissingInput where either is missing, FeatureStoreError where they cannot be read or do not belong together.
    """
    folder = _folder_of(model)
    card = _read_card(os.path.join(folder, CARD))
    path = os.path.join(folder, MODEL)
    try:
        with open(path, "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()
    except OSError as error:
        raise MissingInput(
            f"{path}: no model there ({error.strerror})", "Train one with `python -m training.fit cnn`."
        ) from None
    if digest != card.facts["sha256"]:
        raise FeatureStoreError(
            f"{path}: not the model that {CARD} beside it describes (its SHA-256 differs)", "Copy both, or train again."
        )
    try:
        return keras().saving.load_model(path, compile=False, safe_mode=True), card
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise FeatureStoreError(f"{path}: Keras cannot load it ({_first_line(error)})", "Train it again.") from None


def _folder_of(model: str) -> str:
    if os.path.isdir(model):
        return model
    if os.path.isfile(model):
        return os.path.dirname(model) or "."
    named = os.path.join("models", model)
    if os.path.isdir(named):
        return named
    raise MissingInput(
        f"{model}: no such model; expected a folder with {MODEL} and {CARD}, or a name under models/",
        "Train one with `python -m training.fit cnn`.",
    )


def _read_card(path: str) -> Card:
    try:
        with open(path, "rb") as f:
            facts = json.loads(f.read())
        if facts.get("format") != CARD_FORMAT:
            raise ValueError(f"expected format {CARD_FORMAT}, found {facts.get('format')}")
        values = {k: facts[k] for k in ("name", "kind", "window", "image", "feature_set", "threshold")}
        lists: dict[str, Any] = {k: tuple(facts[k]) for k in ("classes", "columns")}
        return Card(**values, **lists, spec=Spec.from_dict(facts["spec"]), facts=facts)
    except FileNotFoundError:
        raise MissingInput(
            f"{path}: the model's card is missing", "Copy it beside the model, or train again."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise FeatureStoreError(
            f"{path}: not a model's card ({_first_line(error)})", "Train the model again."
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _float32_twin(model: Any, data: DataSet, settings: Settings, window: int | None) -> Any:
    policy = keras().config.dtype_policy()
    keras().config.set_dtype_policy("float32")
    try:
        shape = catalogue.input_shape(data.sidecar, window)
        twin = catalogue.build(settings, shape, len(data.sidecar.classes), data.sidecar.normalisation, empty=True)
    finally:
        keras().config.set_dtype_policy(policy)
    twin.set_weights(model.get_weights())
    return twin


def _bytes_of(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, MODEL)
        model.save(path)
        with open(path, "rb") as f:
            return f.read()


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
