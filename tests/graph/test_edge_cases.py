"""What people write that looks like something else: each was once pruned wrongly, or crashed."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import analysed, difference, images, make_live, masked_copy, pruned, random_removal

import keras_lrp_prune as klp
from keras_lrp_prune.graph.layer_registry import CHANNEL_RULES
from keras_lrp_prune.graph.model_graph import UnsupportedModelError


def relu(x):
    """Named like Keras' own, and not like it."""
    return ops.maximum(x, 0.3)


def mixing(x):
    return x - ops.mean(x, axis=-1, keepdims=True)


class Dense(layers.Dense):
    """Named like Keras' own, and not like it."""

    def call(self, inputs):
        return ops.softmax(super().call(inputs))


def ended(inputs, x, units=2):
    return keras.Model(inputs, layers.Dense(units, name="classes")(x))


def dense(activation, **options):
    inputs = layers.Input((5,))
    return ended(inputs, layers.Dense(6, activation=activation, name="d", **options)(inputs))


def prunable(model):
    _, structure = analysed(model)
    return {layer for group in structure.groups for layer in group.filters}


def check_exact(model, share=0.5):
    """Masked equals rebuilt, and rebuilt without a loss equals the model."""
    make_live(model)
    x = images(model)
    plain = model(x, training=False)
    assert difference(pruned(model, np.zeros(analysed(model)[1].n_units, bool))(x), plain) <= 1e-12
    removed = random_removal(analysed(model)[1], share)
    copy, mask = masked_copy(model)
    mask.set(removed)
    assert difference(pruned(model, removed)(x, training=False), copy.model(x)) <= 1e-9


@pytest.mark.parametrize(
    "activation",
    [relu, mixing, lambda x: ops.tanh(x), type("ReLU", (layers.ReLU,), {})()],
    ids=["relu", "mixing", "lambda", "class ReLU"],
)
def test_activations_of_ones_own_protect(float64, activation):
    model = dense(activation)
    assert prunable(model) == set()
    check_exact(model)


def test_activations_of_tensorflow_do_not(float64):
    import tensorflow as tf

    assert prunable(dense(tf.nn.relu)) == {"d"}


@pytest.mark.parametrize(
    ("layer", "left"),
    [
        (lambda: layers.TimeDistributed(layers.Dense(6, activation=relu)), set()),
        (lambda: layers.TimeDistributed(Dense(6)), set()),
        (lambda: layers.LSTM(6, return_sequences=True, recurrent_activation="softmax"), set()),
        (lambda: layers.GRU(6, return_sequences=True, activation=relu), set()),
        (lambda: layers.Bidirectional(layers.GRU(6, return_sequences=True)), {"bidirectional"}),
    ],
    ids=["function inside", "class inside", "recurrent softmax", "recurrent function", "known"],
)
def test_what_is_inside_of_wrappers_and_cells(float64, layer, left):
    keras.utils.clear_session()
    inputs = layers.Input((4, 3))
    model = ended(inputs, layers.GlobalAveragePooling1D()(layer()(inputs)))
    assert prunable(model) == left
    check_exact(model)


class Scaled(keras.Model):
    def call(self, x, training=None, mask=None):
        return super().call(x, training=training) * 2 + 1


def test_a_call_of_its_own_is_refused():
    inputs = layers.Input((5,))
    model = Scaled(inputs, layers.Dense(2)(inputs))
    with pytest.raises(UnsupportedModelError, match=r"Scaled\) has a call\(\) of its own"):
        klp.delete_channels(model, {})
    with pytest.raises(UnsupportedModelError, match=r"Scaled\) has a call\(\) of its own"):
        klp.explain(keras.Sequential([layers.Input((5,)), model]))


def test_a_class_of_its_own_is_warned_of():
    own = type("Trained", (keras.Model,), {"train_step": lambda self, data: {}})
    inputs = layers.Input((5,))
    with pytest.warns(UserWarning, match="is a Trained; the new one is a plain Functional"):
        klp.delete_channels(own(inputs, layers.Dense(2)(inputs)), {})


@pytest.mark.parametrize(
    "given", [[2, 3], np.array([2, 3]), [False] * 2 + [True] * 2 + [False] * 2]
)
def test_filters_are_named_by_indices_or_a_mask(given):
    model = dense("relu")
    smaller = klp.delete_channels(model, {"d": given})
    kernel = np.asarray(model.get_layer("d").kernel)
    np.testing.assert_array_equal(smaller.get_layer("d").kernel, kernel[:, [0, 1, 4, 5]])


@pytest.mark.parametrize("given", [[1.7], [True, False], "ab"])
def test_other_names_of_filters_are_refused(given):
    with pytest.raises(ValueError, match="whole numbers, or by a mask of 6 bools"):
        klp.delete_channels(dense("relu"), {"d": given})
    with pytest.raises(TypeError, match="takes a dict"):
        klp.delete_channels(dense("relu"), [("d", [0])])


def test_channels_that_can_only_go_all_together_stay():
    inputs = layers.Input((8, 8, 3))
    x = layers.GroupNormalization(1)(layers.Conv2D(24, 3, name="together")(inputs))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, name="free")(x))
    model = ended(inputs, x)
    assert prunable(model) == {"free"}
    assert "can only go all together" in analysed(model)[1].protected["together"]
    reference = (images(model, 4), [0, 1, 0, 1])
    result = klp.prune(model, reference, 0.5, criterion="l2", verbose=0)
    assert result.rate == 0.5


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: ops.reshape(x, (-1, 2)),
        lambda x: ops.softmax(x, axis=None),
        lambda x: ops.sum(ops.sigmoid(x), axis=-1, keepdims=True),
    ],
    ids=["into the batch", "softmax of all", "sum of what does not vanish"],
)
def test_operations_that_mix_protect(layer):
    inputs = layers.Input((5,))
    model = ended(inputs, layer(layers.Dense(6, name="d")(inputs)))
    assert prunable(model) == set()


def test_channels_along_the_time_axis_protect():
    inputs = layers.Input((4, 4, 3))
    x = layers.Permute((3, 1, 2))(layers.Conv2D(5, 3, padding="same", name="c")(inputs))
    x = layers.TimeDistributed(layers.Flatten())(x)
    assert prunable(ended(inputs, layers.Flatten()(x))) == set()


@pytest.mark.parametrize(
    "through",
    [
        lambda x: ops.sqrt(ops.sum(x**2, axis=-1, keepdims=True) + 1.0),
        lambda x: ops.power(x, 3),
        lambda x: x[:, 1:5],
    ],
    ids=["distance", "power", "slice"],
)
def test_operations_that_do_not(float64, through, tmp_path):
    inputs = layers.Input((5,))
    model = ended(inputs, through(layers.Dense(6, name="d")(inputs)))
    assert prunable(model) == {"d"}
    check_exact(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert prunable(loaded) == {"d"}
    check_exact(loaded)


def test_masks_do_not_hinder_recurrent_layers():
    inputs = layers.Input((7,), dtype="int32")
    x = layers.Embedding(20, 4, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True), name="both")(x)
    model = ended(inputs, layers.GRU(5, name="last")(x))
    assert prunable(model) == {"both", "last"}
    tokens = np.random.default_rng(0).integers(0, 3, (6, 7))
    removed = random_removal(analysed(model)[1], 0.5)
    copy, mask = masked_copy(model)
    mask.set(removed)
    assert difference(pruned(model, removed)(tokens), copy.model(tokens)) <= 1e-5


def test_vocabularies_and_constant_initializers_survive(tmp_path):
    lookup = layers.TextVectorization(output_mode="multi_hot")
    lookup.adapt(["some words", "other words"])
    inputs = layers.Input((), dtype="string")
    start = keras.initializers.Constant(np.arange(6.0))
    model = ended(inputs, layers.Dense(6, bias_initializer=start, name="d")(lookup(inputs)))
    smaller = klp.delete_channels(model, {"d": [1, 3]})
    np.testing.assert_array_equal(smaller.get_layer("d").bias, [0, 2, 4, 5])
    smaller.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    words = np.array(["some other", "words"])
    assert difference(loaded(words), smaller(words)) <= 1e-6
    assert smaller.get_layer("d").bias_initializer.value.tolist() == [0, 2, 4, 5]


def test_what_cannot_be_written_into_a_config_is_named():
    with pytest.raises(UnsupportedModelError, match=r"made by functools\.partial"):
        klp.explain(dense(functools.partial(relu)))


class Own(layers.Conv2D):
    """A convolution by another name."""


def test_a_rule_can_be_that_of_a_keras_layer(float64, monkeypatch):
    monkeypatch.setattr(CHANNEL_RULES, "own", {})
    inputs = layers.Input((6, 6, 3))
    model = ended(inputs, layers.Flatten()(Own(4, 3, name="own")(inputs)))
    assert prunable(model) == set()
    klp.register_layer_rule(Own, layers.Conv2D)
    assert prunable(model) == {"own"}
    check_exact(model)
    with pytest.raises(TypeError, match="a Keras layer class that has a channel rule"):
        klp.register_layer_rule(Own, layers.MultiHeadAttention)


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (
            lambda call, flow: None,
            TypeError,
            "must return the Channels of each output of layer 'o'",
        ),
        (
            lambda call, flow: flow.weight(call.layer, "nope", 0, call.inputs[0].ids, "sliced"),
            ValueError,
            "layer 'o'.*speaks of a weight 'nope'; it has kernel, bias",
        ),
    ],
)
def test_faulty_rules_are_named(monkeypatch, rule, error, message):
    monkeypatch.setattr(CHANNEL_RULES, "own", {})
    klp.register_layer_rule(Own, rule)
    inputs = layers.Input((6, 6, 3))
    with pytest.raises(error, match=message):
        klp.explain(ended(inputs, layers.Flatten()(Own(4, 3, name="o")(inputs))))
