"""The native engine: one trace, the models that it takes, and what is refused."""

import inspect
import logging
import re

import keras
import numpy as np
import pytest
from keras import layers
from lrp_checks import DEFAULT, EXACT, PARITY, Y, live, relevances
from lrp_models import with_layer
from models import BUILDERS, CLASSES, analysed, difference, images, random_removal
from places import DOCS, ROOT

import keras_lrp_prune as klp
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.analyzers import ANALYZERS, NATIVE_ANALYZERS
from keras_lrp_prune.relevance.innvestigate_engine import InnvestigateEngine
from keras_lrp_prune.relevance.native import rules
from keras_lrp_prune.relevance.native.engine import NativeEngine

# --- One trace, over batches and masks ---


def test_one_trace_for_batches_and_masks():
    model = live(BUILDERS["resnet_v2"])
    graph, structure = analysed(model)
    rng = np.random.default_rng(0)
    with NativeEngine(graph, DEFAULT) as engine:
        for count, share in ((6, 0.0), (2, 0.3), (5, 0.6), (6, 0.1), (1, 0.6)):
            engine.set_mask(structure, random_removal(structure, share, seed=count))
            x, y = images(model, count, seed=count), rng.integers(0, CLASSES, count)
            engine.unit_relevance(structure, x, y)
            engine.filter_relevance(x, y)
        assert engine.traces == 1
        engine.input_relevance(x, y)
        engine.input_relevance(images(model, 3), np.full(3, -1))
        assert engine.traces == 2
        engine.filter_relevance(x, y, every_class=True)
        assert engine.traces == 3


# --- Which engine, and for what ---


def settings_and_log(caplog, model, **options):
    x = images(model, 24)
    y = np.arange(24) % CLASSES
    with caplog.at_level(logging.INFO, "keras_lrp_prune"):
        result = klp.prune(model, (x, y), 0.3, verbose=0, **options)
    assert result.rate == pytest.approx(0.3, abs=0.1)
    assert np.isfinite(np.asarray(result.model(x))).all()
    return result.settings["engine"], caplog.text


def test_auto_takes_innvestigate_where_it_is_exact(caplog):
    engine, log = settings_and_log(caplog, live(BUILDERS["vgg"]), criterion=DEFAULT)
    assert engine == "innvestigate" and "LRP engine: innvestigate (it is installed" in log


def test_auto_takes_native_where_the_dialect_refuses(caplog):
    engine, log = settings_and_log(caplog, live(BUILDERS["squeeze_excite"]), criterion=DEFAULT)
    assert engine == "native"
    assert "LRP engine: native (The engine 'innvestigate' is not exact on" in log
    assert "'multiply" in log and "Choose" not in log


@pytest.mark.parametrize("options", [{"criterion": "lrp.gamma"}, {"recovery": None}], ids=str)
def test_auto_takes_native_for_an_analyzer_of_its_own(caplog, options):
    model = live(BUILDERS["vgg"])
    engine, log = settings_and_log(caplog, model, **options)
    assert engine == "native"
    assert "LRP engine: native (iNNvestigate does not have this analyzer)" in log
    with pytest.raises(ValueError, match=r"'lrp.gamma' is for the engine 'native'"):
        klp.input_relevance(model, images(model), analyzer="lrp.gamma", engine="innvestigate")


@pytest.mark.parametrize("name", ["vgg", "mobilenet_v2", "shared"])
def test_prune_with_native(caplog, name):
    model = live(BUILDERS[name])
    engine, log = settings_and_log(caplog, model, engine="native", recovery=None)
    assert engine == "native" and "LRP engine: native (as asked for)" in log


def test_fixed_and_open_sizes():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(5, 3, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    fixed = keras.Input(batch_shape=(8, 9, 11, 1))
    x = np.random.default_rng(0).normal(size=(6, 9, 11, 1))
    one, other = (
        klp.input_relevance(model, x, Y, analyzer="lrp.z", engine="native", batch_size=4)
        for model in (model, keras.Model(fixed, model(fixed)))
    )
    assert one.shape == x.shape and difference(one, other) <= 1e-5


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_other_precisions_are_analysed_in_float32(policy):
    plain = live(BUILDERS["resnet_v1"])
    x = images(plain, 6)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = BUILDERS["resnet_v1"]()
        model.set_weights(plain.get_weights())
        found = klp.filter_relevance(model, x, Y, engine="native")
    finally:
        keras.config.set_dtype_policy(before)
    expected = klp.filter_relevance(plain, x, Y, engine="native")
    for one, other in zip(found.values(), expected.values(), strict=True):
        assert difference(one, other) <= EXACT


def test_legacy_models():
    import tf_keras
    from legacy_models import classifier

    model, legacy = classifier(keras), classifier(tf_keras)
    legacy.set_weights([np.asarray(weight) for weight in model.get_weights()])
    x = images(model, 6)
    np.testing.assert_allclose(legacy(x), model(x), atol=1e-5)
    expected = klp.filter_relevance(model, x, Y, engine="native")
    found = klp.filter_relevance(legacy, x, Y, engine="native")
    assert found.keys() == expected.keys()
    for layer in found:
        assert difference(found[layer], expected[layer]) <= PARITY


NATIVE_ONLY = [
    pytest.param("MobileNetV3Small"),
    *(
        pytest.param(name, marks=pytest.mark.all_applications)
        for name in ("EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny", "InceptionResNetV2")
    ),
]


@pytest.mark.parametrize("name", NATIVE_ONLY)
def test_architectures_that_only_native_handles(name):
    from applications import application, pictures

    model = application(name)
    x, y = pictures(model, 3, seed=1), np.array([0, 7, 2])
    graph = read_model(model)
    with pytest.raises(UnsupportedModelError, match="'innvestigate' is not exact"):
        InnvestigateEngine(graph, DEFAULT)
    with NativeEngine(graph, DEFAULT) as engine:
        found = relevances(engine, x, y)
    without = [layer for layer, values in found.items() if not np.abs(values).max()]
    assert all(np.isfinite(values).all() for values in found.values())
    # Gates get none.
    assert all("se" in layer or "squeeze" in layer for layer in without), without
    assert len(without) < len(found) / 2


# --- What is refused ---


def halved():
    return with_layer(layers.Activation("glu", name="halved"))


REFUSED = {
    **({"halved": halved} if hasattr(keras.activations, "glu") else {}),  # since Keras 3.6
    "rows": lambda: with_layer(layers.Softmax(axis=1, name="rows")),
    "own.*function": lambda: with_layer(layers.Activation(keras.ops.square, name="own")),
    "attention.*MultiHeadAttention": lambda: with_layer(
        lambda x: layers.MultiHeadAttention(2, 2, name="attention")(x, x)
    ),
    "first.*channels first": lambda: with_layer(
        layers.MaxPooling2D(data_format="channels_first", name="first")
    ),
    "group_norm": lambda: with_layer(layers.GroupNormalization(2, name="group_norm")),
    "batch_norm.*training=True": lambda: with_layer(
        lambda x: layers.BatchNormalization(name="batch_norm")(x, training=True)
    ),
    "divide.*two tensors": lambda: with_layer(lambda x: x / keras.ops.exp(x)),
    "signal and which the gate": lambda: with_layer(
        lambda x: layers.Conv2D(4, 1)(x) * layers.Conv2D(4, 1)(x)
    ),
}


@pytest.mark.parametrize("named", REFUSED)
def test_layers_without_a_way_back_are_refused(named):
    with pytest.raises(UnsupportedModelError, match=named):
        NativeEngine(read_model(REFUSED[named]()), "lrp.z")


OPTIONS = {
    "lrp.epsilon": {"epsilon", "bias", "input_layer_rule"},
    "lrp.alpha_beta": {"alpha", "beta", "bias", "input_layer_rule"},
    "lrp.gamma": {"gamma", "input_layer_rule"},
    "lrp.sequential_preset_a": {"epsilon", "input_layer_rule"},
    "lrp.sequential_preset_b": {"epsilon", "input_layer_rule"},
    "lrp.sequential_preset_a_flat": {"epsilon"},
    "lrp.sequential_preset_b_flat": {"epsilon"},
    "lrp.sequential_preset_b_flat_until_idx": {"epsilon", "until_layer_idx"},
    "deep_taylor": set(),
    "deep_taylor.bounded": {"low", "high"},
}


def test_the_options_are_those_of_what_makes_the_composite():
    """iNNvestigate's, and no others: a parameter that is none of them would become an option."""
    assert len(ANALYZERS) == 18 and ANALYZERS.keys() < NATIVE_ANALYZERS.keys()
    for name, options in NATIVE_ANALYZERS.items():
        assert options == OPTIONS.get(name, {"input_layer_rule"}), name


def test_the_pages_name_every_analyzer_and_rule():
    page = (DOCS / "supported-models.md").read_text()
    table = page[page.index("| analyzer | options |") :].split("\n\n")[0]
    told = {}
    for row in table.splitlines()[2:]:
        names, options = (re.findall(r"`([\w.]+)`", cell) for cell in row.split("|")[1:3])
        told |= dict.fromkeys(names, frozenset(options))
    assert told == dict(NATIVE_ANALYZERS)
    assert f" {len(NATIVE_ANALYZERS)} analyzers" in (ROOT / "README.md").read_text()
    api = (DOCS / "api.md").read_text()
    members = api[api.index("::: keras_lrp_prune.relevance.native.rules") :].split("]")[0]
    of_ours = {
        name
        for name, it in vars(rules).items()
        if inspect.isfunction(it) and it.__module__ == rules.__name__ and name[0] != "_"
    }
    assert of_ours == set(re.findall(r"\w+", members.split("[")[1])) - {"LinearCall"}
