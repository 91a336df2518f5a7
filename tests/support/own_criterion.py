"""A criterion as a user writes one, in one file: SNIP (Lee et al. 2019), summed over filters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import keras_lrp_prune as klp


@dataclass(frozen=True)
class Snip(klp.criteria.Criterion):
    """Magnitude of weight times gradient, to a power, summed over the kernels of each unit."""

    power: float = 1.0

    name = "snip"
    help = "magnitude of weight times gradient, summed over its kernels"
    passes = 2
    needs = ("samples", "gradients")

    def scorer(self, problem):
        return SnipScorer(problem, self.power)


class SnipScorer(klp.criteria.Scorer):
    def __init__(self, problem, power):
        super().__init__(problem)
        self._power = power

    def scores(self, removed):
        problem = self.problem
        gradients, weights = problem.weight_gradients(), problem.variables()
        found = klp.criteria.over_kernels(
            problem.structure,
            kernel=lambda layer, name: (
                np.abs(gradients[layer][name] * np.asarray(weights[layer][name])) ** self._power
            ),
            figure=lambda rows: rows.sum(1),
        )
        relative = klp.criteria.relative_to_group(problem.structure, found[None], order=2)
        return klp.criteria.Scores(relative)


@dataclass(frozen=True)
class OfWeights(Snip):
    name = "weights-alone"
    works_on = ("weights",)
