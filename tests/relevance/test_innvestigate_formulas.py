"""iNNvestigate in its worker: conservation, and the formulas by hand."""

import keras
import lrp_by_hand
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from lrp_checks import EXACT, Y
from lrp_models import chain, concatenated, depthwise, every_layer_type, residual, without_shifts
from models import BUILDERS, CLASSES, difference, images, make_live

import keras_lrp_prune as klp
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.canonical import canonize
from keras_lrp_prune.relevance.dialect import _ACTIVATIONS, DIALECT
from keras_lrp_prune.relevance.innvestigate_engine import InnvestigateEngine

CONSERVED = {
    **{"lrp.z": {}, "lrp.epsilon": {"epsilon": np.float32(1e-9)}},
    **{"lrp.alpha_1_beta_0": {}, "lrp.alpha_2_beta_1": {}},
}


@pytest.mark.parametrize("analyzer", CONSERVED)
@pytest.mark.parametrize("build", [chain, residual, concatenated, depthwise])
def test_relevance_is_conserved(build, analyzer):
    keras.utils.set_random_seed(1)
    model, cuts = build()
    without_shifts(model)
    x, y = images(model, CLASSES), np.arange(CLASSES)  # one sample of each class
    scores = np.asarray(model(x))[y, y]
    relevance = klp.filter_relevance(
        model, x, y, analyzer=analyzer, analyzer_options=CONSERVED[analyzer], engine="innvestigate"
    )
    for cut in [*cuts, ["classes"]]:
        total = sum(relevance[layer].sum(1) for layer in cut)
        np.testing.assert_allclose(total, scores, rtol=EXACT, err_msg=str(cut))


def assert_equals_by_hand(model, x, y, analyzer):
    expected, expected_input = lrp_by_hand.mean_relevances(model, x, y, lrp_by_hand.RULES[analyzer])
    counts = np.bincount(y)[:, None]
    with InnvestigateEngine(read_model(model), analyzer, batch_size=4) as engine:
        relevance = {name: sums / counts for name, sums in engine.filter_relevance(x, y).items()}
        of_input = engine.input_relevance(x.astype(np.float32), y)
    assert list(relevance) == list(expected), "every filter layer, in the order of the model"
    for layer, values in relevance.items():
        assert values.shape == expected[layer].shape
        assert difference(values, expected[layer]) <= EXACT, layer
    assert difference(of_input, expected_input) <= EXACT


@pytest.mark.parametrize(
    "name", [name for name in BUILDERS if name not in ("squeeze_excite", "shared")]
)
def test_families_equal_the_formulas(name):
    keras.utils.set_random_seed(0)
    model = make_live(BUILDERS[name]("softmax" if name == "vgg" else "logits"))
    assert_equals_by_hand(model, images(model, 6), Y, "lrp.z")


@pytest.mark.parametrize("analyzer", [name for name in lrp_by_hand.RULES if name != "lrp.z"])
def test_rules_equal_the_formulas(analyzer):
    keras.utils.set_random_seed(0)
    model = without_shifts(BUILDERS["mobilenet_v2"]())
    assert_equals_by_hand(model, images(model, 6), Y, analyzer)


def test_every_layer_type_equals_the_formulas():
    keras.utils.set_random_seed(0)
    model = make_live(every_layer_type())
    graph = canonize(read_model(model))
    assert {layer.class_name for layer in graph.layers.values()} == set(DIALECT)
    assert_equals_by_hand(model, images(model, 6), Y, "lrp.z")


def test_every_activation_equals_the_formulas():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 9, 2))
    convolution = [layers.Conv2D(5, 3, strides=2)(inputs) for _ in _ACTIVATIONS]
    x = [
        layers.Conv2D(3, 3)(layers.Activation(name)(layers.BatchNormalization()(x)))
        for name, x in zip(_ACTIVATIONS, convolution, strict=True)
    ]
    x = layers.Flatten()(layers.Concatenate()(x))
    model = make_live(keras.Model(inputs, layers.Dense(CLASSES)(x)))
    used = [
        layer.config["activation"]
        for layer in canonize(read_model(model)).layers.values()
        if layer.class_name == "Activation"
    ]
    assert set(used) | {"swish"} == set(_ACTIVATIONS)  # Keras calls it silu
    assert_equals_by_hand(model, images(model, 6), Y, "lrp.z")


@pytest.mark.parametrize("name", ["squeezenet", "resnet_v1"])
def test_z_is_gradient_times_input_in_relu_networks(name):
    keras.utils.set_random_seed(0)
    model = without_shifts(BUILDERS[name]())
    x = images(model, 6)
    relevance = klp.input_relevance(model, x, Y, analyzer="lrp.z")
    with tf.GradientTape() as tape:
        value = tf.constant(x)
        tape.watch(value)
        scores = tf.gather(model(value, training=False), Y, batch_dims=1)
    expected = x * tape.gradient(scores, value).numpy()
    assert relevance.dtype == np.float32
    assert difference(relevance, expected) <= EXACT
    default = klp.input_relevance(model, x, analyzer="lrp.z", batch_size=4)
    assert np.isfinite(default).all() and default.shape == x.shape
    highest = np.asarray(model(x)).argmax(1)
    assert (highest != Y).any()
    np.testing.assert_allclose(
        default.sum((1, 2, 3)), np.asarray(model(x)).max(1), rtol=EXACT, atol=1e-6
    )
