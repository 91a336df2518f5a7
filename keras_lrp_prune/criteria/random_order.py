"""A random order as a criterion: the baseline that others have to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_lrp_prune.criteria.criterion import Criterion, Scorer
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.scores import Scores
from keras_lrp_prune.prunables.prunable import Prunable


@dataclass(frozen=True)
class Random(Criterion):
    """A random order, drawn once, by the seed of the run.

    Example:
    >>> result = klp.prune(model, (x, y), 0.3, criterion=klp.criteria.Random(), seed=1)
    """

    name = "random"
    help = "drawn once, from the seed"
    passes = 0
    one_shot = True

    def scorer(self, problem: Problem[Prunable]) -> Scorer:
        """See `Criterion`."""
        return _RandomScorer(problem)


class _RandomScorer(Scorer[Prunable]):
    def __init__(self, problem: Problem[Prunable]) -> None:
        super().__init__(problem)
        draw = np.random.default_rng(problem.seed).random(problem.structure.n_units)
        self._scores = Scores((draw * problem.structure.unit_sizes)[None])

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Scorer`."""
        return self._scores

    def refresh(self) -> None:
        """Does nothing: the order stays."""


CRITERIA: Sequence[Criterion] = (Random(),)
