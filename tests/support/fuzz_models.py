"""A pool of tiny models, one of each kind that people have, and random samples for each."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
import tf_keras
from keras import layers
from models import make_live

import keras_lrp_prune as klp

SHAPE = (8, 8, 3)


def _classes(x: Any, activation: str | None = "softmax") -> Any:
    x = layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
    return layers.Dense(3, activation=activation, name="classes")(x)


def plain() -> keras.Model:
    """Convolutions, Flatten, dense layers; compiled."""
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 3, activation="relu", name="first"),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, activation="relu", name="second"),
            layers.Flatten(),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(3, activation="softmax", name="classes"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def residual() -> keras.Model:
    """A sum of two paths, batch norm, logits."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.Conv2D(8, 3, padding="same", name="stem")(x)
    y = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(8, 3, padding="same", use_bias=False, name="inner")(y)
    x = layers.ReLU()(layers.Add()([x, layers.BatchNormalization()(y)]))
    return keras.Model(inputs, _classes(x, None))


def depthwise() -> keras.Model:
    """Depthwise and separable convolutions; half of it is frozen."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, name="stem", trainable=False)(inputs)
    x = layers.ReLU(6.0)(layers.BatchNormalization(trainable=False)(x))
    x = layers.ReLU()(layers.DepthwiseConv2D(3, name="each")(x))
    return keras.Model(inputs, _classes(layers.SeparableConv2D(8, 3, name="separable")(x)))


def frozen_base() -> keras.Model:
    """A frozen base, called for inference, behind preprocessing and below a head of one's own."""
    base = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(8, 3, activation="relu", name="second"),
        ],
        name="base",
    )
    base.trainable = False
    inputs = keras.Input(SHAPE)
    x = base(layers.Rescaling(0.5, offset=0.1)(inputs), training=False)
    return keras.Model(inputs, _classes(layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))))


def branches() -> keras.Model:
    """Branches side by side, concatenated, under the oddest names that TensorFlow takes."""
    inputs = keras.Input(SHAPE)
    left = layers.Conv2D(8, 1, activation="relu", name="left.x_2>conv-1")(inputs)
    right = layers.Conv2D(8, 3, padding="same", activation="relu", name="Right-")(inputs)
    x = layers.Concatenate(name="Both.__")([left, right])
    return keras.Model(inputs, _classes(layers.Conv2D(8, 1, activation="elu", name="last.0")(x)))


def sigmoid_unit() -> keras.Model:
    """Two classes, told apart by one sigmoid unit."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(inputs)
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(8, 3, activation="relu", name="second")(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="classes")(x))


def dense_only() -> keras.Model:
    """Dense layers alone."""
    inputs = keras.Input(SHAPE)
    x = layers.Dense(8, activation="relu", name="first")(layers.Flatten()(inputs))
    return keras.Model(inputs, _classes(layers.Dense(8, activation="tanh", name="second")(x)))


def double() -> keras.Model:
    """Computes in float64."""
    as_double = {"dtype": "float64"}
    inputs = keras.Input(SHAPE, **as_double)
    x = layers.Conv2D(8, 3, activation="relu", name="conv", **as_double)(inputs)
    x = layers.Conv2D(8, 3, activation="relu", name="second", **as_double)(x)
    x = layers.GlobalAveragePooling2D(**as_double)(x)
    return keras.Model(inputs, layers.Dense(3, name="classes", **as_double)(x))


def legacy() -> Any:
    """Of legacy Keras."""
    inputs = tf_keras.Input(SHAPE)
    x = tf_keras.layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    x = tf_keras.layers.Conv2D(8, 3, activation="relu", name="second")(x)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(inputs, tf_keras.layers.Dense(3, activation="softmax", name="classes")(x))


BUILDERS: tuple[Callable[[], Any], ...] = (
    *(plain, residual, depthwise, frozen_base, branches, sigmoid_unit, dense_only, double, legacy),
)


@dataclass(frozen=True)
class Case:
    """A model of the pool and samples of its classes.

    Args:
        name: That of its builder.
        model: Made once in a process: nothing may change it.
        classes: Number of classes.
        filters: Name of a layer with eight prunable filters.
    """

    name: str
    model: Any
    classes: int
    filters: str

    @property
    def is_legacy(self) -> bool:
        """Whether it is of legacy Keras."""
        return not isinstance(self.model, keras.Model)

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Random samples, four of each class."""
        y = np.arange(4 * self.classes) % self.classes
        x = np.random.default_rng(0).normal(size=(len(y), *SHAPE))
        return x.astype(np.float32), y


@cache
def case(builder: Callable[[], Any]) -> Case:
    """The builder's model, with batch norms that let something through."""
    keras.utils.set_random_seed(0)
    model = builder()
    if isinstance(model, keras.Model):
        make_live(model)
    found = klp.find_channel_groups(model)
    return Case(
        builder.__name__, model, max(2, model.output_shape[-1]), next(iter(found[0].filters))
    )


def state_of(model: Any) -> bytes:
    """What must be the same of a model before and after a call: weights, flags, compilation."""
    state = [weight.numpy().tobytes() for weight in model.weights]
    flags = [(layer.name, layer.trainable) for layer in model._flatten_layers()]
    return pickle.dumps((state, flags, getattr(model, "optimizer", None) is None))
