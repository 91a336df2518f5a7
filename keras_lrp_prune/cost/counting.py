"""Filters, parameters and FLOPs of a pruned model, without building it.

Each of them is a sum of products of widths: a convolution, say, costs `2 * positions * taps` for
each pair of a channel it reads and a channel it makes. What pruning changes is the widths
alone, so the terms are collected once; a count is then one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np
from scipy.sparse import csr_matrix

from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    Shape,
    TensorRef,
    UnsupportedModelError,
)
from keras_lrp_prune.graph.rules.table import (
    ELEMENTWISE_OPERATIONS,
    MOVING_OPERATIONS,
    TRAINING_ONLY,
)

# A constant times the widths of some axes. A width is given by the unit of each position along
# the axis (-1: stays); it is the number of positions that are left.
Term = tuple[int, tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Args:
        filters: Filters left in the whole model: all output channels of the layers that own
            filters, protected ones included.
        parameters: Weights, trainable or not; those of a shared layer once.
        flops: Floating-point operations for one sample; a multiply-add counts as two. Every
            call of a shared layer counts.
    """

    filters: int
    parameters: int
    flops: int

    def counts(self) -> dict[str, int]:
        """By the names that budgets and the records of steps have for them, filters first."""
        return {"filters": self.filters, "params": self.parameters, "flops": self.flops}


class CostModel:
    """Counts what is left of a model once units are removed, without building it.

    FLOPs are those of inference. A convolution or dense layer costs two operations for each
    weight it applies, and one per output element for the bias; an activation, inside a layer or
    as a layer, one per element; batch normalisation two; pooling one for each element of each
    window; a sum or product of tensors one per element and further tensor. Layers that only
    move values are free. Layers that the table does not know count no FLOPs (their parameters
    count) and are listed in `uncounted`.

    Args:
        graph: The model, nested or flat, with a fixed input size.
        structure: Its channel structure.

    Attributes:
        uncounted: Names of the layers whose FLOPs are missing in the count.

    Raises:
        UnsupportedModelError: A `ValueError`, if the size of a tensor that matters is not fixed.

    Example:
        >>> graph = read_model(keras.applications.MobileNet(weights=None))
        >>> structure = channel_structure(graph)
        >>> cost = CostModel(graph, structure)
        >>> cost().parameters
        4253864
        >>> removed = np.arange(structure.n_units) % 2 == 0
        >>> cost(removed).flops < cost().flops
        True
    """

    def __init__(self, graph: ModelGraph, structure: ChannelStructure) -> None:
        graph = graph.flat()
        axes = {(it.layer, it.weight, it.axis): it.units for it in structure.weight_axes}
        calls = [_Call.of(node, graph, structure, axes) for node in graph.nodes]
        self.uncounted = tuple(
            dict.fromkeys(
                call.layer.name
                for call in calls
                if call.layer.class_name not in FLOPS and call.layer.class_name not in FREE
            )
        )
        widths = _Widths()
        counted = (FLOPS[call.layer.class_name](call) for call in calls if call.is_counted)
        self._sums = (
            widths.sum((1, (units,)) for units in structure.filter_units.values()),
            widths.sum(_parameters(graph, axes)),
            widths.sum(term for terms in counted for term in terms),
        )
        self._full, self._removable = widths.arrays(structure.n_units)

    def __call__(self, removed: np.ndarray | None = None) -> Cost:
        """What is left without the removed units.

        Args:
            removed: bool, shape `(units,)`; `None` removes nothing.

        Returns:
            The `Cost`.
        """
        widths = self._full
        if removed is not None:
            widths = widths - self._removable @ np.asarray(removed, np.int64)
        counts = (int(factor @ widths[index].prod(axis=1)) for factor, index in self._sums)
        return Cost(*counts)


class _Widths:
    """The distinct widths that terms speak of; number 0 is the constant 1."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._units = [np.full(1, -1)]

    def sum(self, terms: Iterable[Term]) -> tuple[np.ndarray, np.ndarray]:
        """The terms as arrays: factors `(terms,)` and width numbers `(terms, most widths)`."""
        factors, numbers = [], []
        for factor, widths in terms:
            constant = [len(units) for units in widths if (units < 0).all()]
            factors.append(factor * prod(constant))
            numbers.append([self._number(units) for units in widths if (units >= 0).any()])
        most = max(map(len, numbers), default=0)
        padded = [found + [0] * (most - len(found)) for found in numbers]
        return np.array(factors, np.int64), np.array(padded, np.intp).reshape(len(padded), most)

    def arrays(self, n_units: int) -> tuple[np.ndarray, csr_matrix]:
        """The widths with nothing removed, and how often each unit occurs in each width."""
        full = np.array([len(units) for units in self._units], np.int64)
        rows = np.repeat(np.arange(len(full)), full)
        units = np.concatenate(self._units)
        hit = units >= 0
        ones = np.ones(hit.sum(), np.int64)
        return full, csr_matrix((ones, (rows[hit], units[hit])), (len(full), n_units))

    def _number(self, units: np.ndarray) -> int:
        known = self._numbers.setdefault(units.tobytes(), len(self._units))
        if known == len(self._units):
            self._units.append(units)
        return known


Axes = Mapping[tuple[str, str, int], np.ndarray]


def _parameters(graph: ModelGraph, axes: Axes) -> Iterator[Term]:
    """One term for each weight."""
    for layer in graph.layers.values():
        for name, weight in layer.weights.items():
            yield 1, tuple(_axis(layer, name, axis, axes) for axis in range(len(weight.shape)))


def _axis(layer: LayerSpec, weight: str, axis: int, axes: Axes) -> np.ndarray:
    """The unit of each position along an axis of a weight."""
    shape = layer.weights[weight].shape
    axis %= len(shape)
    units = axes.get((layer.name, weight, axis))
    return np.full(shape[axis], -1) if units is None else units


@dataclass(frozen=True)
class _Tensor:
    """An input or output of a call; `units` are those of its last axis."""

    layer: str
    shape: Shape
    units: np.ndarray

    @property
    def elements(self) -> int:
        """Number of elements for one sample, nothing removed."""
        sizes = [size for size in self.shape[1:] if size is not None]
        if len(sizes) < len(self.shape) - 1:
            raise UnsupportedModelError(
                f"FLOPs need fixed sizes, but layer {self.layer!r} works on a tensor of shape "
                f"{self.shape}. Give the model a fixed input size: keras.Input((height, width, 3))."
            )
        return prod(sizes)

    @property
    def term(self) -> Term:
        """Number of elements."""
        return self.elements // max(len(self.units), 1), (self.units,)


@dataclass(frozen=True)
class _Call:
    """One call of a layer, as the table sees it."""

    layer: LayerSpec
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
    axes: Axes

    @classmethod
    def of(cls, node: Node, graph: ModelGraph, structure: ChannelStructure, axes: Axes) -> _Call:
        """Looks up what belongs to a node."""
        name, units = node.layer.name, structure.tensor_units
        inputs = tuple(_Tensor(name, graph.shape(ref), units[ref]) for ref in node.inputs)
        refs = [TensorRef(node.name, index) for index in range(len(node.shapes))]
        outputs = tuple(_Tensor(name, graph.shape(ref), units[ref]) for ref in refs)
        layer = node.layer
        if layer.class_name == "TimeDistributed":  # counts as the layer inside, at every step
            inside = layer.config["layer"]
            layer = replace(layer, class_name=inside["class_name"], config=inside["config"])
        return cls(layer, inputs, outputs, axes)

    @property
    def is_counted(self) -> bool:
        """Whether the table has an entry for it."""
        return self.layer.class_name in FLOPS

    def axis(self, weight: str, axis: int) -> np.ndarray:
        """The unit of each position along an axis of a weight."""
        return _axis(self.layer, weight, axis, self.axes)


def _times(factor: int, term: Term) -> Term:
    return factor * term[0], term[1]


def _taps(kernel: np.ndarray) -> int:
    """Size of the window: the kernel's axes but the last two."""
    return prod(kernel.shape[:-2])


def _finish(call: _Call, positions: int, units: np.ndarray) -> Iterator[Term]:
    """Bias and activation: one operation per output element each."""
    if "bias" in call.layer.weights:
        yield positions, (units,)
    if call.layer.config.get("activation") not in (None, "linear"):
        yield positions, (units,)


def _linear(call: _Call) -> Iterator[Term]:
    """Conv* and Dense; a grouped convolution's kernel is that much thinner."""
    kernel, filters = call.layer.weights["kernel"], call.axis("kernel", -1)
    positions = call.outputs[0].elements // len(filters)
    yield 2 * positions * _taps(kernel), (call.axis("kernel", -2), filters)
    yield from _finish(call, positions, filters)


def _transposed(call: _Call) -> Iterator[Term]:
    """Conv*Transpose: every input position is spread by the whole kernel."""
    kernel = call.layer.weights["kernel"]
    filters, read = call.axis("kernel", -2), call.axis("kernel", -1)
    positions = call.inputs[0].elements // len(read)
    yield 2 * positions * _taps(kernel), (read, filters)
    yield from _finish(call, call.outputs[0].elements // len(filters), filters)


def _depthwise(call: _Call) -> Iterator[Term]:
    positions, (units,) = call.outputs[0].term
    yield 2 * positions * _taps(call.layer.weights["kernel"]), (units,)
    yield from _finish(call, positions, units)


def _separable(call: _Call) -> Iterator[Term]:
    between, filters = call.axis("pointwise_kernel", -2), call.axis("pointwise_kernel", -1)
    positions = call.outputs[0].elements // len(filters)
    yield 2 * positions * _taps(call.layer.weights["depthwise_kernel"]), (between,)
    yield 2 * positions, (between, filters)
    yield from _finish(call, positions, filters)


def _recurrent(call: _Call) -> Iterator[Term]:
    """A product with the input and one with the state at each step; gates are elementwise."""
    steps = call.inputs[0].shape[1] or 1
    suffixes = ("", "#1") if "kernel#1" in call.layer.weights else ("",)
    for suffix in suffixes:
        for weight in ("kernel", "recurrent_kernel"):
            gates = call.axis(weight + suffix, -1)
            yield 2 * steps, (call.axis(weight + suffix, 0), gates)
        yield 5 * steps, (call.axis("kernel" + suffix, -1),)


def _per_element(call: _Call, count: int) -> Iterator[Term]:
    yield _times(count, call.outputs[0].term)


def _pooling(call: _Call) -> Iterator[Term]:
    yield _times(prod(np.atleast_1d(call.layer.config["pool_size"]).tolist()), call.outputs[0].term)


def _global_pooling(call: _Call) -> Iterator[Term]:
    yield call.inputs[0].term


def _merge(call: _Call) -> Iterator[Term]:
    # `x + 3.0` has one tensor only.
    yield _times(max(len(call.inputs) - 1, 1), call.outputs[0].term)


_RANKS = ("1D", "2D", "3D")

# How to count the FLOPs of one call, by layer type.
FLOPS: dict[str, Callable[[_Call], Iterator[Term]]] = {
    **{f"Conv{rank}": _linear for rank in _RANKS},
    "Dense": _linear,
    **{f"Conv{rank}Transpose": _transposed for rank in _RANKS},
    **{f"DepthwiseConv{rank}": _depthwise for rank in _RANKS[:2]},
    **{f"SeparableConv{rank}": _separable for rank in _RANKS[:2]},
    **dict.fromkeys(("SimpleRNN", "GRU", "LSTM", "Bidirectional"), _recurrent),
    **dict.fromkeys(
        ("BatchNormalization", "Rescaling", "Normalization"), partial(_per_element, count=2)
    ),
    # Mean, variance, and what batch normalisation costs.
    **dict.fromkeys(
        ("LayerNormalization", "GroupNormalization", "RMSNormalization", "UnitNormalization"),
        partial(_per_element, count=6),
    ),
    **dict.fromkeys(
        (
            *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "LayerScale"),
            *(f"ops.{name}" for name in ELEMENTWISE_OPERATIONS),
        ),
        partial(_per_element, count=1),
    ),
    **{f"{kind}Pooling{rank}": _pooling for kind in ("Max", "Average") for rank in _RANKS},
    **{
        f"Global{kind}Pooling{rank}": _global_pooling
        for kind in ("Max", "Average")
        for rank in _RANKS
    },
    **dict.fromkeys((f"ops.{name}" for name in ("Mean", "Sum", "Max", "Min")), _global_pooling),
    **dict.fromkeys(("Add", "Subtract", "Average", "Maximum", "Minimum", "Multiply"), _merge),
    "CustomScaleLayer": _merge,
    **{
        f"ops.{kind}": _merge
        for kind in ("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum")
    },
}

# Layers that only move values, or do nothing at inference.
FREE = frozenset(
    (
        *("InputLayer", "Identity", "Flatten", "Reshape", "Permute", "RepeatVector"),
        *("Concatenate", "ActivityRegularization", *TRAINING_ONLY),
        *(f"{kind}{rank}" for kind in ("ZeroPadding", "Cropping") for rank in _RANKS),
        *(f"ops.{name}" for name in MOVING_OPERATIONS),
    )
)
