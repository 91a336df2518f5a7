"""What the golden runs prune: networks that are trained once, and samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

PER_CLASS = 8
Samples = tuple[np.ndarray, np.ndarray]


def digits() -> tuple[Samples, Samples]:
    """Handwritten digits, 8 x 8: to train on, and held out."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = data.images.astype(np.float32)[..., None]
    order = np.random.default_rng(0).permutation(len(x))
    train, held_out = order[:1000], order[1000:1400]
    return (x[train], data.target[train]), (x[held_out], data.target[held_out])


def reference() -> Samples:
    """A few training samples of each digit."""
    (x, y), _ = digits()
    chosen = np.concatenate([np.flatnonzero(y == digit)[:PER_CLASS] for digit in range(10)])
    return x[chosen], y[chosen]


def plain(keras: Any) -> Any:
    """Convolutions, one of them with batch normalisation, and two dense layers."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 16),
            layers.Conv2D(10, 3, padding="same", use_bias=False, name="first"),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(14, 3, padding="same", activation="relu", name="second"),
            layers.Flatten(),
            layers.Dense(16, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax", name="classes"),
        ],
        name="plain",
    )


def residual(keras: Any) -> Any:
    """Two residual blocks and global pooling."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(12, 3, padding="same", name="stem")(layers.Rescaling(1 / 16)(inputs))
    for block in ("a", "b"):
        inner = x
        for conv in ("1", "2"):
            inner = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(inner))
            inner = layers.Conv2D(12, 3, padding="same", name=f"conv_{block}{conv}")(inner)
        x = layers.Add()([x, inner])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(10, name="classes")(x), name="residual")


def mobile(keras: Any) -> Any:
    """A base of depthwise convolutions inside another model, called as Keras' guide does."""
    layers = keras.layers
    images = keras.Input((8, 8, 1))
    x = images
    for index, filters in enumerate((12, 16, 20)):
        x = layers.Conv2D(filters, 1 if index else 3, padding="same", name=f"conv_{index}")(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))
        x = layers.DepthwiseConv2D(3, padding="same", name=f"depthwise_{index}")(x)
    base = keras.Model(images, layers.ReLU()(x), name="base")
    inputs = keras.Input((8, 8, 1))
    x = layers.GlobalAveragePooling2D()(base(layers.Rescaling(1 / 16)(inputs), training=False))
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="classes")(x))


def make_networks(folder: Path) -> None:
    """Trains the networks, without this package, and writes them."""
    import keras

    for build in (plain, residual, mobile):
        keras.utils.set_random_seed(0)
        model = build(keras)
        from_logits = model.layers[-1].activation is keras.activations.linear
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
        model.compile(keras.optimizers.Adam(3e-3), loss)
        model.fit(*digits()[0], epochs=10, batch_size=32, verbose=0)
        if build is mobile:
            model.get_layer("base").trainable = False
            model.compile(keras.optimizers.Adam(3e-3), loss)
        model.save(folder / f"{build.__name__}.keras")
