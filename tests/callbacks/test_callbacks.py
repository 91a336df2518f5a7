"""FilterPruning in model.fit: masks that hold, a schedule that is followed, runs that resume."""

import json
import subprocess
import sys
import threading

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
from training_callbacks import ADAM, SCHEDULE, Callback, Crash, Watch, compiled, every_step, fit

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


@examples(15)
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
    schedule = Steps(7, 0.3)
    pruning = FilterPruning(reference(), schedule)
    fit(model, pruning)
    assert schedule.asked == list(range(int(model.optimizer.iterations) + 1))
    assert len(schedule.asked) >= 17
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


def filters(model):
    """Number of filters that can be pruned, in the digits model."""
    prunable = [model.get_layer(name) for name in ("first", "second", "hidden")]
    return sum(layer.kernel.shape[-1] for layer in prunable)


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
    *((name, "native") for name in ("lrp.log_odds", "lrp.alpha_2_beta_1", "taylor", "l1")),
    ("lrp.sequential_preset_a", "innvestigate"),
]


@pytest.mark.parametrize(("criterion", "engine"), CRITERIA)
def test_criteria_see_the_weights_of_now(trained, criterion, engine):
    from keras_lrp_prune.examination.criterion_choice import CriterionChoice
    from keras_lrp_prune.examination.subject import read_subject
    from keras_lrp_prune.relevance.criteria import make_criterion

    model = compiled(trained)

    def problem():
        return read_subject(model, reference()).problem(CriterionChoice(engine=engine))

    nothing = np.zeros(problem().structure.n_units, bool)
    kept = make_criterion(criterion, problem())
    before = kept.scores(nothing).combined(np.ones(10))
    fit(model)
    kept.refresh()
    after = kept.scores(nothing).combined(np.ones(10))
    fresh = make_criterion(criterion, problem()).scores(nothing).combined(np.ones(10))
    kept.close()
    assert difference(after, fresh) <= 1e-5
    assert difference(after, before) > 1e-3


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
