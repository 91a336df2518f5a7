"""A Keras model as plain data: layers, the nodes that call them, and the edges between.

Nothing here imports Keras, so that a process with another Keras generation can hold the
same graph.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from keras_lrp_prune.display_names import meant

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
            (`x + y`) have the prefix `"ops."`. A user's class with the name of a Keras class has
            the prefix `"own."`, so that it is not taken for that one.
        config: What `layer.get_config()` returns.
        weights: Weight name to values, in the order of `generations.weights_of`. The values are
            anything that `np.asarray` takes; a graph read from a live model holds its
            variables, so that reading copies nothing.
        source: The live layer or operation that was read, or `None` if there is none. A layer
            that is called in several places, nested models included, has one `LayerSpec`.
    """

    name: str
    class_name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    source: Any = None

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights as NumPy arrays, to be read only: those of variables are not copied."""
        return {name: _array(value) for name, value in self.weights.items()}

    def settings(self) -> str:
        """Class and config as JSON, without what differs when the same layer is made anew.

        That is its name, which Keras numbers within a process, and the seed that it draws.
        """
        own = ("name", "seed", "build_config")
        config = {key: value for key, value in self.config.items() if key not in own}
        text = json.dumps(config, sort_keys=True, default=lambda value: type(value).__name__)
        return f"{self.class_name} {text}"


def _array(value: Any) -> np.ndarray:
    """A weight's values; the array shares the memory of a variable until that is assigned."""
    value = getattr(value, "value", value)  # of a Keras 3 variable, TensorFlow's
    if hasattr(value, "read_value"):
        value = value.read_value()
    elif callable(value):  # of TensorFlow's variable, its tensor
        value = value()
    return np.asarray(value)


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
        source: The live model that was read, or `None` if there is none.
    """

    name: str
    class_name: str
    nodes: tuple[Node, ...]
    inputs: Any
    outputs: Any
    entries: tuple[tuple[LayerSpec, TensorRef], ...] = ()
    source: Any = None

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """Node name to node."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def layers(self) -> dict[str, LayerSpec]:
        """Layer name to layer, in the order of the first call."""
        return {node.layer.name: node.layer for node in self.nodes}

    def layers_called(self, name: str) -> list[LayerSpec]:
        """The layers of a flat graph that a name means; a nested model's name means all in it."""
        return [
            layer
            for layer in self.layers.values()
            if layer.name == name or layer.name.startswith(f"{name}/")
        ]

    def no_layer(self, argument: str, name: str) -> str:
        """The error message for an argument that names a layer which a flat graph does not have."""
        paths = [layer.split("/") for layer in self.layers]
        known = ["/".join(path[:end]) for path in paths for end in range(1, len(path) + 1)]
        return (
            f"{argument} names layer {name!r}, which the model does not have. "
            f"{meant(name, dict.fromkeys(known))}"
        )

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

        Layers of a nested model `outer` are called `"outer/inner"`; a layer that is also called
        elsewhere has the name of the first place. A flat graph describes inference: only
        `training=True` in the call of a layer stays, as it holds at inference too.

        Raises:
            UnsupportedModelError: If a nested model is called with `training=True`.
        """
        flattening = _Flattening(list(self.entries))
        renamed = flattening.inline(self, "", "", {})
        return replace(
            self,
            class_name="Functional",
            nodes=tuple(flattening.nodes),
            inputs=map_references(renamed.__getitem__, self.inputs),
            outputs=map_references(renamed.__getitem__, self.outputs),
            entries=tuple(flattening.entries),
        )


class LayerNames:
    """The names of layers in a flat graph; a layer has that of the first place it is called in."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def name(self, layer: LayerSpec, prefix: str) -> str:
        """The layer's name, given the prefix of the nested model that calls it."""
        if layer.class_name == "InputLayer":  # stands for another tensor in each model
            return prefix + layer.name
        return self._names.setdefault(id(layer), prefix + layer.name)


def references(structure: Any) -> Iterator[TensorRef]:
    """Every `TensorRef` in nested lists, tuples and dicts, in the order of `flatten`."""
    return (leaf for leaf in flatten(structure) if isinstance(leaf, TensorRef))


def flatten(structure: Any) -> Iterator[Any]:
    """What nested lists, tuples and dicts hold; like Keras, dicts in the order of their keys."""
    if isinstance(structure, Mapping):
        for key in sorted(structure):
            yield from flatten(structure[key])
    elif isinstance(structure, list | tuple):
        for value in structure:
            yield from flatten(value)
    else:
        yield structure


def map_references(function: Callable[[TensorRef], Any], structure: Any) -> Any:
    """The same nested lists, tuples and dicts with `function` applied to each `TensorRef`."""
    if isinstance(structure, TensorRef):
        return function(structure)
    if isinstance(structure, Mapping):
        return {key: map_references(function, value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)(map_references(function, value) for value in structure)
    return structure


class _Flattening:
    """Collects the nodes and entries of a flat graph."""

    def __init__(self, entries: list[tuple[LayerSpec, TensorRef]]) -> None:
        self.nodes: list[Node] = []
        self.entries = entries
        self._names = LayerNames()

    def inline(
        self, graph: ModelGraph, node_prefix: str, layer_prefix: str, fed: Mapping[str, TensorRef]
    ) -> dict[TensorRef, TensorRef]:
        """Appends the flat nodes of `graph`; returns old to new tensors.

        `fed` gives, for a nested graph, the outer tensor that each input node stands for.
        """
        renamed: dict[TensorRef, TensorRef] = {}
        for node in graph.nodes:
            layer_name = self._names.name(node.layer, layer_prefix)
            if node.name in fed:
                self.entries.append((replace(node.layer, name=layer_name), fed[node.name]))
                outputs = [fed[node.name]]
            elif node.inner is None:
                flat = _flat_node(node, node_prefix + node.name, layer_name, renamed)
                self.nodes.append(flat)
                outputs = [TensorRef(flat.name, index) for index in range(len(node.shapes))]
            else:
                _check_training(node)
                given = node.args[0] if node.args else node.kwargs["inputs"]
                inner = self.inline(
                    node.inner,
                    f"{node_prefix}{node.name}/",
                    f"{layer_name}/",
                    {to.node: renamed[ref] for to, ref in _pairs(node, node.inner.inputs, given)},
                )
                outputs = [inner[ref] for ref in references(node.inner.outputs)]
            for index, output in enumerate(outputs):
                renamed[TensorRef(node.name, index)] = output
        return renamed


def _pairs(node: Node, inputs: Any, given: Any) -> Iterator[tuple[TensorRef, TensorRef]]:
    """Each input of a nested model with the tensor that it stands for, as Keras pairs them."""
    if isinstance(inputs, Mapping) and isinstance(given, Mapping):
        for key, structure in inputs.items():
            yield from _pairs(node, structure, given[key])
    elif isinstance(given, Mapping) and len(given) > 1:
        raise UnsupportedModelError(
            f"The nested model {node.layer.name!r} has a list of inputs but is called with a "
            "dict, which Keras versions pair differently. Call it with a list."
        )
    else:
        yield from zip(references(inputs), references(given), strict=True)


def _flat_node(
    node: Node, name: str, layer_name: str, renamed: Mapping[TensorRef, TensorRef]
) -> Node:
    kwargs = {
        key: value for key, value in node.kwargs.items() if key != "training" or value is True
    }
    return replace(
        node,
        name=name,
        layer=replace(node.layer, name=layer_name),
        args=map_references(renamed.__getitem__, node.args),
        kwargs=map_references(renamed.__getitem__, kwargs),
    )


def _check_training(node: Node) -> None:
    """Refuses a nested model that is in training mode at inference."""
    if True in (node.kwargs.get("training"), *node.args[1:2]):
        raise UnsupportedModelError(
            f"The nested model {node.layer.name!r} is called with training=True: its layers "
            "behave at inference as in training. Call it with training=False, or give "
            "training=True to the layers in it that need it, such as Dropout."
        )
