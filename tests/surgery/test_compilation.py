"""A rebuilt model is compiled as the model was."""

import keras
import numpy as np
import pytest
from copies import copied, small
from keras import layers

from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.deletion import delete_channels
from keras_lrp_prune.surgery.kept import Kept


def log_cosh(y, p):
    return keras.losses.log_cosh(y, p)


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """Not known to Keras."""

    def __init__(self, start):
        self.start = start

    def __call__(self, step):
        return self.start * 0.5 ** keras.ops.cast(step, "float32")

    def get_config(self):
        return {"start": self.start}


class Bias(keras.metrics.Mean):
    """Not known to Keras."""

    def update_state(self, y, p, sample_weight=None):
        return super().update_state(p - y, sample_weight)


class Plain(keras.optimizers.SGD):
    """Not known to Keras."""


COMPILED = {
    "names": {"optimizer": "rmsprop", "loss": "mse", "metrics": ["mae"]},
    "objects": {
        "optimizer": lambda: keras.optimizers.AdamW(3e-4, weight_decay=0.02, clipnorm=2.0),
        "loss": keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.25),
        "metrics": [keras.metrics.TopKCategoricalAccuracy(2, name="top")],
        "weighted_metrics": ["mae"],
    },
    "schedule": {
        "optimizer": lambda: keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.75), momentum=0.5
        ),
        "loss": log_cosh,
    },
    "custom": {
        "optimizer": lambda: Plain(Halving(0.25)),
        "loss": log_cosh,
        "metrics": [Bias(name="bias")],
    },
    "options": {
        "optimizer": "adam",
        "loss": "mse",
        "run_eagerly": True,
        "steps_per_execution": 2,
        "jit_compile": False,
    },
}


@pytest.mark.parametrize("name", COMPILED)
def test_compilation(name):
    options = dict(COMPILED[name])
    if callable(options["optimizer"]):
        options["optimizer"] = options["optimizer"]()
    model = small()
    model.compile(**options)
    x, y = np.ones((8, 6)), np.eye(3)[np.arange(8) % 3]
    model.fit(x, y, batch_size=4, verbose=0)
    copy = delete_channels(model, {"hidden": [1, 5]})
    assert type(copy.optimizer) is type(model.optimizer)
    assert copy.optimizer is not model.optimizer
    assert copy.optimizer.get_config() == model.optimizer.get_config()
    assert copy.optimizer.iterations == 0
    for key in ("loss", "run_eagerly", "steps_per_execution", "jit_compile"):
        assert getattr(copy, key) == getattr(model, key)
    assert copy.evaluate(x, y, verbose=0, return_dict=True).keys() == (
        model.evaluate(x, y, verbose=0, return_dict=True).keys()
    )
    copy.fit(x, y, batch_size=4, verbose=0)


def test_learning_rate_of_now():
    model = small()
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = 0.0625
    assert float(copied(model).optimizer.learning_rate) == 0.0625


def two_outputs():
    inputs = layers.Input((6,))
    x = layers.Dense(8, activation="relu", name="hidden")(inputs)
    outputs = {"kind": layers.Dense(3, name="kind")(x), "size": layers.Dense(1, name="size")(x)}
    return keras.Model(inputs, outputs)


def test_compilation_of_several_outputs():
    model = two_outputs()
    model.compile(
        "adam",
        loss={"kind": keras.losses.CategoricalCrossentropy(from_logits=True), "size": "mse"},
        loss_weights={"kind": 2.0, "size": 0.5},
        metrics={"kind": ["accuracy"], "size": ["mae", "mse"]},
    )
    x, y = np.ones((8, 6)), {"kind": np.eye(3)[np.arange(8) % 3], "size": np.ones((8, 1))}
    copy = copied(model)
    assert copy.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(
        model.evaluate(x, y, verbose=0, return_dict=True)
    )
    delete_channels(model, {"hidden": [0]}).fit(x, y, verbose=0)


def test_what_cannot_be_compiled_again_is_said(recwarn):
    class Closed(keras.optimizers.SGD):
        def get_config(self):
            raise NotImplementedError("no config here")

    model = small()
    model.compile(Closed(), "mse")
    with pytest.warns(UserWarning, match=r"'small' is compiled with .* no config here"):
        copy = delete_channels(model, {"hidden": [0]})
    assert not copy.compiled and copy.get_layer("hidden").units == 7


def test_a_model_that_is_not_compiled_stays_so():
    assert not copied(small()).compiled
    compiled = small()
    compiled.compile("sgd", "mse")
    assert not build(read_model(compiled), Kept(), keras).model.compiled
