"""A Keras model as plain data: layers, the nodes that call them, and the edges between.

Nothing here imports Keras, so that a process with another Keras generation can hold the
same graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

Shape = tuple[int | None, ...]


class UnsupportedModelError(ValueError):
    """The model, or a layer in it, cannot be handled; the message says what, where and why."""


@dataclass(frozen=True, order=True)
class TensorRef:
    """Output number `index` of the node called `node`."""

    node: str
    index: int = 0


@dataclass(frozen=True)
class LayerSpec:
    """One layer (or stateless Keras operation) of a model.

    Args:
        name: Name of the layer; `"outer/inner"` inside a nested model.
        class_name: Name of its class, such as `"Conv2D"`. Operations that are not layers
            (`x + y`) have the prefix `"ops."`.
        config: What `layer.get_config()` returns.
        weights: Weight name to values, in the order of `layer.weights`. The values are
            anything that `np.asarray` takes; a graph read from a live model holds its
            variables, so that reading copies nothing.
        source: The live layer or operation that was read, or `None` if there is none.
    """

    name: str
    class_name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    source: Any = None

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights as NumPy arrays."""
        return {name: np.asarray(value) for name, value in self.weights.items()}


@dataclass(frozen=True)
class Node:
    """One call of a layer.

    Args:
        name: Unique in the graph: the layer's name, with `#k` for its k-th further call.
        layer: The layer that is called; calls of a shared layer have the same one.
        args, kwargs: Arguments of the call, with a `TensorRef` for every tensor.
        shapes: Shape of each output, with the batch axis.
        inner: The nested model, if the layer is one.
    """

    name: str
    layer: LayerSpec
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    shapes: tuple[Shape, ...] = ()
    inner: ModelGraph | None = None

    @property
    def inputs(self) -> tuple[TensorRef, ...]:
        """The tensors that this call reads, in order."""
        return tuple(references((self.args, dict(self.kwargs))))

    @property
    def is_input(self) -> bool:
        """Whether this node is an input of the model."""
        return self.layer.class_name == "InputLayer"


@dataclass(frozen=True)
class ModelGraph:
    """A functional or Sequential model as data.

    Args:
        name: Name of the model.
        class_name: `"Functional"` or `"Sequential"`.
        nodes: Calls in an order in which they can be executed.
        inputs, outputs: The model's inputs and outputs, each a `TensorRef` or a list or
            dict of them.
        entries: In a flat graph, the input layers of the nested models that it had, each with
            the tensor that it stood for.
    """

    name: str
    class_name: str
    nodes: tuple[Node, ...]
    inputs: Any
    outputs: Any
    entries: tuple[tuple[LayerSpec, TensorRef], ...] = ()

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """Node name to node."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def layers(self) -> dict[str, LayerSpec]:
        """Layer name to layer, in the order of the first call."""
        return {node.layer.name: node.layer for node in self.nodes}

    @cached_property
    def consumers(self) -> dict[TensorRef, tuple[str, ...]]:
        """Tensor to the names of the nodes that read it."""
        found: dict[TensorRef, tuple[str, ...]] = {}
        for node in self.nodes:
            for ref in node.inputs:
                found[ref] = (*found.get(ref, ()), node.name)
        return found

    def shape(self, ref: TensorRef) -> Shape:
        """Shape of a tensor, with the batch axis."""
        return self.by_name[ref.node].shapes[ref.index]

    def flat(self) -> ModelGraph:
        """The same function without nested models.

        Layers of a nested model `outer` are called `"outer/inner"`. A call's `training`
        argument goes: a flat graph describes inference.
        """
        nodes: list[Node] = []
        entries = list(self.entries)
        renamed = _inline(self, "", "", {}, nodes, entries)
        return replace(
            self,
            class_name="Functional",
            nodes=tuple(nodes),
            inputs=map_references(renamed.__getitem__, self.inputs),
            outputs=map_references(renamed.__getitem__, self.outputs),
            entries=tuple(entries),
        )


def references(structure: Any) -> Iterator[TensorRef]:
    """Every `TensorRef` in nested lists, tuples and dicts."""
    if isinstance(structure, TensorRef):
        yield structure
    elif isinstance(structure, Mapping):
        for value in structure.values():
            yield from references(value)
    elif isinstance(structure, list | tuple):
        for value in structure:
            yield from references(value)


def map_references(function: Callable[[TensorRef], Any], structure: Any) -> Any:
    """The same nested lists, tuples and dicts with `function` applied to each `TensorRef`."""
    if isinstance(structure, TensorRef):
        return function(structure)
    if isinstance(structure, Mapping):
        return {key: map_references(function, value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)(map_references(function, value) for value in structure)
    return structure


def _inline(
    graph: ModelGraph,
    node_prefix: str,
    layer_prefix: str,
    fed: Mapping[str, TensorRef],
    nodes: list[Node],
    entries: list[tuple[LayerSpec, TensorRef]],
) -> dict[TensorRef, TensorRef]:
    """Appends the flat nodes of `graph` to `nodes`; returns old to new tensors.

    `fed` gives, for a nested graph, the outer tensor that each input node stands for.
    """
    renamed: dict[TensorRef, TensorRef] = {}
    for node in graph.nodes:
        if node.name in fed:
            renamed[TensorRef(node.name)] = fed[node.name]
            entry = replace(node.layer, name=layer_prefix + node.layer.name)
            entries.append((entry, fed[node.name]))
            continue
        name, layer_name = node_prefix + node.name, layer_prefix + node.layer.name
        if node.inner is None:
            args = map_references(renamed.__getitem__, node.args)
            kwargs = map_references(renamed.__getitem__, node.kwargs)
            nodes.append(
                replace(
                    node,
                    name=name,
                    layer=replace(node.layer, name=layer_name),
                    args=args,
                    kwargs={key: value for key, value in kwargs.items() if key != "training"},
                )
            )
            outputs = [TensorRef(name, index) for index in range(len(node.shapes))]
        else:
            inner = node.inner
            inputs = [ref.node for ref in references(inner.inputs)]
            tensors = [renamed[ref] for ref in node.inputs]
            inner_fed = dict(zip(inputs, tensors, strict=True))
            inner_renamed = _inline(inner, name + "/", layer_name + "/", inner_fed, nodes, entries)
            outputs = [inner_renamed[ref] for ref in references(inner.outputs)]
        for index, output in enumerate(outputs):
            renamed[TensorRef(node.name, index)] = output
    return renamed
