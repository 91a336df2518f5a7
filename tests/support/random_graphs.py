"""A hypothesis strategy for random functional models, and the steps that they are made of.

A model is a program over a growing list of tensors: each step picks one or two of them and adds
another. Programs are plain data, so that a failing one shrinks and prints well.
"""

import keras
from hypothesis import strategies as st
from keras import layers, ops

_ALL = (
    *("linear", "relu", "sigmoid", "tanh", "gelu", "elu", "softplus", "silu", "softmax"),
    *("exponential", "hard_sigmoid", "leaky_relu", "log_sigmoid", "hard_silu", "softsign"),
    *("selu", "mish", "relu6"),
)
ACTIVATIONS = tuple(name for name in _ALL if hasattr(keras.activations, name))
SIZE = 4


def _conv(x, n, size=3, **options):
    return layers.Conv2D(n % 5 + 1, size, padding="same", **options)(x)


def _activation(n):
    return ACTIVATIONS[n % len(ACTIVATIONS)]


def _divisor(x, n):
    """A divisor of the number of channels."""
    divisors = [d for d in range(1, x.shape[-1] + 1) if x.shape[-1] % d == 0]
    return divisors[n % len(divisors)]


def _squeeze_excite(x, n):
    gate = layers.GlobalAveragePooling2D(keepdims=n % 2 == 0)(x)
    gate = layers.Reshape((1, 1, x.shape[-1]))(gate)
    gate = layers.Dense(n % 4 + 1, activation="relu")(gate)
    gate = layers.Conv2D(x.shape[-1], 1, activation=_activation(n))(gate)
    return layers.Multiply()([x, gate])


def _residual(x, n):
    y = layers.BatchNormalization()(_conv(x, n, activation=_activation(n)))
    return layers.Add()([x, layers.Conv2D(x.shape[-1], 1)(y)])


def _shuffle(x, n):
    groups = _divisor(x, n)
    y = layers.Reshape((SIZE, SIZE, groups, x.shape[-1] // groups))(x)
    return layers.Reshape(x.shape[1:])(layers.Permute((1, 2, 4, 3))(y))


def _reshape_chain(x, n):
    channels = x.shape[-1]
    x = layers.Reshape((SIZE * SIZE, channels))(x)
    if n % 2:
        x = layers.Permute((2, 1))(x)
        x = ops.transpose(layers.Reshape((channels, SIZE, SIZE))(x), (0, 2, 3, 1))
    x = ops.reshape(x, (-1, SIZE, SIZE * channels))
    return layers.Reshape((SIZE, -1, channels) if n % 3 else (SIZE, SIZE, channels))(x)


def _over_rows(x, n):
    """A layer for sequences over the rows of the image."""
    units = n % 3 + 1
    recurrent = (layers.SimpleRNN, layers.GRU, layers.LSTM)[n % 3]
    activation = ("tanh", "sigmoid", "relu")[n // 3 % 3]
    layer = recurrent(units * SIZE, activation=activation, return_sequences=True)
    if n % 2:
        layer = layers.Bidirectional(layer, merge_mode=("concat", "sum", "mul")[n // 2 % 3])
    y = layer(layers.Reshape((SIZE, SIZE * x.shape[-1]))(x))
    return layers.Reshape((SIZE, SIZE, -1))(y)


def _nested(x, n):
    """A model in a model (in a model); called once or twice."""
    inside = layers.Input(x.shape[1:])
    y = layers.BatchNormalization()(_conv(inside, n, activation=_activation(n)))
    inner = keras.Model(inside, layers.Conv2D(x.shape[-1], 1)(y))
    if n % 3 == 0:
        inner = keras.Sequential([layers.Input(x.shape[1:]), inner, layers.ReLU()])
    y = inner(x, training=False)
    return inner(y) if n % 2 else y


def _shared(x, n):
    layer = layers.Conv2D(x.shape[-1], 3, padding="same", activation=_activation(n))
    return layer(x) + layer(layer(x)) * (n % 3)


def _gated(x, n):
    """A gated linear unit: half of the channels gates the other."""
    value, gate = ops.split(layers.Conv2D(2 * (n % 3 + 1), 1)(x), 2, axis=-1)
    return value * ops.sigmoid(gate)


def _sliced(x, n):
    start = n % x.shape[-1]
    return (x[..., start:], x[:, :, :, : start + 1], x[..., -start - 1 :])[n % 3]


def _group_norm(x, n):
    return layers.GroupNormalization(_divisor(x, n), scale=n % 3 > 0, center=n % 2 > 0)(x)


def _batch_norm(x, n):
    return layers.BatchNormalization(scale=n % 2 == 0, center=n % 3 > 0)(x)


UNARY = {
    "conv": lambda x, n: _conv(x, n, activation=_activation(n), use_bias=n % 4 > 0),
    "conv 1x1": lambda x, n: _conv(x, n, 1, use_bias=n % 2 > 0),
    "strided": lambda x, n: layers.UpSampling2D(2)(_conv(x, n, strides=2)),
    "transposed": lambda x, n: layers.Conv2DTranspose(
        n % 4 + 1, 3, padding="same", activation=_activation(n)
    )(x),
    "grouped": lambda x, n: layers.Conv2D(
        (n % 3 + 1) * _divisor(x, n), 3, padding="same", groups=_divisor(x, n)
    )(x),
    "separable": lambda x, n: layers.SeparableConv2D(
        n % 4 + 1, 3, padding="same", depth_multiplier=n % 2 + 1, activation=_activation(n)
    )(x),
    "depthwise": lambda x, n: layers.DepthwiseConv2D(
        3, padding="same", depth_multiplier=n % 2 + 1, activation=_activation(n)
    )(x),
    "dense": lambda x, n: layers.Dense(n % 4 + 1, activation=_activation(n))(x),
    "batch norm": _batch_norm,
    "group norm": _group_norm,
    "layer norm": lambda x, n: layers.LayerNormalization(axis=-1 if n % 2 else (1, 2))(x),
    "activation": lambda x, n: layers.Activation(_activation(n))(x),
    "relu": lambda x, n: layers.ReLU(max_value=(None, 6.0)[n % 2], threshold=n % 3 / 10)(x),
    "prelu": lambda x, n: layers.PReLU("normal", shared_axes=([1, 2], [3], None)[n % 3])(x),
    "pool": lambda x, n: layers.MaxPooling2D(2, 1, padding="same")(x),
    "average": lambda x, n: layers.AveragePooling2D(3, 1, padding="same")(x),
    "padding": lambda x, n: layers.Cropping2D(((1, 1), (0, 2)))(
        layers.ZeroPadding2D(((2, 0), (1, 1)))(x)
    ),
    "arithmetic": lambda x, n: (x * n + n % 2, 1 - x, x / 2, ops.maximum(x, n / 9))[n % 4],
    "operations": lambda x, n: (ops.relu, ops.sigmoid, ops.negative, ops.square)[n % 4](x),
    "centred": lambda x, n: x - ops.mean(x, axis=(1, 2), keepdims=True),
    "attention": lambda x, n: x * layers.Conv2D(1, 1, activation="sigmoid")(x),
    "squeeze excite": _squeeze_excite,
    "residual": _residual,
    "shuffle": _shuffle,
    "reshape chain": _reshape_chain,
    "over rows": _over_rows,
    "nested": _nested,
    "shared": _shared,
    "gated": _gated,
    "sliced": _sliced,
    "dropout": lambda x, n: layers.Dropout(0.5)(x),
}
BINARY = {
    "add": lambda x, y: layers.Add()([x, y]),
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: layers.Multiply()([x, y]),
    "maximum": lambda x, y: layers.Maximum()([x, y]),
    "average of two": lambda x, y: layers.Average()([x, y]),
    "concat": lambda x, y: layers.Concatenate()([x, y]),
    "one behind the other": lambda x, y: layers.Concatenate(axis=1)([x, y])[:, ::2],
}
TOPS = {
    "flatten": lambda x, n: layers.Flatten()(x),
    "pooled": lambda x, n: layers.GlobalAveragePooling2D()(x),
    "hidden": lambda x, n: layers.Dense(n + 1, activation=_activation(n))(layers.Flatten()(x)),
    "recurrent": lambda x, n: layers.LSTM(n + 1)(layers.Reshape((SIZE, -1))(x)),
    "unchanged": lambda x, n: x,
}

STEPS = st.tuples(
    st.sampled_from([*UNARY, *BINARY, *("conv", "add", "concat") * 2]),
    st.integers(0, 17),
    st.integers(0, 11),
    st.integers(0, 11),
)
PROGRAMS = st.tuples(
    st.integers(1, 5),
    st.lists(STEPS, min_size=1, max_size=12),
    st.sampled_from([*TOPS]),
    st.integers(0, 5),
)


def model_of(program):
    """The model that a program describes."""
    width, steps, top, number = program
    inputs = layers.Input((SIZE, SIZE, 2))
    tensors = [layers.Conv2D(width + 1, 3, padding="same")(inputs)]
    for kind, n, first, second in steps:
        x, y = tensors[-1 - first % len(tensors)], tensors[-1 - second % len(tensors)]
        if kind in UNARY:
            tensors.append(UNARY[kind](x, n))
        elif kind == "concat" or x.shape == y.shape or _broadcasts(kind, x, y):
            tensors.append(BINARY[kind](x, y))
    return keras.Model(inputs, layers.Dense(3)(TOPS[top](tensors[-1], number)))


def _broadcasts(kind, x, y):
    return kind != "one behind the other" and 1 in (x.shape[-1], y.shape[-1])
