"""Digits in model.fit, and callbacks that look at the weights after each step."""

import keras
import numpy as np
import pytest
import tensorflow_model_optimization as tfmot
from models import analysed
from pruning_models import digits, reference

import keras_lrp_prune as klp
from keras_lrp_prune.callbacks import FilterPruning
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.prunables.held_channel_mask import HeldChannelMask

SCHEDULE = tfmot.sparsity.keras.PolynomialDecay(0.1, 0.5, begin_step=2, end_step=12, frequency=2)
RATE = pytest.approx(0.5, abs=0.02)  # what it ends with, as groups have whole channels
ADAM = keras.optimizers.Adam
Callback = keras.callbacks.Callback


def compiled(model, optimizer=None, **options):
    """A copy of the model, compiled."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    loss = "sparse_categorical_crossentropy"
    copy.compile(optimizer or ADAM(3e-3), loss, metrics=["accuracy"], **options)
    return copy


def fit(model, *callbacks, **options):
    """Trains on 512 digits, 16 steps an epoch; the order of the samples is fixed."""
    (x, y), _ = digits()
    options = {"epochs": 1, "batch_size": 32, "shuffle": False, "verbose": 0, **options}
    return model.fit(x[:512], y[:512], callbacks=list(callbacks), **options)


def every_step(frequency=2, **options):
    return klp.schedules.AccuracyAware(frequency=frequency, **options)


class Watch(Callback):
    """Looks at the weights after each call of the training step; stands behind FilterPruning."""

    def __init__(self, pruning):
        super().__init__()
        self.pruning, self.rates, self.wrong, self.moved = pruning, [], [], 0

    def on_train_begin(self, logs=None):
        graph = read_model(self.model).flat()
        _, structure = analysed(self.model)
        self.mask = HeldChannelMask(structure, graph.layers)
        self.structure = structure

    def on_train_batch_begin(self, batch, logs=None):
        self.masked = self.mask.found()

    def on_train_batch_end(self, batch, logs=None):
        found = self.mask.found()
        self.wrong += np.flatnonzero(self.masked & ~found).tolist()
        self.rates.append(self.structure.rate(found))


class Crash(Callback):
    """Ends the training at a step, as a power cut would."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) >= self.step:
            raise KeyboardInterrupt


def pruner(schedule=SCHEDULE, **options):
    return FilterPruning(reference(), schedule, "l1", **options)


def zeros(model):
    """The share of filters that are zero in the model."""
    _, structure = analysed(model)
    return structure.rate(HeldChannelMask(structure, read_model(model).flat().layers).found())


def filters(model):
    """Number of filters that can be pruned, in the digits model."""
    prunable = [model.get_layer(name) for name in ("first", "second", "hidden")]
    return sum(layer.kernel.shape[-1] for layer in prunable)
