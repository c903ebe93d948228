"""The networks of the papers have the papers' sizes."""

import pathlib

import keras
import numpy as np
import pytest

import models
from models import IMAGES, NETWORKS, QUESTIONS, WORDS, network, networks_of
from models.lenet import lenet
from models.mlp import mlp
from models.resnet20 import resnet20
from models.training.tasks import defaults_of, task_of


def weights(*shape):
    """Entries of a kernel and its bias."""
    return int(np.prod(shape)) + shape[-1]


def test_lenet_has_the_papers_layers():
    model = lenet()
    expected = weights(5, 5, 1, 20) + weights(5, 5, 20, 50) + weights(800, 500) + weights(500, 10)
    assert model.count_params() == expected
    assert model.get_layer("conv1").output.shape == (None, 24, 24, 20)
    assert model.get_layer("conv2").output.shape == (None, 8, 8, 50)


def test_mlp_has_the_papers_layers():
    assert mlp().count_params() == weights(784, 500) + weights(500, 300) + weights(300, 10)


def test_resnet20_is_twenty_layers_deep():
    model = resnet20()
    deep = [layer for layer in model.layers if layer.weights and not layer.name.endswith("_norm")]
    shortcuts = [layer for layer in deep if "shortcut" in layer.name]
    assert len(deep) - len(shortcuts) == 20
    assert len(shortcuts) == 2
    assert model.get_layer("stage3_block3_relu").output.shape == (None, 8, 8, 64)


@pytest.mark.parametrize("name", networks_of(IMAGES))
def test_every_network_ends_in_logits_and_obeys_its_arguments(name):
    model = NETWORKS[name](input_shape=(32, 32, 2), classes=7)
    images = np.random.default_rng(0).normal(size=(3, 32, 32, 2)).astype("float32")
    logits = keras.ops.convert_to_numpy(model(images))
    assert logits.shape == (3, 7)
    assert logits.min() < 0
    assert not np.allclose(logits.sum(-1), 1)


@pytest.mark.parametrize("name", networks_of(IMAGES))
def test_every_network_survives_the_keras_file(name, tmp_path):
    model = NETWORKS[name]()
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


def test_every_module_is_a_network_but_what_says_otherwise():
    names = {path.stem for path in pathlib.Path(models.__file__).parent.glob("*.py")}
    assert set(NETWORKS) == names - {"__init__", "registry", "embedding", "blocks"}
    assert set(networks_of(WORDS)) == {"lstm_lm", "rhn", "decoder_lm"}
    assert set(networks_of(QUESTIONS)) == {"bidaf"}


def test_a_network_brings_its_recipe(monkeypatch):
    monkeypatch.setattr("models.registry.NETWORKS", NETWORKS.copy())
    build = network(IMAGES, recipe={"epochs": 3, "learning_rate": 0.5})(lenet)
    assert build is lenet
    monkeypatch.setitem(NETWORKS, "lenet", models.registry.NETWORKS["lenet"])
    defaults = defaults_of("lenet")
    assert (defaults["epochs"], defaults["learning_rate"]) == (3, 0.5)
    assert defaults["batch_size"] == task_of("lenet").DEFAULTS["batch_size"]  # what it does not say is the task's
