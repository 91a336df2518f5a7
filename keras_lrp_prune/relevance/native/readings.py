"""What calls read: values, how the log odds hang on them, and what each channel adds to outputs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import tensorflow as tf

from keras_lrp_prune.graph.model_graph import Node, TensorRef
from keras_lrp_prune.relevance.native.sweep import Sweep

Tensor = Any


class Called(NamedTuple):
    """What went through a call.

    Args:
        values: Each of its inputs.
        gradients: Gradients of the log odds by them, through this call alone.
        made: Gradient of the log odds by what it returns.
    """

    values: list[Tensor]
    gradients: list[Tensor]
    made: Tensor


class Read(NamedTuple):
    """What layers read of one tensor, and how the log odds of each sample's class hang on it.

    Args:
        value: The tensor, float32, behind the batch axis of its shape.
        gradient: The gradient of the log odds by it, through these layers alone.
        made: For each layer, the gradient by its outputs (before any activation).
    """

    value: Any
    gradient: Any
    made: list[Any]


def called(sweep: Sweep, x: Tensor, y: Tensor, calls: Collection[str]) -> dict[str, Called]:
    """What some calls read, and the gradient of the log odds of each sample's class by it.

    The gradient is that through the call alone, whoever else reads the same tensor. By the z-rule,
    in ReLU networks, both multiplied are its relevance.

    Args:
        sweep: The working copy.
        x: Samples.
        y: Classes.
        calls: Names of the calls.
    """
    read: dict[str, list[Tensor]] = {}

    def apart(node: Node, inputs: list[Tensor]) -> list[Tensor]:
        if node.name not in calls:
            return inputs
        read[node.name] = [tf.identity(one) for one in inputs]
        return read[node.name]

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        values = sweep.forward(x, apart)
        scores = values[sweep.output]
        own, rivals = sweep.sides(scores, y)
        log_odds = tf.reduce_sum(own * scores, -1) - tf.reduce_logsumexp(rivals, -1)
    zero = tf.UnconnectedGradients.ZERO
    made = {name: values[TensorRef(name)] for name in read}
    of_inputs, of_outputs = tape.gradient(log_odds, (read, made), unconnected_gradients=zero)
    return {
        name: Called(inputs, of_inputs[name], of_outputs[name]) for name, inputs in read.items()
    }


def contributions(
    sweep: Sweep, node: Node, inputs: list[Tensor], index: int, axis: int, shares: Tensor
) -> Tensor:
    """What each channel that a call reads adds to some of its outputs, bias left out.

    Outputs of layers with a kernel are sums of what channels add. Each costs a transposed pass
    through the layer.

    Args:
        sweep: The working copy.
        node: The call.
        inputs: What it reads.
        index: Which of them.
        axis: Its axis of channels, counted from the end.
        shares: Which numbers of its output, at some place and channel: counted from the first on,
            as shares of how many there are, shape `(batch, instances)`.

    Returns:
        Shape `(instances, batch, channels)`.
    """
    x = inputs[index]
    rank = len(x.shape)
    space = [one for one in range(1, rank) if one != rank + axis]

    def of_one(share: Tensor) -> Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            outputs = sweep.call(node, inputs)
        size = tf.size(outputs) // tf.shape(share)[0]
        number = tf.cast(share * tf.cast(size, share.dtype), tf.int32)
        asked = tf.reshape(tf.one_hot(number, size), tf.shape(outputs))
        added = x * tape.gradient(outputs, x, asked)
        return tf.reduce_sum(added, space) if space else added

    signature = tf.TensorSpec((None, x.shape[axis]), tf.float32)
    return tf.map_fn(
        of_one, tf.transpose(shares), parallel_iterations=1, fn_output_signature=signature
    )
