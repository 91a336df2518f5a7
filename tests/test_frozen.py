"""Frozen models: what is trainable changes no analysis, and the pruned model keeps the flags."""

import keras
import numpy as np
import pytest
from keras import layers
from models import make_live

import keras_lrp_prune as klp

IMAGE, CLASSES = (12, 12, 3), 3


def images(per_class=4, seed=0):
    y = np.repeat(np.arange(CLASSES), per_class)
    x = np.random.default_rng(seed).uniform(0, 255, (len(y), *IMAGE)).astype("float32")
    return x, y


def tiny_base():
    inputs = keras.Input(IMAGE)
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.SeparableConv2D(12, 3, activation="relu", name="separable")(x)
    return keras.Model(inputs, x, name="base")


def transfer_model(base, preprocess=None):
    """As in Keras' guide to transfer learning: a base that is called as it is at inference."""
    inputs = keras.Input(base.input_shape[1:])
    x = (preprocess or layers.Rescaling(1 / 127.5, offset=-1))(inputs)
    x = layers.GlobalAveragePooling2D()(base(x, training=False))
    x = layers.Dropout(0.2)(layers.Dense(10, activation="relu", name="hidden")(x))
    model = make_live(keras.Model(inputs, layers.Dense(CLASSES, name="head")(x), name="transfer"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def freeze_kernel(model):
    model.get_layer("base").get_layer("conv").kernel.trainable = False


FREEZE = {
    "base": lambda model: setattr(model.get_layer("base"), "trainable", False),
    "all": lambda model: setattr(model, "trainable", False),
    "layer": lambda model: setattr(model.get_layer("hidden"), "trainable", False),
    "norm": lambda model: setattr(model.get_layer("base").get_layer("norm"), "trainable", False),
    "kernel": freeze_kernel,
}


def flags(model):
    return [layer.trainable for layer in model._flatten_layers()], [
        weight.trainable for weight in model.weights
    ]


@pytest.fixture(scope="module")
def thawed():
    keras.utils.set_random_seed(0)
    return transfer_model(tiny_base())


@pytest.fixture
def frozen(thawed, request):
    """The model with something frozen in it; thawed again behind the test."""
    FREEZE[request.param](thawed)
    yield thawed
    thawed.trainable = True


every_freeze = pytest.mark.parametrize("frozen", FREEZE, indirect=True)


@pytest.fixture(scope="module")
def relevance(thawed):
    return klp.filter_relevance(thawed, *images(), engine="native")


@every_freeze
def test_frozen_layers_have_the_relevance_of_trainable_ones(relevance, frozen):
    found = klp.filter_relevance(frozen, *images(), engine="native")
    assert found.keys() == relevance.keys()
    for name, values in relevance.items():
        np.testing.assert_array_equal(found[name], values, name)
    assert all(values.any() for values in relevance.values())
