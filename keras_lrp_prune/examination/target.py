"""The options that say how far pruning goes, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keras_lrp_prune.arguments import Checked
from keras_lrp_prune.control.goals import BudgetGoal, CostShares, RateGoal
from keras_lrp_prune.cost import check_budget
from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.selection.limits import Limits

DEFAULT_TARGET_RATE = 0.5


@dataclass(frozen=True)
class Target(Checked):
    """How far pruning is to go, and what it must not cost.

    Args:
        target_rate: Pruning rate to reach, in [0, 1).
        budget: Instead of it, the shares of the whole model's costs that may remain.
        min_accuracy: The floor: harmonic mean accuracy that no step may fall below.

    Raises:
        TypeError, ValueError: For arguments outside their ranges, an unknown cost, or both a rate
            and a budget.
    """

    target_rate: float | None = None
    budget: Mapping[str, float] | None = None
    min_accuracy: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget is None:
            return
        if self.target_rate is not None:
            raise ValueError("Give target_rate or budget, not both.")
        object.__setattr__(self, "budget", check_budget(self.budget))

    def goal(self, prunable: Prunable, limits: Limits, shares: CostShares) -> RateGoal | BudgetGoal:
        """The goal that ends a run.

        Args:
            prunable: What can go.
            limits: What every group keeps.
            shares: What remains of each cost.

        Raises:
            ValueError: If it cannot be reached; the message says what can.
        """
        goal: RateGoal | BudgetGoal
        if self.budget is None:
            rate = DEFAULT_TARGET_RATE if self.target_rate is None else self.target_rate
            goal = RateGoal(prunable, limits, rate)
        else:
            goal = BudgetGoal(prunable, limits, self.budget, shares)
        goal.check()
        return goal
