"""The same classifier with logits as outputs, from which losses are computed exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keras_lrp_prune.graph.heads import Head, passes_scores_on, read_head
from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    TensorRef,
    UnsupportedModelError,
    map_references,
    references,
)


def check_head(graph: ModelGraph) -> Head:
    """The head of a classifier, if one with such outputs can be trained here.

    Raises:
        UnsupportedModelError: For a model with several outputs, or with several sigmoid units.
    """
    head = read_head(graph)
    if head.kind == "sigmoid" and not head.one_unit:
        raise UnsupportedModelError(
            f"Model {graph.name!r} ends with {head.n_classes} sigmoid units, each with a loss of "
            "its own. Fine-tuning takes logits, a softmax, or one sigmoid unit; train this model "
            "with model.fit and a binary cross-entropy."
        )
    return head


def with_logits(graph: ModelGraph) -> ModelGraph:
    """Takes the final softmax or sigmoid off, in the nested model that has it.

    Weights, their order and the names of the layers that own them stay as they are.

    Args:
        graph: A classifier, nested or flat.

    Raises:
        UnsupportedModelError: If the layer with the softmax is called in other places too.
    """
    if check_head(graph).kind == "logits":
        return graph
    return _without_activation(graph)


def _without_activation(graph: ModelGraph) -> ModelGraph:
    (output,) = references(graph.outputs)
    node = graph.by_name[output.node]
    while passes_scores_on(node.layer):
        node = graph.by_name[node.inputs[0].node]
    if node.is_input:
        raise UnsupportedModelError(
            "The softmax or sigmoid of the model lies where it cannot be taken off: before the "
            f"nested model {graph.name!r}, which only passes it on. Call that model first."
        )
    if node.inner is not None:
        _check_called_once(graph, node)
        return _replaced(graph, node, replace(node, inner=_without_activation(node.inner)))
    if node.layer.weights:
        _check_called_once(graph, node)
        config = {**node.layer.config, "activation": "linear"}
        return _replaced(graph, node, replace(node, layer=replace(node.layer, config=config)))
    return _replaced(graph, node, _passing_on(node))


def _passing_on(node: Node) -> Node:
    """A call of a new layer that returns its input, in the place of a softmax or sigmoid layer."""
    name = f"{node.layer.name}_logits"
    config = {"name": name, "activation": "linear"}
    if "dtype" in node.layer.config:
        config["dtype"] = node.layer.config["dtype"]
    tensor: Any = node.inputs[0]
    return replace(
        node, name=name, layer=LayerSpec(name, "Activation", config), args=(tensor,), kwargs={}
    )


def _replaced(graph: ModelGraph, old: Node, new: Node) -> ModelGraph:
    def renamed(ref: TensorRef) -> TensorRef:
        return replace(ref, node=new.name) if ref.node == old.name else ref

    def reading(node: Node) -> Node:
        kwargs: Mapping[str, Any] = map_references(renamed, dict(node.kwargs))
        return replace(node, args=map_references(renamed, node.args), kwargs=kwargs)

    return replace(
        graph,
        nodes=tuple(reading(new if node is old else node) for node in graph.nodes),
        outputs=map_references(renamed, graph.outputs),
    )


def _check_called_once(graph: ModelGraph, node: Node) -> None:
    if sum(other.layer is node.layer for other in graph.nodes) > 1:
        raise UnsupportedModelError(
            f"Layer {node.layer.name!r} of model {graph.name!r} holds the final softmax or sigmoid "
            "and is called in other places too. Give the model's output an Activation layer of "
            "its own, or train it with model.fit."
        )
