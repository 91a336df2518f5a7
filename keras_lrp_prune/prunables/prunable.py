"""What pruning needs to know of anything that can be removed one unit at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

Undo = Callable[[], None]


class UnitGroup(Protocol):
    """Units that are ranked together and of which some have to stay, such as a layer's."""

    @property
    def units(self) -> np.ndarray:
        """Their numbers, shape `(size,)`."""
        ...

    @property
    def size(self) -> int:
        """Number of units."""
        ...


class Prunable(Protocol):
    """Units that can go, each with all that it consists of: channels, weights, blocks of weights.

    Which units are gone is always a mask: bool, shape `(units,)`. `control` and `selection` decide
    how much and which units go by what stands here, and by nothing else of a model.
    """

    @property
    def unit_noun(self) -> str:
        """What units are called in messages, such as channels."""
        ...

    @property
    def size_noun(self) -> str:
        """What the sizes of units count, such as filters; the rate is a share of these."""
        ...

    @property
    def groups(self) -> Sequence[UnitGroup]:
        """The groups; together they hold every unit once."""
        ...

    @property
    def n_units(self) -> int:
        """Number of units."""
        ...

    @property
    def unit_sizes(self) -> np.ndarray:
        """What goes with each unit (filters, weights), int64, shape `(units,)`."""
        ...

    def rate(self, removed: np.ndarray) -> float:
        """The share of all sizes that is gone."""
        ...


class Mask(Protocol):
    """Holds units at zero in a model, in place."""

    def set(self, removed: np.ndarray) -> object:
        """Masks exactly these units."""
        ...

    def clear(self) -> None:
        """Unmasks everything, bit for bit."""
        ...


class HeldMask(Protocol):
    """Holds units at zero in a model that is trained meanwhile."""

    def set(self, removed: np.ndarray) -> Undo:
        """Masks these units, and holds no others; returns what takes that back."""
        ...

    def holding(self) -> AbstractContextManager[None]:
        """Has the mask held in all training steps that are traced, or run eagerly, meanwhile."""
        ...

    def broken(self) -> list[str]:
        """Names of the weights that are not zero where they are masked."""
        ...

    def found(self) -> np.ndarray:
        """Units that are zero in the weights as they are."""
        ...
