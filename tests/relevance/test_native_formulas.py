"""The native engine: the formulas by hand, and conservation."""

import keras
import lrp_by_hand
import numpy as np
import pytest
from keras import layers
from lrp_checks import EXACT, Y, live, relevances
from lrp_models import chain, concatenated, depthwise, residual, without_shifts
from models import BUILDERS, CLASSES, difference, images, make_live

from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.analyzers import ANALYZERS
from keras_lrp_prune.relevance.canonical import canonize, strip_softmax
from keras_lrp_prune.relevance.native.engine import NativeEngine

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
