"""What a pruning callback holds while a model is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lrp_prune.callbacks.held_function import HeldFunction
from keras_lrp_prune.callbacks.states import States
from keras_lrp_prune.control.goals import Goal, RateGoal
from keras_lrp_prune.control.next_step import NextStep
from keras_lrp_prune.control.pace import Pace
from keras_lrp_prune.criteria.criterion import ProbabilityScorer, Scorer
from keras_lrp_prune.criteria.scores import Scores
from keras_lrp_prune.data import ReferenceSet
from keras_lrp_prune.evaluation import (
    harmonic_mean_accuracy,
    probabilities,
    warn_at_chance,
)
from keras_lrp_prune.examination.subject import Subject
from keras_lrp_prune.graph.finite import not_finite
from keras_lrp_prune.graph.generations import generation
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.prunables.prunable import HeldMask
from keras_lrp_prune.prunables.slots import optimizers_within
from keras_lrp_prune.report import enumeration
from keras_lrp_prune.report.step_record import StepRecord
from keras_lrp_prune.runtime import CompiledForward, check_strategy
from keras_lrp_prune.selection.examiner import Evaluation
from keras_lrp_prune.selection.reach import comes_nearer, is_nearest

_LEAST_EPSILON = 1e-15
_NAMED = 5  # the most classes, or weights, that a message names

_AT_CHANCE = (
    "Filters were chosen by it. Usual causes: the reference set is not preprocessed as the "
    "training data; its classes are numbered in another order; more filters went than the training "
    "could make up for; or the model's outputs are not what they are taken for (without a softmax "
    "or sigmoid they are read as logits)."
)


@dataclass
class TrainingRun:
    """A model in training, and what prunes it.

    Args:
        model: The live model.
        subject: What was read of it.
        watched: The samples on which accuracies are watched.
        forward: The live model's forward pass.
        mask: On the live model.
        held: The model's train function, in which the mask is held.
        goal: Ends pruning, if the schedule does not end before.
        states: Where to save each step, if anywhere.
        make_scorer: Makes what scores units; it holds a copy of the model.
        removed: Units that are masked, bool, shape `(units,)`.
        answered: The last optimizer step that the schedule was asked about.
        begun: The optimizer step at which the first epoch of this `fit` began.
        trained: Whether a batch was trained since.
        unproven: Whether it is still to be checked, after the next step, that the mask holds.
        scorer: What scores units, while the model is trained.
    """

    model: keras.Model
    subject: Subject
    watched: ReferenceSet
    forward: CompiledForward
    mask: HeldMask
    held: HeldFunction
    goal: Goal
    states: States | None
    make_scorer: Callable[[], Scorer]
    removed: np.ndarray
    answered: int | None = None
    begun: int | None = None
    trained: bool = False
    unproven: bool = False
    scorer: Scorer | None = None

    def start(self) -> None:
        """Gets ready to hold the mask; what is masked is not known yet.

        Raises:
            CheckpointError: If the states in the folder are not this run's, or another run has it.
        """
        self.stop()  # after a fit that was interrupted
        self.begun, self.trained, self.unproven = None, False, False
        try:
            if self.states is not None:
                self.states.hold()
            self.scorer = self.make_scorer()
        except BaseException:
            self.stop()
            raise
        self.held.stand_in()

    def stop(self) -> None:
        """Lets go of the folder, and frees what the scorer holds."""
        if self.scorer is not None:
            self.scorer.close()
            self.scorer = None
        if self.states is not None:
            self.states.release()

    def begin(self, now: int) -> None:
        """Says that the first epoch begins."""
        self.held.check_alone()
        self.begun = now

    def announce_batch(self) -> None:
        """Says that the model's train function is called next."""
        self.held.announce()
        self.trained = True

    @property
    def step(self) -> int:
        """Weight updates so far, as the model's optimizer counts them."""
        return max((_step(optimizer) for optimizer in optimizers_of(self.model)), default=0)

    def rate(self, removed: np.ndarray) -> float:
        """The pruning rate."""
        return self.subject.structure.rate(removed)

    def probabilities(self, samples: ReferenceSet) -> np.ndarray:
        """Class probabilities by the model as it is; costs one forward pass."""
        return probabilities(self.forward(samples.x), self.subject.head.kind)

    def accuracies(self) -> Evaluation:
        """Accuracies of the model as it is on the watched samples; costs one forward pass."""
        return Evaluation.of(self.watched.y, self.probabilities(self.watched))

    def examine(self) -> tuple[Scores, np.ndarray]:
        """Scores of the units with the present weights, and soft class accuracies."""
        scorer = self.scorer
        assert scorer is not None  # made when training starts
        scorer.refresh()
        if isinstance(scorer, ProbabilityScorer) and self.watched is self.subject.reference:
            scores, found = scorer.examine(self.removed)
            return scores, Evaluation.of(self.watched.y, found).soft
        return scorer.scores(self.removed), self.accuracies().soft

    def proposal(self, pace: Pace, rate: float) -> np.ndarray | None:
        """The units that would be masked for a rate; `None` if masking no more comes nearer to it.

        A step of an adaptive schedule may be smaller than a unit; then one unit goes, unless the
        schedule's final sparsity is reached.

        Args:
            pace: Says how much goes, and how units are chosen.
            rate: The pruning rate that it asks for.
        """
        structure, removed, end = self.subject.structure, self.removed, pace.end(rate)
        if is_nearest(structure, removed, end) or self.goal.reached(removed):
            return None
        scores, soft = self.examine()
        pace.rebase(soft)
        limits, selection = self.subject.limits, pace.selection
        step = NextStep(structure, limits, self.goal, selection, removed, soft)
        proposal = step.proposal(step.bundles(scores, rate))
        return proposal if comes_nearer(structure, removed, proposal, end) else None

    def losses(self, class_names: Sequence[str] | None) -> str | None:
        """A line on classes that pruning lost, with advice; `None` if the accuracy is good enough.

        It also warns (`AtChanceWarning`) if the model classifies the reference set no better than
        guesses: filters were chosen by it. It costs a forward pass over the reference set, and one
        over the watched samples if they are others.

        Args:
            class_names: What the classes are called, if it is known.
        """
        if not self.removed.any():
            return None
        samples = self.subject.reference
        found = self.probabilities(samples)
        warn_at_chance(samples.y, found, _AT_CHANCE, class_names)
        watched = found if self.watched is samples else self.probabilities(self.watched)
        accuracies = Evaluation.of(self.watched.y, watched).hard
        mean = harmonic_mean_accuracy(accuracies)
        if mean > 1 / len(accuracies):
            return None
        names = range(len(accuracies)) if class_names is None else class_names
        lost = [repr(name) for name, right in zip(names, accuracies, strict=True) if not right]
        where = f" (classes at 0: {enumeration(lost, _NAMED)})" if lost else ""
        return (
            f"With a pruning rate of {self.rate(self.removed):.1%} the harmonic mean accuracy on "
            f"the watched samples is {mean:.1%}{where}. FilterPruning refits nothing, and layers "
            "that are frozen cannot make up for what went: prune less, train longer, or, for a "
            "frozen base, use prune(), which refits, and then finetune()."
        )

    def check_finite(self) -> None:
        """Checks that training has not diverged, before its outputs or scores decide anything."""
        if bad := not_finite(self.subject.flat):
            raise FloatingPointError(
                f"Training diverged: {bad} holds NaN or infinite numbers at step {self.step}. "
                "Lower the learning rate, or clip gradients."
            )

    def check_held(self) -> None:
        """Checks, once after each change, that the training step holds the mask."""
        self.unproven = False
        if broken := self.mask.broken():
            raise RuntimeError(
                f"Masked filters were trained: {', '.join(broken[:_NAMED])} changed where they are "
                f"masked. {type(self.model).__name__}.train_step must update weights by "
                "apply(gradients, self.trainable_variables) of a Keras optimizer, and no other "
                "callback may write weights during an epoch."
            )

    def check_counted(self) -> None:
        """Checks, at the end, that the steps of the schedule could be counted."""
        if self.trained and self.step == self.begun:
            raise RuntimeError(
                "No weight update was counted during model.fit, so that the schedule was never "
                f"asked: {type(self.model).__name__}.optimizer, and optimizers that are attributes "
                f"of the model, are still at step {self.step}. Compile the model with the "
                "optimizer that its train_step uses; if gradients are accumulated, train longer; "
                "if the loss is scaled, look for gradients that are not finite."
            )


def optimizers_of(model: keras.Model) -> Iterator[Any]:
    """The optimizer that a model is compiled with, and those that are attributes of its own."""
    found = {
        id(value): value
        for value in vars(model).values()
        if isinstance(value, keras.optimizers.Optimizer)
    }
    return iter(found.values())


def check_optimizers(model: keras.Model) -> None:
    """Refuses an optimizer that does not survive filters that are zero.

    Where both a filter and the channel that it reads are dead, Adafactor divides by the square of
    its `epsilon_1`, which is zero in float32 for the default, and the whole weight becomes NaN.
    """
    for outer in optimizers_of(model):
        for one in optimizers_within(outer):
            if isinstance(one, keras.optimizers.Adafactor) and one.epsilon_1 < _LEAST_EPSILON:
                raise ValueError(
                    f"Adafactor with epsilon_1={one.epsilon_1:g} turns weights into NaN once "
                    "filters are zero, because Keras computes with its square, which float32 "
                    f"cannot hold. Give Adafactor(epsilon_1={_LEAST_EPSILON:g})."
                )


def _step(optimizer: Any) -> int:
    # An optimizer that scales the loss does not count updates: the one inside it does.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def check_trains(model: keras.Model) -> None:
    """Refuses a model of which nothing would be trained."""
    if not model.trainable_variables:
        raise UnsupportedModelError(
            f"Nothing of model {model.name!r} is trainable, so that no step would be counted and "
            "the schedule never asked. Unfreeze some layers, or prune it with prune(), which needs "
            "no training."
        )


def strategy_of(model: keras.Model) -> tf.distribute.Strategy | None:
    """The strategy that the model is trained under, if it has several replicas.

    Raises:
        UnsupportedModelError: If it cannot be trained with `FilterPruning`.
    """
    if generation(model) != "keras":
        raise UnsupportedModelError(
            "FilterPruning works in model.fit of Keras 3; legacy Keras models (tf_keras) can be "
            "pruned by prune()."
        )
    strategy = model.distribute_strategy
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise UnsupportedModelError(
            "FilterPruning does not work under MultiWorkerMirroredStrategy, because model.fit of "
            "Keras 3 does not (keras issue 20585). Train under MirroredStrategy, or prune with "
            "prune(..., strategy=strategy)."
        )
    if strategy.num_replicas_in_sync == 1:
        return None
    check_strategy(strategy)
    return strategy


def check_not_over(run: TrainingRun, pace: Pace, now: int, *, may_undo: bool) -> None:
    """Checks that the schedule has not ended before the training begins.

    A training that is merely continued after the schedule's end is fine. It is one if the same
    callback has asked the schedule up to its end; if the model is pruned to the schedule's rate;
    or if it is pruned at all, where steps may be undone.

    Args:
        run: The training, with the units that are masked.
        pace: What says how much.
        now: The optimizer step at which training begins.
        may_undo: Whether a floor may undo steps.

    Raises:
        ValueError: If nothing could be pruned any more.
    """
    end, asked = pace.end_step, pace.asked_rate
    if not 0 <= end < now or (run.answered is not None and run.answered >= end):
        return
    if run.removed.any() and (asked is None or may_undo or pace.reads_accuracies):
        return
    rate = RateGoal(run.subject.structure, run.subject.limits, asked) if asked is not None else None
    if run.goal.reached(run.removed) or (rate is not None and rate.reached(run.removed)):
        return
    raise ValueError(
        f"The schedule ends at optimizer step {end}, but training begins at step {now} (a model "
        "that is loaded with its optimizer, or was trained before, keeps the count): compile the "
        f"model anew, or let the schedule begin at {now}."
    )


def shortfall(
    run: TrainingRun, pace: Pace, history: Sequence[StepRecord], *, to_budget: bool
) -> str | None:
    """A line on how far training ended from what was asked for, and why; `None` if it got there.

    Args:
        run: The training.
        pace: What said how much.
        history: Steps that pruned.
        to_budget: Whether a budget was to be met.
    """
    goal, missing, asked = run.goal, "the budget is not met", pace.asked_rate
    if not to_budget:
        if asked is None:
            return None
        goal = RateGoal(run.subject.structure, run.subject.limits, asked)
        missing = f"the schedule was to end at {asked:.1%}"
    if goal.reached(run.removed):
        return None
    undone = [record for record in history if not record.accepted]
    now, end = run.step, pace.end_step
    causes = [
        f"training ended at optimizer step {now}" + (f" of {end}" if end > now else ""),
        *([f"{len(undone)} steps were undone ({undone[-1].reason})"] if undone else ()),
    ]
    return f"Pruning ended at rate {run.rate(run.removed):.1%}, but {missing}: {'; '.join(causes)}."
