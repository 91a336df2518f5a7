"""Which units a step would take, in `prune` and in training alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras_lrp_prune.control.goals import Goal
from keras_lrp_prune.criteria.scores import Scores
from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.selection.choice import choose
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.ranking import Bundle, also_removed
from keras_lrp_prune.selection.selection_options import Selection


@dataclass(frozen=True)
class NextStep:
    """What a step would take: chosen by scores, and no more than the goal needs.

    Args:
        prunable: What can go.
        limits: What every group keeps.
        goal: How far to go.
        selection: How units are chosen.
        removed: Units that are gone before it, bool, shape `(units,)`.
        class_accuracies: Soft accuracies that class weights follow, float, shape `(classes,)`.
    """

    prunable: Prunable
    limits: Limits
    goal: Goal
    selection: Selection
    removed: np.ndarray
    class_accuracies: np.ndarray

    @cached_property
    def _gains(self) -> np.ndarray:
        return self.goal.gains(self.removed)

    def bundles(self, scores: Scores, rate: float, pool: float | None = None) -> list[Bundle]:
        """The units that would go to reach a rate, whatever the goal needs.

        Args:
            scores: How much units matter.
            rate: Pruning rate to reach.
            pool: Share of everything that stands for election; default: that of the selection.
        """
        return choose(
            self.prunable,
            self.removed,
            scores,
            rate,
            gains=self._gains,
            limits=self.limits,
            order=self.selection.order,
            pool=self.selection.pool if pool is None else pool,
            class_accuracies=self.class_accuracies,
        )

    def combined(self, by_class: np.ndarray) -> np.ndarray:
        """One score for each unit from those of the classes, shape `(units,)`."""
        return Scores(by_class).combined(self.selection.order.class_weights(self.class_accuracies))

    def with_all(self, bundles: list[Bundle]) -> np.ndarray:
        """The units that would be gone when all these go, bool, shape `(units,)`."""
        return also_removed(self.removed, bundles)

    def proposal(self, bundles: list[Bundle]) -> np.ndarray:
        """The units that would be gone when as many of these go as the goal needs."""
        return also_removed(self.removed, self.goal.trimmed(self.removed, bundles))
