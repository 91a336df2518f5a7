"""FilterPruning goes on: after a crash, in another fit, from masks it finds, on another model."""

import threading

import keras
import numpy as np
import pytest
import tensorflow_model_optimization as tfmot
from models import difference, same_weights
from pruning_models import digits, reference
from training_callbacks import SCHEDULE, Callback, Crash, Watch, compiled, every_step, filters, fit

import keras_lrp_prune as klp
from keras_lrp_prune.callbacks import FilterPruning


def test_weights_of_an_earlier_epoch_are_pruned_as_they_are(trained, caplog):
    model = compiled(trained)
    late = tfmot.sparsity.keras.PolynomialDecay(0.2, 0.6, begin_step=0, end_step=40, frequency=4)
    pruning = FilterPruning(reference(), late)
    stop = keras.callbacks.EarlyStopping(
        "pruning_rate", mode="min", patience=99, restore_best_weights=True
    )
    fit(model, pruning, stop, epochs=3)
    small = pruning.pruned_model()
    (x, _), _ = digits()
    assert difference(small(x[:50]), model(x[:50])) <= 1e-5
    assert "restored" in caplog.text
    of_first_epoch = [record.rate for record in pruning.history if record.step <= 16][-1]
    removed = 1 - filters(small) / filters(model)
    assert removed == pytest.approx(of_first_epoch)
    assert removed == pruning.pruning_rate < pruning.history[-1].rate


@pytest.mark.parametrize("with_states", [True, False])
@pytest.mark.parametrize("save_freq", ["epoch", 7])
def test_training_goes_on_after_a_crash(trained, tmp_path, with_states, save_freq):
    schedule = every_step(5, tolerance=0.2) if with_states else SCHEDULE
    folder = tmp_path / "states" if with_states else None

    def pruning():
        return FilterPruning(reference(), schedule, state_dir=folder)

    def backup():
        return keras.callbacks.BackupAndRestore(
            tmp_path / "backup", save_freq=save_freq, delete_checkpoint=False
        )

    interrupted = compiled(trained)
    first = pruning()
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, backup(), first, Crash(24), epochs=3)
    again, second = compiled(trained), pruning()
    at_start = []

    class Look(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            at_start.append((int(self.model.optimizer.iterations), second.pruning_rate))

    watch = Watch(second)
    fit(again, backup(), second, watch, Look(), epochs=3)
    step, rate = at_start[0]
    before = [record.rate for record in first.history if record.accepted and record.step <= step]
    assert step > 0 and rate == pytest.approx(before[-1])
    assert not watch.wrong
    if with_states:
        shared = [record for record in first.history if record.step <= step]
        assert second.history[: len(shared)] == shared
    if with_states and save_freq == "epoch":
        whole, third = compiled(trained), FilterPruning(reference(), schedule)
        fit(whole, third, epochs=3)
        assert third.history == second.history
        assert same_weights(whole.get_weights(), again.get_weights())


def test_states_of_another_run_are_refused_and_stay(trained, tmp_path):
    fit(compiled(trained), FilterPruning(reference(), SCHEDULE, state_dir=tmp_path))
    there = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for step in (0, 20):
        other = FilterPruning(reference(), SCHEDULE, criterion="l1", state_dir=tmp_path)
        model = compiled(trained)
        model.optimizer.build(model.trainable_variables)
        model.optimizer.iterations.assign(step)
        with pytest.raises(klp.CheckpointError, match=r"other settings \(criterion\)"):
            fit(model, other)
    assert there and {path: path.read_bytes() for path in tmp_path.iterdir()} == there


def test_a_state_dir_in_use_is_refused(trained, tmp_path):
    said = []
    first, second = (FilterPruning(reference(), SCHEDULE, state_dir=tmp_path) for _ in range(2))

    def train():
        try:
            fit(compiled(trained), second, epochs=1)
        except klp.CheckpointError as error:
            said.append(str(error))

    class Meanwhile(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            thread = threading.Thread(target=train)
            thread.start()
            thread.join()

    fit(compiled(trained), first, Meanwhile(), epochs=1)
    assert len(said) == 1 and "state_dir" in said[0] and "in use by another run" in said[0]
    assert not list(tmp_path.glob(".*")), "it is free again"


def test_a_second_fit_goes_on(trained):
    model = compiled(trained)
    pruning = FilterPruning(reference(), SCHEDULE)
    watch = Watch(pruning)
    (x, y), _ = digits()
    model.fit(x[:160], y[:160], batch_size=32, verbose=0, callbacks=[pruning])
    middle = pruning.pruning_rate
    fit(model, pruning, watch)
    assert 0 < middle < pruning.pruning_rate == pytest.approx(0.5, abs=0.02)
    assert watch.rates[0] >= middle and not watch.wrong


def test_a_step_that_never_came_holds_nothing_in_the_next_fit(trained):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            raise KeyboardInterrupt

    model = compiled(trained)
    pruning = FilterPruning(reference(), SCHEDULE)
    fit(model, pruning)
    with pytest.raises(KeyboardInterrupt):
        fit(model, pruning, Stop())
    before = pruning.pruning_rate
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(0, 0.1, weight.shape))
    fit(model, epochs=1)
    assert before > 0 and pruning.pruning_rate == 0


def test_a_new_callback_goes_on_from_the_masks_that_it_finds(trained):
    model = compiled(trained)
    for final in (0.3, 0.6):
        pruning = FilterPruning(reference(), every_step(final_sparsity=final, tolerance=0.9))
        fit(model, pruning)
        assert pruning.pruning_rate == pytest.approx(final, abs=0.02)


def test_another_model_starts_anew(trained):
    pruning = FilterPruning(reference(), every_step(final_sparsity=0.3, tolerance=0.9))
    histories = []
    for _ in range(2):
        fit(compiled(trained), pruning)
        histories.append([record.rate for record in pruning.history])
    assert histories[0] == histories[1] and histories[0][-1] == pytest.approx(0.3, abs=0.02)
