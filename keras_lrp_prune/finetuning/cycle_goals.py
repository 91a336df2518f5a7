"""How far each cycle of pruning goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from keras_lrp_prune.arguments import number, several, whole
from keras_lrp_prune.cost import Cost, check_budget
from keras_lrp_prune.examination.target import DEFAULT_TARGET_RATE

_COUNTS: Mapping[str, Callable[[Cost], int]] = {
    "filters": lambda cost: cost.filters,
    "params": lambda cost: cost.parameters,
    "flops": lambda cost: cost.flops,
}


class CycleGoals(Protocol):
    """What `prune` is asked for in each cycle."""

    @property
    def last_rate(self) -> float | None:
        """The rate after the last cycle, if it is known."""
        ...

    def __len__(self) -> int:
        """Number of cycles."""
        ...

    def options(self, cycle: int, first: Cost, now: Cost, prunable: int) -> dict[str, Any]:
        """Arguments of `prune` for a cycle.

        Args:
            cycle: Its number, from 1.
            first: What the model cost at first.
            now: What it costs by now.
            prunable: Filters at first in unprotected groups.
        """
        ...


@dataclass(frozen=True)
class CycleRates:
    """Pruning rates after each cycle, of the filters that the model had at first."""

    rates: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.rates)

    @property
    def last_rate(self) -> float | None:
        """The rate after the last cycle."""
        return self.rates[-1]

    def options(self, cycle: int, first: Cost, now: Cost, prunable: int) -> dict[str, Any]:
        """See `CycleGoals`: a rate of the filters that are left."""
        gone = first.filters - now.filters
        wanted = self.rates[cycle - 1] * prunable
        return {"target_rate": max(0.0, (wanted - gone) / (prunable - gone))}


@dataclass(frozen=True)
class CycleBudgets:
    """Shares of costs that may remain after the last cycle, in equal steps."""

    budget: Mapping[str, float]
    cycles: int

    @property
    def last_rate(self) -> float | None:
        """Not known before."""
        return None

    def __len__(self) -> int:
        return self.cycles

    def options(self, cycle: int, first: Cost, now: Cost, prunable: int) -> dict[str, Any]:
        """See `CycleGoals`: shares of what is left."""
        shares = {}
        for name, last in self.budget.items():
            wanted = 1 - (1 - last) * cycle / self.cycles
            shares[name] = min(1.0, wanted * _COUNTS[name](first) / _COUNTS[name](now))
        return {"budget": shares}


def make_cycle_goals(
    target_rate: float | None, cycles: int | Sequence[float], budget: Any
) -> CycleGoals:
    """Reads how far cycles shall go; arguments as those of `prune_and_finetune`.

    Raises:
        TypeError, ValueError: For rates that do not rise within [0, 1), no cycle, both a rate and
            a budget, or a budget that is not a share of filters, parameters or FLOPs.
    """
    if not isinstance(cycles, Iterable):
        count = whole(1)("cycles", cycles)
        if budget is not None:
            return CycleBudgets(_checked_budget(budget, target_rate), count)
        last = DEFAULT_TARGET_RATE if target_rate is None else target_rate
        rates = tuple(last * done / count for done in range(1, count + 1))
        return CycleRates(_checked_rates(rates))
    if target_rate is not None or budget is not None:
        raise ValueError("Give cycles= as a number, or as a list of rates without another goal.")
    return CycleRates(_checked_rates(several(number("[0, 1)"), "pruning rates")("cycles", cycles)))


def _checked_rates(rates: tuple[float, ...]) -> tuple[float, ...]:
    if not rates:
        raise ValueError("cycles is an empty list; give the pruning rate after each cycle.")
    if any(before > after for before, after in pairwise(rates)):
        raise ValueError(f"Pruning rates of cycles must rise, not {list(rates)}.")
    return rates


def _checked_budget(budget: Any, target_rate: float | None) -> Mapping[str, float]:
    if target_rate is not None:
        raise ValueError("Give target_rate or a budget in prune_options, not both.")
    checked = check_budget(budget)
    for name in checked:
        if name not in _COUNTS:
            raise ValueError(
                f"Cycles take budgets for {', '.join(_COUNTS)}, which are counted at each step, "
                f"not for {name!r}."
            )
    return checked
