"""FilterPruning says at the beginning where layers cannot make up for what goes."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

import keras_lrp_prune as klp
from keras_lrp_prune.callbacks import FilterPruning

SAMPLES = np.random.default_rng(0).random((8, 8, 8, 3), np.float32), np.arange(8) % 2


def transferred(frozen):
    """A base, frozen as far as it is asked for, and a head."""
    base = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.ReLU(), layers.Conv2D(4, 3)],
        name="base",
    )
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(base(inputs, training=False)))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    base.trainable = frozen != "base"
    base.layers[0].trainable = frozen not in ("base", "layer")
    model.layers[-1].trainable = frozen != "head"
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("frozen", "count"), [("base", "2 of 2"), ("layer", "1 of 2"), ("head", ""), (None, "")]
)
@pytest.mark.filterwarnings("ignore::keras_lrp_prune.AtChanceWarning")
def test_frozen_layers_with_filters_are_named_before_training(frozen, count, caplog):
    """Each fit goes on with the model: it is said in the first one."""
    model, schedule = transferred(frozen), klp.schedules.AccuracyAware(frequency=1)
    pruning = FilterPruning(SAMPLES, schedule, "l1")
    said = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            said.append([record.getMessage() for record in caplog.records])

    with caplog.at_level(logging.WARNING, "keras_lrp_prune"):
        for _ in range(2):
            model.fit(*SAMPLES, verbose=0, callbacks=[pruning, Look()])
    lines = [line for line in said[0] if "are frozen" in line]
    assert len(lines) == bool(count)
    if count:
        assert lines[0].startswith(f"{count} layers whose filters can go are frozen, and cannot")
        assert "use prune(), which refits" in lines[0] and "then finetune()" in lines[0]
    assert sum("filters can go are frozen" in line for line in said[1]) == bool(count)
