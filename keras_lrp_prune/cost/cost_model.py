"""Filters, parameters and FLOPs of a pruned model, without building it.

Each of them is a sum of products of widths: a convolution, say, costs `2 * positions * taps` for
each pair of a channel it reads and a channel it makes. What pruning changes is the widths
alone, so the terms are collected once; a count is then one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from scipy.sparse import csr_matrix

from keras_lrp_prune.cost.flops import (
    Axes,
    CountedCall,
    OpenSizeError,
    Term,
    axis_units,
    terms_of,
)
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.model_graph import (
    ModelGraph,
    Shape,
    UnsupportedModelError,
    references,
)


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
    move values are free. Layers that the table does not know, or that work on a size that another
    layer leaves open, count no FLOPs (their parameters count) and are listed in `uncounted`.

    Args:
        graph: The model, nested or flat, with a fixed input size.
        structure: Its channel structure.

    Attributes:
        uncounted: Names of the layers whose FLOPs are missing in the count.
        alike: Units that cost the same, whatever else is gone: those of each channel group, whose
            channels run through the same layers.

    Raises:
        UnsupportedModelError: A `ValueError`, if FLOPs depend on the input's size, which is open.

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
        calls = [
            CountedCall.of(node, graph, structure, axes)
            for node in graph.nodes
            if not node.is_input
        ]
        self._open: str | None = None
        counted = [(call.layer.name, self._terms(call, graph)) for call in calls]
        self.uncounted = tuple(dict.fromkeys(name for name, terms in counted if terms is None))
        self.alike = tuple(group.units for group in structure.groups)
        widths = _Widths()
        self._sums = (
            widths.sum((1, (units,)) for units in structure.filter_units.values()),
            widths.sum(_parameters(graph, axes)),
            widths.sum(term for _, terms in counted for term in terms or ()),
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

    def check_flops(self) -> None:
        """Refuses to say what FLOPs are left, where sizes that the model leaves open count.

        Raises:
            UnsupportedModelError: Naming the layers, and what to do.
        """
        if self._open is not None:
            raise UnsupportedModelError(self._open)

    def _terms(self, call: CountedCall, graph: ModelGraph) -> list[Term] | None:
        """What a call costs; `None` if nobody can say."""
        try:
            return terms_of(call)
        except OpenSizeError as error:
            if any(_is_open(graph.shape(ref)) for ref in references(graph.inputs)):
                raise UnsupportedModelError(
                    f"{error} Give the model a fixed input size: keras.Input((height, width, 3))."
                ) from error
            first = next(node for node in graph.nodes if any(map(_is_open, node.shapes)))
            self._open = self._open or (
                f"{error} Layer {first.layer.name!r} ({first.layer.class_name}) leaves it open: "
                "give its output all sizes (None stands for one that is not known), or set the "
                "budget for filters or params."
            )
            return None


def _is_open(shape: Shape) -> bool:
    return None in shape[1:]


class _Widths:
    """The distinct widths that occur in terms, by number; number 0 is the constant 1."""

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


def _parameters(graph: ModelGraph, axes: Axes) -> Iterator[Term]:
    """One term for each weight."""
    for layer in graph.layers.values():
        for name, weight in layer.weights.items():
            yield 1, tuple(axis_units(layer, name, axis, axes) for axis in range(len(weight.shape)))
