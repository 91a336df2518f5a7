"""Models for the tests of relevance: conserving ones, every layer type, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from models import CLASSES, IMAGE


def without_shifts(model, seed=0):
    """Random scales in every batch norm; no bias, no shift: relevance has nowhere to go."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("bias", "beta", "moving_mean"):
            weight.assign(tf.zeros(weight.shape))
    return model


def wide(x, filters, size=3, **options):
    """A convolution with enough inputs for both signs to meet in each output."""
    return layers.Conv2D(filters, size, **options)(x)


def chain():
    """Convolutions and max pooling, one after the other; batch norm between."""
    inputs = keras.Input(IMAGE)
    x = layers.ReLU()(layers.BatchNormalization()(wide(inputs, 24, use_bias=False, name="a")))
    x = layers.MaxPooling2D()(x)
    x = wide(x, 24, activation="relu", name="b")
    x = layers.Dense(24, activation="relu", name="c")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(CLASSES, name="classes")(x)), [["a"], ["b"], ["c"]]


def residual():
    inputs = keras.Input(IMAGE)
    x = wide(inputs, 24, activation="relu", name="a")
    y = wide(x, 24, activation="relu", name="b", padding="same")
    y = layers.BatchNormalization()(wide(y, 24, name="c", padding="same"))
    shortcut = wide(x, 24, use_bias=False, name="shortcut", padding="same")
    shortcut = layers.BatchNormalization()(shortcut)
    x = layers.ReLU()(layers.Add()([shortcut, y]))
    x = layers.GlobalAveragePooling2D()(x)
    cuts = [["a"], ["b", "shortcut"], ["c", "shortcut"]]
    return keras.Model(inputs, layers.Dense(CLASSES, name="classes")(x)), cuts


def concatenated():
    inputs = keras.Input(IMAGE)
    x = layers.AveragePooling2D(2)(wide(inputs, 32, activation="relu", name="a"))
    left = wide(x, 24, 1, activation="relu", name="left")
    right = wide(x, 24, activation="relu", name="right", padding="same")
    x = wide(layers.Concatenate()([left, right]), 24, activation="relu", name="b")
    x = layers.GlobalMaxPooling2D()(x)
    cuts = [["a"], ["left", "right"], ["b"]]
    return keras.Model(inputs, layers.Dense(CLASSES, name="classes")(x)), cuts


def depthwise():
    inputs = keras.Input(IMAGE)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(wide(inputs, 24, name="a")))
    x = layers.DepthwiseConv2D(9, use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(wide(x, 24, 1, name="b")))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, name="classes")(x)), [["a"], ["b"]]


def every_layer_type():
    """All of `DIALECT` in one model, with options: strides, dilation, valid and same padding."""
    inputs = keras.Input((17, 15, 2))
    x = layers.Conv2D(6, (3, 2), strides=2, padding="same", activation="relu")(inputs)
    x = layers.ZeroPadding2D(((1, 2), (2, 1)))(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu")(x)
    x = layers.Cropping2D(((0, 1), (1, 0)))(x)
    a = layers.Conv2D(6, 3, dilation_rate=2, padding="same")(layers.MaxPooling2D(3, 2, "same")(x))
    b = layers.Conv2D(6, 3, padding="same")(layers.AveragePooling2D(3, 2, "same")(x))
    x = layers.ReLU()(layers.Add()([a, b, a]))
    x = layers.Concatenate()([x, a])
    pooled = layers.GlobalMaxPooling2D()(x), layers.GlobalAveragePooling2D()(x)
    x = layers.Reshape((3, -1, 2))(layers.Concatenate(axis=1)(pooled))
    x = layers.Dense(7, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def sigmoids():
    """No channel becomes zero when it is masked, so that its readers have to be masked too."""
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="sigmoid")(inputs)
    x = layers.SeparableConv2D(5, 3, depth_multiplier=2, activation="sigmoid")(x)
    x = layers.Conv2D(4, 3, activation="sigmoid")(layers.ZeroPadding2D()(x))
    x = layers.Dense(6, activation="sigmoid")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(4)(x))


def with_layer(make):
    inputs = keras.Input((8, 8, 4))
    x = make(layers.Conv2D(4, 3, padding="same", name="before")(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def two_inputs():
    inputs = [keras.Input((8, 8, 4)), keras.Input((8, 8, 4))]
    x = layers.GlobalAveragePooling2D()(layers.Add()(inputs))
    return keras.Model(inputs, layers.Dense(3)(x))


def two_outputs():
    inputs = keras.Input((8,))
    return keras.Model(inputs, [layers.Dense(3)(inputs), layers.Dense(3)(inputs)])
