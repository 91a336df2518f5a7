"""How a case of `layer_cases.py` is written: a function from a tensor to a tensor, or a model."""

import keras
from keras import layers

IMAGE = (8, 8, 3)
SIGNAL = (12, 3)
CASES = {}  # by name: what builds it, and the filter layers that can be pruned in it


def case(*prunable, shape=IMAGE):
    """Registers a case: a function from an input tensor to the output (or a whole model)."""

    def register(function):
        def build():
            inputs = layers.Input(shape)
            outputs = function(inputs)
            return outputs if isinstance(outputs, keras.Model) else keras.Model(inputs, outputs)

        CASES[function.__name__] = (build, set(prunable))
        return function

    return register


def conv(x, filters, name=None, **options):
    return layers.Conv2D(filters, 3, padding="same", name=name, **options)(x)


def conv1d(x, filters, name=None, **options):
    return layers.Conv1D(filters, 3, padding="same", name=name, **options)(x)


def classes(x, name="classes"):
    return layers.Dense(3, name=name)(x)
