"""Samples, ids and weights that a model cannot take as they are: errors, not other numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_lrp_prune as klp
from keras_lrp_prune.data import cast, reference_set
from keras_lrp_prune.runtime import CompiledForward

Y = np.arange(20) % 2
SCHEDULE = klp.schedules.AccuracyAware(frequency=1)


def images(dtype):
    """A small classifier of images in that dtype."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1), dtype=dtype)
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    return model


def texts(dtype="int32", words=50):
    """A small classifier of ids."""
    inputs = keras.Input((7,), dtype=dtype)
    x = layers.Conv1D(4, 3, activation="relu")(layers.Embedding(words, 3, name="words")(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


WAYS = {
    "prune": lambda model, x: klp.prune(model, (x, Y), 0.2, verbose=0),
    "validation": lambda model, x: klp.prune(model, (0 * x, Y), 0.2, validation=(x, Y), verbose=0),
    "accuracy_curve": lambda model, x: klp.accuracy_curve(model, (0 * x, Y), (x, Y), "l1", [0.2]),
    "filter_relevance": lambda model, x: klp.filter_relevance(model, x, Y),
    "input_relevance": lambda model, x: klp.input_relevance(model, x),
    "finetune": lambda model, x: klp.finetune(model, (x, Y), verbose=0),
    "FilterPruning": lambda model, x: model.fit(
        0 * x, Y, callbacks=[klp.callbacks.FilterPruning((x, Y), SCHEDULE)], verbose=0
    ),
    "forward": lambda model, x: CompiledForward(model)(x),
}


@pytest.mark.parametrize("way", WAYS)
def test_samples_that_the_dtype_of_the_input_does_not_hold(way):
    x = np.random.default_rng(0).random((20, 6, 6, 1))
    with pytest.raises(
        klp.DataError, match=r"takes uint8, .* 0\.\d+ would become 0 \(samples 0, 1"
    ):
        WAYS[way](images("uint8"), x)


LOST = {
    "fractions": ([0.5], "int32"),
    "negative": ([-1.0], "uint8"),
    "too large": ([256.0], "uint8"),
    "no truth value": ([2.0], "bool"),
    "infinite in float16": ([7e4], "float16"),
    "infinite in float32": ([1e39], "float32"),
    "digits of float32": ([2.0**24 + 1], "float32"),
    "digits of float16": ([2049.0], "float16"),
}
KEPT = {
    "whole": ([0.0, 255.0], "uint8"),
    "rounded": ([0.1, 1 / 3], "float16"),
    "ids": ([2.0**24 + 1], "int32"),
    "as it is": ([1e39], "float64"),
}


@pytest.mark.parametrize("what", LOST)
def test_lost(what):
    values, dtype = LOST[what]
    with pytest.raises(klp.DataError, match=f"takes {dtype}, which does not hold x"):
        cast(np.array([[0.0], values]), dtype)


@pytest.mark.parametrize("what", KEPT)
def test_kept(what):
    values, dtype = KEPT[what]
    found = cast(np.array([values]), dtype)
    assert found.dtype == dtype
    assert np.allclose(found.astype(float), values, rtol=1e-3, atol=0)


def test_large_ids_reach_the_model():
    """In float32, 2^24 + 1 is 2^24."""
    ids = np.array([[2**24 + 1], [3]])
    inputs = keras.Input((1,), dtype="int32")
    parity = keras.Model(inputs, keras.ops.concatenate([inputs % 2, 1 - inputs % 2], -1))
    samples = reference_set((ids, [1, 0]))
    assert (samples.x == ids).all()
    assert (CompiledForward(parity)(samples.x)[:, 0] == 1).all()
    with pytest.raises(klp.DataError, match="16777217"):
        klp.prune(texts("float32", 2**25 // 2**24 + 2), (ids.repeat(7, 1), [1, 0]), verbose=0)


def test_files_take_no_halves_of_ids(tmp_path):
    file = klp.export.litert(texts(), tmp_path / "texts.tflite")
    run = klp.export.LiteRTModel(file)
    assert run(np.full((2, 7), 3.0)).shape == (2, 2)
    with pytest.raises(klp.DataError, match=r"takes int32, .* 3\.5 would become 3"):
        run(np.full((2, 7), 3.5))


@pytest.mark.parametrize("bad", [50, -1])
@pytest.mark.parametrize("way", ["prune", "filter_relevance", "finetune"])
def test_ids_beyond_the_vocabulary(way, bad):
    x = np.zeros((20, 7), int)
    x[3, 2] = bad
    match = rf"ids from 0 to 49, which layer 'words' \(Embedding\) knows; it holds {bad}.*sample 3"
    with pytest.raises(klp.DataError, match=match):
        WAYS[way](texts(), x)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("way", ["prune", "filter_relevance", "input_relevance", "FilterPruning"])
def test_weights_that_are_no_numbers(way, value):
    """A ReLU would make zero of NaN, so that accuracies look as always."""
    model = images("float32")
    kernel = np.asarray(model.get_layer("conv").kernel).copy()
    kernel[0, 0, 0, 1] = value
    model.get_layer("conv").kernel.assign(kernel)
    with pytest.raises(klp.UnsupportedModelError, match="NaN or infinite numbers in conv/kernel"):
        WAYS[way](model, np.ones((20, 6, 6, 1)))


def test_training_that_diverges_is_told():
    model = images("float32")

    class Diverge(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            bias = self.model.get_layer("conv").bias
            bias.assign(bias * np.nan)

    x = np.ones((20, 6, 6, 1), "float32")
    pruning = klp.callbacks.FilterPruning((x, Y), SCHEDULE)
    with pytest.raises(FloatingPointError, match="diverged: conv/"):
        model.fit(x, Y, callbacks=[Diverge(), pruning], verbose=0)


def generated(batches, *shapes):
    specs = tuple(map(tf.TensorSpec, shapes or ((None, 3), (None,))))
    return tf.data.Dataset.from_generator(lambda: batches, output_signature=specs)


def endless():
    while True:
        yield np.zeros((2**14, 3), "float32"), np.zeros(2**14, "float32")


def test_a_dataset_that_does_not_end():
    with pytest.raises(
        klp.DataError, match=r"did not end within 1,0\d\d,\d\d\d samples.*take\(n\)"
    ):
        reference_set(generated(endless()))
    assert len(reference_set(generated(endless()).take(3), require_all_classes=False)) == 3 * 2**14


def test_a_long_dataset_that_says_how_long_it_is():
    long = generated(endless()).take(65).apply(tf.data.experimental.assert_cardinality(65))
    assert len(reference_set(long, require_all_classes=False)) == 65 * 2**14


def test_single_samples_of_unknown_rank():
    unknown = None, None
    samples = ((np.zeros(3, "float32"), np.float32(0)) for _ in range(3))
    with pytest.raises(klp.DataError, match="single samples; batch it"):
        reference_set(generated(samples, *unknown))
    samples = ((np.zeros(3, "float32"), np.zeros(1, "float32")) for _ in range(3))
    with pytest.raises(klp.DataError, match="single samples; batch it"):
        reference_set(generated(samples, *unknown), input_shape=(3,))
