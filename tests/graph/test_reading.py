import json

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lrp_prune.graph.model_graph import LayerSpec, UnsupportedModelError
from keras_lrp_prune.graph.plain import json_default
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.surgery.builder import rebuild
from keras_lrp_prune.surgery.kept import Kept
from keras_lrp_prune.surgery.layer_copies import make_layer

# What is computed of a (batch, 4, 6) tensor, and the config that must be read.
OPERATIONS = {
    "reshape": (lambda x: ops.reshape(x, (-1, 24)), {"newshape": (-1, 24)}),
    "array": (lambda x: ops.reshape(x, (-1, *np.array((2, 12)))), {"newshape": (-1, 2, 12)}),
    "transpose": (lambda x: ops.transpose(x, (0, 2, 1)), {"axes": (0, 2, 1)}),
    "default": (lambda x: ops.transpose(x), {"axes": None}),
    "mean": (lambda x: ops.mean(x, axis=(1, 2)), {"axis": (1, 2), "keepdims": False}),
    "split": (
        lambda x: ops.split(x, (1, 3), axis=1)[1],
        {"indices_or_sections": (1, 3), "axis": 1},
    ),
    "slice": (lambda x: x[:, 1:, ::2], {}),
    "squeeze": (lambda x: ops.squeeze(x[:, :1], 1), {"axis": 1}),
    "softmax": (lambda x: ops.softmax(x, axis=1), {"axis": 1}),
    "concatenate": (lambda x: ops.concatenate([x, x], axis=-1), {"axis": -1}),
    "relu": (lambda x: ops.relu(x), {}),
    "leaky": (lambda x: ops.leaky_relu(x, 0.25), {"negative_slope": 0.25}),
    "numbers": (
        lambda x: ops.clip(x, np.float32(0), np.array(0.5, "float32")),
        {"x_min": 0.0, "x_max": 0.5},
    ),
    "number": (lambda x: 2 - x / 3, {}),
}


class Shifted(keras.Operation):
    """An operation of the user's, which keeps its parameter under another name."""

    def __init__(self, by, name=None):
        super().__init__(name=name)
        self.shift = float(by)

    def call(self, x):
        return x + self.shift

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def with_operation(function):
    inputs = layers.Input((4, 6))
    return keras.Model(inputs, function(layers.Dense(6)(inputs)))


def same_outputs(first, second):
    x = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")
    return np.array_equal(first(x), second(x))


@pytest.mark.parametrize("name", OPERATIONS)
def test_config_of_an_operation_is_what_it_was_made_with(name):
    function, expected = OPERATIONS[name]
    model = with_operation(function)
    graph = read_model(model)
    operation = graph.nodes[-1].layer
    assert operation.class_name.startswith("ops.")
    assert dict(operation.config) == expected
    json.dumps(dict(operation.config), default=json_default)
    assert same_outputs(rebuild(graph, Kept(), keras), model)
    resized = LayerSpec(operation.name, operation.class_name, source=operation.source)
    remade = make_layer(resized, "remade", expected, keras)
    assert vars(remade).keys() == vars(operation.source).keys()
    for key in expected:
        assert getattr(remade, key) == getattr(operation.source, key)


def test_operation_of_the_user():
    shift = Shifted(3)
    model = with_operation(lambda x: shift(x))
    assert read_model(model).nodes[-1].layer.config == {"by": 3}
    assert same_outputs(rebuild(read_model(model), Kept(), keras), model)


def test_rebuilding_leaves_operations_of_the_model_alone():
    model = with_operation(lambda x: ops.relu(x))
    operation = read_model(model).nodes[-1].layer.source
    calls = len(operation._inbound_nodes)
    rebuild(read_model(model), Kept(), keras)
    assert len(operation._inbound_nodes) == calls


# --- what is refused ---------------------------------------------------------------------


def dense():
    return keras.Sequential([layers.Input((4,)), layers.Dense(3, name="d")], name="whole")


def quantised():
    model = dense()
    model.quantize("int8")
    return model


def quantised_policy():
    return keras.Sequential([layers.Input((4,)), layers.Dense(3, dtype="int8_from_float32")])


def quantised_inside():
    recurrent = layers.TimeDistributed(layers.Dense(3))
    model = keras.Sequential([layers.Input((5, 4)), recurrent])
    recurrent.layer.quantize("int8")
    return model


def float8():
    model = dense()
    model.quantize("float8")
    return model


def with_lora():
    model = dense()
    model.layers[0].enable_lora(2)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (quantised, r"'d' \(Dense\) is quantised \(int8\).*before quantising"),
        (quantised_policy, r"is quantised \(int8\).*before quantising"),
        (quantised_inside, r"is quantised \(int8\).*before quantising"),
        (float8, r"'d' \(Dense\) is quantised \(float8\)"),
        (with_lora, r"'d' \(Dense\) has LoRA enabled.*layer\.kernel"),
    ],
)
def test_refused(make, message):
    with pytest.raises(UnsupportedModelError, match=message):
        read_model(make())


def with_training(value, where):
    inputs = layers.Input((4,))
    inside = layers.Input((4,))
    options = {"training": value} if value != "absent" else {}
    of_layer, of_model = (options, {}) if where == "layer" else ({}, options)
    part = keras.Model(inside, layers.Dropout(0.5, name="drop")(inside, **of_layer), name="part")
    return keras.Model(inputs, part(inputs, **of_model))


class TestTraining:
    def test_nested_model_in_training_mode_is_refused(self):
        graph = read_model(with_training(True, "model"))
        with pytest.raises(UnsupportedModelError, match="'part' is called with training=True"):
            graph.flat()

    @pytest.mark.parametrize("value", [False, None, "absent"])
    @pytest.mark.parametrize("where", ["layer", "model"])
    def test_inference_mode_goes(self, value, where):
        (_, drop) = read_model(with_training(value, where)).flat().nodes
        assert not drop.kwargs

    def test_layer_that_is_always_random_stays_so(self):
        model = with_training(True, "layer")
        flat = read_model(model).flat()
        assert flat.by_name["part/drop"].kwargs == {"training": True}
        for graph in (flat, read_model(model)):
            outputs = np.asarray(rebuild(graph, Kept(), keras)(np.ones((8, 4))))
            assert (outputs == 0).any() and (outputs == 2).any()
