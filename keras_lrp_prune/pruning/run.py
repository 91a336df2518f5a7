"""`prune()`: from a model and a reference set to a smaller model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.control.checkpoint import Checkpoint, claimed
from keras_lrp_prune.control.goals import BudgetGoal, RateGoal
from keras_lrp_prune.control.loop import PruningLoop
from keras_lrp_prune.cost import CostModel, Shares, check_budget
from keras_lrp_prune.data import ReferenceSet
from keras_lrp_prune.evaluation import classification_report
from keras_lrp_prune.pruning.advice import ends, measured
from keras_lrp_prune.pruning.examining import make_examiner
from keras_lrp_prune.pruning.progress import PruningProgress
from keras_lrp_prune.pruning.recovering import (
    AUTO,
    RECOVERIES,
    check_recovery,
    chosen_recovery,
)
from keras_lrp_prune.pruning.remaining import Remaining
from keras_lrp_prune.pruning.result import PruningResult
from keras_lrp_prune.pruning.steering import chosen_steering
from keras_lrp_prune.pruning.task import Task, read_task
from keras_lrp_prune.relevance.criteria import (
    LRP,
    check_criterion,
    default_criterion,
    make_criterion,
)
from keras_lrp_prune.relevance.engines import check_engine
from keras_lrp_prune.runtime import (
    DEFAULT_MEMORY,
    check_strategy,
    fingerprint,
    is_chief,
)
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.trials import Trials

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

DEFAULT_TARGET_RATE = 0.5


@checked
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
    criterion: str | None = None,
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

    Step by step, several choices of filters of low relevance are masked, the class accuracies on
    the reference set are measured, and the choice with the highest harmonic mean stands. They also
    steer which filters go next (order), and with `min_accuracy` or a schedule in adaptive steps how
    many (rate). In the end what is left is refitted to what the whole model computed, in closed
    form (`recovery`). A step costs one LRP pass and up to six forward passes over the reference
    set; the model itself is not changed.

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
        min_accuracy: Harmonic mean accuracy on the reference set at which to stop before. It is
            that of the steps in `history`: of the masked model, whose layers are refitted only in
            the end (by `"auto"` not below it), or of cross-fitted heads where these steer.
        validation: Held-out samples like `reference`: reported, steers nothing.
        class_names: Names of the classes in the order of the model's outputs, for progress, tables
            and plots; default: those of the reference set, if it has them (an image folder, or a
            dataset by `keras.utils.image_dataset_from_directory`), else numbers.
        schedule: A TFMOT pruning schedule (step: number of proposals made), default
            `AccuracyAware()`, whose order, pool and trials also hold for those of TFMOT.
        criterion: What scores filters: `"lrp.log_odds"` (LRP of the log odds of each sample's
            class, by the native engine), an LRP analyzer's name, or `"pxp"`, `"l1"`, `"l2"`,
            `"taylor"`, `"activation"`, `"apoz"`, `"random"`. Default: the first, or with
            `engine="innvestigate"` `"lrp.sequential_preset_a"`.
        analyzer_options: Keyword arguments of the analyzer.
        engine: What computes LRP: `"innvestigate"` (the library itself, in a worker process),
            `"native"` (the same results, faster, and for more layers) or `"auto"`: iNNvestigate
            where it is installed and exact on the model, else native. `"lrp.log_odds"` is always
            native.
        recovery: What of the weights that are left is refitted, without training. `"auto"`: what
            serves best, `"least_squares"`, unless it loses more than a quarter of the harmonic mean
            accuracy on the reference set or crosses `min_accuracy`: then the weights stay.
            `"least_squares"`: after the last step, layers are fitted to the outputs that they had
            in the whole model; the result names those without a closed form.
            `"head"`: the linear head on the pooled features is fitted anew, on the reference set,
            after the last step, and heads that did not see the sample, fitted for each candidate,
            steer and choose among the schedule's trials. `"head+least_squares"`: both. `None`: all
            weights stay as they are, as in published comparisons of pruning.
        protect: Layers to leave alone (a nested model's name: all in it).
        min_channels: Channels that every group keeps: a number, or a share between 0 and 1 of the
            group's channels.
        round_to: Groups that lose channels keep a multiple of this many.
        batch_size: Samples per batch and replica; default: as many as the memory budget allows.
        memory_budget: Bytes that the activations of one batch may take on each replica.
        strategy: A `tf.distribute` strategy whose replicas share the samples of each batch:
            mirrored, multi-worker mirrored or one device. All workers take the same decisions and
            return the same result; the chief alone writes checkpoints and shows progress.
        checkpoint_dir: Folder where each step is saved; the same call goes on from there.
        seed: For what is drawn: the criterion `"random"`, and what least squares holds out.
        verbose: 1 shows a progress bar, 0 nothing.
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
            unknown criterion or engine, an engine that the strategy is too much for, or other
            arguments outside their ranges.
        CheckpointError: For a checkpoint that is damaged or of another run, or a folder that
            another run is using.
        WorkerError: If iNNvestigate's process dies.

    Warns:
        AtChanceWarning: Before any work, if the model classifies the reference samples no better
            than guesses.

    Example:
    >>> import keras_lrp_prune as klp
    >>> result = klp.prune(model, (x, y), target_rate=0.5)
    >>> result.model.save("small.keras")
    >>> half = klp.prune(model, (x, y), budget={"flops": 0.5, "params": 0.4})
    """
    # Not at the top: it brings TensorFlow.
    from keras_lrp_prune.control.pace import make_pace
    from keras_lrp_prune.control.schedules import FINAL_SPARSITY, AccuracyAware

    check_engine(engine)
    criterion = default_criterion(engine) if criterion is None else criterion
    check_criterion(criterion)
    check_strategy(strategy)
    check_recovery(recovery)
    if budget is not None and target_rate is not None:
        raise ValueError("Give target_rate or budget, not both.")
    allowed = None if budget is None else check_budget(budget)
    pace = None if schedule is None else make_pace(schedule, trials=True)
    task = read_task(
        model,
        reference,
        limits=Limits(min_channels, round_to),
        protect=protect,
        batch_size=batch_size,
        memory_budget=memory_budget,
        strategy=strategy,
        class_names=class_names,
    )
    held_out = None if validation is None else task.samples(validation, "validation data")
    chosen = chosen_recovery(recovery)
    cost = CostModel(task.flat, task.structure)
    shares = Shares(cost, task.latency_share())
    goal: RateGoal | BudgetGoal
    if allowed is None:
        rate = DEFAULT_TARGET_RATE if target_rate is None else target_rate
        goal = RateGoal(task.structure, task.limits, rate)
    else:
        goal = BudgetGoal(task.structure, task.limits, allowed, shares)
    goal.check()
    if pace is None:
        end = max(FINAL_SPARSITY, goal.rate)
        pace = make_pace(AccuracyAware(final_sparsity=end), trials=True)
    settings = {
        "target_rate": goal.rate if allowed is None else None,
        "budget": allowed,
        "min_accuracy": min_accuracy,
        "schedule": pace.schedule.get_config(),
        "criterion": criterion,
        "analyzer_options": dict(analyzer_options or {}),
        "recovery": chosen,
        "protect": list(protect),
        "min_channels": min_channels,
        "round_to": round_to,
        "batch_size": task.batch_size,
        "seed": seed,
    }
    with _held_checkpoint(checkpoint_dir, task, settings) as checkpoint:
        problem = task.problem(
            seed=seed,
            analyzer_options=settings["analyzer_options"],
            engine=engine,
            worker_python=worker_python,
        )
        task.check_accuracy()
        refits = "head" in RECOVERIES[chosen]
        settings["steering"] = chosen_steering(
            pace.selection.steering,
            problem,
            lambda: task.unpruned_probabilities(task.reference),
            refit_head=refits,
        )
        accuracy = measured(settings)
        progress = PruningProgress(
            lambda record: goal.progress(record.rate, record.cost),
            class_names=task.class_names,
            enabled=verbose > 0 and is_chief(strategy),
        )
        progress.name_mean(accuracy.short)
        with closing(make_criterion(criterion, problem)) as scored, progress.stage("pruning"):
            settings["engine"] = scored.engine.name if isinstance(scored, LRP) else None
            settings["trials"] = pace.selection.trials
            examiner = make_examiner(
                *(problem, scored, settings["steering"]),
                refit_head=refits,
                trials=settings["trials"],
            )
            state = PruningLoop(
                prunable=task.structure,
                examiner=examiner,
                pace=pace,
                cost=cost,
                goal=goal,
                limits=task.limits,
                trials=Trials(examiner, min_accuracy) if settings["trials"] else None,
                min_accuracy=min_accuracy,
                accuracy=accuracy.full,
                checkpoint=checkpoint,
                on_step=progress.show,
            ).run()
    with progress.stage("refitting", shown=chosen is not None):
        last = ends(state.history)[1].harmonic_mean if accuracy.of_model else None
        left = Remaining(task, state.removed, masked=last)
        recovered = left.recovered(problem, recovery, floor=min_accuracy, on_part=progress.advance)
    settings["asked_recovery"] = recovery
    settings["recovery"] = recovered.recovery
    settings["refit_refused"] = recovered.refused
    settings["not_recovered"] = dict(recovered.skipped)
    if allowed is not None:
        settings["remaining"] = {name: shares(name, state.removed) for name in allowed}

    def reports(samples: ReferenceSet) -> dict[str, dict[str, Any]]:
        found = {
            "before": task.unpruned_probabilities(samples),
            "after": left.probabilities(recovered.graph, samples),
        }
        return {
            when: classification_report(samples.y, each).as_dict() for when, each in found.items()
        }

    with progress.stage("measuring"):
        reference_reports = reports(task.reference)
        progress.advance(0.5)
        held_out_reports = None if held_out is None else reports(held_out)
        progress.advance(1.0)
    return PruningResult(
        model=left.model(recovered.graph),
        kept=task.structure.kept_filters(state.removed),
        history=tuple(state.history),
        cost_before=cost(np.zeros_like(state.removed)),
        cost_after=cost(state.removed),
        reference=reference_reports,
        validation=held_out_reports,
        settings=settings,
        stopped=state.stopped,
        rate=task.structure.rate(state.removed),
        protected=task.structure.protected,
        barriers=task.structure.barriers,
        uncounted=cost.uncounted,
        class_names=task.class_names,
    )


@contextmanager
def _held_checkpoint(
    folder: str | os.PathLike[str] | None, task: Task, settings: Mapping[str, Any]
) -> Iterator[Checkpoint | None]:
    """The checkpoint of a run in a folder that is held for it; `None` without a folder.

    Raises:
        CheckpointError: Before any work, if it does not fit the run.
    """
    if folder is None:
        yield None
        return
    with claimed(folder, task.strategy) or nullcontext():
        identity = fingerprint(task.graph, task.reference, settings)
        checkpoint = Checkpoint(folder, identity, task.structure.n_units, task.strategy)
        checkpoint.load()
        yield checkpoint
