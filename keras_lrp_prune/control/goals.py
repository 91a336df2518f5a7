"""How far pruning goes: to a pruning rate, or until a budget is met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Protocol

import numpy as np

from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.ranking import Bundle, also_removed
from keras_lrp_prune.selection.reach import check_rate, largest_rate, most_removed, rate_tolerance

_ROUNDING = 1e-12


class CostShares(Protocol):
    """Shares of the costs of the whole model that remain without some units."""

    def __call__(self, name: str, removed: np.ndarray) -> float:
        """The share of the cost of that name that remains; `removed` is bool, `(units,)`."""
        ...

    def saved(self, name: str, removed: np.ndarray) -> np.ndarray:
        """The share of it that goes with each unit that goes next, `(units,)`; 0 for those gone."""
        ...

    def counted(self, name: str, left: Mapping[str, int]) -> float | None:
        """The same by what a step counts; `None` for a cost that has to be measured."""
        ...

    def stand_in(self, name: str) -> str:
        """What is counted in place of a cost that has to be measured; of others, itself."""
        ...


class Goal(Protocol):
    """Says when a pruning run is over, and where its last step ends."""

    @property
    def reason(self) -> str:
        """Why a run that reached the goal stopped."""
        ...

    @property
    def rate(self) -> float:
        """The highest pruning rate that a step may aim at."""
        ...

    @property
    def tolerance(self) -> float:
        """How much higher a rate is no cut of the step that aimed there."""
        ...

    def reached(self, removed: np.ndarray) -> bool:
        """Whether enough is gone; `removed` is bool, shape `(units,)`."""
        ...

    def gains(self, removed: np.ndarray) -> np.ndarray:
        """How much nearer to the goal each unit brings that goes next, shape `(units,)`."""
        ...

    def trimmed(self, removed: np.ndarray, bundles: Sequence[Bundle]) -> Sequence[Bundle]:
        """As many of the first bundles as may still go, at least one if there are any."""
        ...

    def progress(self, rate: float, left: Mapping[str, int]) -> float:
        """How much of the way is done at that pruning rate, with that left, in [0, 1]."""
        ...


@dataclass(frozen=True)
class RateGoal:
    """A pruning rate, met to within half the largest bundle.

    Args:
        prunable: What can go.
        limits: What every group keeps.
        rate: Pruning rate to reach, in [0, 1).
    """

    prunable: Prunable
    limits: Limits
    rate: float

    @property
    def reason(self) -> str:
        """See `Goal`."""
        if 0 < self.rate <= self.tolerance:
            return (
                f"target rate {self.rate:g} is nearest to none at all: up to "
                f"{2 * self.tolerance:.4f} of the {self.prunable.size_noun} can only go together"
            )
        return "target rate reached"

    @cached_property
    def tolerance(self) -> float:
        """See `Goal`."""
        return rate_tolerance(self.prunable, self.limits)

    def check(self) -> None:
        """Raises `ValueError` if the limits do not leave that rate, and names the largest."""
        if not 0 <= self.rate < 1:
            raise ValueError(f"target_rate must lie in [0, 1), not {self.rate}.")
        check_rate("target_rate", self.rate, self.prunable, self.limits)

    def reached(self, removed: np.ndarray) -> bool:
        """See `Goal`."""
        return self.prunable.rate(removed) >= self.rate - self.tolerance - _ROUNDING

    def gains(self, removed: np.ndarray) -> np.ndarray:
        """See `Goal`: its size."""
        return self.prunable.unit_sizes

    def trimmed(self, removed: np.ndarray, bundles: Sequence[Bundle]) -> Sequence[Bundle]:
        """See `Goal`; the proposal knows the rate."""
        return bundles

    def progress(self, rate: float, left: Mapping[str, int]) -> float:
        """See `Goal`."""
        return min(rate / max(self.rate, _ROUNDING), 1.0)


@dataclass(frozen=True)
class BudgetGoal:
    """Shares of the original's costs that may remain; without the last bundle, one is exceeded.

    Args:
        prunable: What can go.
        limits: What every group keeps.
        budget: Cost to the share of it that may remain, in (0, 1].
        shares: What remains without some units.
    """

    prunable: Prunable
    limits: Limits
    budget: Mapping[str, float]
    shares: CostShares
    reason = "budget met"

    @cached_property
    def rate(self) -> float:
        """See `Goal`."""
        return largest_rate(self.prunable, self.limits)

    @cached_property
    def tolerance(self) -> float:
        """See `Goal`."""
        return rate_tolerance(self.prunable, self.limits)

    def check(self) -> None:
        """Raises `ValueError` for what the smallest model exceeds, and names its share."""
        smallest = most_removed(self.prunable, self.limits)
        for name, most in self.budget.items():
            share = min(self.shares(name, smallest), 1.0)  # all can remain, whatever was measured
            if share > most + _ROUNDING:
                raise ValueError(
                    f"budget {name}={most:g} cannot be met: with "
                    f"{', '.join(self.limits.in_words(self.prunable.unit_noun))} and what is "
                    f"protected, the smallest share that can remain is "
                    f"{ceil(1e4 * share) / 1e4:.4f}."
                )

    def reached(self, removed: np.ndarray) -> bool:
        """See `Goal`."""
        return all(self.shares(name, removed) <= most + _ROUNDING for name, most in self._in_order)

    def gains(self, removed: np.ndarray) -> np.ndarray:
        """See `Goal`: what goes with a unit of the costs that still exceed their budget.

        Each cost counts in proportion to what of it has to go; in place of one that has to be
        measured, what stands in for it.
        """
        gains = np.zeros(self.prunable.n_units)
        for name, weight in self._weights(removed).items():
            gains += weight * self.shares.saved(name, removed)
        return gains

    def trimmed(self, removed: np.ndarray, bundles: Sequence[Bundle]) -> Sequence[Bundle]:
        """See `Goal`; by bisection, as costs fall with each bundle."""
        if not bundles or not self.reached(also_removed(removed, bundles)):
            return bundles
        too_few, enough = 0, len(bundles)
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            if self.reached(also_removed(removed, bundles[:middle])):
                enough = middle
            else:
                too_few = middle
        return bundles[:enough]

    def progress(self, rate: float, left: Mapping[str, int]) -> float:
        """See `Goal`; of the costs that are counted, that which is furthest from its budget."""
        ways = [
            min((1 - share) / max(1 - most, _ROUNDING), 1.0)
            for name, most in self.budget.items()
            if (share := self.shares.counted(name, left)) is not None
        ]
        return min(ways, default=rate / max(self.rate, _ROUNDING))

    def _weights(self, removed: np.ndarray) -> dict[str, float]:
        """How much a share of each cost is worth that is not met yet, or not known to be."""
        weights: dict[str, float] = {}
        for name, most in self.budget.items():
            counted = self.shares.stand_in(name)
            if counted != name or self.shares(name, removed) > most + _ROUNDING:
                worth = 1 / max(1 - most, _ROUNDING)
                weights[counted] = weights.get(counted, 0.0) + worth
        return weights

    @property
    def _in_order(self) -> list[tuple[str, float]]:
        """The budget; what has to be measured is last, so that it is only if the rest is met."""
        stand_in = self.shares.stand_in
        return sorted(self.budget.items(), key=lambda item: stand_in(item[0]) != item[0])
