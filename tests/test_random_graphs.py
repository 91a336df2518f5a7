import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers
from models import (
    BUILDERS,
    analysed,
    difference,
    images,
    make_live,
    masked_copy,
    pruned,
    random_removal,
    same_weights,
)


def check_cover(model):
    """Every unprotected filter is in exactly one place of one group."""
    _, structure = analysed(model)
    found = {name: [] for name in structure.filter_units}
    for group in structure.groups:
        for name, filters in group.filters.items():
            assert filters.shape[0] == group.size
            found[name] += filters.ravel().tolist()
    for name, units in structure.filter_units.items():
        assert sorted(found[name]) == np.flatnonzero(units >= 0).tolist()
    together = np.concatenate([group.units for group in structure.groups] or [[]])
    assert sorted(together) == list(range(structure.n_units))


@pytest.mark.parametrize("name", BUILDERS)
def test_groups_cover_every_filter_once(name):
    check_cover(BUILDERS[name]())


# One step of a random graph: what it makes of the tensors so far (all of one spatial size).
UNARY = {
    "conv": lambda x, n: layers.Conv2D(n, 3, padding="same")(x),
    "conv1x1": lambda x, n: layers.Conv2D(n, 1, activation="tanh", use_bias=n % 2 == 0)(x),
    "grouped": lambda x, n: layers.Conv2D(n * x.shape[-1], 1, groups=x.shape[-1])(x),
    "separable": lambda x, n: layers.SeparableConv2D(n, 3, padding="same")(x),
    "depthwise": lambda x, n: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1 + n % 2)(
        x
    ),
    "batch norm": lambda x, n: layers.BatchNormalization(scale=n % 2 == 0, center=n % 3 > 0)(x),
    "activation": lambda x, n: layers.Activation(
        ["relu", "sigmoid", "gelu", "softmax", "elu", "softplus"][n]
    )(x),
    "pool": lambda x, n: layers.MaxPooling2D(2, 1, padding="same")(x),
    "average": lambda x, n: layers.AveragePooling2D(3, 1, padding="same")(x),
    "shift": lambda x, n: x * n + (n % 2),
}
BINARY = {
    "add": layers.Add,
    "multiply": layers.Multiply,
    "maximum": layers.Maximum,
    "concat": layers.Concatenate,
}
STEPS = st.tuples(
    st.sampled_from([*UNARY, *BINARY, "conv", "add", "concat"]),
    st.integers(0, 5),
    st.integers(0, 7),
    st.integers(0, 7),
)


def random_model(size, steps, flatten):
    inputs = layers.Input((size, size, 3))
    tensors = [layers.Conv2D(4, 3, padding="same")(inputs)]
    for kind, number, first, second in steps:
        x, y = tensors[-1 - first % len(tensors)], tensors[-1 - second % len(tensors)]
        if kind in UNARY:
            width = {"conv": number + 1, "conv1x1": 4, "separable": number + 1, "grouped": 2}
            tensors.append(UNARY[kind](x, width.get(kind, number)))
        elif kind == "concat" or 1 in (x.shape[-1], y.shape[-1]) or x.shape == y.shape:
            tensors.append(BINARY[kind]()([x, y]))
    top = layers.Flatten() if flatten else layers.GlobalAveragePooling2D()
    return keras.Model(inputs, layers.Dense(3)(top(tensors[-1])))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    size=st.integers(4, 8),
    steps=st.lists(STEPS, min_size=1, max_size=8),
    flatten=st.booleans(),
    share=st.sampled_from([0.3, 0.5, 0.7]),
)
def test_random_graphs(float64, size, steps, flatten, share):
    model = make_live(random_model(size, steps, flatten))
    check_cover(model)
    x = images(model)
    _, structure = analysed(model)
    removed = random_removal(structure, share)
    copy, mask = masked_copy(model)
    before, plain = copy.model.get_weights(), copy.model(x).numpy()
    assert difference(plain, model(x)) <= 1e-12
    mask.set(removed)
    masked = copy.model(x)
    assert np.isfinite(masked).all()
    assert difference(pruned(model, removed)(x), masked) <= 1e-9
    mask.set(~removed & (random_removal(structure, share, seed=1)))
    mask.clear()
    assert same_weights(before, copy.model.get_weights())
    assert (copy.model(x).numpy() == plain).all()
