"""What share of a model's costs remains without some of its units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_lrp_prune.arguments import number
from keras_lrp_prune.cost.cost_model import CostModel
from keras_lrp_prune.cost.energy import energy
from keras_lrp_prune.cost.measurements import LatencyShare

# Costs that follow from the counts. Energy is that of float32, whatever the model computes in.
COUNTED_SHARES: Mapping[str, Callable[[Mapping[str, int]], float]] = {
    "filters": lambda left: left["filters"],
    "params": lambda left: left["params"],
    "flops": lambda left: left["flops"],
    "energy": lambda left: energy(left["flops"], np.dtype(np.float32).itemsize * left["params"]),
}
_OF_FLOPS = ("flops", "energy")
BUDGETS = (*COUNTED_SHARES, "latency")
# What is counted in place of a cost that has to be measured.
_STAND_INS = {"latency": "flops"}


def check_budget(budget: Any) -> dict[str, float]:
    """Checks a budget and returns it as plain data.

    Raises:
        TypeError: If it is no mapping from names to numbers.
        ValueError: If it is empty, names an unknown cost, or a share outside (0, 1].
    """
    if not isinstance(budget, Mapping):
        raise TypeError(f"budget must be a dict such as {{'flops': 0.5}}, not {budget!r}.")
    if not budget:
        raise ValueError(f"budget is empty. Give a share of one of: {', '.join(BUDGETS)}.")
    checked = {}
    for name, share in budget.items():
        if name not in BUDGETS:
            raise ValueError(f"Unknown budget {name!r}. There are: {', '.join(BUDGETS)}.")
        checked[name] = number("(0, 1]")(f"budget {name}, the share that may remain,", share)
    return checked


class ModelCostShares:
    """Shares of the costs of the whole model that remain without some units.

    A counted one costs a matrix product; latency a rebuilt model and some calls of it, once for
    each set of units.

    Args:
        cost: Counts what is left.
        latency: Measures; needed for `"latency"` only.
    """

    def __init__(self, cost: CostModel, latency: LatencyShare | None = None) -> None:
        self._cost, self._latency = cost, latency
        self._full = cost().counts()

    def __call__(self, name: str, removed: np.ndarray) -> float:
        """The share that remains.

        Args:
            name: One of `BUDGETS`.
            removed: bool, shape `(units,)`.

        Raises:
            UnsupportedModelError: If it depends on sizes that the model leaves open.
        """
        if name in _OF_FLOPS:
            self._cost.check_flops()
        return self._left(name, removed)

    def _left(self, name: str, removed: np.ndarray) -> float:
        """The same; a stand-in may leave out what cannot be counted."""
        if name in COUNTED_SHARES:
            return self._share(name, self._cost(removed).counts())
        if self._latency is None:
            raise ValueError("Latency was asked for, but there is nothing to measure it.")
        return self._latency(removed)

    def saved(self, name: str, removed: np.ndarray) -> np.ndarray:
        """The share that goes with each unit that goes next.

        Costs a matrix product for each group of channels; what has to be measured, a measurement.

        Args:
            name: One of `BUDGETS`.
            removed: bool, shape `(units,)`.

        Returns:
            float64, shape `(units,)`; 0 for the units that are gone.
        """
        now, saved = self._left(name, removed), np.zeros(len(removed))
        for units in self._cost.alike:
            left = units[~removed[units]]
            less = removed.copy()
            less[left[:1]] = True
            saved[left] = now - self._left(name, less)
        return saved

    def counted(self, name: str, left: Mapping[str, int]) -> float | None:
        """The same share, given the counts of what is left; `None` for a cost to be measured.

        Args:
            name: One of `BUDGETS`.
            left: As `Cost.counts` gives it.
        """
        return self._share(name, left) if name in COUNTED_SHARES else None

    def stand_in(self, name: str) -> str:
        """The cost that is counted in the place of one that has to be measured, else `name`."""
        return _STAND_INS.get(name, name)

    def _share(self, name: str, left: Mapping[str, int]) -> float:
        value = COUNTED_SHARES[name]
        return value(left) / max(value(self._full), 1e-30)
