"""The native engine: iNNvestigate's relevances, the formulas, conservation, one trace."""

import inspect
import logging

import keras
import lrp_by_hand
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given
from hypothesis import strategies as st
from keras import layers
from lrp_models import (
    chain,
    concatenated,
    depthwise,
    every_layer_type,
    residual,
    sigmoids,
    two_inputs,
    two_outputs,
    with_layer,
    without_shifts,
)
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

import keras_lrp_prune as klp
from keras_lrp_prune.evaluation import probabilities
from keras_lrp_prune.graph.heads import read_head
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reading import read_model
from keras_lrp_prune.relevance.analyzers import ANALYZERS, NATIVE_ANALYZERS
from keras_lrp_prune.relevance.canonical import canonize, strip_softmax
from keras_lrp_prune.relevance.innvestigate_engine import InnvestigateEngine
from keras_lrp_prune.relevance.native import rules
from keras_lrp_prune.relevance.native.composites import (
    Composite,
    anything,
    is_dense,
    reads_input,
)
from keras_lrp_prune.relevance.native.engine import NativeEngine

PARITY = 1e-4
EXACT = 1e-3
Y = np.array([0, 1, 2, 3, 1, 0])
DEFAULT = "lrp.sequential_preset_a"

NEEDED = {
    "lrp.alpha_beta": {"alpha": 3, "beta": 2},
    "lrp.sequential_preset_b_flat_until_idx": {"until_layer_idx": 4},
    "deep_taylor.bounded": {"low": -5, "high": 5},
}
SUPPORTED = [name for name in BUILDERS if name not in ("squeeze_excite", "shared")]


def live(build, *arguments):
    keras.utils.set_random_seed(0)
    return make_live(build(*arguments))


def relevances(engine, x, y):
    """Of the output channels of every layer with weights, and of the input."""
    return {**engine._channel_sums(x, y)[0], "the input": engine.input_relevance(x, y)}


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


# --- The same as iNNvestigate ---


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


@examples(12, phases=[Phase.generate])
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


# --- The same as the formulas ---


def by_hand(model, x, y, chosen):
    """The relevance of each linear layer's channels for each class, and of the input."""
    graph = strip_softmax(canonize(read_model(model)))
    values = lrp_by_hand.relevances(graph, x, y, chosen)
    sums = {}
    for node in graph.nodes:
        if node.layer.weights:
            value = values[node.name]
            value = value.sum(tuple(range(1, value.ndim - 1)))
            by_class = np.stack([value[y == c].sum(0) for c in range(CLASSES)])
            name = node.layer.name
            sums[name] = sums[name] + by_class if name in sums else by_class
    return {**sums, "the input": values[graph.nodes[0].name]}


def assert_equals_by_hand(model, analyzer, rule, options=None):
    x = images(model, 6)
    expected = by_hand(model, x, Y, dict.fromkeys(lrp_by_hand.LINEAR, rule))
    with NativeEngine(read_model(model), analyzer, options) as engine:
        found = relevances(engine, x, Y)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert difference(found[name], values) <= EXACT, name


@pytest.mark.parametrize("name", ["vgg", "resnet_v2", "mobilenet"])
def test_gamma_equals_the_formula(name):
    model = live(BUILDERS[name])
    assert_equals_by_hand(model, "lrp.gamma", ("gamma", 0.25))
    assert_equals_by_hand(model, "lrp.gamma", ("gamma", 3.0), {"gamma": 3})


def called_twice():
    """One convolution behind itself, and one tensor read by several layers."""
    inputs = layers.Input((9, 9, 2))
    again = layers.Conv2D(5, 3, padding="same", activation="relu", name="again")
    x = layers.Conv2D(5, 3, name="before")(inputs)
    y = again(again(x))
    x = layers.Add()([x, y, y, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.Concatenate()([x, y, x])
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("build", [called_twice, BUILDERS["shared"]])
def test_shared_layers_equal_the_formulas(build):
    model = live(build)
    assert_equals_by_hand(model, "lrp.z", ("z",))
    assert_equals_by_hand(model, "lrp.alpha_2_beta_1", ("alpha_beta", 2, 1))


def _over_time(inputs):
    x = layers.Conv1D(6, 3, padding="same", activation="relu", name="conv")(inputs)
    x = layers.BatchNormalization()(layers.SeparableConv1D(5, 3, activation="relu")(x))
    x = layers.Conv1DTranspose(4, 3, strides=2, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(5, activation="relu", name="by_step")(x)
    return layers.Flatten()(x)


def _over_space(inputs):
    x = layers.BatchNormalization()(layers.Conv2DTranspose(6, 3, activation="relu")(inputs))
    x = layers.Conv2D(8, 3, groups=2, activation="relu")(x)
    return layers.Flatten()(layers.Conv2D(8, 1, groups=4)(x))


def _over_volume(inputs):
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv3D(5, 2)(inputs)))
    x = layers.BatchNormalization()(layers.MaxPooling3D()(x))
    return layers.Flatten()(layers.Conv3DTranspose(3, 2, activation="relu")(x))


RANKS = [((12, 3), _over_time), ((6, 7, 2), _over_space), ((5, 6, 5, 2), _over_volume)]


@pytest.mark.parametrize(("shape", "build"), RANKS, ids=["1D", "2D", "3D"])
def test_convolutions_of_every_kind_equal_the_formulas(shape, build):
    inputs = keras.Input(shape)
    keras.utils.set_random_seed(0)
    model = make_live(keras.Model(inputs, layers.Dense(CLASSES)(build(inputs))))
    assert_equals_by_hand(model, "lrp.z", ("z",))
    assert_equals_by_hand(model, "lrp.alpha_1_beta_0", ("alpha_beta", 1, 0))


def gated(gate):
    """Squeeze and excite; `gate` is computed from the pooled channels, or None: as a layer."""
    inputs = layers.Input((8, 8, 3))
    x = signal = layers.Conv2D(6, 3, activation="relu", name="signal")(inputs)
    if gate is None:
        x = layers.DepthwiseConv2D(1, use_bias=False, name="gate")(signal)
    else:
        weights = layers.GlobalAveragePooling2D(keepdims=True)(signal)
        x = gate(layers.Conv2D(6, 1, name="gate")(weights), signal)
    return keras.Model(inputs, layers.Dense(CLASSES, name="classes")(layers.Flatten()(x)))


GATES = {
    "sigmoid": lambda gate, x: layers.Multiply()([x, keras.ops.sigmoid(gate)]),
    "hard": lambda gate, x: (layers.ReLU(6.0)(gate + 3.0) * (1 / 6)) * x,
    "several": lambda gate, x: layers.Multiply()([keras.ops.tanh(gate), x, keras.ops.exp(gate)]),
}


@pytest.mark.parametrize("kind", GATES)
def test_relevance_of_a_product_goes_to_the_signal(kind):
    """As if the gate were a constant: the factors of a depthwise convolution."""
    model = live(gated, GATES[kind])
    x, y = images(model, 1), Y[:1]
    signal = model.get_layer("signal").output
    factors = keras.Model(model.inputs, [signal, model.layers[-2].input])
    before, after = (np.asarray(value) for value in factors(x))
    position = before[0].reshape(-1, 6).argmax(0)
    factor = after.reshape(-1, 6)[position, range(6)] / before.reshape(-1, 6)[position, range(6)]
    constant = gated(None)
    for name in ("signal", "classes"):
        constant.get_layer(name).set_weights(model.get_layer(name).get_weights())
    constant.get_layer("gate").set_weights([factor.reshape(1, 1, 6, 1)])
    np.testing.assert_allclose(constant(x), model(x), rtol=1e-4)
    expected = by_hand(constant, x, y, dict.fromkeys(lrp_by_hand.LINEAR, ("z",)))
    with NativeEngine(read_model(model), "lrp.z") as engine:
        found = relevances(engine, x, y)
    assert (found["gate"] == 0).all()
    for name in ("signal", "classes", "the input"):
        assert difference(found[name], expected[name]) <= EXACT, name


def test_of_two_like_factors_the_source_is_the_signal():
    inputs = layers.Input((6,))
    hidden = layers.Dense(5, name="hidden")(inputs)
    x = hidden * keras.ops.tanh(keras.ops.softplus(hidden))  # mish, written out
    model = live(lambda: keras.Model(inputs, layers.Dense(CLASSES)(x)))
    x = images(model, 6)
    with NativeEngine(read_model(model), "lrp.z") as engine:
        found = relevances(engine, x, Y)["hidden"]
    values = model.layers[-1].input
    values = np.asarray(keras.Model(model.inputs, values)(x))
    products = values * model.layers[-1].kernel.numpy()[:, Y].T
    expected = [products[c == Y].sum(0) for c in range(CLASSES)]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("axis", [-1, (1, 2)], ids=["channels", "all"])
def test_layer_norm_is_linear_with_constant_deviation(axis):
    """R_i = x_i * sum_j gamma_j (d_ij - 1/n) / deviation * R_j / y_j."""
    inputs = layers.Input((3, 4))
    x = layers.Dense(5, name="hidden")(inputs)
    y = layers.LayerNormalization(axis, name="norm")(x)
    model = keras.Model(inputs, layers.Dense(CLASSES, name="classes")(layers.Flatten()(y)))
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0.5, 1, weight.shape))
    data = images(model, 1)
    x, y = (np.float64(value)[0] for value in keras.Model(inputs, [x, y])(data))
    gamma = np.broadcast_to(model.get_layer("norm").gamma.numpy(), x.shape)
    of_norm = y * model.get_layer("classes").kernel.numpy()[:, 2].reshape(y.shape)
    share, expected = of_norm / y, np.zeros_like(x)
    together = [np.arange(15)] if axis != -1 else np.arange(15).reshape(3, 5)
    for part in together:
        scale = gamma.flat[part] / np.sqrt(x.flat[part].var() + 1e-3)
        centred = np.eye(len(part)) - 1 / len(part)
        expected.flat[part] = x.flat[part] * (centred.T @ (scale * share.flat[part]))
    with NativeEngine(read_model(model), "lrp.z") as engine:
        found, _ = engine._channel_sums(data, np.array([2]))
    np.testing.assert_allclose(found["norm"][2], of_norm.sum(0), rtol=1e-4)
    np.testing.assert_allclose(found["hidden"][2], expected.sum(0), rtol=1e-3, atol=1e-5)


# --- Conservation ---

RULES_THAT_CONSERVE = {
    **{"lrp.z": {}, "lrp.epsilon": {"epsilon": 1e-9}, "lrp.gamma": {}},
    **{name: {} for name in ANALYZERS if name.startswith(("lrp.alpha_1", "lrp.alpha_2"))},
    **{"lrp.alpha_beta": {"alpha": 3}, "lrp.z_plus": {}, "lrp.z_plus_fast": {}},
    **{name: {"epsilon": 1e-9} for name in ANALYZERS if name.endswith(("preset_a", "preset_b"))},
}
# They give relevance to zeros, which an average of zeros has nobody to pass on to.
WITHOUT_AVERAGES = {
    **{"lrp.w_square": {}, "lrp.flat": {}},
    **{name: {"epsilon": 1e-9} for name in ANALYZERS if name.endswith("_flat")},
    "lrp.sequential_preset_b_flat_until_idx": {"epsilon": 1e-9, "until_layer_idx": 3},
}


@pytest.mark.parametrize("build", [chain, residual, concatenated, depthwise])
def test_relevance_is_conserved(build):
    keras.utils.set_random_seed(1)
    model, cuts = build()
    without_shifts(model)
    x, y = images(model, CLASSES), np.arange(CLASSES)  # one sample of each class
    scores = np.asarray(model(x))[y, y]
    for analyzer, options in {
        **RULES_THAT_CONSERVE,
        **(WITHOUT_AVERAGES if build is chain else {}),
    }.items():
        with NativeEngine(read_model(model), analyzer, options) as engine:
            found = relevances(engine, x, y)
        for cut in [*cuts, ["classes"]]:
            total = sum(found[layer].sum(1) for layer in cut)
            np.testing.assert_allclose(total, scores, rtol=EXACT, err_msg=f"{analyzer} {cut}")
        total = found["the input"].sum((1, 2, 3))
        np.testing.assert_allclose(total, scores, rtol=EXACT, err_msg=analyzer)


# --- Options ---

UNSUITABLE = [
    ("lrp.y", {}, r"'lrp.y'.*lrp.z, lrp.epsilon.*lrp.gamma"),
    ("lrp.z", {"epsilon": 1}, "no option epsilon"),
    ("lrp.epsilon", {"epsilon": 0}, "positive, not 0"),
    ("lrp.gamma", {"gamma": -1}, "positive, not -1"),
    ("lrp.sequential_preset_a", {"epsilon": -0.1}, "positive"),
    ("lrp.alpha_beta", {}, "needs alpha or beta"),
    ("lrp.alpha_beta", {"alpha": 2, "beta": 2}, "alpha=2, beta=2"),
    ("lrp.alpha_beta", {"alpha": 0.5}, "alpha=0.5, beta=-0.5"),
    ("lrp.z", {"input_layer_rule": "Zplus"}, "'Zplus'.*ZPlus"),
    ("lrp.z", {"input_layer_rule": (1, 2, 3)}, "a name or a pair"),
    ("lrp.z", {"input_layer_rule": 1.0}, "a name or a pair"),
    ("lrp.z", {"input_layer_rule": (1, -1)}, "low=1, high=-1"),
    ("deep_taylor.bounded", {"low": 0}, "low and high"),
    ("deep_taylor.bounded", {"low": 1, "high": 1}, "less than"),
    (Composite(((anything, rules.z),)), {"epsilon": 1}, "no analyzer_options"),
    (Composite(((is_dense, rules.z),)), {}, "no rule for layer 'first'.*anything"),
]


@pytest.mark.parametrize(("analyzer", "options", "message"), UNSUITABLE)
def test_unsuitable_options_are_told(analyzer, options, message):
    model = BUILDERS["sequential"]()
    with pytest.raises(ValueError, match=message):
        klp.input_relevance(
            model, images(model), analyzer=analyzer, analyzer_options=options, engine="native"
        )


def test_alpha_and_beta_may_be_rounded():
    model = BUILDERS["sequential"]()
    x = images(model)
    assert 2.3 - 1.3 != 1
    options = {"alpha": 2.3, "beta": 1.3}
    klp.input_relevance(
        model, x, analyzer="lrp.alpha_beta", analyzer_options=options, engine="native"
    )


@pytest.mark.parametrize(
    ("analyzer", "change"),
    [
        ("lrp.epsilon", {"epsilon": 1.0}),
        ("lrp.epsilon", {"bias": False}),
        ("lrp.alpha_beta", {"bias": False}),
        ("lrp.alpha_beta", {"alpha": 1.5}),
        ("lrp.gamma", {"gamma": 2.0}),
        ("lrp.z", {"input_layer_rule": "Flat"}),
        ("lrp.z", {"input_layer_rule": (-4.0, 4.0)}),
        ("lrp.sequential_preset_b", {"epsilon": 10.0}),
        ("lrp.sequential_preset_b_flat_until_idx", {"until_layer_idx": 7}),
        ("deep_taylor.bounded", {"high": 9}),
    ],
)
def test_options_matter(analyzer, change):
    model = live(BUILDERS["vgg"])
    x, options = images(model), NEEDED.get(analyzer, {})
    if "alpha" in change:
        options = {}
        change, options = change, {"alpha": 2}
    plain, changed = (
        klp.input_relevance(model, x, analyzer=analyzer, analyzer_options=used, engine="native")
        for used in (options, {**options, **change})
    )
    assert difference(changed, plain) > 1e-2


# --- Composites of one's own ---


def test_composite_of_ones_own():
    model = live(BUILDERS["vgg"])
    x = images(model, 6)
    preset = Composite(
        (
            (reads_input, rules.flat),
            (is_dense, rules.epsilon(0.1)),
            (anything, rules.alpha_beta(2, 1)),
        )
    )
    mine, named = (
        klp.filter_relevance(model, x, Y, analyzer=analyzer, engine="native")
        for analyzer in (preset, "lrp.sequential_preset_b_flat")
    )
    for layer in named:
        assert (mine[layer] == named[layer]).all()
    heat = klp.input_relevance(model, x, analyzer=preset)  # auto: native
    expected = klp.input_relevance(
        model, x, analyzer="lrp.sequential_preset_b_flat", engine="native"
    )
    assert (heat == expected).all()
    with pytest.raises(ValueError, match="'innvestigate' takes an analyzer's name"):
        klp.filter_relevance(model, x, Y, analyzer=preset, engine="innvestigate")


def test_rule_of_ones_own():
    """A rule is a function of what it sees: here relevance in equal shares, written by hand."""

    def equal(step):
        ones, weights = tf.ones_like(step.x), tf.ones_like(step.kernel)
        total = step.linear(ones, weights)
        return lambda passed: step.transposed(weights, passed / total)

    model = live(BUILDERS["vgg"])
    x = images(model)
    mine, flat = (
        klp.input_relevance(model, x, analyzer=analyzer, engine="native")
        for analyzer in (Composite(((anything, equal),)), "lrp.flat")
    )
    assert difference(mine, flat) <= 1e-5


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


def mixed_sigmoids():
    """Channels that do not vanish, before layers of every kind that reads them."""
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="sigmoid")(inputs)
    x = layers.Conv2D(6, 3, groups=2, activation="sigmoid")(x)
    x = layers.Conv2DTranspose(5, 3, activation="sigmoid")(x)
    x = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization(scale=False)(x))
    x = layers.Dense(4, activation="softplus")(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


def over_time_and_volume():
    """Batch norms that no linear layer precedes, in one and three dimensions."""
    inputs = layers.Input((6, 6, 2))
    x = layers.Reshape((36, 2))(inputs)
    x = layers.Conv1D(6, 3, activation="sigmoid", padding="same")(x)
    x = layers.BatchNormalization()(layers.MaxPooling1D(2)(x))
    x = layers.SeparableConv1D(5, 3, activation="sigmoid", padding="same")(x)
    x = layers.Reshape((3, 3, 2, -1))(layers.Conv1D(4, 1)(x))
    x = layers.Conv3D(5, 2, padding="same")(x)
    x = layers.BatchNormalization()(layers.MaxPooling3D(2, padding="same")(x))
    x = layers.Conv3DTranspose(3, 2, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


MASKED = {
    **{name: BUILDERS[name] for name in ("resnet_v2", "mobilenet", "separable", "squeeze_excite")},
    **{"shared": BUILDERS["shared"], "sigmoids": sigmoids, "mixed": mixed_sigmoids},
    "ranks": over_time_and_volume,
}


@pytest.mark.parametrize("name", MASKED)
def test_mask_on_a_live_engine_equals_a_fresh_engine(name):
    model = live(MASKED[name])
    x = images(model, 6)
    graph, structure = analysed(model)
    copy, mask = masked_copy(model)
    with NativeEngine(graph, DEFAULT) as engine:
        before = engine.filter_relevance(x, Y)
        for share in (0.6, 0.3):  # more, then fewer: some channels come back
            removed = random_removal(structure, share)
            engine.set_mask(structure, removed)
            masked = engine.filter_relevance(x, Y)
        mask.set(removed)
        with NativeEngine(read_model(copy.model), DEFAULT) as fresh:
            expected = fresh.filter_relevance(x, Y)
        assert masked.keys() == expected.keys() == before.keys()
        for layer in masked:
            scale = np.abs(expected[layer]).max() or 1
            np.testing.assert_allclose(masked[layer], expected[layer], atol=1e-5 * scale, rtol=0)
            gone = structure.removed_filters(removed).get(layer, [])
            assert (masked[layer][:, gone] == 0).all()
        first = next(iter(masked))
        assert difference(masked[first], before[first]) > 1e-2, "the mask must matter"
        engine.set_mask(structure, np.zeros_like(removed))
        cleared = engine.filter_relevance(x, Y)
    for layer in before:
        assert cleared[layer].tobytes() == before[layer].tobytes()


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


@pytest.mark.parametrize("options", [{"criterion": "lrp.gamma"}, {}], ids=str)
def test_auto_takes_native_for_an_analyzer_of_its_own(caplog, options):
    model = live(BUILDERS["vgg"])
    engine, log = settings_and_log(caplog, model, **options)
    assert engine == "native"
    assert "LRP engine: native (iNNvestigate does not have this analyzer)" in log
    with pytest.raises(ValueError, match=r"'lrp.gamma' is for the engine 'native'"):
        klp.input_relevance(model, images(model), analyzer="lrp.gamma", engine="innvestigate")


@pytest.mark.parametrize("name", ["vgg", "mobilenet_v2", "shared"])
def test_prune_with_native(caplog, name):
    engine, log = settings_and_log(caplog, live(BUILDERS[name]), engine="native")
    assert engine == "native" and "LRP engine: native (as asked for)" in log


def test_sigmoid_unit_is_two_classes():
    keras.utils.set_random_seed(3)
    model = without_shifts(BUILDERS["sequential"]("sigmoid"))
    x, y = images(model, 6), np.array([0, 1, 0, 1, 1, 0])
    score = np.asarray(model(x), np.float64)[:, 0]
    logit = np.log(score / (1 - score))
    relevance = klp.filter_relevance(model, x, y, analyzer="lrp.z", engine="native")
    expected = [-logit[y == 0].mean(), logit[y == 1].mean()]
    assert relevance["classes"].shape == (2, 1) and relevance["first"].shape == (2, 6)
    for values in relevance.values():
        np.testing.assert_allclose(values.sum(1), expected, rtol=5e-3)


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
    "softmax_inside": lambda: with_layer(layers.Activation("softmax", name="softmax_inside")),
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
    "2 inputs": two_inputs,
    "2 outputs": two_outputs,
}


@pytest.mark.parametrize("named", REFUSED)
def test_layers_without_a_way_back_are_refused(named):
    with pytest.raises(UnsupportedModelError, match=named):
        NativeEngine(read_model(REFUSED[named]()), "lrp.z")


@pytest.mark.parametrize("analyzer", ["deep_taylor", "deep_taylor.bounded"])
def test_deep_taylor_is_for_relu_networks(analyzer):
    with pytest.raises(UnsupportedModelError, match=r"relu6.*for ReLU networks"):
        NativeEngine(read_model(BUILDERS["mobilenet"]()), analyzer, NEEDED.get(analyzer))


def test_analyzers_are_those_of_the_table():
    from keras_lrp_prune.relevance.native.composites import _COMPOSITES

    assert set(_COMPOSITES) == set(NATIVE_ANALYZERS)
    for name, make in _COMPOSITES.items():
        taken = set(inspect.signature(make).parameters) - {"rule", "convolution", "first"}
        assert taken | {"input_layer_rule"} == NATIVE_ANALYZERS[name] | {"input_layer_rule"}
