"""What a schedule has that the class accuracies steer, and when it is told what."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

# The reason for a step that a schedule objects to without saying why.
UNEXPLAINED = "the schedule refuses it"


@runtime_checkable
class AdaptiveSchedule(Protocol):
    """A pruning schedule that the class accuracies steer.

    It is a `PruningSchedule`, called with a step, that is told besides what became of its
    proposals, and may object to them. Its `final_sparsity` is where it ends, and its steps may be
    smaller than a unit. It may also have a text, `objection`: why its last proposal does not stand.

    In `prune` it is told of the unpruned model first (`observe`, without a sparsity); then each
    call is followed by `observe` of what was proposed. In training it is told first at which
    sparsity the model is (`go_on_at`), and before each proposal where the classes stand by now
    (`rebase`).
    """

    final_sparsity: float

    def settled(self, *, trials: bool) -> Self:
        """A fresh schedule with the same arguments; what they left open is decided.

        Args:
            trials: Whether several ways to choose are tried unless it says otherwise.
        """
        ...

    def observe(self, class_accuracies: Any, sparsity: float | None = None) -> bool:
        """Takes the accuracies under the last proposal.

        Args:
            class_accuracies: Soft accuracies, float, shape `(classes,)`.
            sparsity: Where the proposal came to; `None`: of the unpruned model, which stands
                whatever is answered.

        Returns:
            Whether the proposal stands. If `smaller_step` returned False before, it has to: else
            the run ends.
        """
        ...

    def rebase(self, class_accuracies: Any) -> None:
        """Takes the accuracies under what stands, after training in between."""
        ...

    def smaller_step(self, tried: float | None = None) -> bool:
        """Shrinks the next proposal below the last; False if that was the smallest.

        Args:
            tried: Where the last proposal came to, if it crossed a floor; `None`: it came to the
                same units as one that `observe` objected to.
        """
        ...

    def go_on_at(self, sparsity: float) -> None:
        """Goes on from that sparsity, with nothing known of how it came about."""
        ...

    def get_state(self) -> dict[str, float]:
        """What it has learnt: numbers by name."""
        ...

    def set_state(self, state: Mapping[str, float]) -> None:
        """Goes on from what `get_state` returned."""
        ...


@runtime_checkable
class Objecting(Protocol):
    """A schedule that says why it objects."""

    objection: str


# What no other schedule has, and what others may have, too.
_STEERED = {"settled", "observe", "rebase", "smaller_step", "go_on_at"}
_MEMBERS = {*_STEERED, "final_sparsity", "get_state", "set_state"}


def is_adaptive(schedule: Any) -> bool:
    """Whether the class accuracies steer a schedule.

    Raises:
        TypeError: If it has some of what only such a schedule has, but not all of it.
    """
    has = set(dir(schedule))
    if has.isdisjoint(_STEERED):
        return False
    if missing := _MEMBERS - has:
        raise TypeError(
            f"{type(schedule).__name__} has {', '.join(sorted(_STEERED & has))}, as a schedule "
            f"that the class accuracies steer, but lacks {', '.join(sorted(missing))}: see "
            "klp.schedules.AdaptiveSchedule."
        )
    return True


def answered(schedule: AdaptiveSchedule, method: str, answer: Any) -> bool:
    """What a method of a schedule answered.

    Raises:
        TypeError: If it is no bool: a `return` that is forgotten would count as an objection.
    """
    found = np.asarray(answer)
    if found.shape or found.dtype.kind != "b":
        raise TypeError(
            f"{type(schedule).__name__}.{method}() returns True or False, not {answer!r}."
        )
    return bool(found)


def objection_of(schedule: AdaptiveSchedule) -> str:
    """Why a schedule objects to its last proposal, by its `objection` if it has one.

    Raises:
        TypeError: If it is no text.
    """
    if not isinstance(schedule, Objecting):
        return UNEXPLAINED
    if not isinstance(schedule.objection, str) or not schedule.objection:
        raise TypeError(
            f"{type(schedule).__name__}.objection says why a proposal does not stand; "
            f"{schedule.objection!r} does not."
        )
    return schedule.objection


def state_of(schedule: AdaptiveSchedule) -> dict[str, float]:
    """What a schedule has learnt, as a checkpoint holds it.

    Raises:
        TypeError: If it is no numbers by name.
    """
    state = schedule.get_state()
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Real) for name, value in state.items()
    ):
        raise TypeError(
            f"{type(schedule).__name__}.get_state() returns a dict of numbers by name, not "
            f"{state!r}."
        )
    return {name: np.asarray(value).item() for name, value in state.items()}
