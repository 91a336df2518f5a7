"""How the units that go next are chosen among those that may go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from keras_lrp_prune.selection.order import HarmonicOrder, Order, UniformOrder

DEFAULT_POOL = 0.2


@dataclass(frozen=True)
class Selection:
    """What decides which units go, whatever says how much.

    Args:
        order: How much each class counts.
        pool: Share of everything, the lowest-scored units, that stands for election where the
            criterion knows what each adds to each sample; 0: the lowest-scored go.
        trials: Whether several ways to choose are tried at each step.
        steering: Which accuracies judge: of the model `"as_is"`, of heads that did not see the
            sample (`"cross_fit"`), or `"auto"`.
    """

    order: Order = field(default_factory=HarmonicOrder)
    pool: float = DEFAULT_POOL
    trials: bool = True
    steering: str = "as_is"

    @property
    def reads_accuracies(self) -> bool:
        """Whether class accuracies have a say in what goes."""
        return self.trials or not isinstance(self.order, UniformOrder)


@runtime_checkable
class Selecting(Protocol):
    """A schedule that also says how units are chosen."""

    @property
    def selection(self) -> Selection:
        """How."""
        ...
