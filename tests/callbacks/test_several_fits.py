"""FilterPruning in one fit after the other, and in a fit that fails."""

import warnings

import keras
import pytest
from pruning_models import digits_model, reference
from training_callbacks import RATE, SCHEDULE, Watch, compiled, every_step, fit, pruner, zeros

import keras_lrp_prune as klp
from keras_lrp_prune.callbacks import FilterPruning

OPTIMIZERS = keras.optimizers


def test_a_fit_traces_its_step_once_and_the_next_one_takes_it(trained):
    """However many steps prune; a fit without the callback has a step of its own."""

    def counted():
        traces = []

        class Counted(keras.Model):
            def train_step(self, data):
                traces.append(data)
                return super().train_step(data)

        copy = compiled(trained)
        model = Counted(copy.inputs, copy.outputs)
        model.compile(OPTIMIZERS.Adam(3e-3), "sparse_categorical_crossentropy")
        return model, traces

    plain, of_plain = counted()
    fit(plain)
    model, traces = counted()
    pruning = FilterPruning(reference(), SCHEDULE)

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert pruning._run.scorer.behind.engine.traces == pruning._run.forward._run.traces == 1

    fit(model, pruning, Look())
    assert len(pruning.history) > 3 and len(traces) == len(of_plain)
    fit(model, pruning)
    assert len(traces) == len(of_plain)
    fit(model)
    assert len(traces) == len(of_plain) + 1
    model.compile(OPTIMIZERS.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
    model.set_weights(trained.get_weights())
    watch, before = Watch(pruning), len(traces)
    fit(model, pruning, watch)
    assert len(traces) > before, "it was compiled anew"
    assert not watch.wrong and zeros(model) == RATE


def with_adafactor(model):
    model.compile(OPTIMIZERS.Adafactor(3e-3), "sparse_categorical_crossentropy")


def frozen(model):
    model.trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")


CHANGED = {
    with_adafactor: (ValueError, r"Adafactor\(epsilon_1=1e-15\)"),
    frozen: (klp.UnsupportedModelError, "Nothing of model .* is trainable"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_what_changed_since_the_last_fit_is_checked(trained, change):
    model, pruning = compiled(trained), pruner()
    fit(model, pruning)
    change(model)
    error, words = CHANGED[change]
    with pytest.raises(error, match=words):
        fit(model, pruning)


def test_a_failure_at_the_end_or_the_beginning_lets_go_of_the_folder(trained, tmp_path):
    model = digits_model(epochs=0)
    model.compile(OPTIMIZERS.SGD(1e-6), "sparse_categorical_crossentropy")
    at_chance = pruner(state_dir=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", klp.AtChanceWarning)
        with pytest.raises(klp.AtChanceWarning):
            fit(model, at_chance)
    assert list(tmp_path.iterdir()) and not list(tmp_path.glob(".*"))
    options = {"engine": "innvestigate", "worker_python": str(tmp_path / "missing")}
    folder = tmp_path / "other"
    without_worker = FilterPruning(reference(), SCHEDULE, state_dir=folder, **options)
    with pytest.raises(klp.WorkerError):
        fit(compiled(trained), without_worker)
    assert folder.exists() and not list(folder.glob(".*"))


def test_each_step_is_answered_once(trained):
    """Else a step that ends a fit prunes twice, with no training in between."""
    model = compiled(trained)
    schedule = every_step(8, final_sparsity=0.5, tolerance=0.9)
    pruning = FilterPruning(reference(), schedule, "l1")
    for _ in range(3):
        fit(model, pruning)
    steps = [record.step for record in pruning.history]
    assert steps == list(range(0, 8 * len(steps), 8)) and len(steps) > 4


@pytest.mark.parametrize("ending", [(), (keras.callbacks.TerminateOnNaN(),)], ids=["", "ended"])
def test_training_that_diverges_behind_the_last_step_is_told(trained, ending):
    class TooFast(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 13:
                self.model.optimizer.learning_rate = 1e25

    with pytest.raises(FloatingPointError, match=r"Training diverged: .* NaN"):
        fit(compiled(trained, OPTIMIZERS.SGD(1e-3)), pruner(), TooFast(), *ending, epochs=2)
