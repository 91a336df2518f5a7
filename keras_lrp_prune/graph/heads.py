"""What a model's output means: how many classes, and logits or probabilities."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from keras_lrp_prune.callers import outside
from keras_lrp_prune.graph.layer_registry import as_registered
from keras_lrp_prune.graph.layer_types import Trait, has, is_identity, is_kin_of_keras, is_of_keras
from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    UnsupportedModelError,
    references,
)

OutputKind = Literal["logits", "softmax", "sigmoid"]

_ROUNDING = 1e-6  # how far a probability may lie outside 0 to 1
_OF_SUM = 1e-3  # how far the sum of a sample's probabilities may be from 1
_OF_LOGITS = (Trait.ADDS, Trait.MULTIPLIES, Trait.DIVIDES, Trait.MOVES, Trait.PICKS)


@dataclass(frozen=True)
class Head:
    """The class scores that a model returns.

    Args:
        n_classes: Number of classes; a single unit stands for two.
        kind: Whether the outputs are logits or probabilities.
        one_unit: Whether it is a single unit.
        unclear: The last layer, if the graph does not tell the kind of its output: then `kind` is
            an assumption.
    """

    n_classes: int
    kind: OutputKind
    one_unit: bool
    unclear: str | None = None

    def judged_by(self, outputs: np.ndarray) -> Head:
        """The same head; if the kind is unclear, it is judged by outputs.

        Args:
            outputs: What the model returns for samples, shape `(n, outputs)`.
        """
        if self.unclear is None:
            return self
        return replace(self, kind=_kind_of(outputs), unclear=None)

    def warn_if_unclear(self, model: str) -> None:
        """Warns that the kind is assumed, where no outputs can tell it.

        Args:
            model: The model's name.
        """
        if self.unclear is not None:
            warnings.warn(
                f"What the outputs of model {model!r} mean cannot be read from its last layer, "
                f"{self.unclear}: they are taken for {self.kind}, not for probabilities. If they "
                "are probabilities, let the model end with a layer of Keras that makes them: "
                "Dense(..., activation='sigmoid') or 'softmax', or that as an Activation layer.",
                stacklevel=outside(),
            )


def read_head(graph: ModelGraph) -> Head:
    """Reads what a classifier's output means from its last layers.

    Where they do not tell, logits are assumed, and `Head.unclear` names the layer.

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
    last = graph.by_name[outputs[0].node]
    kind = _kind(graph, last)
    unclear = f"{last.layer.name!r} ({last.layer.class_name})" if kind is None else None
    return Head(max(shape[-1], 2), kind or "logits", shape[-1] == 1, unclear)


def passes_scores_on(layer: LayerSpec) -> bool:
    """Whether a layer behind the class scores returns them all as they are, and in their order."""
    return is_identity(layer) or has(layer, Trait.RESHAPES)


def _kind_of(outputs: np.ndarray) -> OutputKind:
    """Values from 0 to 1 are probabilities if there is one unit, or if each row sums to 1."""
    within = np.all((outputs >= -_ROUNDING) & (outputs <= 1 + _ROUNDING))
    if outputs.shape[1] == 1:
        return "sigmoid" if within else "logits"
    sums = outputs.sum(axis=1, dtype=np.float64)
    return "softmax" if within and np.allclose(sums, 1, rtol=0, atol=_OF_SUM) else "logits"


def _kind(graph: ModelGraph, node: Node) -> OutputKind | None:
    """The kind of a call's output, if the graph tells: sums and products of logits are logits."""
    while passes_scores_on(node.layer):
        node = graph.by_name[node.inputs[0].node]
    made = _kind_made_by(node.layer)
    if made is None and node.inputs and has(node.layer, *_OF_LOGITS):
        kinds = {_kind(graph, graph.by_name[ref.node]) for ref in node.inputs}
        return "logits" if kinds == {"logits"} else None
    return made


def _kind_made_by(layer: LayerSpec) -> OutputKind | None:
    layer = as_registered(layer)
    activation = layer.config.get("activation") if is_kin_of_keras(layer) else None
    if has(layer, Trait.SOFTMAX) or activation == "softmax":
        return "softmax"
    if layer.class_name == "ops.Sigmoid" or activation == "sigmoid":
        return "sigmoid"
    linear = activation == "linear" and is_of_keras(layer)
    return "logits" if linear or layer.class_name == "ops.LogSoftmax" else None


def _only_makes_probabilities(layer: LayerSpec) -> bool:
    """Whether a layer is a softmax or sigmoid and nothing else: one with weights makes scores."""
    return not layer.weights and _kind_made_by(layer) in ("softmax", "sigmoid")


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
        passes_scores_on(node.layer) or _only_makes_probabilities(node.layer)
    ):
        node = graph.by_name[node.inputs[0].node]
    if node.layer.class_name != "Dense" or len(node.shapes[0]) != 2:
        return None
    source = graph.by_name[node.inputs[0].node]
    while has(source.layer, Trait.IDENTITY, Trait.ELEMENTWISE) and len(source.inputs) == 1:
        source = graph.by_name[source.inputs[0].node]
    pooled = has(source.layer, Trait.REDUCES, Trait.RESHAPES) and len(source.shapes[0]) == 2
    return node.layer.name if pooled else None
