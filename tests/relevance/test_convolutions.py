"""The way back through a convolution with strides of 1 is its gradient by the input."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.native.convolutions import is_turned, turned


@st.composite
def convolutions(draw):
    rank = draw(st.integers(1, 3))
    return {
        "rank": rank,
        "padding": draw(st.sampled_from(["valid", "same", *["causal"] * (rank == 1)])),
        "kernel_size": tuple(draw(st.integers(1, 4)) for _ in range(rank)),
        "side": draw(st.integers(4, 7)),
    }


@given(convolutions())
def test_it_is_the_gradient(drawn):
    rng = np.random.default_rng(0)
    kind = getattr(keras.layers, f"Conv{drawn['rank']}D")
    layer = kind(3, drawn["kernel_size"], padding=drawn["padding"], dtype="float64")
    x = tf.constant(rng.normal(size=(2, *[drawn["side"]] * drawn["rank"], 2)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x)
    passed = tf.constant(rng.normal(size=outputs.shape))
    wanted = tape.gradient(outputs, x, passed)
    found = turned(passed, tf.convert_to_tensor(layer.kernel.value), drawn["padding"])
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, True),
        ({"padding": "same"}, True),
        ({"strides": 2}, False),
        ({"strides": (1, 2)}, False),
        ({"dilation_rate": 2}, False),
        ({"groups": 2}, False),
    ],
)
def test_which_convolutions_it_is_for(arguments, expected):
    inputs = keras.Input((8, 8, 4))
    outputs = keras.layers.Conv2D(4, 3, **arguments)(inputs)
    graph = read_model(keras.Model(inputs, outputs))
    assert is_turned(graph.nodes[-1].layer) is expected
