"""The canonical graph computes what the model computes, in the dialect that LRP knows."""

import json

import keras
import numpy as np
import pytest
import tf_keras
from keras import layers
from models import BUILDERS, IMAGE, difference, images, make_live

from keras_lrp_prune.graph.model_graph import UnsupportedModelError, references
from keras_lrp_prune.graph.plain import from_plain, json_default, to_plain
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.canonical import (
    canonize,
    drop_identities,
    fold_batch_norm,
    split_activations,
    split_preprocessing,
    split_separable,
    strip_softmax,
    sums_as_layers,
    two_class_logits,
)
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.kept import Kept


def dense_batch_norm(head="logits"):
    """Dense layers with batch norm behind and in front of them."""
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.BatchNormalization(center=False),
            layers.Dense(9, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("tanh"),
            layers.BatchNormalization(scale=False),
            layers.Dense(4, name="classes"),
        ]
    )


def batch_norms(head="logits"):
    """Batch norms that can be folded and such that cannot: read twice, shared, in a row."""
    inputs = keras.Input(IMAGE)
    read_twice = layers.Conv2D(5, 3, padding="same")(inputs)
    shared = layers.BatchNormalization(axis=3)
    left = shared(read_twice)
    right = shared(layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1)(read_twice))
    both = layers.BatchNormalization()(layers.BatchNormalization()(left + right))
    x = layers.Conv2D(6, 3, activation="silu")(layers.SpatialDropout2D(0.5)(both))
    x = layers.BatchNormalization()(x)
    x = layers.GaussianNoise(1.0)(layers.ELU()(layers.ReLU(6.0)(x)))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


MODELS = {**BUILDERS, "dense_batch_norm": dense_batch_norm, "batch_norms": batch_norms}


def outputs(graph, x, keras_module=keras):
    return np.asarray(build(graph, Kept(), keras_module).model(x))


def live(name, head="logits"):
    """The model, inputs and outputs, which depend on the inputs (or no test could fail)."""
    keras.utils.set_random_seed(0)
    model = make_live(MODELS[name](head))
    x = images(model, 6) * 3
    expected = np.asarray(model(x))
    assert expected.std(0).max() > 1e-2 * np.abs(expected).max()
    return model, x, expected


@pytest.mark.parametrize("name", MODELS)
def test_same_outputs(name):
    model, x, expected = live(name)
    graph = canonize(read_model(model))
    assert difference(outputs(graph, x), expected) <= 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_each_rewrite_is_exact(name, float64):
    model, x, expected = live(name)
    graph = read_model(model).flat()
    for rewrite in (
        drop_identities,
        sums_as_layers,
        split_separable,
        split_activations,
        fold_batch_norm,
        drop_identities,
    ):
        graph = rewrite(graph)
        assert difference(outputs(graph, x), expected) <= float64, rewrite.__name__


@pytest.mark.parametrize("name", [name for name in MODELS if name != "squeeze_excite"])
def test_in_the_dialect(name):
    graph = canonize(read_model(MODELS[name]()))
    assert {layer.class_name for layer in graph.layers.values()} <= {
        *("InputLayer", "Conv2D", "DepthwiseConv2D", "Dense", "Activation", "Add", "Concatenate"),
        *("MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D"),
        *("ZeroPadding2D", "Flatten"),
    }
    for layer in graph.layers.values():
        if layer.class_name != "Activation":
            assert layer.config.get("activation", "linear") == "linear"
        assert layer.config.get("dtype", "float32") == "float32"


@pytest.mark.parametrize("name", MODELS)
def test_filter_layers_keep_name_and_width(name):
    graph = read_model(MODELS[name]()).flat()
    canonical = canonize(graph)
    widths = {
        node.layer.name: node.shapes[0][-1]
        for node in graph.nodes
        if node.layer.class_name in ("Conv2D", "Dense", "SeparableConv2D")
    }
    assert len(widths) >= 2
    for layer, width in widths.items():
        assert canonical.layers[layer].class_name in ("Conv2D", "Dense")
        assert canonical.layers[layer].arrays()["kernel"].shape[-1] == width


def test_batch_norm_without_a_linear_layer_becomes_one():
    canonical = canonize(read_model(dense_batch_norm()))
    kinds = [layer.class_name for layer in canonical.layers.values()]
    assert kinds == ["InputLayer", "Dense", "Dense", "Activation", "Dense", "Dense"]
    model = make_live(BUILDERS["densenet"]())
    canonical = canonize(read_model(model))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            left = canonical.layers.get(layer.name)
            assert left is None or left.class_name == "DepthwiseConv2D"
    assert "DepthwiseConv2D" in {layer.class_name for layer in canonical.layers.values()}


def preprocessed(*between):
    """Scaling, shifting and padding in front of a convolution."""
    normalization = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 1.0, 2.0])
    return keras.Sequential(
        [
            keras.Input(IMAGE),
            layers.Rescaling(1 / 3, offset=-0.5, name="rescaling"),
            *between,
            normalization,
            layers.ZeroPadding2D(((1, 2), (0, 3)), name="padding"),
            layers.Conv2D(5, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )


def test_preprocessing_is_split_off():
    model = make_live(preprocessed())
    x = images(model)
    front, graph = split_preprocessing(read_model(model).flat())
    _, *taken = [node.layer.class_name for node in front.nodes]
    assert taken == ["Rescaling", "Normalization", "ZeroPadding2D"]
    (entry,) = references(graph.inputs)
    assert graph.shape(entry) == (None, 19, 19, 3)
    assert graph.by_name[graph.consumers[entry][0]].layer.class_name == "Conv2D"
    assert difference(outputs(canonize(graph), outputs(front, x)), model(x)) <= 1e-5


def test_preprocessing_read_twice_stays():
    inputs = keras.Input(IMAGE)
    x = layers.Rescaling(0.5)(inputs)
    x = layers.Concatenate()([layers.Conv2D(3, 3)(x), layers.Conv2D(4, 3)(x)])
    model = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    front, graph = split_preprocessing(read_model(model).flat())
    assert len(front.nodes) == 2
    assert difference(outputs(graph, images(model) * 0.5), model(images(model))) <= 1e-5
    inputs = keras.Input(IMAGE)
    x = layers.Concatenate()([layers.Rescaling(0.5)(inputs), inputs])
    model = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    front, _ = split_preprocessing(read_model(model).flat())
    assert front is None


@pytest.mark.parametrize("own_layer", [False, True])
def test_softmax_is_stripped(own_layer):
    model, x, expected = live("vgg", "softmax")
    if own_layer:
        logits, x, scores = live("vgg")
        model = keras.Model(logits.inputs[0], layers.Softmax()(logits.outputs[0]))
        expected = keras.ops.convert_to_numpy(keras.ops.softmax(scores))
    graph = strip_softmax(canonize(read_model(model)))
    stripped = outputs(graph, x)
    assert (stripped < 0).any()
    assert difference(keras.ops.softmax(stripped), expected) <= 1e-5


@pytest.mark.parametrize("kind", ["sigmoid", "sigmoid layer", "logit"])
def test_one_unit_becomes_two_class_scores(kind):
    inputs = keras.Input(IMAGE)
    x = layers.Conv2D(5, 3, activation="relu")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(1, activation="sigmoid" if kind == "sigmoid" else None)(x)
    model = make_live(
        keras.Model(inputs, layers.Activation("sigmoid")(x) if kind == "sigmoid layer" else x)
    )
    x = images(model)
    score = np.asarray(model(x), np.float64)
    logit = score if kind == "logit" else np.log(score / (1 - score))
    two = outputs(two_class_logits(canonize(read_model(model))), x)
    assert difference(two, np.concatenate([-logit, logit], 1)) <= 1e-4


def test_two_class_scores_need_a_dense_unit():
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.GlobalMaxPooling2D()(layers.Conv2D(1, 3)(inputs)))
    with pytest.raises(UnsupportedModelError, match="global_max_pooling"):
        two_class_logits(canonize(read_model(model)))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "shared"])
def test_survives_json_and_gives_a_legacy_twin(name):
    model, x, expected = live(name)
    plain, arrays = to_plain(canonize(read_model(model)))
    copy = from_plain(json.loads(json.dumps(plain)), arrays)
    again, same = to_plain(copy)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(plain))
    assert same.keys() == arrays.keys() and all(same[key] is arrays[key] for key in arrays)
    assert difference(outputs(copy, x), expected) <= 1e-4
    assert difference(outputs(copy, x, tf_keras), expected) <= 1e-4


def test_numpy_numbers_in_configs_survive_json():
    model = keras.Sequential(
        [
            keras.Input((8, 8, np.int64(1))),
            layers.Conv2D(np.int64(3), 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    plain, arrays = to_plain(canonize(read_model(model)))
    copy = from_plain(json.loads(json.dumps(plain, default=json_default)), arrays)
    x = images(model)
    assert difference(outputs(copy, x, tf_keras), model(x)) <= 1e-5
    with pytest.raises(TypeError, match="cannot be written"):
        json.dumps({"layer": model}, default=json_default)
