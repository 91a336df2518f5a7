"""How the units that go next are chosen among those that may go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from keras_lrp_prune.arguments import Checked, one_of
from keras_lrp_prune.selection.order import HarmonicOrder, Order, UniformOrder, make_order

DEFAULT_POOL = 0.2
STEERINGS = ("auto", "as_is", "cross_fit")


@dataclass(frozen=True)
class Selection(Checked):
    """How the units that go are chosen; the schedule says how much goes.

    Args:
        order: How much each class counts: an `Order`, its name (`"harmonic"`, `"uniform"`) or its
            config.
        pool: Share of everything, the lowest-scored units, that stands for election where the
            criterion knows what each adds to each sample; 0: the lowest-scored go.
        trials: Whether several ways to choose are tried at each step.
        steering: Which accuracies judge: of the model `"as_is"`, of heads that did not see the
            sample (`"cross_fit"`), or `"auto"`.

    Raises:
        TypeError: For an argument of another type.
        ValueError: For arguments outside their ranges.

    Example:
    >>> Selection(order="uniform", pool=0, trials=False).reads_accuracies
    False
    """

    order: Order = field(default_factory=HarmonicOrder)
    pool: float = DEFAULT_POOL
    trials: bool = True
    steering: str = "as_is"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "order", make_order(self.order))
        object.__setattr__(self, "trials", bool(self.trials))
        one_of("steering", self.steering, STEERINGS)

    @property
    def reads_accuracies(self) -> bool:
        """Whether class accuracies decide which units go."""
        return self.trials or not isinstance(self.order, UniformOrder)


@runtime_checkable
class Selecting(Protocol):
    """A schedule that also says how units are chosen."""

    @property
    def selection(self) -> Selection:
        """How units are chosen."""
        ...
