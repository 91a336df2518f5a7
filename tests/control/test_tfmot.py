"""AccuracyAware where TensorFlow Model Optimization runs itself: legacy Keras, single weights."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

import keras_lrp_prune as klp

SPARSITY = tfmot.sparsity.keras
STEPS = 8  # a training step each, in an epoch


def samples():
    x = np.random.default_rng(0).random((32 * STEPS, 8)).astype(np.float32)
    return x, (x.sum(1) > 4).astype(int)


def wrapped(schedule):
    """A small legacy model whose weights TFMOT prunes."""
    tf_keras.utils.set_random_seed(0)
    dense = tf_keras.layers.Dense
    model = tf_keras.Sequential([dense(16, activation="relu", input_shape=(8,)), dense(2)])
    return compiled(SPARSITY.prune_low_magnitude(model, pruning_schedule=schedule))


def compiled(model):
    model.compile("adam", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def fit(model, epochs=1):
    model.fit(*samples(), epochs=epochs, verbose=0, callbacks=[SPARSITY.UpdatePruningStep()])


def sparsity(model):
    return float((model.layers[0].layer.kernel.numpy() == 0).mean())


def test_it_drives_the_sparsity_of_tfmot_through_what_it_observes():
    schedule = klp.schedules.AccuracyAware(
        initial_step=0.2, max_step=0.3, frequency=2, final_sparsity=0.6
    )
    assert isinstance(schedule, SPARSITY.PruningSchedule)
    model = wrapped(schedule)
    assert schedule.observe([0.9, 0.9])
    fit(model)
    assert sparsity(model) == pytest.approx(0.2, abs=0.02)
    fit(model)  # nothing was observed: nothing more goes
    assert sparsity(model) == pytest.approx(0.2, abs=0.02)
    assert schedule.observe([0.9, 0.88])
    fit(model)
    assert sparsity(model) == pytest.approx(0.5, abs=0.02)
    assert not schedule.observe([0.9, 0.1])  # a class is hurt: half of the step
    fit(model)
    assert sparsity(model) == pytest.approx(0.35, abs=0.02)


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_it_is_saved_and_loaded_with_tfmots_wrapper(tmp_path, suffix):
    schedule = klp.schedules.AccuracyAware(
        initial_step=0.2, max_step=0.3, frequency=3, begin_step=2, order="uniform"
    )
    model = wrapped(schedule)
    schedule.observe([0.9, 0.9])
    fit(model)
    schedule.observe([0.9, 0.9])
    model.save(tmp_path / f"model.{suffix}")
    known = {"AccuracyAware": klp.schedules.AccuracyAware}
    with SPARSITY.prune_scope(), tf_keras.utils.custom_object_scope(known):
        loaded = tf_keras.models.load_model(tmp_path / f"model.{suffix}")
    x, _ = samples()
    assert np.array_equal(loaded(x), model(x))
    again = loaded.layers[0].pruning_schedule
    assert type(again) is klp.schedules.AccuracyAware and again is not schedule
    assert again.get_config() == schedule.get_config()
    for layer in loaded.layers:  # each wrapper has one of its own
        layer.pruning_schedule.set_state(schedule.get_state())
    fit(loaded)
    fit(model)
    assert sparsity(loaded) == sparsity(model) == pytest.approx(0.5, abs=0.02)
    assert np.allclose(loaded(x), model(x), atol=1e-6)


def test_it_answers_in_a_traced_step():
    schedule = klp.schedules.AccuracyAware(
        initial_step=0.1, max_step=0.2, begin_step=4, end_step=8, frequency=2
    )
    asked = tf.function(schedule, input_signature=[tf.TensorSpec([], tf.int32)])
    turns = [step for step in range(12) if bool(asked(step)[0])]
    assert turns == [4, 6, 8]
    assert float(asked(0)[1]) == pytest.approx(0.1)
    schedule.observe([1.0, 1.0])
    schedule.observe([1.0, 1.0])
    assert float(asked(0)[1]) == pytest.approx(0.25)  # a variable's news, no new trace
    assert asked.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    "steps", [{"begin_step": -1}, {"frequency": 0}, {"begin_step": 5, "end_step": 3}]
)
def test_steps_out_of_range(steps):
    with pytest.raises(ValueError, match=r"step|frequency"):
        klp.schedules.AccuracyAware(**steps)
