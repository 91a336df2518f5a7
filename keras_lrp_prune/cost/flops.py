"""FLOPs of one call of a layer, by layer type: small functions, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.layer_registry import Registry
from keras_lrp_prune.graph.layer_types import Trait, types_with
from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    Shape,
    TensorRef,
    UnsupportedModelError,
)

# A constant times the widths of some axes. The width of an axis is the number of positions that are
# left along it; it is given by the unit of each position, -1 for positions that stay.
Term = tuple[int, tuple[np.ndarray, ...]]

# Layer, weight and axis to the unit of each position along that axis.
Axes = Mapping[tuple[str, str, int], np.ndarray]


def axis_units(layer: LayerSpec, weight: str, axis: int, axes: Axes) -> np.ndarray:
    """The unit of each position along an axis of a weight."""
    shape = layer.weights[weight].shape
    axis %= len(shape)
    units = axes.get((layer.name, weight, axis))
    return np.full(shape[axis], -1) if units is None else units


class OpenSizeError(UnsupportedModelError):
    """Raised where FLOPs depend on a size that the model leaves open."""


@dataclass(frozen=True)
class CountedTensor:
    """An input or output of a call.

    Args:
        layer: Name of the layer that is called.
        shape: With the batch axis.
        units: The unit of each position along its last axis.
    """

    layer: str
    shape: Shape
    units: np.ndarray

    @property
    def elements(self) -> int:
        """Number of elements for one sample, nothing removed.

        Raises:
            OpenSizeError: An `UnsupportedModelError`, if a size is not known.
        """
        sizes = [size for size in self.shape[1:] if size is not None]
        if len(sizes) < len(self.shape) - 1:
            raise OpenSizeError(
                f"FLOPs need fixed sizes, but layer {self.layer!r} works on a tensor of shape "
                f"{self.shape}."
            )
        return prod(sizes)

    @property
    def term(self) -> Term:
        """The number of elements as a term: it falls with the channels that are removed."""
        return self.elements // max(len(self.units), 1), (self.units,)


@dataclass(frozen=True)
class CountedCall:
    """One call of a layer, as it is given to a function that counts its FLOPs.

    Args:
        layer: The layer: its `config` and `weights`.
        inputs, outputs: What it reads and returns.
        axes: The unit of each position along the axes of weights that pruning cuts.
    """

    layer: LayerSpec
    inputs: tuple[CountedTensor, ...]
    outputs: tuple[CountedTensor, ...]
    axes: Axes

    @classmethod
    def of(
        cls, node: Node, graph: ModelGraph, structure: ChannelStructure, axes: Axes
    ) -> CountedCall:
        """The call that a node of a graph stands for."""
        name, units = node.layer.name, structure.tensor_units
        inputs = tuple(CountedTensor(name, graph.shape(ref), units[ref]) for ref in node.inputs)
        refs = [TensorRef(node.name, index) for index in range(len(node.shapes))]
        outputs = tuple(CountedTensor(name, graph.shape(ref), units[ref]) for ref in refs)
        layer = node.layer
        if layer.class_name == "TimeDistributed":  # counts as the layer inside, at every step
            inside = layer.config["layer"]
            layer = replace(
                layer,
                class_name=inside["class_name"],
                config=inside["config"],
                source=getattr(layer.source, "layer", None),
            )
        return cls(layer, inputs, outputs, axes)

    def axis(self, weight: str, axis: int) -> np.ndarray:
        """The unit of each position along an axis of a weight."""
        return axis_units(self.layer, weight, axis, self.axes)


Flops = Callable[[CountedCall], Iterable[Term]]


def _times(factor: int, term: Term) -> Term:
    return factor * term[0], term[1]


def _taps(kernel: np.ndarray) -> int:
    """Size of the window: the kernel's axes but the last two."""
    return prod(kernel.shape[:-2])


def _finish(call: CountedCall, positions: int, units: np.ndarray) -> Iterator[Term]:
    """Bias and activation: one operation for each output element, if there is one."""
    if "bias" in call.layer.weights:
        yield positions, (units,)
    if call.layer.config.get("activation") not in (None, "linear"):
        yield positions, (units,)


def _linear(call: CountedCall) -> Iterator[Term]:
    """Conv* and Dense; the kernel of a grouped convolution reads the channels of one group only."""
    kernel, filters = call.layer.weights["kernel"], call.axis("kernel", -1)
    positions = call.outputs[0].elements // len(filters)
    yield 2 * positions * _taps(kernel), (call.axis("kernel", -2), filters)
    yield from _finish(call, positions, filters)


def _transposed(call: CountedCall) -> Iterator[Term]:
    """Conv*Transpose: every input position is spread by the whole kernel."""
    kernel = call.layer.weights["kernel"]
    filters, read = call.axis("kernel", -2), call.axis("kernel", -1)
    positions = call.inputs[0].elements // len(read)
    yield 2 * positions * _taps(kernel), (read, filters)
    yield from _finish(call, call.outputs[0].elements // len(filters), filters)


def _depthwise(call: CountedCall) -> Iterator[Term]:
    positions, (units,) = call.outputs[0].term
    yield 2 * positions * _taps(call.layer.weights["kernel"]), (units,)
    yield from _finish(call, positions, units)


def _separable(call: CountedCall) -> Iterator[Term]:
    between, filters = call.axis("pointwise_kernel", -2), call.axis("pointwise_kernel", -1)
    positions = call.outputs[0].elements // len(filters)
    yield 2 * positions * _taps(call.layer.weights["depthwise_kernel"]), (between,)
    yield 2 * positions, (between, filters)
    yield from _finish(call, positions, filters)


def _recurrent(call: CountedCall) -> Iterator[Term]:
    """A product with the input and one with the state at each step; gates are elementwise."""
    steps = call.inputs[0].shape[1] or 1
    suffixes = ("", "#1") if "kernel#1" in call.layer.weights else ("",)
    for suffix in suffixes:
        for weight in ("kernel", "recurrent_kernel"):
            gates = call.axis(weight + suffix, -1)
            yield 2 * steps, (call.axis(weight + suffix, 0), gates)
        yield 5 * steps, (call.axis("kernel" + suffix, -1),)


def _per_element(call: CountedCall, count: int) -> Iterator[Term]:
    yield _times(count, call.outputs[0].term)


def _pooling(call: CountedCall) -> Iterator[Term]:
    yield _times(prod(np.atleast_1d(call.layer.config["pool_size"]).tolist()), call.outputs[0].term)


def _global_pooling(call: CountedCall) -> Iterator[Term]:
    yield call.inputs[0].term


def _merge(call: CountedCall) -> Iterator[Term]:
    # `x + 3.0` reads one tensor, but costs as much as a sum of two.
    yield _times(max(len(call.inputs) - 1, 1), call.outputs[0].term)


def _no_flops(call: CountedCall) -> Iterator[Term]:
    yield from ()


# How to count the FLOPs of one call, by layer type; of two lines for a type the later one holds.
FLOPS: Registry[Flops] = Registry(
    {
        **dict.fromkeys(types_with(Trait.MOVES, Trait.IDENTITY), _no_flops),
        **dict.fromkeys(
            (*types_with(Trait.ELEMENTWISE, Trait.SOFTMAX), "ops.LogSoftmax"),
            partial(_per_element, count=1),
        ),
        **dict.fromkeys(types_with(Trait.MERGES), _merge),
        **dict.fromkeys(types_with(Trait.IN_WINDOWS), _pooling),
        **dict.fromkeys(types_with(Trait.REDUCES), _global_pooling),
        **dict.fromkeys(types_with(Trait.AFFINE), partial(_per_element, count=2)),
        # Mean, variance, and what batch normalisation costs.
        **dict.fromkeys(types_with(Trait.NORMALISES), partial(_per_element, count=6)),
        **dict.fromkeys(types_with(Trait.LINEAR), _linear),
        **dict.fromkeys(types_with(Trait.TRANSPOSED), _transposed),
        **dict.fromkeys(types_with(Trait.DEPTHWISE), _depthwise),
        **dict.fromkeys(types_with(Trait.SEPARABLE), _separable),
        **dict.fromkeys((*types_with(Trait.RECURRENT), "Bidirectional"), _recurrent),
    },
    "register_layer_flops",
    "a count of FLOPs",
)


def terms_of(call: CountedCall) -> list[Term] | None:
    """What a call costs; `None` for a layer type without a count.

    Raises:
        TypeError: If the function that was registered for the layer returns something else.
        OpenSizeError: If they depend on a size that the model leaves open.
    """
    flops = FLOPS.of(call.layer)
    if flops is None:
        return None
    found = flops(call)
    terms = list(found) if isinstance(found, Iterable) else [None]
    if not all(map(_is_term, terms)):
        raise TypeError(
            f"What counts the FLOPs of layer {call.layer.name!r} ({call.layer.class_name}) must "
            f"return pairs of a whole number and a tuple of widths (the units of positions, as in "
            f"call.outputs[0].units); it returned {found!r}."
        )
    return terms


def _is_term(term: Any) -> bool:
    if not isinstance(term, tuple) or len(term) != 2:
        return False
    factor, widths = term
    whole = isinstance(factor, int | np.integer)
    return whole and all(isinstance(units, np.ndarray) for units in widths)


def register_layer_flops(layer_class: type, flops: Flops | type) -> None:
    """Says what a layer type of your own costs: counts the FLOPs of a call.

    Args:
        layer_class: The layer's class; sub-classes need a count of their own.
        flops: `flops(call)` returns terms for one sample, see `CountedCall`: pairs of a number, and
            of the widths that it is multiplied by. A width is given by the unit of each position
            along an axis: `call.axis(weight, axis)`, or `tensor.units`. For one operation for each
            element of the output that is `[call.outputs[0].term]`, for nothing `[]`. Or a Keras
            layer class whose FLOPs are counted: then it is counted as such a layer.

    Raises:
        TypeError: If `layer_class` is not a class, or one of Keras' own whose FLOPs are counted;
            or if `flops` is neither a function nor such a class.

    Example:
    >>> class Halve(keras.layers.Layer):
    ...     def call(self, x):
    ...         return x / 2
    >>> class MyConv2D(keras.layers.Conv2D):
    ...     pass
    >>> klp.register_layer_flops(Halve, lambda call: [call.outputs[0].term])
    >>> klp.register_layer_flops(MyConv2D, keras.layers.Conv2D)
    """
    FLOPS.add(layer_class, flops)
