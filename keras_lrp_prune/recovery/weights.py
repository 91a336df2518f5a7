"""Giving a `ModelGraph` other weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from keras_lrp_prune.graph.model_graph import LayerNames, LayerSpec, ModelGraph, Node

Weights = Mapping[str, Mapping[str, np.ndarray]]


def with_weights(graph: ModelGraph, weights: Weights) -> ModelGraph:
    """The same model with other weights; the given graph, and its live model, are not changed.

    Args:
        graph: A model, nested or flat.
        weights: Layer (as in `graph.flat()`) to weight name to its values, of the same shape.

    Returns:
        A graph to build or to read; weights that are not named are shared.

    Raises:
        ValueError: For a layer or weight that the model does not have, or another shape.

    Example:
    >>> graph = with_weights(read_model(model), refit.weights)
    >>> small = rebuild(graph, kept_without(structure, removed), keras)
    """
    putting = _Putting(weights)
    changed = putting.into(graph, "")
    if missing := [name for name in weights if name not in putting.met]:
        raise ValueError(f"The model {graph.name!r} has no layers {', '.join(missing)}.")
    return changed


def with_own_weights(graph: ModelGraph) -> ModelGraph:
    """The same flat model with copies of all weights, arrays that can be written to."""
    copies = {
        layer.name: {name: array.copy() for name, array in layer.arrays().items()}
        for layer in graph.layers.values()
        if layer.weights
    }
    return with_weights(graph, copies)


class _Putting:
    """Replaces each layer once, wherever it is called."""

    def __init__(self, weights: Weights) -> None:
        self.met: set[str] = set()
        self._weights = weights
        self._names = LayerNames()
        self._layers: dict[str, LayerSpec] = {}

    def into(self, graph: ModelGraph, prefix: str) -> ModelGraph:
        """A graph, and those nested in it."""
        return replace(graph, nodes=tuple(self._node(node, prefix) for node in graph.nodes))

    def _node(self, node: Node, prefix: str) -> Node:
        name = self._names.name(node.layer, prefix)
        if node.inner is not None:
            return replace(node, inner=self.into(node.inner, f"{name}/"))
        if name not in self._weights:
            return node
        self.met.add(name)
        if name not in self._layers:
            self._layers[name] = _changed(node.layer, name, self._weights[name])
        return replace(node, layer=self._layers[name])


def _changed(layer: LayerSpec, name: str, news: Mapping[str, np.ndarray]) -> LayerSpec:
    for weight, array in news.items():
        shape = tuple(layer.weights[weight].shape) if weight in layer.weights else None
        if shape != array.shape:
            raise ValueError(
                f"Layer {name!r}: {weight!r} of shape {array.shape} does not fit; its weights are "
                + ", ".join(f"{key} {tuple(old.shape)}" for key, old in layer.weights.items())
                + "."
            )
    return replace(layer, weights={**layer.weights, **news})
