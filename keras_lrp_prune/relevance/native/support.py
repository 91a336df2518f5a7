"""What the native engine knows of a canonical graph beforehand: what it cannot do, and signs."""

from __future__ import annotations

from collections.abc import Mapping

from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    TensorRef,
    UnsupportedModelError,
    flatten,
    references,
)
from keras_lrp_prune.graph.rules.elementwise import ACTIVATIONS
from keras_lrp_prune.relevance.canonical import LINEAR
from keras_lrp_prune.relevance.native.layers import BACKWARD, ELEMENTWISE, signal_of

_RANKS = ("1D", "2D", "3D")


def check_supported(graph: ModelGraph, *, taylor: bool = False) -> None:
    """Refuses a canonical graph that has layers without a way back.

    Args:
        graph: The canonical graph.
        taylor: Whether it is for deep Taylor decomposition, which is defined for ReLU networks.

    Raises:
        UnsupportedModelError: Naming the layers and what is wrong with them.
    """
    inputs, outputs = list(references(graph.inputs)), list(references(graph.outputs))
    if len(inputs) != 1 or len(outputs) != 1:
        raise UnsupportedModelError(
            f"LRP needs a model with one input and one output; model {graph.name!r} has "
            f"{len(inputs)} inputs and {len(outputs)} outputs."
        )
    nodes = [node for node in graph.nodes if not node.is_input]
    problems = [
        f"{node.layer.name!r} ({node.layer.class_name}{problem})"
        for node in nodes
        if (problem := _problem(node, taylor)) is not None
    ]
    if problems:
        raise UnsupportedModelError(
            f"The engine 'native' has no rule for these layers: {'; '.join(problems)}. Choose "
            "another criterion (such as 'taylor')."
        )
    for node in nodes:
        if node.layer.class_name in _PRODUCTS and len(node.inputs) > 1:
            signal_of(graph, node)


def _problem(node: Node, taylor: bool) -> str | None:
    """What is wrong with a call; an empty string if it is the layer itself."""
    config, class_name = node.layer.config, node.layer.class_name
    if class_name not in (*LINEAR, *BACKWARD):
        return ""
    if config.get("data_format") == "channels_first":
        return ", channels first"
    if node.kwargs.get("training"):
        return ", training=True"
    if config.get("rms_scaling"):
        return ", rms_scaling=True"
    if class_name in ("ops.Divide", "ops.TrueDivide") and len(node.inputs) > 1:
        return " of two tensors"
    activation = config.get("activation") or "linear"
    if not _is_elementwise(activation):
        return f", activation {activation!r}"
    if taylor and class_name in ELEMENTWISE and not _is_relu(node.layer):
        return f", activation {activation!r}: deep Taylor decomposition is for ReLU networks"
    return None


def _is_elementwise(activation: object) -> bool:
    if isinstance(activation, Mapping):  # a layer, or a function that Keras does not know
        activation = activation["class_name"]
    return activation in (*ACTIVATIONS, "ReLU")


def _is_relu(layer: LayerSpec) -> bool:
    return layer.class_name in ("ops.Relu", "ops.ReLU") or layer.config.get("activation") == "relu"


_PRODUCTS = ("Multiply", "ops.Multiply")
_NONNEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "exponential")
_KEEPS_SIGN = (
    *("Flatten", "Reshape", "Permute", "RepeatVector", "Concatenate", "Add", "Average"),
    *("Maximum", "Minimum", "ops.Add", *_PRODUCTS),
    *(f"{kind}Pooling{rank}" for kind in ("Max", "Average") for rank in _RANKS),
    *(f"Global{kind}Pooling{rank}" for kind in ("Max", "Average") for rank in _RANKS),
    *(f"{kind}{rank}" for kind in ("ZeroPadding", "Cropping") for rank in _RANKS),
)


def nonnegative(graph: ModelGraph) -> set[TensorRef]:
    """Tensors that cannot have negative values: for them, some rules cost less."""
    found: set[TensorRef] = set()
    for node in graph.nodes:
        if _makes_nonnegative(node.layer) or (
            node.layer.class_name in _KEEPS_SIGN
            # Numbers among the arguments may be negative.
            and all(value in found for value in flatten((node.args, node.kwargs)))
        ):
            found.add(TensorRef(node.name))
    return found


def _makes_nonnegative(layer: LayerSpec) -> bool:
    plain_relu = layer.class_name == "ReLU" and not layer.config.get("negative_slope")
    return plain_relu or layer.config.get("activation") in _NONNEGATIVE
