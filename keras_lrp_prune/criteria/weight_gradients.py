"""Gradients of the loss by the weights, on data: one compiled function for all masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.graph.generations import generation
from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.runtime import OverSamples

if TYPE_CHECKING:
    from keras_lrp_prune.criteria.problem import Problem


class WeightGradients:
    """Sums, over samples, the gradient of the loss by every weight of the working copy.

    Args:
        problem: The model, whose working copy is measured (masks on it take effect without
            retracing), and how.
    """

    def __init__(self, problem: Problem[Prunable]) -> None:
        import tensorflow as tf

        model, weights = problem.working().model, _floating(problem)

        def gradients(x: Any, y: Any) -> tuple[Any, Any]:
            n = tf.shape(y)[0]
            x, y = _even(x, y)
            # Weights are watched by name: a tape does not watch frozen ones by itself.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(tf.nest.flatten(weights))
                scores = model(x, training=False)
                losses = problem.cross_entropy(y, scores)
                loss = tf.reduce_sum(tf.where(y >= 0, losses, tf.zeros_like(losses)))
            zero = tf.UnconnectedGradients.ZERO
            found = tape.gradient(loss, weights, unconnected_gradients=zero)
            return tf.nest.map_structure(tf.convert_to_tensor, found), scores[:n]

        source = model.inputs[0]
        self._sums = OverSamples(
            gradients,
            tf.TensorSpec(source.shape, source.dtype),
            batch_size=problem.batch_size,
            strategy=problem.strategy,
        )

    def __call__(self, x: np.ndarray, y: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """The sums of the gradients, by layer and by the graph's names, of the weights' shapes."""
        found: dict[str, dict[str, np.ndarray]] = self._sums(x, y)[0]
        return found


def _even(x: Any, y: Any) -> tuple[Any, Any]:
    """The samples and, if their number is odd, the first again as one that does not count.

    On CPUs TensorFlow 2.21 corrupts memory in the kernel gradient of 1x1 convolutions with strides
    and few channels, such as six, where the batch is odd.
    """
    import tensorflow as tf

    odd = tf.shape(y)[0] % 2
    return tf.concat([x, x[:odd]], 0), tf.concat([y, -tf.ones_like(y[:odd])], 0)


def _floating(problem: Problem[Prunable]) -> dict[str, dict[str, Any]]:
    """TensorFlow's variables behind the weights that can have a gradient."""
    import tensorflow as tf

    keras3 = generation(problem.working().model) == "keras"
    return {
        layer: {
            name: variable.value if keras3 else variable
            for name, variable in variables.items()
            if tf.as_dtype(variable.dtype).is_floating
        }
        for layer, variables in problem.variables().items()
    }
