"""Models that people write, one per construct, and the filter layers that can be pruned in each."""

import keras
from case_kit import CASES, IMAGE, SIGNAL, case, classes, conv, conv1d
from keras import layers, ops

__all__ = ["CASES"]

# Kinds of convolution


@case("a", "b", shape=SIGNAL)
def one_dimension(x):
    x = layers.MaxPooling1D(2)(conv1d(x, 6, "a", activation="relu"))
    x = layers.UpSampling1D(2)(conv1d(layers.ZeroPadding1D(1)(x), 4, "b"))
    return classes(layers.Flatten()(layers.Cropping1D(1)(x)))


@case("a", "b", shape=(6, 6, 6, 2))
def three_dimensions(x):
    x = layers.BatchNormalization()(layers.Conv3D(6, 3, padding="same", name="a")(x))
    x = layers.Conv3DTranspose(4, 2, strides=2, name="b")(layers.Cropping3D(1)(x))
    return classes(layers.GlobalAveragePooling3D()(layers.UpSampling3D(2)(x)))


@case("a", "b", shape=SIGNAL)
def separable_and_depthwise_in_one_dimension(x):
    x = layers.SeparableConv1D(6, 3, depth_multiplier=2, activation="relu", name="a")(x)
    x = layers.DepthwiseConv1D(3, depth_multiplier=2, activation="tanh")(x)
    x = layers.SeparableConv1D(5, 3, name="b")(x)
    return classes(layers.GlobalMaxPooling1D()(x))


@case("a", "b", "up")
def transposed(x):
    x = conv(x, 6, "a", activation="relu")
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="sigmoid", name="up")(x)
    return classes(layers.Flatten()(conv(x, 5, "b")))


@case("a", "b", shape=SIGNAL)
def transposed_in_one_dimension(x):
    x = layers.Conv1DTranspose(6, 3, strides=2, name="a")(x)
    return classes(layers.Flatten()(conv1d(x, 4, "b")))


@case("a", "grouped", "b")
def grouped_wide(x):
    """Two groups of four: each loses the same positions."""
    x = conv(x, 8, "a", activation="relu")
    x = layers.BatchNormalization()(conv(x, 6, "grouped", groups=2))
    return classes(layers.GlobalAveragePooling2D()(conv(x, 4, "b")))


@case("a", "grouped", "b")
def grouped_narrow(x):
    """Four groups of two: whole groups go."""
    x = conv(x, 8, "a", activation="sigmoid")
    x = conv(x, 12, "grouped", groups=4, activation="sigmoid")
    return classes(layers.GlobalAveragePooling2D()(conv(x, 4, "b")))


@case("a", "depthwise", "b")
def depthwise_as_grouped(x):
    x = conv(x, 8, "a", activation="relu")
    x = conv(x, 16, "depthwise", groups=8)
    return classes(layers.GlobalAveragePooling2D()(conv(x, 4, "b")))


# Channels first


@case("a", "grouped", "separable", "up", "b", "hidden", shape=(3, 8, 8))
def channels_first(x):
    first = {"data_format": "channels_first"}
    x = layers.BatchNormalization(axis=1)(
        conv(layers.ZeroPadding2D(1, **first)(x), 6, "a", **first)
    )
    x = layers.DepthwiseConv2D(3, **first)(layers.PReLU("normal", shared_axes=[2, 3])(x))
    x = conv(x, 8, "grouped", groups=2, activation="sigmoid", **first)
    x = layers.SeparableConv2D(6, 3, padding="same", name="separable", **first)(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, **first)(x)
    x = x * conv(gate, 6, activation="sigmoid", name="b", **first)
    x = layers.Conv2DTranspose(4, 2, strides=2, name="up", **first)(x)
    x = layers.Concatenate(axis=1)([x, layers.UpSampling2D(**first)(x[:, :, :8, :8])])
    x = layers.GroupNormalization(4, axis=1)(x)
    x = layers.Dense(5, activation="relu", name="hidden")(layers.Flatten(**first)(x))
    return classes(x)


# Normalisation


@case("a", "b", "c")
def batch_norm_without_scale_and_center(x):
    x = layers.BatchNormalization(scale=False)(conv(x, 6, "a"))
    x = layers.BatchNormalization(center=False)(conv(layers.ReLU()(x), 5, "b"))
    x = layers.BatchNormalization(scale=False, center=False)(conv(x, 4, "c", activation="sigmoid"))
    return classes(layers.Flatten()(x))


@case("a", "b", "c")
def group_norm(x):
    x = layers.GroupNormalization(groups=4)(conv(x, 12, "a"))
    x = layers.GroupNormalization(groups=-1)(conv(layers.ReLU()(x), 6, "b"))
    x = layers.GroupNormalization(groups=2, scale=False)(conv(x, 4, "c", activation="softplus"))
    return classes(layers.GlobalMaxPooling2D()(x))


@case("inner", "after")
def layer_norm(x):
    x = layers.LayerNormalization()(conv(x, 6, "normalised"))
    x = layers.Dense(6, name="normalised_too")(layers.Dense(12, "gelu", name="inner")(x))
    x = layers.UnitNormalization()(x)
    return classes(layers.GlobalAveragePooling2D()(conv(x, 4, "after")))


@case("a", "b")
def norms_of_other_axes(x):
    x = layers.LayerNormalization(axis=(1, 2))(conv(x, 6, "a"))
    x = layers.BatchNormalization(axis=2)(conv(x, 5, "b"))
    return classes(layers.Flatten()(x))


# Activations


@case("a", "b", "c")
def prelu(x):
    x = layers.PReLU(alpha_initializer="random_normal", shared_axes=[1, 2])(conv(x, 6, "a"))
    x = layers.PReLU(alpha_initializer="random_normal")(conv(x, 5, "b"))
    x = layers.PReLU(alpha_initializer="random_normal", shared_axes=[3])(conv(x, 4, "c"))
    return classes(layers.Flatten()(x))


@case("a", "b", "c", "d")
def sigmoid_everywhere(x):
    """As in the first convolutional networks: no masked channel ever becomes zero."""
    x = layers.AveragePooling2D(2)(conv(x, 6, "a", activation="sigmoid"))
    x = layers.AveragePooling2D(2)(conv(x, 5, "b", activation="sigmoid"))
    x = layers.Dense(7, activation="sigmoid", name="c")(layers.Flatten()(x))
    return classes(layers.Dense(6, activation="softplus", name="d")(x))


@case("a", "b")
def constants_through_separable_and_padding(x):
    x = layers.ZeroPadding2D(1)(conv(x, 6, "a", activation="exponential"))
    x = layers.SeparableConv2D(5, 3, padding="same", activation="sigmoid", name="b")(x)
    return classes(layers.Flatten()(x))


@case("a")
def softmax_over_space(x):
    x = layers.Softmax(axis=1)(conv(x, 6, "a"))
    return classes(layers.Flatten()(layers.Softmax()(conv(x, 4, "mixed"))))


@case("a", "gate")
def spatial_attention(x):
    """One gate for all channels: the single channel that gates them stays."""
    x = conv(x, 6, "a", activation="relu")
    hidden = conv(x, 4, "gate", activation="relu")
    return classes(layers.Flatten()(layers.Multiply()([x, conv(hidden, 1, activation="sigmoid")])))


@case("a", "b")
def a_single_channel_is_added(x):
    x = conv(x, 6, "a") + conv(x, 1, activation="relu")
    return classes(layers.GlobalAveragePooling2D()(conv(x, 4, "b")))


# Shapes


@case("a", "b", "c")
def reshapes(x):
    x = layers.Reshape((64, 6))(conv(x, 6, "a"))
    x = layers.Permute((2, 1))(layers.Dense(5, name="b")(x))
    x = layers.Reshape((5, 8, 8))(x)
    x = layers.Permute((2, 3, 1))(layers.Permute((3, 1, 2))(layers.Permute((2, 3, 1))(x)))
    x = layers.Reshape((8, -1))(
        layers.Permute((2, 1, 3))(conv(layers.Reshape((8, 8, 5))(x), 4, "c"))
    )
    return classes(layers.Flatten()(x))


@case("a", "b")
def channel_shuffle(x):
    """As in ShuffleNet: split in groups, transposed, and put together again."""
    x = conv(x, 12, "a")
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((8, 8, 2, 6))(x))
    x = conv(layers.Reshape((8, 8, 12))(x), 6, "b", groups=2)
    return classes(layers.GlobalAveragePooling2D()(x))


@case("a", "hidden", "b")
def repeat_vector(x):
    x = layers.GlobalAveragePooling2D()(conv(x, 6, "a"))
    x = layers.RepeatVector(4)(layers.Dense(5, activation="relu", name="hidden")(x))
    return classes(layers.Flatten()(conv1d(x, 4, "b")))


@case("tokens", "channels")
def mixing_along_another_axis(x):
    """As in MLP-Mixer: what is read across its axis stays."""
    x = layers.Reshape((64, 6))(conv(x, 6, "read_across"))
    y = layers.Dense(5, activation="gelu", name="tokens")(layers.Permute((2, 1))(x))
    x = x + layers.Permute((2, 1))(layers.Dense(64)(y))
    y = layers.Dense(6)(layers.Dense(8, activation="gelu", name="channels")(x))
    return classes(layers.GlobalAveragePooling1D()(x + y))


# Recurrent layers


@case("conv", "lstm", "gru", "after", "rnn", shape=SIGNAL)
def recurrent(x):
    x = conv1d(x, 6, "conv", activation="relu")
    x = layers.LSTM(5, return_sequences=True, name="lstm")(x)
    x = layers.GRU(4, return_sequences=True, name="gru")(x)
    return classes(layers.SimpleRNN(4, name="rnn")(conv1d(x, 5, "after")))


@case("gru", "lstm", "rnn", "conv", shape=SIGNAL)
def recurrent_without_zero_states(x):
    x = conv1d(x, 4, "conv", activation="sigmoid")
    x = layers.GRU(5, activation="sigmoid", return_sequences=True, reset_after=False, name="gru")(x)
    x = layers.LSTM(4, activation="sigmoid", return_sequences=True, use_bias=False, name="lstm")(x)
    return classes(layers.SimpleRNN(6, activation="sigmoid", name="rnn")(x))


@case("conv", "both", "summed", "after", shape=SIGNAL)
def bidirectional(x):
    x = conv1d(x, 6, "conv", activation="relu")
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True), name="both")(x)
    x = layers.Bidirectional(
        layers.GRU(4, return_sequences=True, activation="sigmoid"), "sum", name="summed"
    )(x)
    return classes(layers.GlobalAveragePooling1D()(conv1d(x, 5, "after")))


@case("lstm", "top", shape=SIGNAL)
def states(x):
    out, state, carry = layers.LSTM(5, return_state=True, name="lstm")(x)
    x = layers.Concatenate()([out, state]) + layers.Concatenate()([carry, carry])
    return classes(layers.Dense(6, name="top")(x))


@case("inner", "dense", shape=(4, 8, 8, 2))
def time_distributed(x):
    x = layers.TimeDistributed(layers.Conv2D(5, 3, activation="relu"), name="inner")(x)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    x = layers.TimeDistributed(layers.Dense(6, activation="relu"), name="dense")(x)
    return classes(layers.Flatten()(x))


# Operations used as functions


@case("a", "b", "c")
def arithmetic(x):
    x = conv(x, 6, "a") * 2 + 1.5
    x = ops.relu(conv(x, 5, "b") / 3 - conv(x, 5, "c"))
    x = ops.maximum(ops.minimum(x, 6.0), 0.1)
    return classes(layers.Flatten()(-x))


@case("a", "b", "c")
def operations(x):
    x = ops.silu(ops.pad(conv(x, 6, "a"), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=2.0))
    x = ops.sigmoid(conv(x, 5, "b")) + ops.exp(conv(x, 5, "c"))
    x = ops.concatenate([ops.tanh(x), ops.clip(x, 0.1, 1.0)], axis=-1)
    return classes(ops.mean(ops.flip(x, 1), axis=(1, 2)))


@case("a", "b", "c")
def borders_that_are_filled(x):
    filled = {"pad_to_aspect_ratio": True, "fill_value": 2.0}
    x = layers.Resizing(6, 10, **filled)(conv(x, 6, "a"))
    x = ops.image.resize(conv(x, 5, "b", activation="relu"), (9, 5), **filled)
    return classes(layers.Flatten()(conv(x, 4, "c")))


@case("a", "b", "c", "d")
def shapes_by_operations(x):
    x = ops.transpose(conv(x, 6, "a"), (0, 3, 1, 2))
    x = ops.moveaxis(ops.swapaxes(ops.reshape(x, (-1, 6, 64)), 1, 2), 2, 1)
    x = ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, 8, 8, 6))
    x = ops.expand_dims(ops.mean(conv(x, 5, "b"), axis=1, keepdims=True), 1)
    x = ops.squeeze(ops.squeeze(x, 1), axis=1)
    y = ops.stack([conv1d(x, 4, "c"), conv1d(x, 4, "d")], axis=1)
    return classes(ops.reshape(y, (-1, 2 * 8 * 4)))


@case("a", "b", "c", "d")
def slicing(x):
    x = conv(x, 8, "a")
    gated = conv(x[..., :5], 4, "b") * ops.sigmoid(conv(x[:, :, :, 5:], 4, "c"))
    x = conv(gated[:, 1:-1, ::2], 6, "d")[:, None, ..., -4:]
    return classes(layers.Flatten()(x[:, 0, 2]))


@case("a", "b")
def splitting(x):
    value, gate = ops.split(conv(x, 8, "a"), 2, axis=-1)
    first, second, third = ops.split(conv(value * ops.sigmoid(gate), 9, "b"), [2, 5], axis=-1)
    x = ops.concatenate([third, first, second], axis=-1)
    return classes(layers.Flatten()(x))


# Whole models


@case("down", "bottom", "up", "joined")
def u_net(x):
    down = conv(x, 4, "down", activation="relu")
    bottom = conv(layers.MaxPooling2D()(down), 6, "bottom", activation="relu")
    up = layers.Conv2DTranspose(4, 2, strides=2, name="up")(bottom)
    both = layers.Concatenate()([down, up, layers.UpSampling2D(interpolation="bilinear")(bottom)])
    return conv(conv(both, 5, "joined", activation="relu"), 2, "mask", activation="sigmoid")


@case("base/a", "base/core/b", "hidden")
def backbone_in_sequential(x):
    inside = layers.Input((6, 6, 5))
    core = keras.Model(inside, conv(inside, 4, "b", activation="relu"), name="core")
    image = layers.Input(IMAGE)
    features = core(layers.Conv2D(5, 3, name="a")(image), training=False)
    base = keras.Model(image, layers.BatchNormalization()(features), name="base")
    return keras.Sequential(
        [
            layers.Input(IMAGE),
            keras.Sequential([layers.RandomFlip(), layers.GaussianNoise(0.1)]),
            layers.Rescaling(1 / 127.5, offset=-1),
            base,
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(6, activation="relu", name="hidden"),
            layers.Dense(3),
        ]
    )


@case("twin/a", "twin/b", "joined")
def siamese(x):
    inside = layers.Input(IMAGE)
    features = layers.GlobalAveragePooling2D()(
        conv(conv(inside, 6, "a", activation="relu"), 5, "b")
    )
    twin = keras.Model(inside, features, name="twin")
    left, right = layers.Input(IMAGE, name="left"), layers.Input(IMAGE, name="right")
    distance = abs(twin(left) - twin(right))
    joined = layers.Dense(4, activation="relu", name="joined")(distance)
    return keras.Model([left, right], layers.Dense(1)(joined))


@case("image_features", "table_features", "joined")
def several_inputs_and_outputs(x):
    table = layers.Input((4,), name="table")
    left = layers.GlobalMaxPooling2D()(conv(x, 6, "image_features"))
    right = layers.Dense(5, activation="relu", name="table_features")(table)
    joined = layers.Dense(7, activation="relu", name="joined")(layers.Concatenate()([left, right]))
    outputs = {"class": classes(joined), "sizes": [layers.Dense(1)(joined), layers.Dense(2)(right)]}
    return keras.Model({"image": x, "table": table}, outputs)


@case("a", "hidden", shape=(6,))
def dense_only(x):
    x = layers.BatchNormalization()(layers.Dense(8, activation="selu", name="a")(x))
    return classes(layers.AlphaDropout(0.1)(layers.Dense(6, activation="elu", name="hidden")(x)))


@case("after", shape=SIGNAL)
def attention_is_a_barrier(x):
    x = conv1d(x, 6, "read", activation="relu")
    x = layers.MultiHeadAttention(2, 3)(x, x)
    return classes(layers.Flatten()(conv1d(x, 5, "after")))


@case("conv", shape=(10,))
def embedding_and_masking_are_barriers(x):
    x = layers.Embedding(20, 6)(ops.cast(ops.abs(x) * 5, "int32"))
    x = conv1d(layers.Masking()(conv1d(x, 5, "masked")), 4, "conv")
    return classes(layers.GlobalMaxPooling1D()(x))
