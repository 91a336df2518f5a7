"""How much goes at each step: the one place that asks schedules, and tells them the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from keras_lrp_prune.control.schedules import FINAL_SPARSITY
from keras_lrp_prune.control.tfmot import PruningSchedule
from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.order import order_config
from keras_lrp_prune.selection.reach import check_rate, is_nearest
from keras_lrp_prune.selection.selection_options import Selecting, Selection

_LIBRARIES = ("keras_lrp_prune", "tensorflow_model_optimization")


@runtime_checkable
class AdaptiveSchedule(Protocol):
    """A pruning schedule that the class accuracies steer.

    Its `final_sparsity` is where it ends, and its steps may be smaller than a unit.
    """

    final_sparsity: float

    def settled(self, *, trials: bool) -> Self:
        """A fresh schedule with the same arguments; what they left open is decided.

        Args:
            trials: Whether several ways to choose are tried unless it says otherwise.
        """
        ...

    def observe(self, class_accuracies: Any, sparsity: float | None = None) -> bool:
        """Takes the accuracies under the last proposal; returns whether it stands."""
        ...

    def rebase(self, class_accuracies: Any) -> None:
        """Takes the accuracies under what stands, after training in between."""
        ...

    def smaller_step(self, tried: float | None = None) -> bool:
        """Shrinks the next proposal below the last; False if that was the smallest."""
        ...

    def go_on_at(self, sparsity: float) -> None:
        """Goes on from that sparsity, with nothing known of how it came about."""
        ...

    def get_state(self) -> dict[str, float]:
        """What it has learnt."""
        ...

    def set_state(self, state: Mapping[str, float]) -> None:
        """Goes on from what `get_state` returned."""
        ...


class Pace:
    """How much goes, by a schedule that nothing steers: all that it proposes stands.

    Args:
        schedule: Any `tfmot.sparsity.keras.PruningSchedule`.
        trials: Whether several ways to choose are tried unless the schedule says otherwise.
    """

    def __init__(self, schedule: Any, *, trials: bool) -> None:
        self.schedule = schedule
        self.selection = (
            schedule.selection if isinstance(schedule, Selecting) else Selection(trials=trials)
        )
        if not isinstance(self.selection, Selection):
            raise TypeError(
                f"{type(schedule).__name__}.selection is a klp.schedules.Selection, not "
                f"{self.selection!r}; without the attribute, filters are chosen as by default."
            )

    @property
    def reads_accuracies(self) -> bool:
        """Whether class accuracies have a say in how much goes, or which."""
        return self.selection.reads_accuracies

    @property
    def asked_rate(self) -> float | None:
        """The pruning rate that it is to end at, if it says so."""
        config = self._config
        rate: float | None = config.get("final_sparsity", config.get("target_sparsity"))
        return rate

    @property
    def end_step(self) -> int:
        """The last step at which it proposes something, -1 if it does not say."""
        return int(self._config.get("end_step", -1))

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

    @property
    def _config(self) -> Mapping[str, Any]:
        config = self.schedule.get_config()
        found: Mapping[str, Any] = config.get("config", config)
        return found


class AdaptivePace(Pace):
    """How much goes, by a schedule that the class accuracies steer.

    Args:
        schedule: An `AdaptiveSchedule`; it is not changed: a fresh one like it is used.
        trials: As in `Pace`.
    """

    schedule: AdaptiveSchedule

    def __init__(self, schedule: AdaptiveSchedule, *, trials: bool) -> None:
        super().__init__(schedule.settled(trials=trials), trials=trials)

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
        return self.schedule.observe(class_accuracies, rate)

    def rebase(self, class_accuracies: np.ndarray) -> None:
        """See `Pace`."""
        self.schedule.rebase(class_accuracies)

    def smaller_step(self, tried: float | None = None) -> bool:
        """See `Pace`."""
        return self.schedule.smaller_step(tried)

    def get_state(self) -> dict[str, float]:
        """See `Pace`."""
        return self.schedule.get_state()

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
        TypeError: If its `selection` is no `Selection`, or its config lacks arguments that a fresh
            schedule would need.
    """
    if not isinstance(schedule, PruningSchedule):
        raise ValueError(
            f"schedule must be a tfmot.sparsity.keras.PruningSchedule, not {type(schedule)}."
        )
    kind = AdaptivePace if isinstance(schedule, AdaptiveSchedule) else Pace
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
    selection = getattr(schedule, "selection", None)
    if of_library or not isinstance(selection, Selection):
        return {}
    return {"selection": {**vars(selection), "order": order_config(selection.order)}}
