"""Small models around one layer, and what two of them can be compared by."""

import keras
import numpy as np
from keras import layers
from models import analysed, make_live

import keras_lrp_prune as klp
from keras_lrp_prune.cost import CostModel

IMAGE = (8, 8, 3)
CLASSES = 3


def samples(shape=IMAGE, n=6):
    return np.random.default_rng(0).normal(0, 1, (n, *shape)).astype("float32")


def relevance(model, x, **options):
    return klp.input_relevance(model, x, np.zeros(len(x), int), engine="native", **options)


def twins(function, other, shape=IMAGE):
    """Two models with the same weights that end alike, `function` or `other` in the middle."""
    made = []
    for middle in (function, other):
        keras.utils.set_random_seed(0)
        inputs = keras.Input(shape)
        made.append(make_live(keras.Model(inputs, middle(inputs))))
    return made


def scores(x, activation=None, units=CLASSES):
    return layers.Dense(units, activation=activation, name="scores")(layers.Flatten()(x))


def counted(function):
    inputs = keras.Input((4, 4, 3))
    return CostModel(*analysed(keras.Model(inputs, function(inputs))))
