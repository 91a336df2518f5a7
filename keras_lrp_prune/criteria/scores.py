"""The scores of units, and the contributions that they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np

from keras_lrp_prune.prunables.prunable import Prunable


@dataclass(frozen=True)
class Contributions:
    """What each unit adds to a figure of each sample, such as the log odds of its class.

    Args:
        values: Signed, float64, shape `(samples, units)`.
        y: Class of each sample, int, shape `(samples,)`.
    """

    values: np.ndarray
    y: np.ndarray

    def weighted(self, class_weights: np.ndarray) -> np.ndarray:
        """The values, scaled: squares summed over samples become weighted means over classes.

        Args:
            class_weights: Shape `(classes,)`.

        Returns:
            Shape `(samples, units)`.
        """
        counts = np.bincount(self.y, minlength=len(class_weights))
        each = class_weights / np.maximum(counts, 1) / len(class_weights)
        return np.sqrt(each[self.y])[:, None] * self.values

    def mean_squares(self, n_classes: int) -> np.ndarray:
        """Over the samples of each class; 0 for one without samples.

        Args:
            n_classes: Of the samples, or 1 to count them all alike.

        Returns:
            Shape `(n_classes, units)`.
        """
        y = self.y if n_classes > 1 else np.zeros_like(self.y)
        share = (y == np.arange(n_classes)[:, None]).astype(np.float64)
        found: np.ndarray = share / np.maximum(share.sum(1, keepdims=True), 1) @ self.values**2
        return found


@dataclass(frozen=True)
class Scores:
    """How much units matter; low scores go first.

    What a scorer returns as `by_class` is copied. Contributions, and what a sub-class has, are not:
    they are read until the scorer is asked again.

    Args:
        by_class: Summed over the filters of each unit, float64, shape `(classes, units)`, or
            `(1, units)` if classes play no part.
        contributions: The contributions that they were computed from, if there are any.
    """

    by_class: np.ndarray
    contributions: Contributions | None = None

    def combined(self, class_weights: np.ndarray) -> np.ndarray:
        """One score per unit, from those of the classes by their weights, shape `(units,)`."""
        if len(self.by_class) == 1:
            return self.by_class[0]
        combined: np.ndarray = class_weights @ self.by_class
        return combined


@dataclass(frozen=True)
class RevisableScores(Scores, ABC):
    """Scores that follow, without a pass, when units go.

    Units go one bundle at a time then, by the scores of that time.

    Args:
        plain: Scores of the same units, whatever others can make up for, with the contributions
            that they come from: where there are trials, those are elected in another proposal
            whose contributions cancel out. `None`: there is no other proposal.
    """

    plain: Scores | None = None

    @abstractmethod
    def revised(self, gone: np.ndarray) -> Self:
        """The scores of the others when these units go too.

        Args:
            gone: Their numbers, int, shape `(units that go,)`; their own scores have no meaning.
        """

    def restored(self, removed: np.ndarray) -> np.ndarray | None:
        """How much each of the units that are gone would matter if it alone came back.

        Asked of the scores of the unpruned model, after others were given.

        Args:
            removed: Units that are gone by now, bool, shape `(units,)`.

        Returns:
            float64, shape `(classes, units)`, of no meaning for other units; `None`: that is not
            known, so that what is gone stays gone.
        """
        return None


def relative_to_group(prunable: Prunable, scores: np.ndarray, order: int) -> np.ndarray:
    """Divides each group's scores by their norm of that order, so that layers compare.

    The norm is that of the scores per filter, averaged over classes.
    """
    per_filter = np.abs(scores).mean(0) / prunable.unit_sizes
    relative = np.empty_like(scores)
    for group in prunable.groups:
        norm = np.linalg.norm(per_filter[group.units], ord=order)
        relative[:, group.units] = scores[:, group.units] / (norm if norm > 0 else 1.0)
    return relative
