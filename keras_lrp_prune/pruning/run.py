"""`prune()`: from a model and a reference set to a smaller model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.criteria.criterion import Criterion
from keras_lrp_prune.examination.channel_limits import ChannelLimits
from keras_lrp_prune.examination.criterion_choice import CriterionChoice
from keras_lrp_prune.examination.recovery_choice import AUTO, Recovery
from keras_lrp_prune.examination.target import Target
from keras_lrp_prune.pruning.result import PruningResult
from keras_lrp_prune.pruning.stages import PruneOptions, prepare, report, search
from keras_lrp_prune.runtime import DEFAULT_MEMORY, Execution

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def prune(
    model: keras.Model,
    reference: Any,
    target_rate: float | None = None,
    *,
    budget: Mapping[str, float] | None = None,
    min_accuracy: float | None = None,
    validation: Any = None,
    class_names: Iterable[str] | None = None,
    schedule: Any = None,
    criterion: str | Criterion | None = None,
    analyzer_options: Mapping[str, Any] | None = None,
    engine: str = "auto",
    recovery: str | None = AUTO,
    protect: Sequence[str] = (),
    min_channels: float = 1,
    round_to: int = 1,
    batch_size: int | None = None,
    memory_budget: float = DEFAULT_MEMORY,
    strategy: tf.distribute.Strategy | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    verbose: int = 1,
    worker_python: str | None = None,
) -> PruningResult:
    """Removes the filters that a task does not need, and returns a smaller plain model.

    Step by step, choices of filters that add little to the log odds of the samples' classes, beyond
    what others can make up for, are masked, what each leaves is refitted to what the whole model
    computed, in closed form (`recovery`), and the choice with the highest harmonic mean of the
    class accuracies on the reference set stands. These also steer which filters go next (order),
    and with `min_accuracy` or a schedule in adaptive steps how many (rate). A step costs an LRP
    pass and two forward passes, or with all weights frozen (`recovery=None`) one LRP pass and up to
    six forward passes; the last refit, over images and mirror images, two forward passes of what is
    left, and two of the whole model. The model itself is not changed.

    Args:
        model: A functional or Sequential classifier, of Keras 3 or legacy Keras (`tf_keras`), with
            one input and one `(batch, n)` output of class scores: logits, softmax, or one sigmoid
            unit.
        reference: The few labelled samples that all decisions use: `(x, y)` arrays, `y` sparse or
            one-hot, a batched `tf.data.Dataset`, or what `load_image_folder` returns, for a model
            that takes images as they are, 0..255.
        target_rate: Pruning rate to reach, in [0, 1), to within half the largest unit (filters
            that can only go together); default 0.5. Rate: filters removed over all filters in
            unprotected groups.
        budget: Instead of a target rate, the shares of the whole model's costs that may remain, in
            (0, 1]: `{"flops": 0.5}`, of `"filters"` (all, protected ones too), `"params"`,
            `"flops"`, `"energy"` (an estimate) and `"latency"` (of one sample, measured here, so
            that a second run can end elsewhere). All are met, and one would not be if the last
            filters that went together were put back.
        min_accuracy: A floor: pruning stops before the harmonic mean accuracy on the reference set
            falls below it. The accuracy is that of the steps in `history`: of the refitted model
            where the criterion has it refitted at each step, as the default has; else of the masked
            model, before its layers are refitted in the end (with `"auto"` only if it stays above
            the floor), so that the model that is returned is mostly better; or of cross-fitted
            heads where these steer.
        validation: Held-out samples like `reference`: reported, steers nothing.
        class_names: Names of the classes in the order of the model's outputs, for progress, tables
            and plots; default: those of the reference set, if it has them (an image folder, or a
            dataset by `keras.utils.image_dataset_from_directory`), else numbers.
        schedule: A TFMOT pruning schedule (step: number of proposals made). Default:
            `AccuracyAware()`, in steps of 10 % where the criterion has what is left refitted at
            each step; its order, pool and trials also hold for those of TFMOT.
        criterion: What scores filters: a name from `klp.criteria.CRITERIA` (such as an LRP
            analyzer's), or an object, which has the options, the engine and the interpreter of its
            own. Default: where layers are refitted `"lrp.unique"` (what each filter adds to the log
            odds of each sample's class that others cannot make up for; what is left is refitted at
            each step), else `"lrp.log_odds"` (LRP of these log odds), both by the native engine; or
            with `engine="innvestigate"` `"lrp.sequential_preset_a"`.
        analyzer_options: Keyword arguments of the analyzer that is named.
        engine: What computes LRP: `"innvestigate"` (the library itself, in a worker process),
            `"native"` (the same results, faster, and for more layers) or `"auto"`: iNNvestigate
            where it is installed and exact on the model, else native. `"lrp.unique"` and
            `"lrp.log_odds"` are always native.
        recovery: Which of the weights that are left are refitted, without training. `"auto"`: the
            best in general, `"head+least_squares"`, unless it loses more than a quarter of the
            harmonic mean accuracy on the reference set or crosses `min_accuracy`: then the weights
            stay. `"least_squares"`: layers are fitted to the outputs that they had in the whole
            model, at each step or after the last one; the result names those without a closed form.
            `"head+least_squares"`: then, after the last step, the linear head on pooled features is
            corrected towards the labels, where samples that it did not see say that this is better.
            `"head"`: it is fitted anew after the last step, no layer is, and heads that did not see
            the sample, fitted for each candidate, steer and choose among the schedule's trials.
            `None`: all weights stay as they are, as in published comparisons of pruning.
        protect: Layers to leave alone (a nested model's name: all in it).
        min_channels: Channels that every group keeps: a number, or a share between 0 and 1 of the
            group's channels.
        round_to: Groups that lose channels keep a multiple of this many.
        batch_size: Samples per batch and replica; default: as many as the memory budget allows.
        memory_budget: Bytes that the activations of one batch may take on each replica, and what
            `"lrp.unique"` and the recovery each keep of the samples.
        strategy: A `tf.distribute` strategy whose replicas share the samples of each batch:
            mirrored, multi-worker mirrored or one device. All workers take the same decisions and
            return the same result; the chief alone writes checkpoints and shows progress.
        checkpoint_dir: Folder where each step is saved; the same call goes on from there.
        seed: For what is drawn: the criterion `"random"`, and what least squares holds out.
        verbose: 1 shows a progress bar (without a terminal, a line for each step), 0 nothing.
        worker_python: Interpreter that has iNNvestigate; default: the variable
            `KERAS_LRP_PRUNE_INNVESTIGATE_PYTHON`, else this interpreter.

    Returns:
        A `PruningResult`; its `model` is smaller.

    Raises:
        DataError: For unusable samples or labels.
        UnsupportedModelError: For a model that cannot be pruned, or layers that LRP would get
            wrong.
        TypeError: For an argument of another type.
        ValueError: For a target rate that cannot be reached (the message names the maximum), a
            budget that cannot be met (the message names the smallest share) or both at once, an
            unknown criterion or engine, an engine that cannot run under the strategy, or other
            arguments outside their ranges.
        CheckpointError: For a checkpoint that is damaged or of another run, or a folder that
            another run is using.
        WorkerError: If iNNvestigate's process dies.

    Warns:
        AtChanceWarning: Before any work, if the model classifies the reference samples, or those of
            `validation`, no better than guesses.

    Example:
    >>> import keras_lrp_prune as klp
    >>> result = klp.prune(model, (x, y), target_rate=0.5)
    >>> result.model.save("small.keras")
    >>> half = klp.prune(model, (x, y), budget={"flops": 0.5, "params": 0.4})
    """
    refit = Recovery(recovery)
    options = PruneOptions(
        target=Target(target_rate, budget, min_accuracy),
        criterion=CriterionChoice(
            criterion, analyzer_options or {}, engine, worker_python, refit.refits_layers
        ),
        recovery=refit,
        limits=ChannelLimits(protect, min_channels, round_to),
        execution=Execution(batch_size, memory_budget, strategy, seed, verbose),
        schedule=schedule,
        checkpoint_dir=checkpoint_dir,
    )
    run = prepare(model, reference, options, validation=validation, class_names=class_names)
    found = search(run)
    return report(run, found)
