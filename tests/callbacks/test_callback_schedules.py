"""FilterPruning in model.fit: a schedule that is followed, and what stops it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from models import analysed, same_weights
from pruning_models import digits, reference
from training_callbacks import SCHEDULE, Callback, Watch, compiled, every_step, fit

import keras_lrp_prune as klp
from keras_lrp_prune.callbacks import FilterPruning


def test_a_schedule_of_tfmot_is_followed_exactly(trained):
    model = compiled(trained)
    pruning = FilterPruning(reference(), SCHEDULE)
    watch = Watch(pruning)
    fit(model, pruning, watch)
    half = 0.5 / watch.structure.unit_sizes.sum()
    wanted = 0.0
    for step, rate in enumerate(watch.rates, start=1):
        should_prune, sparsity = SCHEDULE(step)
        wanted = float(sparsity) if should_prune else wanted
        assert abs(rate - wanted) <= half + 1e-9
    assert {record.step for record in pruning.history} <= {2, 4, 6, 8, 10, 12}
    assert all(record.accepted for record in pruning.history)


def test_step_zero_comes_before_the_first_update(trained):
    model = compiled(trained)
    pruning = FilterPruning(reference(), tfmot.sparsity.keras.ConstantSparsity(0.4, 0, frequency=1))
    seen = []

    class Look(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(pruning.pruning_rate)

    fit(model, pruning, Look())
    assert seen[0] == pytest.approx(0.4, abs=0.02)


class Steps(tfmot.sparsity.keras.PruningSchedule):
    """Prunes at one step only; remembers what it was asked."""

    def __init__(self, only, sparsity):
        self.only, self.sparsity, self.asked = only, sparsity, []

    def __call__(self, step):
        self.asked.append(int(step))
        return tf.constant(int(step) == self.only), tf.constant(self.sparsity)

    def get_config(self):
        return {"class_name": "Steps", "config": {"only": self.only, "sparsity": self.sparsity}}


def test_every_step_within_an_execution_is_answered(trained):
    model = compiled(trained, steps_per_execution=5)
    given = Steps(7, 0.3)
    pruning = FilterPruning(reference(), given)
    fit(model, pruning)
    asked = pruning.schedule.asked
    assert asked == list(range(int(model.optimizer.iterations) + 1)) and len(asked) >= 17
    assert not given.asked, "each training has a schedule of its own"
    assert [record.step for record in pruning.history] == [10]
    assert pruning.pruning_rate == pytest.approx(0.3, abs=0.02)


def test_a_step_below_the_floor_is_undone_bit_for_bit(trained):
    plain, pruned = compiled(trained), compiled(trained)
    fit(plain)
    pruning = FilterPruning(reference(), SCHEDULE, min_accuracy=1.0)
    fit(pruned, pruning)
    assert len(pruning.history) >= 5
    assert all(record.reason.startswith("floor") for record in pruning.history)
    assert pruning.pruning_rate == 0
    assert same_weights(plain.get_weights(), pruned.get_weights())


def test_accuracies_steer_and_are_watched_on_the_validation_samples(trained):
    model = compiled(trained)
    _, (x, y) = digits()
    watched = (x[:200], y[:200])
    pruning = FilterPruning(reference(), every_step(), validation=watched, min_accuracy=0.3)
    history = fit(model, pruning, epochs=2).history
    kept = [record for record in pruning.history if record.accepted]
    assert kept and all(record.harmonic_mean >= 0.3 for record in kept)
    assert any(not record.accepted for record in pruning.history)
    found = np.asarray(model.predict(watched[0], verbose=0)).argmax(1)
    hard = np.array([(found[watched[1] == c] == c).mean() for c in range(10)])
    assert history["harmonic_mean_accuracy"][-1] == pytest.approx(klp.harmonic_mean_accuracy(hard))
    assert history["worst_class_accuracy"][-1] == pytest.approx(hard.min())
    assert hard[int(history["worst_class"][-1])] == hard.min()


def test_other_callbacks_read_the_logs(trained, tmp_path):
    model = compiled(trained)
    table = tmp_path / "log.csv"
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="harmonic_mean_accuracy", mode="max", save_best_only=True
    )
    stop = keras.callbacks.EarlyStopping("worst_class_accuracy", mode="max", patience=99)
    slow = keras.callbacks.ReduceLROnPlateau("pruning_rate", mode="max", patience=1, cooldown=0)
    pruning = FilterPruning(reference(), SCHEDULE)
    fit(model, pruning, best, stop, slow, keras.callbacks.CSVLogger(table), epochs=4)
    header, *lines = table.read_text().splitlines()
    rates = [float(line.split(",")[header.split(",").index("pruning_rate")]) for line in lines]
    assert rates == pytest.approx([pruning.pruning_rate] * 4)
    assert (tmp_path / "best.keras").exists()
    assert float(model.optimizer.learning_rate) < 1e-3  # the rate stood still


def test_a_budget_ends_the_schedule(trained):
    model = compiled(trained)
    steep = tfmot.sparsity.keras.PolynomialDecay(0.1, 0.9, begin_step=2, end_step=14, frequency=3)
    pruning = FilterPruning(reference(), steep, budget={"flops": 0.5})
    fit(model, pruning)
    before, last = pruning.history[-2:]
    whole = klp.prune(model, reference(), 0.0, verbose=0).cost_before
    assert last.flops <= 0.5 * whole.flops < before.flops
    # Without the last filter it would not be met.
    assert last.flops > 0.5 * whole.flops - 2 * 81 * 64 * max(8, 12)
    with pytest.raises(ValueError, match=r"budget flops=0\.001 cannot be met"):
        fit(model, FilterPruning(reference(), steep, budget={"flops": 0.001}))


@pytest.mark.parametrize("tolerance", [0.9, 0.0])
def test_steps_smaller_than_a_unit_take_one(trained, tolerance):
    """Four filters go at once: more than a step."""
    schedule = every_step(frequency=1, final_sparsity=0.4, tolerance=tolerance, initial_step=0.025)
    pruning = FilterPruning(reference(), schedule, round_to=4)
    model = compiled(trained)
    fit(model, pruning, epochs=2)
    _, structure = analysed(model)
    bundle = 4 / structure.unit_sizes.sum()
    assert bundle / 2 > schedule.initial_step, "else this shows nothing"
    assert pruning.pruning_rate == pytest.approx(0.4, abs=bundle / 2)
