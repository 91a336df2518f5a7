"""Tiny models of every family that the package handles, and what tests do with them.

Each builder takes `head`: "logits" (default), "softmax", or "sigmoid" for one unit.
`BUILDERS` has them all by name. A randomly initialised network is dead behind a few layers, and a
test on it proves nothing: pass it to `make_live` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.prunables.channel_mask import ChannelMask
from keras_lrp_prune.surgery.builder import Built, build, rebuild
from keras_lrp_prune.surgery.kept import Kept, kept_without

IMAGE = (16, 16, 3)
CLASSES = 4

ACTIVATIONS = {"logits": None, "softmax": "softmax", "sigmoid": "sigmoid"}


def _classes(head: str) -> layers.Layer:
    """The layer that gives the class scores."""
    units = 1 if head == "sigmoid" else CLASSES
    return layers.Dense(units, activation=ACTIVATIONS[head], name="classes")


def _finish(inputs: Any, x: Any, head: str) -> keras.Model:
    """Pools `x` and puts the class scores on top."""
    return keras.Model(inputs, _classes(head)(layers.GlobalAveragePooling2D()(x)))


def _conv(x: Any, filters: int, size: int = 3, strides: int = 1, **options: Any) -> Any:
    options = {"padding": "same", "use_bias": False, **options}
    return layers.Conv2D(filters, size, strides, **options)(x)


def _conv_bn_relu(x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
    return layers.ReLU()(layers.BatchNormalization()(_conv(x, filters, size, strides)))


def _bn_relu_conv(x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return _conv(x, filters, size, strides)


def vgg(head: str = "logits") -> keras.Model:
    """Plain convolutions with bias, Flatten, two dense layers."""
    inputs = x = layers.Input(IMAGE)
    for filters in (6, 8, 10):
        x = _conv(x, filters, activation="relu", use_bias=True)
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(12, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, _classes(head)(layers.Dropout(0.2)(x)))


def resnet_v1(head: str = "logits") -> keras.Model:
    """Residual blocks with the activation behind the sum, identity and projection shortcuts."""
    inputs = layers.Input(IMAGE)
    x = _conv_bn_relu(inputs, 6)
    for filters, strides in ((6, 1), (10, 2)):
        shortcut = x
        if strides > 1:
            shortcut = layers.BatchNormalization()(_conv(x, filters, 1, strides))
        y = _conv_bn_relu(x, 5, strides=strides)
        y = layers.BatchNormalization()(_conv(y, filters))
        x = layers.ReLU()(layers.Add()([shortcut, y]))
    return _finish(inputs, x, head)


def resnet_v2(head: str = "logits") -> keras.Model:
    """Residual blocks with batch norm and activation in front of each convolution."""
    inputs = layers.Input(IMAGE)
    x = _conv(inputs, 6)
    for filters, strides in ((6, 1), (10, 2)):
        shortcut = x if strides == 1 else _conv(x, filters, 1, strides)
        x = layers.Add()([shortcut, _bn_relu_conv(_bn_relu_conv(x, 5, 1), filters, 3, strides)])
    return _finish(inputs, layers.ReLU()(layers.BatchNormalization()(x)), head)


def squeezenet(head: str = "logits") -> keras.Model:
    """Fire modules: squeeze, then two expanding convolutions side by side."""
    inputs = layers.Input(IMAGE)
    x = _conv(inputs, 6, strides=2, activation="relu", use_bias=True)
    for squeeze, expand in ((3, 5), (4, 6)):
        x = _conv(x, squeeze, 1, activation="relu", use_bias=True)
        left = _conv(x, expand, 1, activation="relu", use_bias=True)
        right = _conv(x, expand, 3, activation="relu", use_bias=True)
        x = layers.Concatenate()([left, right])
    return _finish(inputs, layers.MaxPooling2D()(x), head)


def mobilenet(head: str = "logits") -> keras.Model:
    """Depthwise and pointwise convolutions in turn, batch norm and ReLU(6) behind each."""
    inputs = layers.Input(IMAGE)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(_conv(inputs, 6, strides=2)))
    for filters, strides in ((8, 1), (12, 2)):
        x = layers.ZeroPadding2D(1)(x)
        x = layers.DepthwiseConv2D(3, strides, padding="valid", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.ReLU(6.0)(layers.BatchNormalization()(_conv(x, filters, 1)))
    return _finish(inputs, x, head)


def mobilenet_v2(head: str = "logits") -> keras.Model:
    """Inverted residuals with linear bottlenecks."""
    inputs = layers.Input(IMAGE)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(_conv(inputs, 6, strides=2)))
    for filters in (6, 8, 8):
        y = layers.ReLU(6.0)(layers.BatchNormalization()(_conv(x, 12, 1)))
        y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
        y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(_conv(y, filters, 1))
        x = layers.Add()([x, y]) if x.shape[-1] == filters else y
    return _finish(inputs, x, head)


def densenet(head: str = "logits") -> keras.Model:
    """Every layer reads what all layers before it in the block made."""
    inputs = layers.Input(IMAGE)
    x = _conv(inputs, 6, strides=2)
    for _ in range(2):
        for _ in range(2):
            x = layers.Concatenate()([x, _bn_relu_conv(_bn_relu_conv(x, 8, 1), 4)])
        x = layers.AveragePooling2D(2)(_bn_relu_conv(x, 7, 1))
    return _finish(inputs, x, head)


def squeeze_excite(head: str = "logits") -> keras.Model:
    """Channels scaled by a sigmoid gate computed from them."""
    inputs = layers.Input(IMAGE)
    x = _conv_bn_relu(inputs, 8)
    gate = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
    gate = _conv(gate, 4, 1, activation="relu", use_bias=True)
    gate = _conv(gate, 8, 1, activation="sigmoid", use_bias=True)
    x = layers.Multiply()([x, gate])
    return _finish(inputs, _conv_bn_relu(x, 6), head)


def separable(head: str = "logits") -> keras.Model:
    """Separable convolutions; batch norm without scale."""
    inputs = layers.Input(IMAGE)
    x = _conv_bn_relu(inputs, 6, strides=2)
    for filters in (8, 10):
        x = layers.SeparableConv2D(filters, 3, padding="same", depth_multiplier=2)(x)
        x = layers.ReLU()(layers.BatchNormalization(scale=False)(x))
    return _finish(inputs, x, head)


def sequential(head: str = "logits") -> keras.Model:
    """A Sequential model with Flatten."""
    return keras.Sequential(
        [
            layers.Input(IMAGE),
            layers.Conv2D(6, 3, strides=2, name="first"),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Conv2D(8, 3, activation="relu", name="second"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="relu", name="hidden"),
            _classes(head),
        ]
    )


def nested(head: str = "logits") -> keras.Model:
    """A functional backbone and a Sequential head, each a model in the model."""
    inside = layers.Input(IMAGE)
    features = layers.Add()([_conv_bn_relu(inside, 6), _conv_bn_relu(inside, 6)])
    backbone = keras.Model(inside, _conv_bn_relu(features, 8, strides=2), name="backbone")
    top = keras.Sequential(
        [
            layers.Input(backbone.output_shape[1:]),
            layers.Conv2D(6, 3, activation="relu", name="hidden"),
            layers.GlobalAveragePooling2D(),
            _classes(head),
        ],
        name="top",
    )
    inputs = layers.Input(IMAGE)
    return keras.Model(inputs, top(backbone(inputs)))


def shared(head: str = "logits") -> keras.Model:
    """One convolution (and its batch norm) called on two tensors."""
    inputs = layers.Input(IMAGE)
    convolution, norm = layers.Conv2D(6, 3, padding="same"), layers.BatchNormalization()
    left, right = _conv_bn_relu(inputs, 5), _conv_bn_relu(inputs, 5)
    both = [layers.ReLU()(norm(convolution(x))) for x in (left, right)]
    return _finish(inputs, layers.Concatenate()(both), head)


BUILDERS: dict[str, Callable[..., keras.Model]] = {
    build.__name__: build
    for build in (
        *(vgg, resnet_v1, resnet_v2, squeezenet, mobilenet, mobilenet_v2, densenet),
        *(squeeze_excite, separable, sequential, nested, shared),
    )
}


def images(model: keras.Model, count: int = 4, seed: int = 0) -> Any:
    """Random inputs for a model, in the structure and precision of its inputs."""
    rng = np.random.default_rng(seed)

    def draw(tensor: Any) -> np.ndarray:
        shape = [count, *(size or 5 for size in tensor.shape[1:])]
        return rng.normal(size=shape).astype(tensor.dtype)

    # A Sequential model has no `input` before it was called.
    sequential = isinstance(model, keras.Sequential)
    return keras.tree.map_structure(draw, model.inputs[0] if sequential else model.input)


def run(model: keras.Model, x: Any, *, training: bool = False, compiled: bool = False) -> Any:
    """The model's outputs; `compiled` by XLA, which has the channels-first convolutions on CPU."""

    def call(x: Any) -> Any:
        return model(x, training=training)

    return tf.function(call, jit_compile=True)(x) if compiled else call(x)


def make_live(model: keras.Model, seed: int = 0, compiled: bool = False) -> keras.Model:
    """Gives every batch norm random gamma and beta, and the statistics of random images.

    Biases become random too. Changes the model in place, and returns it.
    """
    rng = np.random.default_rng(seed)
    norms = []
    for layer in all_layers(model):
        if isinstance(layer, layers.BatchNormalization):
            norms.append((layer, layer.momentum))
            layer.momentum = 0.0
        for weight in layer.weights:
            if weight.name == "gamma":
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            elif weight.name in ("beta", "bias"):
                weight.assign(rng.normal(0, 0.3, weight.shape))
    run(model, images(model, 8, seed), training=True, compiled=compiled)
    for layer, momentum in norms:
        layer.momentum = momentum
    return model


def all_layers(model: keras.Model) -> Iterator[layers.Layer]:
    """Every layer, those of nested models included."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)
        else:
            yield layer


def analysed(model: keras.Model) -> tuple[ModelGraph, ChannelStructure]:
    """The model's graph and channel structure."""
    graph = read_model(model)
    return graph, channel_structure(graph)


def random_removal(structure: ChannelStructure, share: float, seed: int = 0) -> np.ndarray:
    """That share of the channels of every group, but never a whole group."""
    rng = np.random.default_rng(seed)
    removed = np.zeros(structure.n_units, bool)
    for group in structure.groups:
        count = min(round(share * group.size), group.size - 1)
        removed[rng.permutation(group.units)[:count]] = True
    return removed


def masked_copy(model: keras.Model) -> tuple[Built, ChannelMask]:
    """A copy of the model, and a mask on the copy."""
    graph, structure = analysed(model)
    flat = graph.flat()
    copy = build(flat, Kept(), keras)
    names = {layer.name: list(layer.weights) for layer in flat.layers.values()}
    return copy, ChannelMask(structure, copy.layers, names)


def pruned(model: keras.Model, removed: np.ndarray) -> keras.Model:
    """The model rebuilt without the removed units."""
    graph, structure = analysed(model)
    return rebuild(graph, kept_without(structure, removed), keras)


def difference(first: Any, second: Any) -> float:
    """Largest absolute difference of outputs, relative to the largest magnitude in `second`."""
    pairs = zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True)
    return max(_difference(np.asarray(one), np.asarray(other)) for one, other in pairs)


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).max() / np.abs(second).max())


def same_weights(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    """Whether all weights are equal, bit for bit."""
    return [array.tobytes() for array in first] == [array.tobytes() for array in second]
