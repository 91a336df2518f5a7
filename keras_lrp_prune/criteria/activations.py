"""Statistics of activations as criteria: their magnitude, their sign, and the Taylor expansion."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_lrp_prune.criteria.criterion import Criterion, Scorer
from keras_lrp_prune.criteria.filter_statistics import FilterStatistics, Statistic
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.scores import Scores, relative_to_group
from keras_lrp_prune.graph.channels import ChannelStructure


class _OfActivations(Criterion):
    """A statistic of each unit's activations, for each class, relative to its group."""

    passes = 1
    needs: tuple[str, ...] = ("samples",)

    @property
    @abstractmethod
    def _statistic(self) -> Statistic:
        """What is measured of the activations."""

    def scorer(self, problem: Problem[ChannelStructure]) -> Scorer:
        """See `Criterion`."""
        return _StatisticScorer(problem, self._statistic)


@dataclass(frozen=True)
class Activation(_OfActivations):
    """Mean magnitude of each unit's activations (Molchanov et al. 2017), relative to its group.

    Example:
    >>> result = klp.prune(model, (x, y), 0.3, criterion=klp.criteria.Activation())
    """

    name = "activation"
    help = "mean magnitude of its activations"
    _statistic = Statistic(lambda output, _: abs(output))


def _is_positive(output: Any, _: Any) -> Any:
    import tensorflow as tf

    return tf.cast(output > 0, output.dtype)


@dataclass(frozen=True)
class APoZ(_OfActivations):
    """Share of positive activations, one minus APoZ (Hu et al. 2016), relative to the group.

    Example:
    >>> result = klp.prune(model, (x, y), 0.3, criterion=klp.criteria.APoZ())
    """

    name = "apoz"
    help = "share of its activations that are positive"
    _statistic = Statistic(_is_positive)


@dataclass(frozen=True)
class Taylor(_OfActivations):
    """Squared first-order change of the loss without a unit (Molchanov et al. 2019).

    Relative to its group.

    Example:
    >>> result = klp.prune(model, (x, y), 0.3, criterion=klp.criteria.Taylor())
    """

    name = "taylor"
    help = "squared first-order change of the loss without it"
    passes = 2
    needs = ("samples", "gradients")
    _statistic = Statistic(
        lambda output, gradient: output * gradient, lambda change: change**2, gradient=True
    )


class _StatisticScorer(Scorer[ChannelStructure]):
    def __init__(self, problem: Problem[ChannelStructure], statistic: Statistic) -> None:
        super().__init__(problem)
        self._sums = FilterStatistics(problem, statistic)

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Scorer`."""
        reference = self.problem.reference
        means = self._sums(reference.x, reference.y) / reference.class_counts[:, None]
        return Scores(relative_to_group(self.problem.structure, means, order=2))


CRITERIA: Sequence[Criterion] = (Taylor(), Activation(), APoZ())
