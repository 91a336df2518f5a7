"""How relevance passes through each layer type: one small function each, and the table of them.

A backward function is `backward(visit)`; it returns the relevance of each input, or `None` for an
input that gets none. The layers here have no kernel; for those with a kernel, the composite says
which rule (`rules.py`) passes relevance on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import tensorflow as tf

from keras_lrp_prune.graph.layer_types import Trait, types_with
from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    TensorRef,
    UnsupportedModelError,
)
from keras_lrp_prune.relevance.own_layers import LAYER_LRP, Backward

Tensor = Any


@dataclass(frozen=True)
class Visit:
    """One call of a layer on the way back.

    Args:
        graph: The canonical graph.
        node: The call.
        layer: The live layer or operation.
        call: The call as a function of its inputs.
        inputs: What it read.
        passed: Relevance of its output.
    """

    graph: ModelGraph
    node: Node
    layer: Any
    call: Callable[[list[Tensor]], Tensor]
    inputs: list[Tensor]
    passed: Tensor


def as_it_is(visit: Visit) -> list[Tensor]:
    """Elementwise layers: relevance passes unchanged."""
    return [visit.passed]


def along_gradient(visit: Visit) -> list[Tensor]:
    """Layers that move or pick values: each value takes its relevance along."""
    return _gradients(visit, visit.call, visit.passed)


def by_contribution(visit: Visit) -> list[Tensor]:
    """Sums and means: in proportion to what each input contributes."""
    output = visit.call(visit.inputs)
    gradients = _gradients(visit, visit.call, tf.math.divide_no_nan(visit.passed, output))
    return [value * gradient for value, gradient in zip(visit.inputs, gradients, strict=True)]


def to_the_signal(visit: Visit) -> list[Tensor | None]:
    """Products of a signal and gates: all to the signal, as a gate only weighs it.

    Arras et al. 2017, doi:10.18653/v1/W17-5221.
    """
    if len(visit.inputs) == 1:  # times a number
        return [visit.passed]
    signal = signal_of(visit.graph, visit.node)
    # Where broadcasting has spread the signal over positions, `by_contribution` sums over these.
    parts = by_contribution(visit)
    return [part if index == signal else None for index, part in enumerate(parts)]


def with_constant_statistics(visit: Visit) -> list[Tensor]:
    """Layer normalisation, its standard deviation taken as a constant.

    Ali et al. 2022, arXiv:2202.07304.
    """
    (x,) = visit.inputs
    layer = visit.layer
    axes = layer.axis
    _, variance = tf.nn.moments(x, axes, keepdims=True)
    factor = tf.stop_gradient(tf.math.rsqrt(variance + layer.epsilon))

    def linear(inputs: list[Tensor]) -> Tensor:
        (value,) = inputs
        centred = (value - tf.reduce_mean(value, axes, keepdims=True)) * factor
        shape = [size if axis in _positive(axes, x) else 1 for axis, size in enumerate(x.shape)]
        if layer.scale:
            centred *= tf.reshape(layer.gamma, shape)
        return centred

    share = tf.math.divide_no_nan(visit.passed, visit.call(visit.inputs))
    return [x * _gradients(visit, linear, share)[0]]


def _positive(axes: Any, x: Tensor) -> list[int]:
    return [axis % len(x.shape) for axis in axes]


def _gradients(
    visit: Visit, function: Callable[[list[Tensor]], Tensor], upstream: Tensor
) -> list[Tensor]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(visit.inputs)
        output = function(visit.inputs)
    return tape.gradient(
        output, visit.inputs, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


def signal_of(graph: ModelGraph, node: Node) -> int:
    """Which factor of a product is the signal; the others are gates.

    The largest one; of several, those not behind a sigmoid; of these, the one that the others are
    computed from.

    Raises:
        UnsupportedModelError: If that cannot be told.
    """
    sizes = [prod(size or 1_000 for size in graph.shape(ref)[1:]) for ref in node.inputs]
    signals = [index for index, size in enumerate(sizes) if size == max(sizes)]
    signals = [index for index in signals if not _is_gate(graph, node.inputs[index])] or signals
    if len(signals) > 1:
        behind = [_sources(graph, node.inputs[index]) for index in signals]
        signals = [
            index for index in signals if all(node.inputs[index] in sources for sources in behind)
        ]
    if not signals:
        raise UnsupportedModelError(
            f"LRP cannot tell which input of layer {node.layer.name!r} is the signal and which "
            "the gate. Choose another criterion (such as 'taylor')."
        )
    return signals[0]


def _is_gate(graph: ModelGraph, ref: TensorRef) -> bool:
    layer = graph.by_name[ref.node].layer
    return layer.class_name in ("ops.Sigmoid", "ops.HardSigmoid") or layer.config.get(
        "activation"
    ) in ("sigmoid", "hard_sigmoid")


def _sources(graph: ModelGraph, ref: TensorRef) -> set[TensorRef]:
    """Every tensor that a tensor is computed from, itself included."""
    found, left = {ref}, [ref]
    while left:
        news = set(graph.by_name[left.pop().node].inputs) - found
        found |= news
        left += news
    return found


# For layer types without a kernel; for those with one, the composite says which rule.
BACKWARD: Mapping[str, Backward] = {
    **dict.fromkeys(types_with(Trait.ELEMENTWISE), as_it_is),
    **dict.fromkeys(types_with(Trait.ADDS), by_contribution),
    **dict.fromkeys(types_with(Trait.MOVES, Trait.PICKS, Trait.RESAMPLES), along_gradient),
    **dict.fromkeys(types_with(Trait.MULTIPLIES), to_the_signal),
    **dict.fromkeys(types_with(Trait.DIVIDES), as_it_is),
    "LayerNormalization": with_constant_statistics,
}


def backward_of(layer: LayerSpec) -> Backward | None:
    """How relevance passes through a layer without a kernel; `None` if there is no function."""
    known = LAYER_LRP.of(layer)
    return BACKWARD.get(known) if isinstance(known, str) else known
