"""Statistics of filter outputs on data, per unit and class: one compiled function for all masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.generations import generation, keras_of
from keras_lrp_prune.graph.layer_types import Trait, types_with
from keras_lrp_prune.graph.model_graph import ModelGraph, TensorRef
from keras_lrp_prune.runtime import OverSamples

_FOLLOWS = types_with(Trait.AFFINE, Trait.ELEMENTWISE, Trait.IDENTITY)


@dataclass(frozen=True)
class Statistic:
    """What is measured of a filter's output.

    Args:
        per_filter: `per_filter(output, gradient)` returns a tensor of the same shape, of which the
            mean over space is taken for each filter. `gradient` is that of the loss with respect
            to the output, or the output again where no gradient is asked for.
        per_unit: Applied to the sums of these means over the filters of each unit.
        gradient: Whether the gradient is asked for.
    """

    per_filter: Callable[[Any, Any], Any]
    per_unit: Callable[[Any], Any] = lambda values: values
    gradient: bool = False


class FilterStatistics:
    """Sums a statistic of every unit over the samples of each class.

    Args:
        problem: The model, whose working copy is measured (masks on it take effect without
            retracing), and how.
        statistic: What is measured.
    """

    def __init__(self, problem: Problem[ChannelStructure], statistic: Statistic) -> None:
        import tensorflow as tf

        graph, structure, built = problem.graph, problem.structure, problem.working()
        keras = keras_of(built.model)
        nodes = [
            node
            for node in graph.nodes
            if (structure.filter_units.get(node.layer.name, np.array([-1])) >= 0).any()
        ]
        # Behind batch norm and activation: what the next layer reads.
        refs = [_behind(graph, TensorRef(node.name)) for node in nodes]
        units = np.concatenate([structure.tensor_units[ref] for ref in refs])
        axes = [structure.tensor_axes[ref] for ref in refs]
        tensors = [built.tensors[ref] for ref in refs]
        probe = keras.Model(built.model.inputs[0], [*tensors, *built.model.outputs])
        n_units, n_classes = structure.n_units, problem.head.n_classes

        def by_class_and_unit(x: Any, y: Any) -> tuple[Any, Any]:
            # Weights are watched so that every activation is recorded: a tape does not watch frozen
            # weights by itself, and whole numbers as input have no gradient.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(_floating_variables(probe))
                *outputs, scores = probe(x, training=False)
                loss = (
                    tf.reduce_sum(problem.cross_entropy(y, scores)) if statistic.gradient else None
                )
            gradients = tape.gradient(loss, outputs) if statistic.gradient else outputs
            per_filter = tf.concat(
                [
                    _mean_over_space(statistic.per_filter(output, gradient), axis)
                    for output, gradient, axis in zip(outputs, gradients, axes, strict=True)
                ],
                -1,
            )
            per_unit = tf.math.unsorted_segment_sum(tf.transpose(per_filter), units, n_units)
            found = tf.cast(statistic.per_unit(tf.transpose(per_unit)), tf.float64)
            return tf.math.unsorted_segment_sum(found, y, n_classes), scores

        source = built.model.inputs[0]
        self._sums = OverSamples(
            by_class_and_unit,
            tf.TensorSpec(source.shape, source.dtype),
            batch_size=problem.batch_size,
            strategy=problem.strategy,
        )

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The statistic summed over the samples of each class, float64 `(classes, units)`."""
        return self._sums(x, y)[0]


def _behind(graph: ModelGraph, ref: TensorRef) -> TensorRef:
    """The tensor after the batch norm and activation that only this tensor feeds."""
    while len(readers := graph.consumers.get(ref, ())) == 1:
        node = graph.by_name[readers[0]]
        if node.layer.class_name not in _FOLLOWS:
            break
        ref = TensorRef(node.name)
    return ref


def _mean_over_space(values: Any, channel_axis: int) -> Any:
    """Means over all axes but the batch and the channels."""
    import tensorflow as tf

    rank = len(values.shape)
    axes = [axis for axis in range(1, rank) if axis != rank + channel_axis]
    return tf.reduce_mean(values, axes) if axes else values


def _floating_variables(model: Any) -> list[Any]:
    """TensorFlow's variables behind the weights that can have a gradient."""
    import tensorflow as tf

    weights = [weight for weight in model.weights if tf.as_dtype(weight.dtype).is_floating]
    return [weight.value for weight in weights] if generation(model) == "keras" else weights
