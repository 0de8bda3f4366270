"""The four networks, from Keras's own layers only: any backend runs them, and any Keras loads what was saved.

Each takes one window at a time, in the numbers that its normalisation is given for: dB, samples or feature values where
it is saved. Normalisation, fitted on the training split, is the first layer. Each ends in a softmax over the genres in
float32.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from featurestore.errors import MissingInput
from training.backend import keras

RAW_SAMPLES = 10_000  # of the original study's raw-audio network
IMAGE_SIDE = 224  # of MobileNetV2's images
DROPOUT = 0.3
MOMENTUM = 0.9  # of batch normalisation: small collections have few steps, and 0.99 would lag behind them


def cnn(shape: tuple[int, ...], classes: int, normalisation: Mapping[str, Sequence[float]], width: int = 24) -> Any:
    """A residual CNN: a strided stem, four stages, mean and maximum over time and band.

    Parameters
    ----------
    shape : (int, int)
        Frames and bands of a window of the mel spectrogram.
    classes : int
    normalisation : mapping
        {"mean", "std"} of the input, per band.
    width : int
        Channels of the first stage; the last has six to seven times as many. 24 makes 0.56 million parameters.

    Returns
    -------
    keras.Model
    """
    layers = keras().layers
    inputs = keras().Input(shape)
    x = _normalised(inputs, normalisation)
    x = layers.Reshape((*shape, 1))(x)
    x = layers.Conv2D(width, 5, strides=2, padding="same", use_bias=False)(x)
    x = layers.Activation("relu")(_batch_norm(x))
    for stage, channels in enumerate((width, 2 * width, 4 * width, 20 * width // 3)):
        x = _residual(x, channels)
        if stage < 3:
            x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    return _head(inputs, layers.Dropout(DROPOUT)(_batch_norm(x)), classes, "cnn")


def raw_cnn(shape: tuple[int, ...], classes: int, normalisation: Mapping[str, Sequence[float]]) -> Any:
    """The original study's network, layer for layer.

    Parameters
    ----------
    shape : (int,)
        Samples of a window; the study's are 10,000.
    classes : int
    normalisation : mapping
        {"mean", "std"} of the input, one number each.

    Returns
    -------
    keras.Model
    """
    layers = keras().layers
    inputs = keras().Input(shape)
    x = layers.Reshape((*shape, 1))(_normalised(inputs, normalisation))
    x = layers.Conv1D(128, 3, activation="relu")(x)
    x = layers.MaxPooling1D()(x)
    x = layers.Conv1D(64, 3, activation="relu")(x)
    x = layers.MaxPooling1D()(x)
    x = layers.Flatten()(x)
    for units in (100, 20):
        x = layers.Dropout(0.5)(layers.Dense(units, activation="relu")(x))
    return _head(inputs, x, classes, "raw_cnn")


def raw_cnn_strided(shape: tuple[int, ...], classes: int, normalisation: Mapping[str, Sequence[float]]) -> Any:
    """The better one beside it: a strided front end of 80 samples, four stages, global pooling.

    After arXiv 1610.00087. It sees what the original sees with a hundredth of its parameters.

    Parameters
    ----------
    shape, classes, normalisation
        As for `raw_cnn`.

    Returns
    -------
    keras.Model
    """
    layers = keras().layers
    inputs = keras().Input(shape)
    x = layers.Reshape((*shape, 1))(_normalised(inputs, normalisation))
    x = layers.Conv1D(64, 80, strides=4, padding="same", use_bias=False)(x)
    x = layers.Activation("relu")(_batch_norm(x))
    for channels in (64, 128, 256):
        x = layers.MaxPooling1D(4, padding="same")(x)
        x = layers.Conv1D(channels, 3, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(_batch_norm(x))
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)])
    return _head(inputs, layers.Dropout(DROPOUT)(x), classes, "raw_cnn_strided")


def mlp(shape: tuple[int, ...], classes: int, normalisation: Mapping[str, Sequence[float]], width: int = 256) -> Any:
    """Two batch-normalised hidden layers on the feature vector.

    Parameters
    ----------
    shape : (int,)
        Columns.
    classes : int
    normalisation : mapping
        {"mean", "std"} of the input, per column.
    width : int
        Units of the first layer; the second has half as many.

    Returns
    -------
    keras.Model
    """
    layers = keras().layers
    inputs = keras().Input(shape)
    x = _normalised(inputs, normalisation)
    for units in (width, width // 2):
        x = layers.Dense(units, use_bias=False)(x)
        x = layers.Dropout(0.5)(layers.Activation("relu")(_batch_norm(x)))
    return _head(inputs, x, classes, "mlp")


def mobilenet(
    shape: tuple[int, ...],
    classes: int,
    normalisation: Mapping[str, Sequence[float]],
    weights: str = "imagenet",
    *,
    frozen_statistics: bool = True,
    side: int = IMAGE_SIDE,
) -> Any:
    """MobileNetV2 (arXiv 1801.04381) on the mel spectrogram as an image of side x side x 3, low notes at the bottom.

    Parameters
    ----------
    shape : (int, int)
        Frames and bands, or the sides of an image.
    classes : int
    normalisation : mapping
        {"mean", "std"} of the input, per band.
    weights : str
        imagenet (Keras downloads them), none, or the path of a file for the network without its top.
    frozen_statistics : bool
        Run the backbone in inference mode, so that its batch statistics stay those it was trained with.
    side : int
        Pixels.

    Returns
    -------
    keras.Model

    Raises
    ------
    MissingInput
        Where the weights cannot be had, or are not such weights.
    """
    layers = keras().layers
    inputs = keras().Input(shape)
    x = _normalised(inputs, normalisation)
    x = layers.Rescaling(0.4)(x)  # deviations to the -1..1 of the pictures it was made for
    x = layers.Reshape((*shape, 1))(x)
    x = layers.Permute((2, 1, 3))(x)
    if shape != (side, side):
        x = layers.Resizing(side, side)(x)
    x = layers.Concatenate()([x, x, x])
    backbone = _backbone(weights, side)
    x = backbone(x, training=False) if frozen_statistics else backbone(x)
    x = layers.GlobalAveragePooling2D()(x)
    return _head(inputs, layers.Dropout(DROPOUT)(x), classes, "mobilenet")


def _backbone(weights: str, side: int) -> Any:
    if weights not in ("imagenet", "none") and not os.path.isfile(weights):
        raise MissingInput(f"{weights}: no such weights file", "Give --weights imagenet, none, or a path.")
    source = None if weights == "none" else weights
    try:
        return keras().applications.MobileNetV2(
            input_shape=(side, side, 3), include_top=False, weights=source, name="backbone"
        )
    except Exception as error:  # Keras itself raises no narrower one for a download that fails
        if source is None:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingInput(
            f"the weights {weights} cannot be had for MobileNetV2 ({reason})",
            "Give a .weights.h5 file, for alpha 1.0 and include_top=False, with --weights PATH, or train from nothing "
            "with --weights none.",
        ) from None


def _normalised(x: Any, normalisation: Mapping[str, Sequence[float]]) -> Any:
    """(x - mean) / deviation: per band, per column, or with one number for waves. In float32 under any policy."""
    mean, std = normalisation["mean"], normalisation["std"]
    variance = [s * s for s in std]
    if len(mean) == 1 and x.shape[-1] != 1:
        return keras().layers.Normalization(axis=None, mean=mean[0], variance=variance[0], dtype="float32")(x)
    return keras().layers.Normalization(axis=-1, mean=mean, variance=variance, dtype="float32")(x)


def _batch_norm(x: Any, gamma: str = "ones") -> Any:
    return keras().layers.BatchNormalization(momentum=MOMENTUM, gamma_initializer=gamma)(x)


def _residual(x: Any, channels: int) -> Any:
    """Two 3x3 convolutions beside a shortcut; they start at zero, so that the network starts shallow."""
    layers = keras().layers
    y = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
    y = layers.Activation("relu")(_batch_norm(y))
    y = _batch_norm(layers.Conv2D(channels, 3, padding="same", use_bias=False)(y), gamma="zeros")
    if x.shape[-1] != channels:
        x = _batch_norm(layers.Conv2D(channels, 1, use_bias=False)(x))
    return layers.Activation("relu")(layers.Add()([x, y]))


def _head(inputs: Any, x: Any, classes: int, name: str) -> Any:
    outputs = keras().layers.Dense(classes, activation="softmax", dtype="float32", name="scores")(x)
    return keras().Model(inputs, outputs, name=name)
