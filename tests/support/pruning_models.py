"""A small digits classifier, trained in seconds, and its data: what the pruning tests prune."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from trained import trained

LONG = "a name as long as a line is wide " * 3
NAMES = ("zero", "one", "two <b>", "three", LONG, "five", "six", "seven", "eight", "nine")
Samples = tuple[np.ndarray, np.ndarray]


@cache
def digits() -> tuple[Samples, Samples]:
    """Handwritten digits, 8 x 8: for training, and held out."""
    data = load_digits()
    x = (data.images / 16).astype(np.float32)[..., None]
    order = np.random.default_rng(0).permutation(len(x))
    train, held_out = order[:1000], order[1000:]
    return (x[train], data.target[train]), (x[held_out], data.target[held_out])


def reference(per_class: int = 8) -> Samples:
    """That many training samples of each digit."""
    (x, y), _ = digits()
    chosen = np.concatenate([np.flatnonzero(y == digit)[:per_class] for digit in range(10)])
    return x[chosen], y[chosen]


def digits_model(width: int = 8, epochs: int = 6) -> keras.Model:
    """A small trained network: convolutions with batch norm, a dense layer, softmax."""
    return trained(train_digits_model, width, epochs)


def train_digits_model(width: int, epochs: int) -> keras.Model:
    """What `digits_model` returns a copy of."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(width, 3, padding="same", use_bias=False, name="first"),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(width + 4, 3, padding="same", activation="relu", name="second"),
            layers.Flatten(),
            layers.Dense(2 * width, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax", name="classes"),
        ],
        name="digits",
    )
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(*digits()[0], epochs=epochs, batch_size=32, verbose=0)
    return model


def train_pooled_model() -> keras.Model:
    """A network with a linear head on pooled features, and a layer without a closed form."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = inputs
    for layer in (
        layers.Conv2D(24, 3, padding="same", use_bias=False, name="first"),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise"),
        layers.Conv2D(48, 3, padding="same", use_bias=False, name="second"),
    ):
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(layer(x)))
    x = layers.GlobalAveragePooling2D()(x)
    scores = layers.Dense(10, activation="softmax", name="head")(x)
    model = keras.Model(inputs, scores, name="pooled")
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    model.fit(*digits()[0], epochs=12, batch_size=32, verbose=0)
    return model
