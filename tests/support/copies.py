"""A tiny model, and whole models rebuilt."""

import keras
from keras import layers

from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.surgery.builder import rebuild
from keras_lrp_prune.surgery.kept import Kept


def copied(model):
    """Whole, rebuilt."""
    return rebuild(read_model(model), Kept(), keras)


def small(*extra, **options):
    """A tiny classifier whose layer "hidden" can be pruned."""
    inputs = layers.Input((6,), name="features")
    x = layers.Dense(8, name="hidden", **{"activation": "relu", **options})(inputs)
    for layer in extra:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(3, name="classes")(x), name="small")
