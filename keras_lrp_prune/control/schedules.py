"""Pruning schedules: `AccuracyAware`, driven by the harmonic mean accuracy, and `EqualSteps`."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any, Self

import tensorflow as tf

from keras_lrp_prune.arguments import checked, one_of
from keras_lrp_prune.control.adaptive_schedule import UNEXPLAINED, AdaptiveSchedule
from keras_lrp_prune.control.checkpoint import CheckpointError
from keras_lrp_prune.control.tfmot import PruningSchedule
from keras_lrp_prune.evaluation import DECIMALS, harmonic_mean_accuracy
from keras_lrp_prune.selection.order import Order, UniformOrder, make_order, order_config
from keras_lrp_prune.selection.selection_options import DEFAULT_POOL, STEERINGS, Selection

# `AdaptiveSchedule`, `PruningSchedule` and `Selection` are here for users who write schedules of
# their own.
__all__ = ["AccuracyAware", "AdaptiveSchedule", "EqualSteps", "PruningSchedule", "Selection"]

RATES = ("auto", "adaptive", "equal")
# The default end of a schedule: so high that the target of the run ends it before.
FINAL_SPARSITY = 0.99
_TOLERANCE = 0.05


class AccuracyAware(PruningSchedule):
    """Lets the class accuracies say what goes next, and how much.

    Each call proposes a sparsity (pruning rate) one step above the accepted one. `observe` brings
    the class accuracies of the proposal. In adaptive steps it stands if their harmonic mean fell by
    no more than `tolerance`, and the next step is larger; otherwise it is taken back, and the next
    step is smaller. A step of the smallest size always stands, so that every target is reached. In
    equal steps all stand, and trials see to it that as little as possible is lost at each.

    The answers come from `tf.Variable`s, so that the schedule can be called inside a traced train
    step. It keeps no model and costs nothing.

    Args:
        initial_step: Share of all filters that the first proposal removes.
        min_step, max_step: Bounds of a proposal.
        tolerance: Relative drop of the harmonic mean accuracy that a proposal may cause, in
            adaptive steps; default 0.05.
        grow, shrink: Factors on the step after a proposal that stands, or does not.
        final_sparsity: Sparsity to end at, below 1; as whole units go, it is met to within half the
            largest that can go.
        order: How much each class counts when filters are chosen: `"harmonic"`, `"uniform"`, an
            `Order`, or its config.
        pool: For criteria that know what each filter adds to each sample (`"lrp.log_odds"`): share
            of all filters, the lowest-scored ones, that stand for election at each step; those go
            whose contributions cancel out. At 0 the lowest-scored go, as with other criteria.
        rate: `"adaptive"`, as described; `"equal"`: each proposal stands, and all steps are
            `initial_step`, but where `min_accuracy` asks for smaller ones; `"auto"`: equal where
            there are trials, which gain more for the same passes, and no `tolerance` is given, else
            adaptive.
        begin_step, end_step, frequency: When it proposes: every `frequency` steps from the first to
            the last, -1 for no end, as those of TFMOT's schedules. Steps are proposals in `prune`,
            and optimizer steps in training.
        steering: Which accuracies `prune` brings: of the model `"as_is"`, of heads that did not
            see the sample (`"cross_fit"`), or `"auto"`: the latter where the model's own head has
            at least 99 % of the reference set right, as it was fitted on it.
        trials: Whether several ways to choose are tried at each step: filters ranked by their
            scores in the model as it is, in the unpruned one, and by the mean of both, each with
            and without an election, or where what is left is refitted, in the model as it is
            alone; those go that leave the highest accuracy. It costs up to six forward passes a
            step, or up to two refits; four from a pruning rate of 55 % on, where by
            `"lrp.unique"` some of what went is tried to come back. `None`: in `prune`, but not in
            training.

    Raises:
        TypeError: For an argument of another type.
        ValueError: For arguments outside their ranges.

    Example:
    >>> schedule = klp.schedules.AccuracyAware(tolerance=0.02)
    >>> schedule.observe([0.9, 0.8])  # before pruning
    True
    >>> should_prune, sparsity = schedule(0)
    >>> schedule.observe([0.9, 0.4])  # the proposal hurts class 1
    False
    """

    @checked
    def __init__(
        self,
        initial_step: float = 0.05,
        min_step: float = 0.025,
        max_step: float = 0.1,
        tolerance: float | None = None,
        grow: float = 1.5,
        shrink: float = 0.5,
        final_sparsity: float = FINAL_SPARSITY,
        order: str | Mapping[str, Any] | Order = "harmonic",
        pool: float = DEFAULT_POOL,
        rate: str = "auto",
        steering: str = "as_is",
        trials: bool | None = None,
        begin_step: int = 0,
        end_step: int = -1,
        frequency: int = 1,
    ) -> None:
        if not min_step <= initial_step <= max_step:
            raise ValueError(
                "Steps must fulfil min_step <= initial_step <= max_step, not "
                f"{min_step}, {initial_step}, {max_step}."
            )
        one_of("rate", rate, RATES)
        one_of("steering", steering, STEERINGS)
        if 0 <= end_step < begin_step:
            raise ValueError(
                f"end_step must be at least begin_step, {begin_step}, or -1, not {end_step}."
            )
        self.initial_step = initial_step
        self.min_step = min_step
        self.max_step = max_step
        self.tolerance = tolerance
        self.grow = grow
        self.shrink = shrink
        self.final_sparsity = final_sparsity
        self.order = make_order(order)
        self.pool = pool
        self.rate = rate
        self.steering = steering
        self.trials = trials
        self.begin_step = begin_step
        self.end_step = end_step
        self.frequency = frequency
        self._accepted = tf.Variable(0.0, trainable=False, dtype=tf.float32)
        self._step = tf.Variable(initial_step, trainable=False, dtype=tf.float32)
        self._harmonic_mean = tf.Variable(-1.0, trainable=False, dtype=tf.float32)

    @property
    def selection(self) -> Selection:
        """How filters are chosen."""
        return Selection(self.order, self.pool, bool(self.trials), self.steering)

    def settled(self, *, trials: bool) -> Self:
        """A fresh schedule with the same arguments, those that were left open decided.

        These are `trials=None`, `rate="auto"` and `tolerance=None`.

        Args:
            trials: Whether there are trials, where the arguments leave it open.

        Raises:
            TypeError: If a sub-class has arguments that its config does not know.
        """
        config = self.get_config()["config"]
        named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        arguments = signature(type(self)).parameters.values()
        unknown = [it.name for it in arguments if it.kind in named and it.name not in config]
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has arguments that its config does not know, so that they "
                f"would be lost in a run ({', '.join(unknown)}): add them to what its get_config "
                'returns under "config".'
            )
        wanted = trials if self.trials is None else self.trials
        equal = wanted and self.tolerance is None
        decided = {
            "order": self.order,
            "trials": wanted,
            "rate": {"auto": "equal" if equal else "adaptive"}.get(self.rate, self.rate),
            "tolerance": _TOLERANCE if self.tolerance is None else self.tolerance,
        }
        return self.from_config({**config, **decided})

    def __call__(self, step: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Proposes a sparsity.

        Args:
            step: Number of the step; it says when to prune, not how much.

        Returns:
            `(should_prune, sparsity)`: a bool and a float32 scalar tensor.
        """
        sparsity = tf.minimum(self._accepted + self._step, self.final_sparsity)
        step = tf.cast(step, tf.int64)
        turn = self._should_prune_in_step(step, self.begin_step, self.end_step, self.frequency)
        return tf.logical_and(turn, sparsity > self._accepted), sparsity

    def rebase(self, class_accuracies: Any) -> None:
        """Takes the class accuracies under the accepted sparsity, after training in between.

        Args:
            class_accuracies: As those of `observe`.
        """
        self._harmonic_mean.assign(round(harmonic_mean_accuracy(class_accuracies), DECIMALS))

    def observe(self, class_accuracies: Any, sparsity: float | None = None) -> bool:
        """Takes the class accuracies under the last proposal, and decides whether it stands.

        The first call brings those of the unpruned model.

        Args:
            class_accuracies: Hard or soft, float, shape `(classes,)`.
            sparsity: The sparsity that was reached, if it is not the proposed one: whole groups
                only approximate it.

        Returns:
            Whether the proposal stands.
        """
        now = round(harmonic_mean_accuracy(class_accuracies), DECIMALS)
        before = float(self._harmonic_mean)
        if before < 0:
            self._harmonic_mean.assign(now)
            return True
        adaptive = self.rate != "equal"
        tolerance = _TOLERANCE if self.tolerance is None else self.tolerance
        holds = now >= before * (1 - tolerance) - 10**-DECIMALS
        if adaptive and not holds and self.smaller_step(sparsity):
            return False
        self._accepted.assign(self(0)[1] if sparsity is None else sparsity)
        self._harmonic_mean.assign(now)
        if adaptive and holds:
            self._step.assign(min(float(self._step) * self.grow, self.max_step))
        return True

    @property
    def objection(self) -> str:
        """Why its last proposal does not stand; others that observe say their own."""
        own = type(self).observe is AccuracyAware.observe
        return "the soft harmonic mean accuracy fell too far" if own else UNEXPLAINED

    def smaller_step(self, tried: float | None = None) -> bool:
        """Shrinks the next proposal below the last one.

        Args:
            tried: The sparsity that the last one reached, if it is not the proposed one.

        Returns:
            False if the last one was the smallest already.
        """
        step = float(self._step)
        if tried is not None:
            step = min(step, tried - float(self._accepted))
        if step <= self.min_step * (1 + 1e-6):
            return False
        self._step.assign(max(step * self.shrink, self.min_step))
        return True

    def go_on_at(self, sparsity: float) -> None:
        """Goes on from that sparsity, with nothing known of how it came about."""
        self._accepted.assign(sparsity)

    def get_state(self) -> dict[str, float]:
        """What the schedule has learnt, to go on with later."""
        return {
            "accepted": float(self._accepted),
            "step": float(self._step),
            "harmonic_mean": float(self._harmonic_mean),
        }

    def set_state(self, state: Mapping[str, float]) -> None:
        """Goes on from what `get_state` returned.

        Raises:
            CheckpointError: If it is something else.
        """
        missing = sorted(set(self.get_state()) - set(state))
        if missing:
            raise CheckpointError(
                f"The checkpoint is damaged: its schedule lacks {', '.join(missing)}. Delete it to "
                "start anew."
            )
        self._accepted.assign(state["accepted"])
        self._step.assign(state["step"])
        self._harmonic_mean.assign(state["harmonic_mean"])

    def get_config(self) -> dict[str, Any]:
        """The arguments, in TensorFlow Model Optimization's form."""
        return {
            "class_name": type(self).__name__,
            "config": {
                "initial_step": self.initial_step,
                "min_step": self.min_step,
                "max_step": self.max_step,
                "tolerance": self.tolerance,
                "grow": self.grow,
                "shrink": self.shrink,
                "final_sparsity": self.final_sparsity,
                "order": order_config(self.order),
                "pool": self.pool,
                "rate": self.rate,
                "steering": self.steering,
                "trials": self.trials,
                "begin_step": self.begin_step,
                "end_step": self.end_step,
                "frequency": self.frequency,
            },
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A fresh schedule from `get_config()`, or from the inner `"config"` alone."""
        return cls(**(config["config"] if "class_name" in config else config))


# Where what is left is refitted at each step, there are fewer and larger ones.
_REFITTED_STEP = 0.1


def default_schedule(*, refits: bool, final_sparsity: float = FINAL_SPARSITY) -> AccuracyAware:
    """The schedule of `prune` where none is given.

    Args:
        refits: Whether what is left is refitted at each step.
        final_sparsity: As that of `AccuracyAware`.
    """
    if refits:
        return AccuracyAware(initial_step=_REFITTED_STEP, final_sparsity=final_sparsity)
    return AccuracyAware(final_sparsity=final_sparsity)


class EqualSteps(PruningSchedule):
    """Prunes the same share of all filters at each step, whatever becomes of the accuracies.

    All classes count alike, and the lowest-scored filters go: the schedule of the baselines.

    Args:
        size: That share, in (0, 1]; 1 prunes all at once, up to the target rate.

    Raises:
        TypeError: If `size` is no number.
        ValueError: If it lies outside.

    Example:
    >>> should_prune, sparsity = klp.schedules.EqualSteps(0.05)(1)
    >>> float(sparsity)
    0.1
    """

    @checked
    def __init__(self, size: float = 0.05) -> None:
        self.size = size

    @property
    def selection(self) -> Selection:
        """How filters are chosen: the lowest-scored ones go, all classes alike."""
        return Selection(UniformOrder(), pool=0.0, trials=False)

    def __call__(self, step: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Proposes a sparsity.

        Args:
            step: Number of proposals made before.

        Returns:
            `(should_prune, sparsity)`: a bool and a float32 scalar tensor.
        """
        return tf.constant(True), tf.minimum((tf.cast(step, tf.float32) + 1) * self.size, 1.0)

    def get_config(self) -> dict[str, Any]:
        """The arguments, in TensorFlow Model Optimization's form."""
        return {"class_name": type(self).__name__, "config": {"size": self.size}}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A schedule from `get_config()`, or from the inner `"config"` alone."""
        return cls(**(config["config"] if "class_name" in config else config))
