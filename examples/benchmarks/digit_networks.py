"""Small networks of the usual kinds, trained here on three fifths of scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

Body = Callable[[Any], Any]


def digit_images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, digits, and whether they are test images."""
    data = load_digits()
    is_test = np.random.default_rng(0).random(len(data.target)) < 0.4
    return (data.images / 16).astype(np.float32)[..., None], data.target, is_test


@cache
def digit_network(kind: str) -> keras.Model:
    """A trained network with one of the `BODIES`."""
    x, y, is_test = digit_images()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    features = BODIES[kind](inputs)
    model = keras.Model(inputs, layers.Dense(10, name="classes")(features), name=kind)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(x[~is_test], y[~is_test], epochs=15, batch_size=32, verbose=0)
    return model


def residual(inputs: Any) -> Any:
    """Two convolutions beside each sum, as in ResNet."""
    stream = layers.Conv2D(24, 3, padding="same", activation="relu")(inputs)
    for width, strides in ((24, 1), (48, 2), (48, 1)):
        branch = layers.Conv2D(width, 3, strides=strides, padding="same", use_bias=False)(stream)
        branch = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(branch))
        branch = layers.Conv2D(width, 3, padding="same", use_bias=False)(branch)
        branch = layers.BatchNormalization(momentum=0.9)(branch)
        if stream.shape[-1] != width:
            stream = layers.Conv2D(width, 1, strides=strides)(stream)
        stream = layers.ReLU()(layers.Add()([stream, branch]))
    return layers.GlobalAveragePooling2D()(stream)


def plain(inputs: Any) -> Any:
    """Convolutions and a hidden dense layer, without normalisation, as in LeNet."""
    stream = inputs
    for width in (16, 32, 48):
        stream = layers.Conv2D(width, 3, padding="same", activation="relu")(stream)
        stream = layers.MaxPooling2D()(stream)
    return layers.Dense(64, activation="relu")(layers.Flatten()(stream))


def squeeze(inputs: Any) -> Any:
    """Narrow layers in front of two that are joined, as in SqueezeNet."""
    stream = layers.Conv2D(24, 3, padding="same", activation="relu")(inputs)
    for narrow, wide, pooled in ((8, 24, False), (8, 24, True), (12, 32, False), (16, 48, False)):
        narrowed = layers.Conv2D(narrow, 1, activation="relu")(stream)
        stream = layers.Concatenate()(
            [
                layers.Conv2D(wide, size, padding="same", activation="relu")(narrowed)
                for size in (1, 3)
            ]
        )
        stream = layers.MaxPooling2D()(stream) if pooled else stream
    return layers.GlobalAveragePooling2D()(stream)


def inverted(inputs: Any) -> Any:
    """Wide depthwise layers beside sums of narrow ones, as in MobileNetV2."""
    stream = _normalised(layers.Conv2D(16, 3, padding="same", use_bias=False), "relu6")(inputs)
    for wide, narrow, strides in ((48, 24, 1), (72, 24, 1), (72, 32, 2), (96, 32, 1)):
        stream = _bottleneck(stream, wide, narrow, strides, "relu6", excited=False)
    stream = _normalised(layers.Conv2D(96, 1, use_bias=False), "relu6")(stream)
    return layers.GlobalAveragePooling2D()(stream)


def excited(inputs: Any) -> Any:
    """The same with swish, channels scaled by what they show on the whole, as in EfficientNet."""
    stream = _normalised(layers.Conv2D(16, 3, padding="same", use_bias=False), "swish")(inputs)
    for wide, narrow, strides in ((48, 24, 1), (72, 32, 2), (96, 32, 1)):
        stream = _bottleneck(stream, wide, narrow, strides, "swish", excited=True)
    stream = _normalised(layers.Conv2D(96, 1, use_bias=False), "swish")(stream)
    return layers.GlobalAveragePooling2D()(stream)


def dense(inputs: Any) -> Any:
    """Each layer reads all before it, as in DenseNet."""
    stream = layers.Conv2D(24, 3, padding="same", use_bias=False)(inputs)
    for block in range(2):
        for _ in range(3):
            shown = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(stream))
            more = layers.Conv2D(12, 3, padding="same", use_bias=False)(shown)
            stream = layers.Concatenate()([stream, more])
        if block == 0:
            shown = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(stream))
            stream = layers.AveragePooling2D(2)(layers.Conv2D(32, 1, use_bias=False)(shown))
    stream = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(stream))
    return layers.GlobalAveragePooling2D()(stream)


def _normalised(layer: layers.Layer, activation: str | None = None) -> Body:
    def call(stream: Any) -> Any:
        stream = layers.BatchNormalization(momentum=0.9)(layer(stream))
        return stream if activation is None else layers.Activation(activation)(stream)

    return call


def _bottleneck(
    stream: Any, wide: int, narrow: int, strides: int, activation: str, *, excited: bool
) -> Any:
    branch = _normalised(layers.Conv2D(wide, 1, use_bias=False), activation)(stream)
    depthwise = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)
    branch = _normalised(depthwise, activation)(branch)
    if excited:
        scale = layers.GlobalAveragePooling2D(keepdims=True)(branch)
        scale = layers.Conv2D(8, 1, activation="swish")(scale)
        scale = layers.Conv2D(wide, 1, activation="sigmoid")(scale)
        branch = layers.Multiply()([branch, scale])
    branch = _normalised(layers.Conv2D(narrow, 1, use_bias=False))(branch)
    return layers.Add()([stream, branch]) if branch.shape == stream.shape else branch


BODIES: Mapping[str, Body] = {
    body.__name__: body for body in (residual, plain, squeeze, inverted, excited, dense)
}
