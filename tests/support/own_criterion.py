"""A criterion as a user writes one, in one file: SNIP (Lee et al. 2019), summed over filters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

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
        self._gradients = tf.function(self._gradients_on)

    def scores(self, removed):
        problem = self.problem
        weights = self._floating()
        sums = {key: np.zeros(weight.shape) for key, weight in weights.items()}
        x, y, size = problem.reference.x, problem.reference.y, problem.batch_size
        for start in range(0, len(x), size):
            of_batch = self._gradients(x[start : start + size], y[start : start + size])
            for key, gradient in of_batch.items():
                sums[key] += gradient.numpy()
        found = klp.criteria.over_kernels(
            problem.structure,
            kernel=lambda *key: np.abs(sums[key] * weights[key].numpy()) ** self._power,
            figure=lambda rows: rows.sum(1),
        )
        relative = klp.criteria.relative_to_group(problem.structure, found[None], order=2)
        return klp.criteria.Scores(relative)

    def _gradients_on(self, x, y):
        weights = self._floating()
        with tf.GradientTape() as tape:
            tape.watch(list(weights.values()))  # frozen ones too
            outputs = self.problem.working().model(x, training=False)
            loss = tf.reduce_sum(self.problem.cross_entropy(y, outputs))
        found = tape.gradient(loss, list(weights.values()), unconnected_gradients="zero")
        return dict(zip(weights, found, strict=True))

    def _floating(self):
        """(layer, weight) to TensorFlow's variable of the working copy, of either Keras."""
        return {
            (layer, name): variable if isinstance(variable, tf.Variable) else variable.value
            for layer, variables in self.problem.variables().items()
            for name, variable in variables.items()
            if tf.as_dtype(variable.dtype).is_floating
        }


@dataclass(frozen=True)
class OfWeights(Snip):
    name = "weights-alone"
    works_on = ("weights",)
