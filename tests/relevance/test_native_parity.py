"""The native engine: the relevances of iNNvestigate."""

import keras
import numpy as np
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st
from keras import layers
from lrp_checks import DEFAULT, NEEDED, PARITY, SUPPORTED, Y, live, relevances
from lrp_models import every_layer_type
from models import (
    BUILDERS,
    CLASSES,
    analysed,
    difference,
    images,
    make_live,
    masked_copy,
    random_removal,
)
from tiers import examples

from keras_lrp_prune.evaluation import probabilities
from keras_lrp_prune.graph.heads import read_head
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.analyzers import ANALYZERS
from keras_lrp_prune.relevance.innvestigate_engine import InnvestigateEngine
from keras_lrp_prune.relevance.native.engine import NativeEngine


def assert_parity(model, x, y, analyzer, options=None):
    """Every layer's relevance equals iNNvestigate's, relative to the layer's largest."""
    graph = read_model(model)
    with InnvestigateEngine(graph, analyzer, options) as engine:
        expected = relevances(engine, x, y)
    with NativeEngine(graph, analyzer, options) as engine:
        found = relevances(engine, x, y)
    assert found.keys() == expected.keys() and len(found) > 2
    for name, values in expected.items():
        assert np.abs(values).max() > 0, f"{name}: the test could not fail"
        assert difference(found[name], values) <= PARITY, name
    return max(difference(found[name], values) for name, values in expected.items())


@pytest.mark.parametrize("analyzer", ANALYZERS)
def test_every_analyzer_equals_innvestigate(analyzer):
    model = live(BUILDERS["resnet_v1"])
    assert_parity(model, images(model, 6), Y, analyzer, NEEDED.get(analyzer))


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_family_equals_innvestigate(name):
    model = live(BUILDERS[name], "softmax" if name == "vgg" else "logits")
    analyzers = ("lrp.epsilon", "lrp.sequential_preset_b_flat", "lrp.alpha_1_beta_0")
    analyzer = analyzers[SUPPORTED.index(name) % len(analyzers)]
    assert_parity(model, images(model, 6), Y, analyzer)


OPTIONS = [
    ("lrp.epsilon", {"epsilon": 0.5, "bias": False}),
    ("lrp.alpha_beta", {"beta": 0.5, "bias": False}),
    ("lrp.z", {"input_layer_rule": (-3.0, 3.0)}),
    ("lrp.alpha_1_beta_0", {"input_layer_rule": "WSquare"}),
    ("lrp.sequential_preset_a", {"epsilon": 0.5, "input_layer_rule": "ZPlus"}),
    ("lrp.sequential_preset_b_flat_until_idx", {"until_layer_idx": np.int64(9)}),
]


def dense_on_images():
    """Dense layers on each pixel, on rows of features, and on flat features."""
    inputs = keras.Input((6, 5, 3))
    x = layers.Dense(6, activation="relu", name="per_pixel")(inputs)
    x = layers.Dense(5, activation="relu", use_bias=False)(layers.Conv2D(4, 3)(x))
    x = layers.Dense(4, activation="relu", name="per_row")(layers.Reshape((4, -1))(x))
    model = make_live(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(x))))
    model.layers[-1].bias.assign_add([9.0] * CLASSES)  # Deep Taylor passes positive scores alone on
    return model


QUICK = ("lrp.z", "lrp.sequential_preset_a", "deep_taylor")
EVERY = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ANALYZERS
]


@pytest.mark.parametrize("analyzer", EVERY)
def test_dense_on_more_than_two_dimensions_equals_innvestigate(analyzer):
    keras.utils.set_random_seed(0)
    model = dense_on_images()
    assert_parity(model, images(model, 6), Y, analyzer, NEEDED.get(analyzer))


@pytest.mark.parametrize(("analyzer", "options"), OPTIONS, ids=[name for name, _ in OPTIONS])
def test_options_equal_innvestigate(analyzer, options):
    model = live(every_layer_type if "until_layer_idx" in options else BUILDERS["vgg"])
    assert_parity(model, images(model, 6), Y, analyzer, options)


def _residual_step(x, n):
    y = layers.BatchNormalization()(layers.Conv2D(n, 3, padding="same", use_bias=False)(x))
    return layers.Add()([layers.Conv2D(n, 1)(x), layers.ReLU()(y)])


STEPS = {
    "conv": lambda x, n: layers.Conv2D(n, 3, padding="same", activation="relu")(x),
    "strided": lambda x, n: layers.Conv2D(n, 2, strides=2, padding="same", activation="elu")(x),
    "dilated": lambda x, n: layers.Conv2D(n, 3, dilation_rate=2, padding="same")(x),
    "depthwise": lambda x, n: layers.DepthwiseConv2D(3, depth_multiplier=n % 2 + 1)(x),
    "separable": lambda x, n: layers.SeparableConv2D(n, 3, padding="same", activation="tanh")(x),
    "batch norm": lambda x, n: layers.ReLU(6.0)(layers.BatchNormalization()(x)),
    "pool": lambda x, n: layers.MaxPooling2D(2, 1)(x),
    "average": lambda x, n: layers.AveragePooling2D(3, 1, padding="same")(x),
    "padding": lambda x, n: layers.ZeroPadding2D(((n % 2, 1), (0, n % 3)))(x),
    "concatenate": lambda x, n: layers.Concatenate()([x, layers.Conv2D(n, 1)(x)]),
    "residual": _residual_step,
}
TOPS = {
    "flatten": layers.Flatten,
    "mean": layers.GlobalAveragePooling2D,
    "maximum": layers.GlobalMaxPooling2D,
}
NETS = st.tuples(
    st.lists(st.tuples(st.sampled_from([*STEPS]), st.integers(3, 7)), min_size=2, max_size=5),
    st.sampled_from([*TOPS]),
)


def net_of(program):
    steps, top = program
    inputs = x = layers.Input((11, 10, 2))
    x = layers.Conv2D(5, 3, activation="relu")(x)
    for kind, n in steps:
        x = STEPS[kind](x, n)
    return keras.Model(inputs, layers.Dense(CLASSES)(TOPS[top]()(x)))


@examples(6, phases=[Phase.generate])
@given(NETS, st.sampled_from(["lrp.epsilon", "lrp.alpha_2_beta_1", "lrp.w_square", DEFAULT]))
def test_random_nets_equal_innvestigate(program, analyzer):
    model = live(net_of, program)
    assert_parity(model, images(model, 6), Y, analyzer)


ARCHITECTURES = ("VGG16", "ResNet50", "MobileNet", "MobileNetV2", "InceptionV3", "DenseNet121")


@pytest.mark.all_applications
@pytest.mark.parametrize(
    ("name", "analyzer"),
    [
        (name, analyzer)
        for name in ARCHITECTURES
        for analyzer in ANALYZERS
        # MobileNets have ReLU6, and deep Taylor decomposition is for ReLU.
        if not (name.startswith("MobileNet") and analyzer.startswith("deep_taylor"))
    ],
)
def test_architectures_equal_innvestigate(name, analyzer, record_property):
    from applications import application, pictures

    model = application(name)
    x = pictures(model, 3, seed=1)
    y = np.argmax(model(x), -1)  # positive scores: deep Taylor decomposition explains no others
    options = {**NEEDED, "deep_taylor.bounded": {"low": 0, "high": 255}}.get(analyzer)
    worst = assert_parity(model, x, y, analyzer, options)
    row = {"architecture": name, "analyzer": analyzer, "largest difference": f"{worst:.0e}"}
    record_property("parity", row)


@pytest.mark.parametrize("name", ["resnet_v2", "separable"])
def test_relevance_of_units_equals_innvestigates(name):
    model = live(BUILDERS[name])
    graph, structure = analysed(model)
    x = images(model, 6)
    with InnvestigateEngine(graph, DEFAULT) as reference, NativeEngine(graph, DEFAULT) as engine:
        expected, _ = reference.unit_relevance(structure, x, Y)
        found, _ = engine.unit_relevance(structure, x, Y)
    assert difference(found, expected) <= PARITY


@pytest.mark.parametrize("head", ["logits", "softmax", "sigmoid"])
@pytest.mark.parametrize("engine", [InnvestigateEngine, NativeEngine])
def test_the_same_pass_gives_the_probabilities(engine, head):
    """For control, which needs both; of the masked model."""
    model = live(BUILDERS["vgg"], head)
    x = images(model, 6)
    graph, structure = analysed(model)
    copy, mask = masked_copy(model)
    removed = random_removal(structure, 0.4)
    mask.set(removed)
    kind = read_head(graph)
    with engine(graph, DEFAULT, two_class=kind.one_unit, batch_size=4) as started:
        started.set_mask(structure, removed)
        _, found = started.unit_relevance(structure, x, np.array([0, 1, 1, 0, 1, 0]))
    assert difference(found, probabilities(copy.model(x), kind.kind)) <= 1e-5
    assert difference(found, probabilities(model(x), kind.kind)) > 1e-2, "the mask must matter"


@pytest.mark.parametrize("engine", [InnvestigateEngine, NativeEngine])
def test_every_class_equals_a_pass_for_each(engine):
    model = live(BUILDERS["resnet_v1"])
    x = images(model, 6)
    with engine(read_model(model), DEFAULT, batch_size=4) as started:
        found = started.filter_relevance(x, Y, every_class=True)
        own = [started.filter_relevance(x, np.full(6, label)) for label in range(CLASSES)]
    assert found.keys() == own[0].keys()
    for name, values in found.items():
        expected = np.stack([sums[name][label] for label, sums in enumerate(own)])
        assert difference(values, expected) <= 1e-5, name
