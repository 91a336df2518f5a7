"""`accuracy_curve()`: how accurate a method leaves a model, over the pruning rate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.comparison.bench import DEFAULT_RATES, Bench, Conditions
from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.comparison.methods import Method, make_method, scored_by
from keras_lrp_prune.examination.channel_limits import ChannelLimits
from keras_lrp_prune.examination.criterion_choice import CriterionChoice
from keras_lrp_prune.examination.recovery_choice import Recovery
from keras_lrp_prune.runtime import DEFAULT_MEMORY, Execution

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def accuracy_curve(
    model: keras.Model,
    reference: Any,
    test: Any,
    method: str | Method = "accuracy-aware",
    rates: Sequence[float] | None = None,
    *,
    recovery: str | None = None,
    engine: str = "auto",
    protect: Sequence[str] = (),
    min_channels: float = 1,
    round_to: int = 1,
    batch_size: int | None = None,
    memory_budget: float = DEFAULT_MEMORY,
    strategy: tf.distribute.Strategy | None = None,
    seed: int = 0,
    verbose: int = 0,
    worker_python: str | None = None,
    class_names: Iterable[str] | None = None,
) -> MethodCurve:
    """Prunes from rate to rate by a method, and measures each class at each of them.

    The method decides on `reference` alone. Only then the model without the filters that it chose
    is measured on `test`.

    Args:
        model: As in `prune`; it is not changed.
        reference: The few labelled samples that all decisions use, as in `prune`.
        test: Held-out samples of the same form.
        method: A name from `METHODS`: `"accuracy-aware"`, `"lrp-iterative"`, `"lrp-one-shot"`, or
            that of a criterion that is compared, such as `"taylor"`; or a `Method`.
        rates: Pruning rates, increasing, in [0, 1); by default 0 to 0.95 in steps of 0.05. Each is
            met to within half the largest unit; beyond the largest that can be reached, the last
            point is held.
        recovery: What is refitted of the weights that are left, as in `prune`, the same for every
            method, at each rate anew. The default is not that of `prune`: what methods choose is
            compared with all weights frozen, as published protocols have it.
        engine: What computes LRP, as in `prune`; methods that compute none do without.
        protect: Layers to leave alone.
        min_channels: Channels that every group keeps, as in `prune`.
        round_to: Groups that lose channels keep a multiple of this many.
        batch_size: Samples per batch and replica; default: as many as the memory budget allows.
        memory_budget: Bytes that the activations of one batch may take on each replica.
        strategy: A `tf.distribute` strategy, as in `prune`.
        seed: For what is drawn: by the method `"random"`, and what least squares holds out.
        verbose: 1 shows a progress bar (without a terminal, a line for each step), 0 nothing.
        worker_python: Interpreter that has iNNvestigate, as in `prune`.
        class_names: As in `prune`; the progress bar shows them.

    Returns:
        The curve; an `AccuracyCurve` that also says which rates were reached, and at what cost.

    Raises:
        DataError: For unusable samples or labels.
        UnsupportedModelError: For a model that cannot be pruned.
        TypeError: For an argument of another type.
        ValueError: For an unknown method, recovery or engine, or rates or other arguments outside
            their ranges.
        WorkerError: If iNNvestigate's process dies.

    Warns:
        AtChanceWarning: As `prune` does.

    Example:
    >>> curve = klp.accuracy_curve(model, (x, y), (x_test, y_test), "taylor", [0, 0.2, 0.4])
    >>> curve.class_accuracy.shape
    (3, 10)
    """
    chosen = make_method(method)
    conditions = Conditions(
        rates=DEFAULT_RATES if rates is None else rates,
        recovery=Recovery(recovery),
        engine=CriterionChoice(engine=engine, worker_python=worker_python),
        limits=ChannelLimits(protect, min_channels, round_to),
        execution=Execution(batch_size, memory_budget, strategy, seed, verbose),
        class_names=class_names,
    )
    # An error before any work, if there is one.
    scored_by(chosen, conditions.engine, conditions.recovery)
    bench = Bench(model, reference, test, conditions)
    return bench.curve(chosen, conditions.execution.seed, conditions.execution.verbose)
