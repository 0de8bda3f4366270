"""The models that `fit` knows: the kind of record that each reads, and the settings that it is trained with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from featurestore.errors import UsageError
from training.networks import networks
from training.shards.sidecar import Sidecar

KINDS = {"cnn": "mel", "raw_cnn": "wave", "mobilenet": "mel", "mlp": "features"}  # the records that each reads
WINDOW_SECONDS = 3.0  # of a mel window; frames are then cut to a multiple of 16, which the pooling divides


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Every choice of a training run. Two runs with equal settings on equal data see the same numbers.

    Parameters
    ----------
    model : str
        A key of `KINDS`.
    variant : {"original", "strided"}
        Of raw_cnn.
    weights : str
        Of mobilenet: imagenet, none or a path.
    width : int
        Channels (cnn) or units (mlp) of the first layer.
    batch_size : int
        Per device; 0 chooses 8 to 64 so that an epoch has about 16 steps.
    epochs, fine_tune_epochs : int
        At most; fine-tuning follows where the network was trained before.
    fine_tune_layers : int
        Layers of the backbone, from its end, that are fine-tuned.
    learning_rate, fine_tune_rate, weight_decay, label_smoothing : float
    patience : int
        Epochs without a lower validation loss before training stops.
    class_weights : bool
        Weigh examples so that every genre counts the same.
    masks : int
    mixup : float
        As in `training.feed.augment.Augment`.
    seed : int
    deterministic : bool
        The same bits every time, at some cost in speed.
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
    """The settings of a run.

    Parameters
    ----------
    model : str
    **changes
        Fields of `Settings`; None keeps the model's own value.

    Returns
    -------
    Settings

    Raises
    ------
    UsageError
        For an unknown model.
    """
    if model not in DEFAULTS:
        raise UsageError(f"unknown model {model!r}", f"Expected one of {', '.join(DEFAULTS)}.")
    given = {k: v for k, v in changes.items() if v is not None}
    out = dataclasses.replace(DEFAULTS[model], **given)
    if model == "raw_cnn" and out.variant == "strided":
        better: dict[str, Any] = {"learning_rate": 2e-3, "weight_decay": 1e-4, "label_smoothing": 0.05}
        out = dataclasses.replace(out, **{k: v for k, v in better.items() if k not in given})
    return out


def require_kind(model: str, sidecar: Sidecar, url: str) -> None:
    """Check that a data set holds the kind of record that a model reads.

    Parameters
    ----------
    model : str
    sidecar : Sidecar
    url : str
        Of the data set, for the message.

    Raises
    ------
    UsageError
        If it does not.
    """
    kind = KINDS[model]
    if sidecar.kind != kind:
        fits = ", ".join(m for m, k in KINDS.items() if k == sidecar.kind)
        raise UsageError(
            f"{model} trains on {kind} records, {url} holds {sidecar.kind} (for {fits})",
            f"Export them: `python -m training.export_tfrecords --kind {kind}`; or name their folder with --data.",
        )


def window_of(model: str, sidecar: Sidecar) -> int | None:
    """What a network sees at once.

    Parameters
    ----------
    model : str
    sidecar : Sidecar

    Returns
    -------
    int or None
        Frames or samples; None where a record is seen whole.
    """
    if sidecar.kind == "features" or sidecar.image:
        return None
    if sidecar.kind == "wave":
        return networks.RAW_SAMPLES
    frames = int(WINDOW_SECONDS * sidecar.spec.sample_rate / sidecar.spec.hop_length)
    frames = min(frames, sidecar.shape[0])
    return max(1, frames - frames % 16) if frames >= 16 else frames


def input_shape(sidecar: Sidecar, window: int | None) -> tuple[int, ...]:
    """Shape of one example as the network sees it.

    Parameters
    ----------
    sidecar : Sidecar
    window : int or None
        Frames or samples, as `window_of` gives them.

    Returns
    -------
    tuple of int
        The window, or the whole record's length, and the bands where there are any.
    """
    return sidecar.shape if window is None else (window, *sidecar.shape[1:])


def batch_size(settings: Settings, records: int) -> int:
    """Examples of a batch on one device.

    Parameters
    ----------
    settings : Settings
        Its `batch_size` is taken where it is not 0.
    records : int
        Of the training split.

    Returns
    -------
    int
        Chosen by itself, a power of two from 8 to 64 that gives an epoch about 16 steps.

    Examples
    --------
    >>> batch_size(Settings(model="cnn"), 640)
    32
    """
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
    """The untrained network.

    Parameters
    ----------
    settings : Settings
    shape : tuple of int
        Of one example.
    classes : int
    normalisation : mapping
        {"mean", "std"} of what the network is fed, for its first layer.
    empty : bool
        Load no pre-trained weights, for a network that gets its weights otherwise.

    Returns
    -------
    keras.Model

    Raises
    ------
    MissingInput
        Where pre-trained weights cannot be had.
    """
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
