"""How much goes at each step: the one place that asks schedules, and tells them the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from copy import Error, deepcopy
from typing import Any

import numpy as np

from keras_lrp_prune.arguments import Rule, number, or_none, whole
from keras_lrp_prune.control.adaptive_schedule import (
    AdaptiveSchedule,
    answered,
    is_adaptive,
    objection_of,
    state_of,
)
from keras_lrp_prune.control.schedules import FINAL_SPARSITY
from keras_lrp_prune.control.tfmot import PruningSchedule
from keras_lrp_prune.graph.plain import checked_config
from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.order import order_config
from keras_lrp_prune.selection.reach import check_rate, is_nearest
from keras_lrp_prune.selection.selection_options import Selecting, Selection

_LIBRARIES = ("keras_lrp_prune", "tensorflow_model_optimization")


class Pace:
    """How much goes, by a schedule that nothing steers: all that it proposes stands.

    Args:
        schedule: Any `tfmot.sparsity.keras.PruningSchedule`; it is not changed: a copy is used.
        trials: Whether several ways to choose are tried unless the schedule says otherwise.
    """

    def __init__(self, schedule: Any, *, trials: bool) -> None:
        self.schedule = self._own(schedule, trials)
        self.selection = _selection_of(self.schedule) or Selection(trials=trials)
        self._config = _config_of(self.schedule)

    def _own(self, schedule: Any, trials: bool) -> Any:
        """The schedule of this run, in which others see nothing of what it learns."""
        try:
            return deepcopy(schedule)
        except (TypeError, Error) as error:
            raise TypeError(
                f"{type(schedule).__name__} cannot be copied ({error}), but each run works on a "
                "copy, so that nothing leaks from run to run: leave out what cannot be copied, or "
                "write its __deepcopy__."
            ) from error

    @property
    def reads_accuracies(self) -> bool:
        """Whether class accuracies have a say in how much goes, or which."""
        return self.selection.reads_accuracies

    @property
    def asked_rate(self) -> float | None:
        """The pruning rate that it is to end at, if it says so."""
        rate: float | None = self._config.get("final_sparsity", self._config.get("target_sparsity"))
        return rate

    @property
    def end_step(self) -> int:
        """The last step at which it proposes something, -1 if it does not say."""
        end: int | None = self._config.get("end_step")
        return -1 if end is None else end

    def check(self, prunable: Prunable, limits: Limits) -> None:
        """Raises `ValueError` if it is to end beyond what the limits leave."""
        if self.asked_rate is not None:
            check_rate("The schedule's final sparsity", self.asked_rate, prunable, limits)

    def end(self, goal: float) -> float:
        """The rate beyond which it proposes nothing more, on the way to that of a goal."""
        return goal

    def asks(self, step: int) -> tuple[bool, float]:
        """What the schedule answers to a step: whether to prune, and the sparsity, 0 if not.

        Raises:
            TypeError: If it is not a bool and a number.
            ValueError: If the sparsity lies outside [0, 1].
        """
        answer, name = self.schedule(step), type(self.schedule).__name__
        pair = tuple(map(np.asarray, answer)) if isinstance(answer, tuple | list) else ()
        if [part.shape for part in pair] != [(), ()] or (
            pair[0].dtype.kind not in "biu" or pair[1].dtype.kind not in "iuf"
        ):
            raise TypeError(
                "A schedule answers each step with (should_prune, sparsity), a bool and a number; "
                f"{name} answered step {step} with {answer!r}."
            )
        should_prune, sparsity = bool(pair[0]), float(pair[1])
        if should_prune and not 0 <= sparsity <= 1:
            raise ValueError(
                f"The sparsity that a schedule asks for must lie in [0, 1]; {name} asked for "
                f"{sparsity} at step {step}."
            )
        return should_prune, sparsity if should_prune else 0.0

    def is_there(self, prunable: Prunable, removed: np.ndarray, rate: float) -> bool:
        """Whether that rate is reached: one unit more would not bring the pruning rate nearer."""
        return is_nearest(prunable, removed, rate)

    def observe(self, class_accuracies: np.ndarray, rate: float | None = None) -> bool:
        """Takes what the last proposal, of that rate, left; returns whether it stands."""
        return True

    @property
    def objection(self) -> str:
        """Why the last proposal does not stand, if `observe` said that it does not."""
        return ""

    def rebase(self, class_accuracies: np.ndarray) -> None:
        """Takes where the classes stand after training in between."""

    def smaller_step(self, tried: float | None = None) -> bool:
        """Whether the next proposal will be smaller than the last, which came to that rate."""
        return False

    def get_state(self) -> dict[str, float]:
        """What has been learnt so far, to go on with later."""
        return {}

    def set_state(self, state: Mapping[str, float]) -> None:
        """Goes on from what `get_state` returned."""

    def go_on_at(self, rate: float) -> None:
        """Goes on from that pruning rate, with nothing known of how it came about."""


class AdaptivePace(Pace):
    """How much goes, by a schedule that the class accuracies steer.

    Args:
        schedule: An `AdaptiveSchedule`; it is not changed: a fresh one like it is used.
        trials: As in `Pace`.
    """

    schedule: AdaptiveSchedule

    def __init__(self, schedule: AdaptiveSchedule, *, trials: bool) -> None:
        super().__init__(schedule, trials=trials)
        name = f"{type(self.schedule).__name__}.final_sparsity"
        number("[0, 1]")(name, self.schedule.final_sparsity)

    def _own(self, schedule: AdaptiveSchedule, trials: bool) -> AdaptiveSchedule:
        settled = schedule.settled(trials=trials)
        name = type(schedule).__name__
        if settled is schedule:
            raise TypeError(
                f"{name}.settled() returns a fresh schedule with the same arguments, not itself, "
                "so that nothing leaks from run to run."
            )
        if not isinstance(settled, PruningSchedule) or not is_adaptive(settled):
            raise TypeError(f"{name}.settled() returns a schedule like it, not {settled!r}.")
        return settled

    @property
    def reads_accuracies(self) -> bool:
        """See `Pace`."""
        return True

    @property
    def asked_rate(self) -> float | None:
        """See `Pace`; the default final sparsity is a bound, and not a rate that is asked for."""
        final = self.schedule.final_sparsity
        return None if final == FINAL_SPARSITY else final

    def check(self, prunable: Prunable, limits: Limits) -> None:
        """Does nothing: the final sparsity of an adaptive schedule need not be reached."""

    def end(self, goal: float) -> float:
        """See `Pace`."""
        return self.schedule.final_sparsity

    def is_there(self, prunable: Prunable, removed: np.ndarray, rate: float) -> bool:
        """See `Pace`; a step may be smaller than a unit: then one goes."""
        return rate <= prunable.rate(removed)

    def observe(self, class_accuracies: np.ndarray, rate: float | None = None) -> bool:
        """See `Pace`."""
        return answered(self.schedule, "observe", self.schedule.observe(class_accuracies, rate))

    @property
    def objection(self) -> str:
        """See `Pace`."""
        return objection_of(self.schedule)

    def rebase(self, class_accuracies: np.ndarray) -> None:
        """See `Pace`."""
        self.schedule.rebase(class_accuracies)

    def smaller_step(self, tried: float | None = None) -> bool:
        """See `Pace`."""
        return answered(self.schedule, "smaller_step", self.schedule.smaller_step(tried))

    def get_state(self) -> dict[str, float]:
        """See `Pace`."""
        return state_of(self.schedule)

    def set_state(self, state: Mapping[str, float]) -> None:
        """See `Pace`."""
        self.schedule.set_state(state)

    def go_on_at(self, rate: float) -> None:
        """See `Pace`."""
        self.schedule.go_on_at(rate)


def make_pace(schedule: Any, *, trials: bool) -> Pace:
    """The pace of a schedule; each run makes its own, so that no state leaks between runs.

    Args:
        schedule: A `tfmot.sparsity.keras.PruningSchedule`.
        trials: Whether several ways to choose are tried unless it says otherwise.

    Raises:
        ValueError: If it is no such schedule.
        TypeError: If its `selection` is no `Selection`; its config lacks arguments that a fresh
            schedule would need, or is no plain data; it cannot be copied; or it has some of what an
            adaptive schedule has, but not all.
    """
    if not isinstance(schedule, PruningSchedule):
        raise ValueError(
            f"schedule must be a tfmot.sparsity.keras.PruningSchedule, not {type(schedule)}."
        )
    kind = AdaptivePace if is_adaptive(schedule) else Pace
    return kind(schedule, trials=trials)


def own_selection(schedule: Any) -> dict[str, Any]:
    """How a user's own schedule chooses units, which its config need not contain.

    Args:
        schedule: Any schedule, or `None`.

    Returns:
        `{"selection": ...}` as plain data. Empty for the schedules of this package and of TFMOT,
        whose configs are complete, and for one without a `selection`.
    """
    of_library = type(schedule).__module__.split(".")[0] in _LIBRARIES
    selection = None if of_library else _selection_of(schedule)
    if selection is None:
        return {}
    return {"selection": {**vars(selection), "order": order_config(selection.order)}}


def _selection_of(schedule: Any) -> Selection | None:
    """How a schedule chooses units, if it says so."""
    if not isinstance(schedule, Selecting):
        return None
    if not isinstance(schedule.selection, Selection):
        raise TypeError(
            f"{type(schedule).__name__}.selection is a klp.schedules.Selection, not "
            f"{schedule.selection!r}; without the attribute, filters are chosen as by default."
        )
    return schedule.selection


# What is read in a schedule's config, if it is there.
_READ: Mapping[str, Rule] = {
    "final_sparsity": or_none(number("[0, 1]")),
    "target_sparsity": or_none(number("[0, 1]")),
    "end_step": or_none(whole(-1)),
}


def _config_of(schedule: Any) -> dict[str, Any]:
    """What is read of a schedule's config."""
    name = type(schedule).__name__
    config = checked_config(name, schedule.get_config())
    arguments = checked_config(name, config.get("config", config))
    return {
        key: rule(f"{name}.{key}", arguments[key])
        for key, rule in _READ.items()
        if key in arguments
    }
