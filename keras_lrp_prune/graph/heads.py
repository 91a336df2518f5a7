"""What a model's output means: how many classes, and logits or probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from keras_lrp_prune.graph.layer_types import Trait, has, is_identity
from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    UnsupportedModelError,
    references,
)

OutputKind = Literal["logits", "softmax", "sigmoid"]


@dataclass(frozen=True)
class Head:
    """The class scores that a model returns.

    Args:
        n_classes: Number of classes; a single unit stands for two.
        kind: Whether the outputs are logits or probabilities.
        one_unit: Whether it is a single unit.
    """

    n_classes: int
    kind: OutputKind
    one_unit: bool


def read_head(graph: ModelGraph) -> Head:
    """Reads what a classifier's output means from its last layers.

    Args:
        graph: A model with one `(batch, n)` output.

    Raises:
        UnsupportedModelError: If it has several outputs, or one of another shape.
    """
    graph = graph.flat()
    outputs = list(references(graph.outputs))
    if len(outputs) != 1:
        raise UnsupportedModelError(
            f"Model {graph.name!r} has {len(outputs)} outputs. A classifier with one (batch, n) "
            "output of class scores is needed: keras.Model(model.inputs, model.outputs[i])."
        )
    shape = graph.shape(outputs[0])
    if len(shape) != 2 or shape[-1] is None:
        raise UnsupportedModelError(
            f"The output of model {graph.name!r} has shape {shape}. A classifier with one "
            "(batch, n) output of class scores is needed."
        )
    return Head(max(shape[-1], 2), _kind(graph, graph.by_name[outputs[0].node]), shape[-1] == 1)


def passes_scores_on(layer: LayerSpec) -> bool:
    """Whether a layer behind the class scores returns them all as they are, and in their order."""
    return is_identity(layer) or has(layer, Trait.RESHAPES)


def _kind(graph: ModelGraph, node: Node) -> OutputKind:
    while passes_scores_on(node.layer):
        node = graph.by_name[node.inputs[0].node]
    return _kind_made_by(node.layer)


def _kind_made_by(layer: LayerSpec) -> OutputKind:
    activation = layer.config.get("activation")
    if has(layer, Trait.SOFTMAX) or activation == "softmax":
        return "softmax"
    if layer.class_name == "ops.Sigmoid" or activation == "sigmoid":
        return "sigmoid"
    return "logits"


def linear_head(graph: ModelGraph) -> str | None:
    """Name of the dense layer that scores the classes from pooled features.

    Args:
        graph: A flat model with one `(batch, n)` output.

    Returns:
        The name, or `None` if the model does not end that way: with global pooling (or a Flatten),
        then a `Dense`, then at most a softmax or sigmoid.
    """
    (output,) = references(graph.outputs)
    node = graph.by_name[output.node]
    while node.layer.class_name != "Dense" and (
        passes_scores_on(node.layer) or _kind_made_by(node.layer) != "logits"
    ):
        node = graph.by_name[node.inputs[0].node]
    if node.layer.class_name != "Dense" or len(node.shapes[0]) != 2:
        return None
    source = graph.by_name[node.inputs[0].node]
    while has(source.layer, Trait.IDENTITY, Trait.ELEMENTWISE) and len(source.inputs) == 1:
        source = graph.by_name[source.inputs[0].node]
    pooled = has(source.layer, Trait.REDUCES, Trait.RESHAPES) and len(source.shapes[0]) == 2
    return node.layer.name if pooled else None
