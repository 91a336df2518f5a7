"""`FilterPruning`: prunes filters while a model is trained."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_lrp_prune.arguments import or_none, path
from keras_lrp_prune.callbacks.frozen_filters import frozen_filters
from keras_lrp_prune.callbacks.held_function import HeldFunction
from keras_lrp_prune.callbacks.states import States
from keras_lrp_prune.callbacks.training_run import (
    TrainingRun,
    check_not_over,
    check_optimizers,
    check_trains,
    optimizers_of,
    shortfall,
    strategy_of,
)
from keras_lrp_prune.control.checkpoint import RunState
from keras_lrp_prune.control.goals import Goal, RateGoal
from keras_lrp_prune.control.judge import Judge
from keras_lrp_prune.control.pace import make_pace, own_selection
from keras_lrp_prune.criteria.checked_scorer import scorer_of
from keras_lrp_prune.criteria.criterion import Criterion
from keras_lrp_prune.data import ReferenceSet, checked_names
from keras_lrp_prune.evaluation import harmonic_mean_accuracy
from keras_lrp_prune.examination.channel_limits import ChannelLimits
from keras_lrp_prune.examination.criterion_choice import CriterionChoice
from keras_lrp_prune.examination.subject import Subject, read_subject
from keras_lrp_prune.examination.target import Target
from keras_lrp_prune.prunables.held_channel_mask import HeldChannelMask
from keras_lrp_prune.report.step_record import StepRecord
from keras_lrp_prune.runtime import (
    DEFAULT_MEMORY,
    CompiledForward,
    Execution,
    fingerprint,
    scope,
)
from keras_lrp_prune.surgery.builder import rebuild
from keras_lrp_prune.surgery.kept import kept_without

_log = logging.getLogger(__name__)


class FilterPruning(keras.callbacks.Callback):
    """Prunes filters during `model.fit`, at the steps that a schedule names.

    At such a step the filters are scored on the reference set, the next ones are masked, and stay
    exactly zero whatever the optimizer does: constraints on the weights hold them, inside the
    compiled training step. A step costs one pass of the criterion and one forward pass over the
    samples that are watched (two, unless LRP on the same samples tells where the classes stand), an
    epoch one forward pass; nothing is traced or compiled then. The criterion keeps a copy of the
    model.

    Put it before callbacks that read `logs`: at the end of each epoch it adds `pruning_rate`,
    `harmonic_mean_accuracy`, `worst_class` (its number) and `worst_class_accuracy`.

    After `fit` the model is masked, and `pruned_model()` gives the small one. What is masked is
    read from the zeros in the weights: if another callback restores the weights of an earlier
    epoch, `pruned_model()` is the model of that epoch. The log warns at the end of training if it
    stopped short of the schedule's final sparsity or the budget, and if classes were lost; and at
    the beginning if prunable layers are frozen. Unlike `prune`, this callback refits nothing, so
    that frozen layers cannot adapt to what goes.

    Args:
        reference: The few labelled samples that filters are scored on: `(x, y)` arrays, `y` sparse
            or one-hot, or a batched `tf.data.Dataset`.
        schedule: When and how much: any `tfmot.sparsity.keras.PruningSchedule`. Step:
            `optimizer.iterations` (the largest, if the model has optimizers as attributes, for a
            `train_step` of its own); sparsity: pruning rate over all prunable filters. With
            `AccuracyAware(frequency=...)` the accuracies decide how much goes, and what is undone.
        criterion: As in `prune`.
        engine: As in `prune`.
        validation: Samples like `reference` on which accuracies are watched; default: `reference`.
        class_names: As in `prune`; default: those of `reference`, if it has them.
        min_accuracy: Harmonic mean accuracy on the watched samples: a step that falls below it is
            undone. Without it, the schedule is followed exactly.
        budget: What may remain, as in `prune`: the schedule is followed until it is met.
        state_dir: Folder where each step is saved, so that training that goes on after an
            interruption (with `keras.callbacks.BackupAndRestore`) has the same masks, history and
            schedule. Without it, the masks are found in the weights.
        analyzer_options, protect, min_channels, round_to: As in `prune`.
        batch_size, memory_budget, seed, worker_python: As in `prune`.

    Attributes:
        history: One `StepRecord` for each step that pruned, its `step` the optimizer's.
        class_names: What the classes are called, if it is known; `worst_class` is an index into
            them.

    Raises:
        TypeError: For an argument of another type, and in `fit` for what a schedule answers.
        ValueError: For arguments outside their ranges, and in `fit` for a budget or a schedule's
            final sparsity that cannot be reached, one that ends before the optimizer's step, an
            optimizer that does not survive zeros, or a second `FilterPruning`.
        DataError, UnsupportedModelError, CheckpointError: In `fit`, before the first step: for
            unusable samples, a model that cannot be pruned, a strategy of several workers, or a
            `state_dir` of another run, or one that another run is using.
        RuntimeError: In `fit`, if the model's own `train_step` updates weights without a Keras
            optimizer, so that masks do not hold, or no optimizer of the model counted a step.
        FloatingPointError: In `fit`, if training diverged: before filters are scored, and at the
            end of each epoch.

    Warns:
        AtChanceWarning: At the end of training, if filters were masked and the model classifies
            the reference samples no better than guesses. (Before, it may not be trained yet.)

    Example:
    >>> pruning = klp.callbacks.FilterPruning(
    ...     (x_few, y_few), klp.schedules.AccuracyAware(final_sparsity=0.5, frequency=20)
    ... )
    >>> model.fit(x, y, epochs=4, callbacks=[pruning])
    >>> pruning.pruned_model().save("small.keras")
    """

    def __init__(
        self,
        reference: Any,
        schedule: Any,
        criterion: str | Criterion | None = None,
        *,
        engine: str = "auto",
        validation: Any = None,
        class_names: Iterable[str] | None = None,
        min_accuracy: float | None = None,
        budget: Mapping[str, float] | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        analyzer_options: Mapping[str, Any] | None = None,
        protect: Sequence[str] = (),
        min_channels: float = 1,
        round_to: int = 1,
        batch_size: int | None = None,
        memory_budget: float = DEFAULT_MEMORY,
        seed: int = 0,
        worker_python: str | None = None,
    ) -> None:
        super().__init__()
        self._choice = CriterionChoice(criterion, analyzer_options or {}, engine, worker_python)
        self._target = Target(None, budget, min_accuracy)
        self._limits = ChannelLimits(protect, min_channels, round_to)
        self._execution = Execution(batch_size, memory_budget, seed=seed)
        self._asked = schedule
        self._pace = make_pace(schedule, trials=False)
        if self._pace.selection.trials:
            raise ValueError("trials=True is for klp.prune; during model.fit there are none.")
        self.criterion = self._choice.chosen.name
        self.min_accuracy, self.budget = self._target.min_accuracy, self._target.budget
        self.class_names = None if class_names is None else checked_names(class_names)
        self.history: list[StepRecord] = []
        self._reference, self._validation = reference, validation
        self._state_dir = or_none(path)("state_dir", state_dir)
        self._run: TrainingRun | None = None

    def __repr__(self) -> str:
        how = f"{type(self).__name__}: {type(self.schedule).__name__}, {self.criterion}"
        if not self.history:
            return f"{how}\n  nothing pruned yet; give it to model.fit(callbacks=[...])"
        last = self.history[-1]
        return (
            f"{how}\n  pruning rate {last.rate:.1%} at step {last.step}, {last.filters:,} filters "
            f"left, harmonic mean accuracy {last.harmonic_mean:.1%}\n"
            "  pruned_model(); .history, .pruning_rate, .schedule"
        )

    def on_train_begin(self, logs: Any = None) -> None:
        """Checks model and samples, and gets everything ready."""
        # What trains, and by which optimizer, can change between two fits.
        check_trains(self.model)
        check_optimizers(self.model)
        if self._run is None or self._run.model is not self.model:
            self.history = []
            self._pace = make_pace(self._asked, trials=False)
            self._run = self._prepared()
            if frozen := frozen_filters(self._run.subject):
                _log.warning(frozen)
        self._run.start()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Before the first epoch, when others have restored weights: finds out what is masked."""
        run = self._running()
        if run.begun is None:
            now = run.step
            try:
                run.begin(now)
                self._resume(run, now)
            except BaseException:
                run.stop()
                raise
            self._answer(run, now)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Has the mask held during the training step."""
        self._running().announce_batch()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Answers every step of the schedule since the last call."""
        run = self._running()
        if run.unproven:
            run.check_held()
        self._answer(run, run.step)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds to `logs`."""
        # Older versions of Keras do not tell of an execution that the end of the samples cut short.
        self.on_train_batch_end(-1)
        if logs is not None:
            run = self._running()
            run.check_finite()
            hard = run.accuracies().hard
            logs["pruning_rate"] = self.pruning_rate
            logs["harmonic_mean_accuracy"] = harmonic_mean_accuracy(hard)
            logs["worst_class"] = int(np.argmin(hard))
            logs["worst_class_accuracy"] = float(hard.min())

    def on_train_end(self, logs: Any = None) -> None:
        """Leaves the model masked, but as free to be trained as it was."""
        run = self._running()
        run.stop()
        if short := shortfall(run, self._pace, self.history, to_budget=self.budget is not None):
            _log.warning(short)
        if lost := run.losses(self.class_names):
            _log.warning(lost)
        run.check_counted()

    @property
    def schedule(self) -> Any:
        """The schedule of this training, a copy of the given one: when and how much is pruned."""
        return self._pace.schedule

    @property
    def pruning_rate(self) -> float:
        """Filters that are zero in the present weights, over all filters in unprotected groups."""
        run = self._running()
        return run.rate(run.mask.found())

    def pruned_model(self) -> keras.Model:
        """The small model: without the masked filters, with the same outputs.

        Returns:
            A plain `keras.Model`, compiled as the model was; the optimizer starts anew.

        Raises:
            RuntimeError: Before `fit`.
        """
        run = self._running()
        masked = run.mask.found()
        if run.rate(masked) < run.rate(run.removed):
            _log.warning(
                "Weights of an earlier epoch were restored: the pruning rate is %.1f %%, not %.1f.",
                100 * run.rate(masked),
                100 * run.rate(run.removed),
            )
        return rebuild(run.subject.graph, kept_without(run.subject.structure, masked), keras)

    def _running(self) -> TrainingRun:
        if self._run is None:
            raise RuntimeError("FilterPruning has not seen a model yet: give it to model.fit.")
        return self._run

    def _prepared(self) -> TrainingRun:
        strategy = strategy_of(self.model)
        subject = read_subject(
            self.model,
            self._reference,
            self._limits,
            replace(self._execution, strategy=strategy),
            class_names=self.class_names,
        )
        self.class_names = subject.class_names
        goal = self._goal(subject)
        watched = subject.reference
        if self._validation is not None:
            watched = subject.samples(self._validation, "validation data")
        subject.working_copy()  # checks that the model can be rebuilt as it is
        problem = subject.problem(self._execution.seed)
        with scope(strategy):
            optimizers = partial(optimizers_of, self.model)
            mask = HeldChannelMask(subject.structure, subject.flat.layers, optimizers)
            forward = CompiledForward(self.model, subject.batch_size, strategy)
        return TrainingRun(
            model=self.model,
            subject=subject,
            watched=watched,
            forward=forward,
            mask=mask,
            held=HeldFunction(self.model, mask),
            goal=goal,
            states=self._states(subject, watched),
            make_scorer=lambda: scorer_of(self._choice.chosen, problem),
            removed=np.zeros(subject.structure.n_units, bool),
        )

    def _states(self, subject: Subject, watched: ReferenceSet) -> States | None:
        """Where each step is saved, if anywhere."""
        if self._state_dir is None:
            return None
        choice, execution = self._choice, self._execution
        settings = {
            "schedule": self.schedule.get_config(),
            **own_selection(self.schedule),
            **choice.settings,
            "min_accuracy": self.min_accuracy,
            "budget": self.budget,
            "validation": None if self._validation is None else watched.fingerprint(in_order=False),
            "limits": "Limits(min_channels={min_channels}, round_to={round_to})".format_map(
                vars(self._limits)
            ),
            "protect": str(self._limits.protect),
            "batch_size": str(execution.batch_size),
            "memory_budget": str(execution.memory_budget),
            "seed": str(execution.seed),
            "analyzer_options": str(choice.analyzer_options),
            "engine": str(choice.engine),
            "worker_python": str(choice.worker_python),
        }
        identity = fingerprint(subject.graph, subject.reference, settings, weights=False)
        return States(self._state_dir, identity, subject.structure.n_units, subject.count_names)

    def _goal(self, subject: Subject) -> Goal:
        """The goal that ends pruning before the schedule does; checks that it can be reached."""
        if self.budget is None:
            self._pace.check(subject.structure, subject.limits)
            return RateGoal(subject.structure, subject.limits, 1.0)
        return self._target.goal(subject.structure, subject.limits, subject.shares())

    def _resume(self, run: TrainingRun, now: int) -> None:
        """Restores the mask from the last saved state up to now, else from the zeros in weights."""
        state = None if run.states is None else run.states.at(now)
        if state is None:
            run.removed = run.mask.found()
            check_not_over(run, self._pace, now, may_undo=self.min_accuracy is not None)
            if run.answered != now:  # else the `fit` before this one ended with the answer
                run.answered = now - 1
            self._pace.go_on_at(run.rate(run.removed))
        else:
            run.removed, run.answered = state.removed, state.step
            self.history = list(map(StepRecord.of, state.history))
            self._pace.set_state(state.schedule)
        run.mask.set(run.removed)
        if run.removed.any():
            _log.info("Pruning goes on at rate %.1f %%.", 100 * run.rate(run.removed))

    def _answer(self, run: TrainingRun, now: int) -> None:
        """Prunes to what the schedule asks for at the last of the steps since the last answer."""
        assert run.answered is not None  # _resume has set it
        goal = None
        for step in range(run.answered + 1, now + 1):
            should_prune, sparsity = self._pace.asks(step)
            if should_prune:
                goal = sparsity
        run.answered = max(run.answered, now)
        if goal is not None:
            self._prune(run, now, goal)

    def _prune(self, run: TrainingRun, now: int, goal: float) -> None:
        """Masks the units that go next, measures, and keeps the mask or undoes it."""
        run.check_finite()
        proposal = run.proposal(self._pace, goal)
        if proposal is None:
            return
        undo, rate = run.mask.set(proposal), run.rate(proposal)
        judge = Judge(self._pace, self.min_accuracy)
        step = judge.verdict(now, run.accuracies(), rate, run.subject.counts(proposal)).step
        self.history.append(StepRecord.of(step))
        if not step.accepted:
            undo()
            _log.info("Step %d, pruning rate %.1f %%, undone: %s", now, 100 * rate, step.reason)
        else:
            run.removed, run.unproven = proposal, True
        if run.states is not None:
            nothing = np.zeros_like(proposal)
            known = self._pace.get_state()
            steps = [record.as_step() for record in self.history]
            run.states.save(RunState(run.removed, nothing, now, steps, known))
