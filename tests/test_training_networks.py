"""The networks layer by layer."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from featurestore.errors import FeatureStoreError, MissingInput
from tests.conftest import ROOT
from tests.training_cases import DEVICE, settings_of
from training.backend import keras
from training.networks import networks
from training.run import loop

pytest_plugins = ("tests.training_cases",)


def test_the_original_network_layer_for_layer() -> None:
    model = networks.raw_cnn((10_000,), 8, {"mean": [0.0], "std": [0.1]})
    kinds = [type(layer).__name__ for layer in model.layers[3:]]
    assert kinds == [
        "Conv1D",
        "MaxPooling1D",
        "Conv1D",
        "MaxPooling1D",
        "Flatten",
        "Dense",
        "Dropout",
        "Dense",
        "Dropout",
        "Dense",
    ]
    convolutions = [(x.filters, x.kernel_size) for x in model.layers if type(x).__name__ == "Conv1D"]
    assert convolutions == [(128, (3,)), (64, (3,))]
    assert [x.units for x in model.layers if type(x).__name__ == "Dense"] == [100, 20, 8]
    assert [x.rate for x in model.layers if type(x).__name__ == "Dropout"] == [0.5, 0.5]
    # by hand: 3*1*128+128, 3*128*64+64, 2498*64*100+100, 100*20+20, 20*8+8 and the normalisation's three numbers
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 512 + 24640 + 15_987_300 + 2020 + 168


@pytest.mark.parametrize("name", ["cnn", "raw_cnn_strided", "mlp"])
def test_normalisation_is_the_first_layer(name: str) -> None:
    shape = {"cnn": (32, 16), "raw_cnn_strided": (2000,), "mlp": (16,)}[name]
    bands = 1 if name == "raw_cnn_strided" else 16
    keras().utils.set_random_seed(0)
    shifted = getattr(networks, name)(shape, 3, {"mean": [-40.0] * bands, "std": [12.0] * bands})
    plain = getattr(networks, name)(shape, 3, {"mean": [0.0] * bands, "std": [1.0] * bands})
    plain.set_weights(shifted.get_weights())
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    # the statistics are constants of the layer, not weights: the same network must see the same numbers
    assert np.allclose(shifted(x * 12 - 40), plain(x), atol=1e-4)


def test_mobilenet_freezes_then_opens_its_end() -> None:
    settings = settings_of("mobilenet", weights="imagenet", fine_tune_epochs=2, fine_tune_layers=20)
    model = networks.mobilenet((20, 16), 3, {"mean": [-40.0] * 16, "std": [12.0] * 16}, "none", side=32)
    stages = loop.stages_of(settings)
    loop.prepare(model, settings, stages[0], 4, DEVICE)
    assert [v.path.split("/")[0] for v in model.trainable_variables] == ["scores", "scores"]
    loop.prepare(model, settings, stages[1], 4, DEVICE)
    opened = {v.path.split("/")[-2] for v in model.trainable_variables}
    assert "Conv_1" in opened
    assert "Conv1" not in opened
    assert model(np.zeros((2, 20, 16), np.float32)).shape == (2, 3)


@pytest.mark.parametrize("weights", ["nowhere.h5", "README.md"])
def test_weights_that_are_not_there_or_not_weights(weights: str) -> None:
    with pytest.raises(FeatureStoreError, match=re.escape(weights)):
        networks.mobilenet((20, 16), 3, {"mean": [0.0] * 16, "std": [1.0] * 16}, str(ROOT / weights), side=32)


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: Any) -> None:
        raise Exception("URL fetch failure")  # the very class that Keras raises

    monkeypatch.setattr(keras().applications, "MobileNetV2", offline)
    with pytest.raises(MissingInput, match="the weights imagenet cannot be had") as caught:
        networks.mobilenet((20, 16), 3, {"mean": [0.0] * 16, "std": [1.0] * 16})
    assert "--weights PATH" in str(caught.value)
