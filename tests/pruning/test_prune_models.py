"""`prune()` on models of every kind of head, input and nesting."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from models import BUILDERS, difference, images, make_live
from pruned import check_result, prune
from pruning_models import digits, reference

import keras_lrp_prune as klp
from keras_lrp_prune.runtime import CompiledForward


def two_classes(model, x):
    """Labels that the model's first output all but agrees with."""
    scores = np.asarray(model(x))[:, 0]
    y = (scores > np.median(scores)).astype(int)
    y[:2] = 1 - y[:2]
    return y


@pytest.mark.parametrize("heads", [("logits", "softmax"), ("logit", "sigmoid")], ids="-".join)
def test_heads(heads):
    keras.utils.set_random_seed(0)
    kind = "sigmoid" if heads[1] == "sigmoid" else "logits"
    probabilities = make_live(BUILDERS["vgg"](heads[1]))
    scores = BUILDERS["vgg"](kind)
    if kind == "sigmoid":
        scores.get_layer("classes").activation = keras.activations.linear
    scores.set_weights(probabilities.get_weights())
    x = images(scores, 40) * 3
    y = two_classes(scores, x) if kind == "sigmoid" else np.arange(40) % 4
    first, second = (prune(model, 0.3, data=(x, y)) for model in (scores, probabilities))
    check_result(probabilities, second, x, 0.3)
    assert len(first.history[0].class_accuracies) == (2 if kind == "sigmoid" else 4)
    pairs = zip(first.kept.values(), second.kept.values(), strict=True)
    assert all(one.tolist() == other.tolist() for one, other in pairs)


def test_sigmoid_unit_with_lrp():
    keras.utils.set_random_seed(0)
    model = make_live(BUILDERS["mobilenet"]("sigmoid"))
    x = images(model, 20) * 3
    result = prune(model, 0.3, data=(x, two_classes(model, x)), criterion="lrp.z")
    check_result(model, result, x, 0.3)
    assert result.settings["engine"] == "innvestigate"


def test_nested_backbone():
    keras.utils.set_random_seed(0)
    base = make_live(BUILDERS["resnet_v1"]())
    base = keras.Model(base.inputs[0], base.layers[-3].output, name="base")
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            base,
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    x = images(model, 24) * 255
    result = prune(model, 0.4, data=(x, np.arange(24) % 4), criterion="lrp.sequential_preset_a")
    check_result(model, result, x, 0.4)
    assert result.model.get_layer("base").name == "base"
    assert any(layer.startswith("base/") for layer in result.kept)


def test_open_input_size():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(9, 3, activation="relu")(inputs)
    x = layers.Conv2D(9, 3, activation="relu")(x)
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    for criterion in ("l1", "lrp.sequential_preset_a"):
        result = prune(model, criterion=criterion)
        assert result.model.input_shape == (None, None, None, 1)
        check_result(model, result, digits()[1][0][:20], 0.4)
        assert result.model(np.zeros((1, 20, 9, 1))).shape == (1, 10)


def test_input_in_a_list_or_dict():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(9, 3, activation="relu")(inputs)
    outputs = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
    x = reference()[0]
    expected = np.asarray(keras.Model(inputs, outputs)(x))
    for structure in ([inputs], {"image": inputs}):
        model = keras.Model(structure, outputs)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("ignore", klp.AtChanceWarning)  # it is not trained
            assert difference(CompiledForward(model, 7)(x), expected) <= 1e-5
            result = prune(model)
        assert isinstance(result.model._inputs_struct, type(structure))
