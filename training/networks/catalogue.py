"""The models that `fit` knows: what each eats and how it is trained unless told otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from featurestore.errors import UsageError
from training.backend import keras
from training.feed import pipeline
from training.feed.augment import Augment
from training.networks import networks
from training.shards.sidecar import Sidecar

KINDS = {"cnn": "mel", "raw_cnn": "wave", "mobilenet": "mel", "mlp": "features"}  # what each model eats
WINDOW_SECONDS = 3.0  # of a mel window; frames are then cut to a multiple of 16, which the pooling divides


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Every choice of a training run. Two runs with equal settings on equal data see the same numbers.

    variant            raw_cnn: original or strided
    weights            mobilenet: imagenet, none or a path
    width              channels (cnn) or units (mlp) of the first layer
    batch_size         per device; 0 chooses 8 to 64 so that an epoch has about 16 steps
    epochs             at most; fine_tune_epochs follow them where the network was trained before
    fine_tune_layers   layers of the backbone, from its end, that are fine-tuned
    patience           epochs without a lower validation loss before training stops
    class_weights      weigh examples so that every genre counts the same
    masks, mixup       see training.feed.augment.Augment
    deterministic      the same bits every time, at some cost in speed
    """

    model: str
    variant: str = "original"
    weights: str = "imagenet"
    width: int = 24
    batch_size: int = 0
    epochs: int = 60
    fine_tune_epochs: int = 0
    fine_tune_layers: int = 50
    learning_rate: float = 1e-3
    fine_tune_rate: float = 1e-4
    weight_decay: float = 1e-4
    patience: int = 12
    label_smoothing: float = 0.05
    class_weights: bool = True
    masks: int = 0
    mixup: float = 0.0
    seed: int = 0
    deterministic: bool = False


DEFAULTS: dict[str, Settings] = {
    "cnn": Settings(model="cnn", masks=1, mixup=0.2),
    "raw_cnn": Settings(model="raw_cnn", epochs=40, patience=10, weight_decay=0.0, label_smoothing=0.0),
    "mobilenet": Settings(model="mobilenet", epochs=12, fine_tune_epochs=8, patience=5, masks=1),
    "mlp": Settings(model="mlp", width=256, epochs=100, patience=15, weight_decay=1e-3),
}


def settings_for(model: str, **changes: Any) -> Settings:
    """The defaults of `model` with those `changes` that are not None. Raises UsageError for an unknown choice."""
    if model not in DEFAULTS:
        raise UsageError(f"unknown model {model!r}", f"Expected one of {', '.join(DEFAULTS)}.")
    given = {k: v for k, v in changes.items() if v is not None}
    out = dataclasses.replace(DEFAULTS[model], **given)
    if model == "raw_cnn" and out.variant == "strided":
        better: dict[str, Any] = {"learning_rate": 2e-3, "weight_decay": 1e-4, "label_smoothing": 0.05}
        out = dataclasses.replace(out, **{k: v for k, v in better.items() if k not in given})
    return out


def require_kind(model: str, sidecar: Sidecar, url: str) -> None:
    """Raise UsageError unless the data set holds the kind of record that the model eats."""
    kind = KINDS[model]
    if sidecar.kind != kind:
        fits = ", ".join(m for m, k in KINDS.items() if k == sidecar.kind)
        raise UsageError(
            f"{model} trains on {kind} records, {url} holds {sidecar.kind} (for {fits})",
            f"Export them: `python -m training.export_tfrecords --kind {kind}`; or name their folder with --data.",
        )


def window_of(model: str, sidecar: Sidecar) -> int | None:
    """Frames or samples that the network sees at once; None where a record is seen whole."""
    if sidecar.kind == "features" or sidecar.image:
        return None
    if sidecar.kind == "wave":
        return networks.RAW_SAMPLES
    frames = int(WINDOW_SECONDS * sidecar.spec.sample_rate / sidecar.spec.hop_length)
    frames = min(frames, sidecar.shape[0])
    return max(1, frames - frames % 16) if frames >= 16 else frames


def input_shape(sidecar: Sidecar, window: int | None) -> tuple[int, ...]:
    """Shape of one example as the network sees it."""
    return sidecar.shape if window is None else (window, *sidecar.shape[1:])


def batch_size(settings: Settings, records: int) -> int:
    """Examples per device and step."""
    if settings.batch_size:
        return settings.batch_size
    wanted = max(1, records // 16)
    return int(min(64, max(8, 1 << (wanted.bit_length() - 1))))


def build(
    settings: Settings,
    shape: tuple[int, ...],
    classes: int,
    normalisation: Mapping[str, Sequence[float]],
    *,
    empty: bool = False,
) -> Any:
    """The untrained network. `empty` loads no pre-trained weights, for a twin that gets its weights otherwise."""
    if settings.model == "cnn":
        return networks.cnn(shape, classes, normalisation, settings.width)
    if settings.model == "mlp":
        return networks.mlp(shape, classes, normalisation, settings.width)
    if settings.model == "raw_cnn":
        make = networks.raw_cnn if settings.variant == "original" else networks.raw_cnn_strided
        return make(shape, classes, normalisation)
    pretrained = settings.weights != "none"
    return networks.mobilenet(
        shape, classes, normalisation, "none" if empty else settings.weights, frozen_statistics=pretrained
    )


def fed_with_stored(model: Any, sidecar: Sidecar, augment: Augment) -> Any:
    """`model` behind a layer that casts what the pipeline hands over (`pipeline.handed_over`) on the device.

    Weights are the model's own: training the one trains the other, and the model alone still takes the store's units.
    """
    dtype = pipeline.handed_over(sidecar, augment)
    if dtype == "float32":
        return model
    layers, encoding = keras().layers, sidecar.encoding
    scale, offset = (encoding.step, encoding.low) if dtype == "uint8" else (1.0, 0.0)
    inputs = keras().Input(model.input_shape[1:], dtype=dtype)
    return keras().Model(inputs, model(layers.Rescaling(scale, offset, dtype="float32")(inputs)), name=model.name)
