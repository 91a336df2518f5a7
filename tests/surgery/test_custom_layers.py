"""Functions and classes that Keras does not know survive rebuilding."""

import keras
import numpy as np
import pytest
from copies import copied, small
from keras import layers
from models import difference, images

from keras_lrp_prune.graph.model_graph import UnsupportedModelError

# --- custom functions and classes that Keras does not know ---------------------------------


def swell(x):
    return keras.ops.relu(x) * 1.5


class Pull(keras.Regularizer):
    def __init__(self, strength):
        self.strength = strength

    def __call__(self, x):
        return self.strength * keras.ops.sum(keras.ops.square(x))

    def get_config(self):
        return {"strength": self.strength}


class AtMost(keras.constraints.Constraint):
    def __init__(self, limit=1.0):
        self.limit = limit

    def __call__(self, w):
        return keras.ops.clip(w, -self.limit, self.limit)

    def get_config(self):
        return {"limit": self.limit}


class Sevenths(keras.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.full(shape, 1 / 7, dtype)


CUSTOM = {
    "activation": swell,
    "kernel_regularizer": Pull(0.5),
    "bias_regularizer": keras.regularizers.L1(0.25),
    "activity_regularizer": Pull(0.125),
    "kernel_constraint": AtMost(2.0),
    "bias_constraint": keras.constraints.NonNeg(),
    "kernel_initializer": Sevenths(),
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.75),
}


@pytest.mark.parametrize("name", CUSTOM)
def test_custom_settings_of_a_layer(name):
    model = small(**{name: CUSTOM[name]})
    before, after = (getattr(which.get_layer("hidden"), name) for which in (model, copied(model)))
    if name == "activation":
        assert after is swell
    else:
        assert type(after) is type(before) and after is not before
        assert after.get_config() == before.get_config()


def test_losses_of_regularisers():
    model = small(kernel_regularizer=Pull(0.5))
    (before,), (after,) = model.losses, copied(model).losses
    assert float(after) == float(before) > 0


def test_lambdas_and_custom_settings_deep_inside():
    shift = 0.5
    inputs = layers.Input((5, 3))
    with keras.saving.custom_object_scope({"swell": swell, "Pull": Pull}):  # Bidirectional asks
        recurrent = layers.LSTM(4, activation=swell, kernel_regularizer=Pull(0.5))
        x = layers.Bidirectional(recurrent)(inputs)
    x = layers.Dense(6, activation=lambda x: x + shift)(x)
    x = layers.Lambda(lambda x: x * shift)(x)
    model = keras.Model(inputs, x)
    x = np.random.default_rng(0).normal(size=(4, 5, 3))
    assert difference(copied(model)(x), model(x)) <= 1e-6


# --- custom layers -----------------------------------------------------------------------


class Scaled(layers.Layer):
    """A custom layer as users write it; Keras finds its config by itself."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale", initializer="ones")

    def call(self, x):
        return x * self.scale * self.factor


class WithoutConfig(Scaled):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function


class IncompleteConfig(Scaled):
    def __init__(self, power, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def get_config(self):
        return {**layers.Layer.get_config(self), "factor": self.factor}


class ForgetfulConfig(Scaled):
    def get_config(self):
        return layers.Layer.get_config(self)


class OtherWeights(Scaled):
    def build(self, shape):
        width = getattr(self, "width", shape[-1])
        self.scale = self.add_weight(shape=(width,), name="scale", initializer="ones")


def test_custom_layer():
    model = small(Scaled(3.0, name="scaled"))
    model.get_layer("scaled").scale.assign(np.arange(8))
    copy = copied(model)
    assert type(copy.get_layer("scaled")) is Scaled
    x = images(model)
    assert difference(copy(x), model(x)) <= 1e-6


def other_weights():
    layer = OtherWeights(name="odd")
    layer.width = 1
    return layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            lambda: WithoutConfig(len, name="odd"),
            r"'odd' .*has no config.*WithoutConfig.get_config",
        ),
        (lambda: IncompleteConfig(2, name="odd"), r"'odd'.*IncompleteConfig.get_config.*power"),
        (lambda: ForgetfulConfig(2.0, name="odd"), r"'odd'.*loses factor=2.0.*Add 'factor'"),
        (other_weights, r"'odd'.*shapes \[\(8,\)\], not \[\(1,\)\]"),
    ],
)
def test_custom_layer_that_cannot_be_copied(layer, message):
    with pytest.raises(UnsupportedModelError, match=message):
        copied(small(layer()))
