"""Statistics of filter outputs on data, per unit and class: one compiled function for all masks."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.generations import generation, keras_of
from keras_lrp_prune.graph.heads import Head
from keras_lrp_prune.graph.model_graph import ModelGraph, TensorRef
from keras_lrp_prune.runtime import OverSamples
from keras_lrp_prune.surgery.building import Built

if TYPE_CHECKING:
    import tensorflow as tf

_FOLLOWS = ("BatchNormalization", "Activation", "ReLU", "LeakyReLU", "ELU", "PReLU")


class FilterStatistics:
    """Sums a statistic of every unit over the samples of each class.

    Args:
        graph: A flat model.
        structure: Its channel structure.
        built: The live model; masks on it take effect without retracing.
        head: What its outputs mean.
        name: `"activation"`, `"apoz"` or `"taylor"`.
        batch_size: Samples per batch and replica.
        strategy: `tf.distribute` strategy that the live model was made for.
    """

    def __init__(
        self,
        graph: ModelGraph,
        structure: ChannelStructure,
        built: Built,
        head: Head,
        name: str,
        *,
        batch_size: int,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        import tensorflow as tf

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
        measure = _STATISTICS[name]
        n_units, n_classes = structure.n_units, head.n_classes

        def by_class_and_unit(x: Any, y: Any) -> tuple[Any, Any]:
            # Watching the weights records every activation: by itself a tape watches no frozen
            # ones, and the input may be whole numbers, which have no gradient.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(_floating_variables(probe))
                *outputs, scores = probe(x, training=False)
                loss = (
                    tf.reduce_sum(_cross_entropy(keras, head, y, scores))
                    if name == "taylor"
                    else None
                )
            gradients = tape.gradient(loss, outputs) if name == "taylor" else outputs
            per_filter = tf.concat(
                [
                    _mean_over_space(measure.per_filter(output, gradient), axis)
                    for output, gradient, axis in zip(outputs, gradients, axes, strict=True)
                ],
                -1,
            )
            per_unit = tf.math.unsorted_segment_sum(tf.transpose(per_filter), units, n_units)
            statistic = tf.cast(measure.per_unit(tf.transpose(per_unit)), tf.float64)
            return tf.math.unsorted_segment_sum(statistic, y, n_classes), scores

        source = built.model.inputs[0]
        self._sums = OverSamples(
            by_class_and_unit,
            tf.TensorSpec(source.shape, source.dtype),
            batch_size=batch_size,
            strategy=strategy,
        )

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The statistic summed over the samples of each class, float64 `(classes, units)`."""
        return self._sums(x, y)[0]


class _Measure:
    def __init__(
        self, per_filter: Callable[[Any, Any], Any], per_unit: Callable[[Any], Any] = lambda v: v
    ) -> None:
        self.per_filter = per_filter
        self.per_unit = per_unit


def _is_positive(output: Any, _: Any) -> Any:
    import tensorflow as tf

    return tf.cast(output > 0, output.dtype)


_STATISTICS = {
    "activation": _Measure(lambda output, _: abs(output)),
    "apoz": _Measure(_is_positive),
    "taylor": _Measure(lambda output, gradient: output * gradient, lambda change: change**2),
}


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


def _cross_entropy(keras: ModuleType, head: Head, y: Any, scores: Any) -> Any:
    import tensorflow as tf

    y = tf.maximum(y, 0)  # what does not count needs some class too
    from_logits = head.kind == "logits"
    if head.one_unit or head.kind == "sigmoid":
        n_outputs = scores.shape[-1]
        target = y[:, None] if head.one_unit else tf.one_hot(y, n_outputs)
        target = tf.cast(target, scores.dtype)
        return keras.losses.binary_crossentropy(target, scores, from_logits=from_logits)
    return keras.losses.sparse_categorical_crossentropy(y, scores, from_logits=from_logits)
