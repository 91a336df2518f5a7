"""FilterPruning in model.fit: masks that hold, whatever trains the model."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from hypothesis import assume, given
from hypothesis import strategies as st
from keras import layers
from models import BUILDERS, analysed, difference, images, make_live, same_weights
from places import SUPPORT
from pruning_models import digits, reference
from random_graphs import PROGRAMS, model_of
from tiers import examples
from training_callbacks import ADAM, SCHEDULE, Watch, compiled, fit

import keras_lrp_prune as klp
from keras_lrp_prune.callbacks import FilterPruning

OPTIMIZERS = {
    "momentum and weight decay": lambda: keras.optimizers.SGD(
        0.05, momentum=0.9, weight_decay=0.01
    ),
    "AdamW": lambda: keras.optimizers.AdamW(3e-3, weight_decay=0.05),
    "gradient accumulation": lambda: ADAM(3e-3, gradient_accumulation_steps=2),
    "averages that overwrite": lambda: ADAM(3e-3, use_ema=True, ema_overwrite_frequency=3),
    "averages at the end": lambda: ADAM(3e-3, use_ema=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_masked_filters_stay_zero_whatever_the_optimizer_adds(trained, optimizer):
    model = compiled(trained, OPTIMIZERS[optimizer]())
    pruning = FilterPruning(reference(), SCHEDULE)
    watch = Watch(pruning)
    fit(model, pruning, watch, epochs=2)
    assert not watch.wrong
    assert watch.rates[-1] == pruning.pruning_rate > 0.4
    (x, _), _ = digits()
    small = pruning.pruned_model()
    assert small.count_params() < 0.6 * model.count_params()
    assert difference(small(x[:50]), model(x[:50])) <= 1e-5


MODES = {
    "steps_per_execution": {"steps_per_execution": 4},
    "jit_compile": {"jit_compile": True},
    "run_eagerly": {"run_eagerly": True},
}


@pytest.mark.parametrize("mode", MODES)
def test_every_way_to_run_a_step_holds_the_masks(trained, mode):
    model = compiled(trained, **MODES[mode])
    pruning = FilterPruning(reference(), SCHEDULE)
    watch = Watch(pruning)
    fit(model, pruning, watch)
    assert not watch.wrong
    (x, _), _ = digits()
    assert pruning.pruning_rate == pytest.approx(0.5, abs=0.02)
    assert difference(pruning.pruned_model()(x[:50]), model(x[:50])) <= 1e-5


def finite(model, x):
    return np.isfinite(keras.ops.convert_to_numpy(model(x))).all()


@examples(7)
@given(PROGRAMS, st.integers(0, 2**16))
def test_masked_equals_rebuilt_after_training_random_models(program, seed):
    model = model_of(program)
    _, structure = analysed(model)
    assume(len(model.output_shape) == 2 and model.output_shape[-1] <= 12)
    # A third of the filters can go only where each group has one to spare.
    assume(structure.n_units and structure.n_units >= 2 * len(structure.groups))
    make_live(model)
    assume(finite(model, images(model, 12)))
    check_masked_equals_rebuilt(model, seed)


@pytest.mark.parametrize("name", BUILDERS)
def test_masked_equals_rebuilt_after_training(float64, name):
    check_masked_equals_rebuilt(make_live(BUILDERS[name]()), 0)


def check_masked_equals_rebuilt(model, seed):
    keras.utils.set_random_seed(seed)
    x = np.asarray(images(model, 12))
    y = np.arange(12) % max(model.output_shape[-1], 2)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "mse")
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.3, begin_step=1, frequency=1)
    pruning = FilterPruning((x, y), schedule, criterion="random", seed=seed)
    target = keras.ops.convert_to_numpy(model(x)) + 1
    try:
        model.fit(x, target, epochs=2, batch_size=4, verbose=0, callbacks=[pruning])
    except FloatingPointError:
        return  # training may diverge
    exact = keras.config.floatx() == "float64"
    if finite(model, x):  # training may diverge
        small = pruning.pruned_model()
        assert pruning.history and small.count_params() < model.count_params()
        assert difference(small(x), model(x)) <= (1e-9 if exact else 1e-3)


def test_constraints_of_ones_own_are_kept_and_given_back(trained):
    model = compiled(trained)
    norm = keras.constraints.MaxNorm(0.5)
    kernel = model.get_layer("second").kernel
    kernel.constraint = norm
    pruning = FilterPruning(reference(), SCHEDULE)
    fit(model, pruning)
    assert kernel.constraint is norm
    assert np.linalg.norm(kernel.numpy(), axis=0).max() <= 0.5 + 1e-5
    assert all(v.constraint is None for v in model.weights if v is not kernel)


def test_the_result_needs_no_package(trained, plain_keras, tmp_path):
    model = compiled(trained)
    pruning = FilterPruning(reference(), SCHEDULE)
    fit(model, pruning)
    (x, _), _ = digits()
    assert difference(plain_keras(model, x[:20]), model(x[:20])) <= 1e-6
    assert difference(plain_keras(pruning.pruned_model(), x[:20]), model(x[:20])) <= 1e-5


CRITERIA = [
    *((name, "native") for name in ("lrp.log_odds", "lrp.alpha_2_beta_1")),
    *((name, "native") for name, one in klp.criteria.CRITERIA.items() if one.compared),
    ("lrp.sequential_preset_a", "innvestigate"),
]


@pytest.mark.parametrize(("criterion", "engine"), CRITERIA)
def test_criteria_see_the_weights_of_now(trained, criterion, engine):
    from keras_lrp_prune.criteria.registry import chosen_criterion
    from keras_lrp_prune.examination.subject import read_subject

    model = compiled(trained)

    def problem():
        return read_subject(model, reference()).problem()

    chosen = chosen_criterion(criterion, engine=engine)
    nothing = np.zeros(problem().structure.n_units, bool)
    kept = chosen.scorer(problem())
    before = kept.scores(nothing).combined(np.ones(10))
    fit(model)
    kept.refresh()
    after = kept.scores(nothing).combined(np.ones(10))
    fresh = chosen.scorer(problem()).scores(nothing).combined(np.ones(10))
    kept.close()
    assert difference(after, fresh) <= 1e-5
    assert (difference(after, before) > 1e-3) == (criterion != "random")


def batches():
    """A generator that never ends."""
    (x, y), _ = digits()
    rng = np.random.default_rng(0)
    while True:
        chosen = rng.integers(0, len(x), 32)
        yield x[chosen], y[chosen]


SOURCES = {
    "generator": lambda: (batches(), {}),
    "dataset and class weights": lambda: (
        tf.data.Dataset.from_tensor_slices(digits()[0]).repeat().batch(32),
        {"class_weight": {c: 1.0 + c for c in range(10)}},
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_other_samples_to_train_on(trained, source):
    model = compiled(trained)
    pruning = FilterPruning(reference(), SCHEDULE)
    watch = Watch(pruning)
    samples, options = SOURCES[source]()
    options |= {"steps_per_epoch": 14, "validation_data": digits()[1], "verbose": 0}
    model.fit(samples, callbacks=[pruning, watch], **options)
    assert not watch.wrong and pruning.pruning_rate == pytest.approx(0.5, abs=0.02)


class Bypass(keras.Model):
    """Updates weights without its optimizer."""

    def train_step(self, data):
        for weight in self.trainable_variables:
            weight.assign_add(tf.ones(weight.shape))
        self.optimizer.iterations.assign_add(1)
        return {"loss": tf.constant(0.0)}


def test_a_train_step_that_bypasses_the_optimizer_is_told():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    model = Bypass(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    model.compile(ADAM())
    with pytest.raises(RuntimeError, match=r"conv/kernel.*train_step must update weights"):
        fit(model, FilterPruning(reference(), SCHEDULE, criterion="l1"))


class TestErrors:
    """Before any training step."""

    def check(self, model, pruning, error, match):
        weights = model.get_weights()
        with pytest.raises(error, match=match):
            fit(model, pruning)
        assert same_weights(weights, model.get_weights())

    def test_samples(self, trained):
        x, y = reference()
        pruning = FilterPruning((np.where(x == x.max(), np.nan, x), y), SCHEDULE)
        self.check(compiled(trained), pruning, klp.DataError, "NaN")
        pruning = FilterPruning((x[y != 3], y[y != 3]), SCHEDULE)
        self.check(compiled(trained), pruning, klp.DataError, "no sample: 3")
        pruning = FilterPruning((x, y), SCHEDULE, validation=(x, y + 10))
        self.check(compiled(trained), pruning, klp.DataError, "validation data")

    def test_unreachable(self, trained):
        schedule = tfmot.sparsity.keras.ConstantSparsity(0.95, 0)
        pruning = FilterPruning(reference(), schedule, min_channels=6)
        self.check(compiled(trained), pruning, ValueError, "largest pruning rate is")

    def test_arguments(self):
        with pytest.raises(ValueError, match="PruningSchedule"):
            FilterPruning(reference(), 0.5)
        with pytest.raises(ValueError, match="Unknown criterion"):
            FilterPruning(reference(), SCHEDULE, criterion="l3")
        with pytest.raises(ValueError, match="min_accuracy"):
            FilterPruning(reference(), SCHEDULE, min_accuracy=90)
        with pytest.raises(RuntimeError, match="has not seen a model"):
            FilterPruning(reference(), SCHEDULE).pruned_model()

    def test_state_dir(self, trained, tmp_path):
        (tmp_path / "file").touch()
        pruning = FilterPruning(reference(), SCHEDULE, state_dir=tmp_path / "file")
        self.check(compiled(trained), pruning, klp.CheckpointError, "Cannot write")


STRATEGIES = SUPPORT / "callback_strategies.py"


@pytest.fixture(scope="module")
def strategies(tmp_path_factory):
    """What happened under strategies, in a process of its own."""
    report = tmp_path_factory.mktemp("strategies") / "report.json"
    subprocess.run([sys.executable, STRATEGIES, report], check=True, timeout=300)
    return json.loads(report.read_text())


def test_two_devices_train_the_same_masks(strategies):
    assert strategies["wrong"] == []
    assert strategies["rate"] == pytest.approx(0.5, abs=0.02)
    assert strategies["difference"] <= 1e-5
    assert strategies["history"] == strategies["history on one device"]


def test_several_workers_are_refused(strategies):
    assert "keras issue 20585" in strategies["several workers"]
