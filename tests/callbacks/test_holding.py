"""What is masked is zero after model.fit, whatever trains the model and however it ends."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from keras import layers
from models import difference, same_weights
from pruning_models import digits, digits_model, reference
from training_callbacks import RATE, SCHEDULE, Crash, Watch, compiled, fit, pruner, zeros

from keras_lrp_prune.callbacks import FilterPruning
from keras_lrp_prune.prunables.slots import slots_of

OPTIMIZERS = keras.optimizers


def scaled(**options):
    return OPTIMIZERS.LossScaleOptimizer(OPTIMIZERS.Adam(3e-3, **options))


def several(**options):
    """Adam for one convolution, SGD for the rest; since Keras 3.14."""
    if not hasattr(OPTIMIZERS, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    by_name = {
        True: OPTIMIZERS.Adam(3e-3, **options),
        False: OPTIMIZERS.SGD(0.05, momentum=0.9, **options),
    }
    return OPTIMIZERS.MultiOptimizer(lambda variable: by_name["second" in variable.path])


AVERAGED = {
    "scaled loss": lambda: scaled(use_ema=True),
    "several optimizers": lambda: several(use_ema=True),
}


@pytest.mark.parametrize("optimizer", AVERAGED)
def test_averages_of_inner_optimizers_are_masked(trained, optimizer):
    model, pruning = compiled(trained, AVERAGED[optimizer]()), pruner()
    check_held(model, pruning)


def check_held(model, pruning, *others, tolerance=1e-5):
    """Trains, and checks that half of the filters are zero: after each step, and in the end."""
    watch = Watch(pruning)
    logs = fit(model, *others, pruning, watch, epochs=2).history
    (x, _), _ = digits()
    assert not watch.wrong
    assert logs["pruning_rate"][-1] == pruning.pruning_rate == zeros(model) == RATE
    assert difference(pruning.pruned_model()(x[:50]), model(x[:50])) <= tolerance


KINDS = {
    "SGD": lambda **options: OPTIMIZERS.SGD(0.05, momentum=0.9, nesterov=True, **options),
    "Adam": lambda **options: OPTIMIZERS.Adam(3e-3, amsgrad=True, **options),
    "AdamW": lambda **options: OPTIMIZERS.AdamW(3e-3, weight_decay=0.05, **options),
    "Adafactor": lambda **options: OPTIMIZERS.Adafactor(3e-3, epsilon_1=1e-15, **options),
    "Adagrad": lambda **options: OPTIMIZERS.Adagrad(0.05, **options),
    "Ftrl": lambda **options: OPTIMIZERS.Ftrl(0.05, **options),
    "Lion": lambda **options: OPTIMIZERS.Lion(1e-3, **options),
    "Nadam": lambda **options: OPTIMIZERS.Nadam(3e-3, **options),
    "RMSprop": lambda **options: OPTIMIZERS.RMSprop(3e-3, momentum=0.9, centered=True, **options),
    "scaled loss": scaled,
    "several optimizers": several,
}
WAYS = {
    "averages": ({"use_ema": True}, {}),
    "averages that overwrite": ({"use_ema": True, "ema_overwrite_frequency": 3}, {}),
    "accumulation": ({"gradient_accumulation_steps": 2, "use_ema": True}, {}),
    "executions": ({"use_ema": True}, {"steps_per_execution": 4}),
    "XLA": ({"use_ema": True}, {"jit_compile": True}),
    "eager": ({"use_ema": True}, {"run_eagerly": True}),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_holds_masks_in_every_way(trained, kind, way):
    options, compiling = WAYS[way]
    check_held(compiled(trained, KINDS[kind](**options), **compiling), pruner())


@pytest.mark.parametrize("averages", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_mixed_precision(trained, averages):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = digits_model(epochs=0)
    finally:
        keras.config.set_dtype_policy(policy)
    model.set_weights(trained.get_weights())
    model.compile(OPTIMIZERS.Adam(3e-3, use_ema=averages), "sparse_categorical_crossentropy")
    assert type(model.optimizer).__name__ == "LossScaleOptimizer"
    check_held(model, pruner(), tolerance=1e-2)


@pytest.mark.parametrize("before", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_swapped_averages_are_masked_at_each_epoch_end(trained, before):
    model = compiled(trained, OPTIMIZERS.Adam(3e-3, use_ema=True))
    pruning, swap = pruner(), keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    found = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found.append((logs["pruning_rate"], zeros(self.model)))

    fit(model, *((swap, pruning) if before else (pruning, swap)), Look(), epochs=2)
    assert found == [(RATE, RATE)] * 2 and zeros(model) == RATE


@pytest.mark.parametrize(
    "kind", ["Ftrl", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("Adagrad", "Adam"))]
)
def test_what_an_optimizer_keeps_starts_anew(trained, kind):
    """Else momentum brings filters back in a later fit, and Ftrl divides zero by zero."""
    model = compiled(trained, KINDS[kind]())
    fit(model, pruner())
    kernel = model.get_layer("second").kernel
    fresh = KINDS[kind]()
    fresh.build([kernel])
    masked = ~kernel.numpy().any((0, 1, 2))
    of_model, as_built = slots_of(model.optimizer, kernel), slots_of(fresh, kernel)
    pairs = list(zip(of_model, as_built, strict=True))
    assert pairs and masked.any()
    for slot, built in pairs:
        assert (slot.variable.numpy()[..., masked] == built.variable.numpy()[..., masked]).all()
    fit(model)
    assert all(np.isfinite(value).all() for value in model.get_weights())
    assert zeros(model) == RATE  # no gradient reaches them, and nothing else moves them


def test_an_optimizer_that_breaks_on_zeros_is_refused(trained):
    model = compiled(trained, OPTIMIZERS.LossScaleOptimizer(OPTIMIZERS.Adafactor(3e-3)))
    weights = model.get_weights()
    with pytest.raises(ValueError, match=r"Adafactor\(epsilon_1=1e-15\)"):
        fit(model, pruner())
    assert same_weights(weights, model.get_weights())


class OwnOptimizer(keras.Model):
    """Trains itself with an optimizer that it was not compiled with."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(y, self(x, training=True))
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.own().apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


def with_own_optimizer(trained, compiled_with="adam"):
    copy = compiled(trained)
    model = OwnOptimizer(copy.inputs, copy.outputs)
    model.compile(compiled_with)
    return model


def test_an_optimizer_of_the_models_own_is_followed(trained):
    model = with_own_optimizer(trained)
    model.another = OPTIMIZERS.Adam(3e-3, use_ema=True)
    model.own = lambda: model.another
    check_held(model, pruner())


@pytest.mark.parametrize("compiled_with", ["adam", None])
def test_steps_that_nobody_counts_are_told(trained, compiled_with):
    model = with_own_optimizer(trained, compiled_with)
    hidden = OPTIMIZERS.Adam(3e-3)
    model.own = lambda: hidden
    with pytest.raises(RuntimeError, match="No weight update was counted"):
        fit(model, pruner())


def test_one_callback_is_enough(trained):
    model = compiled(trained)
    with pytest.raises(ValueError, match="FilterPruning twice"):
        fit(model, pruner(), pruner())
    fit(model)
    assert zeros(model) == 0


def test_a_kernel_that_two_layers_share(trained):
    first, second = (
        layers.Conv2D(8, 3, padding="same", activation="relu", use_bias=False, name=name)
        for name in ("first", "second")
    )
    inputs = keras.Input((8, 8, 8))
    x = second(first(inputs))
    second._untrack_variable(second._kernel)  # as a layer does that ties its kernel in build()
    second._tracker.unlock()
    second._kernel = first._kernel
    second._tracker.lock()
    model = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(OPTIMIZERS.Adam(1e-2), loss)
    (x, y), _ = digits()
    x = np.repeat(x, 8, -1)
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, 2, frequency=2)
    pruning = FilterPruning((x[:100], y[:100]), schedule, "random")
    model.fit(x[:128], y[:128], batch_size=16, callbacks=[pruning], verbose=0)
    assert pruning.pruning_rate >= 0.4
    assert difference(pruning.pruned_model()(x[:50]), model(x[:50])) <= 1e-5


class Failing(keras.callbacks.Callback):
    """Fails at a step, behind or in front of what prunes."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 8:
            raise OSError("disk full")


@pytest.mark.parametrize("failure", [Crash, Failing])
def test_an_interrupted_fit_leaves_no_constraint(trained, failure, tmp_path):
    model, pruning = compiled(trained), pruner()
    norm = keras.constraints.MaxNorm(0.5)
    kernel = model.get_layer("second").kernel
    kernel.constraint = norm
    interrupting = Crash(8) if failure is Crash else Failing()
    with pytest.raises(KeyboardInterrupt if failure is Crash else OSError):
        fit(model, pruning, interrupting)
    assert kernel.constraint is norm
    assert all(weight.constraint is None for weight in model.weights if weight is not kernel)
    masked = zeros(model)
    assert 0 < masked == pruning.pruning_rate
    model.save(tmp_path / "interrupted.keras")
    loaded = keras.saving.load_model(tmp_path / "interrupted.keras")
    assert same_weights(model.get_weights(), loaded.get_weights())
    again = pruner()
    fit(model, again)
    assert again.pruning_rate == zeros(model) >= masked
    assert kernel.constraint is norm


def test_what_an_interrupted_fit_leaves_does_not_hold_later(trained):
    model = compiled(trained, OPTIMIZERS.SGD(0.1))
    with pytest.raises(KeyboardInterrupt):
        fit(model, pruner(), Crash(8))
    before = zeros(model)
    revived = [value + 0.1 for value in model.get_weights()]
    model.set_weights(revived)
    fit(model)
    assert before > 0 and zeros(model) == 0


def test_a_train_function_that_is_made_anew_holds_masks(trained):
    class Anew(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.make_train_function(force=True)

    check_held(compiled(trained), pruner(), Anew())


def test_the_rate_in_the_logs_is_that_of_the_weights(trained):
    model, pruning = compiled(trained), pruner()
    first = model.get_weights()

    class Restore(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights(first)

    logs = fit(model, Restore(), pruning).history
    assert logs["pruning_rate"] == [0.0] and pruning.pruning_rate == zeros(model) == 0
    logs = fit(model, pruning).history  # goes on from what it finds; the schedule has ended
    assert logs["pruning_rate"] == [zeros(model)]


def test_functions_that_run_eagerly(trained):
    tf.config.run_functions_eagerly(True)
    try:
        model, pruning = compiled(trained), FilterPruning(reference(2), SCHEDULE)
        fit(model, pruning, batch_size=128, epochs=3)
    finally:
        tf.config.run_functions_eagerly(False)
    assert pruning.pruning_rate == zeros(model) == RATE
