"""What the native engine finds out in advance: layers it cannot handle, and signs of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_lrp_prune.graph.channel_rules.elementwise import ACTIVATIONS
from keras_lrp_prune.graph.layer_types import Trait, has
from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    TensorRef,
    UnsupportedModelError,
    flatten,
)
from keras_lrp_prune.relevance.canonical import check_ends
from keras_lrp_prune.relevance.native.layers import backward_of, signal_of
from keras_lrp_prune.relevance.own_layers import has_own_function


def check_supported(graph: ModelGraph, *, taylor: bool = False) -> None:
    """Refuses a canonical graph that has layers without a way back.

    Args:
        graph: The canonical graph.
        taylor: Whether it is for deep Taylor decomposition, which is defined for ReLU networks.

    Raises:
        UnsupportedModelError: Naming the layers and what is wrong with them.
    """
    check_ends(graph)
    nodes = [node for node in graph.nodes if not node.is_input]
    problems = [
        f"{node.layer.name!r} ({node.layer.class_name}{problem})"
        for node in nodes
        if (problem := _problem(node, taylor)) is not None
    ]
    if problems:
        raise UnsupportedModelError(
            f"The engine 'native' has no rule for these layers: {'; '.join(problems)}. Choose "
            "another criterion (such as 'taylor'), or give a layer type of your own a rule: "
            "klp.register_layer_lrp."
        )
    for node in nodes:
        if has(node.layer, Trait.MULTIPLIES) and len(node.inputs) > 1:
            signal_of(graph, node)


def _problem(node: Node, taylor: bool) -> str | None:
    """What is wrong with a call; an empty string if it is the layer itself."""
    config = node.layer.config
    if has_own_function(node.layer):
        return None
    if not has(node.layer, Trait.LINEAR) and backward_of(node.layer) is None:
        return ""
    if config.get("data_format") == "channels_first":
        return ", channels first"
    if node.kwargs.get("training"):
        return ", training=True"
    if config.get("rms_scaling"):
        return ", rms_scaling=True"
    if has(node.layer, Trait.DIVIDES, Trait.ELEMENTWISE) and len(node.inputs) > 1:
        return " of two tensors"
    activation = config.get("activation") or "linear"
    if not _is_elementwise(activation):
        return f", activation {activation!r}"
    if taylor and has(node.layer, Trait.ELEMENTWISE) and not _is_relu(node.layer):
        return f", activation {activation!r}: deep Taylor decomposition is for ReLU networks"
    return None


def _is_elementwise(activation: object) -> bool:
    if isinstance(activation, Mapping):  # a layer, or a function that Keras does not know
        activation = activation["class_name"]
    return activation in (*ACTIVATIONS, "ReLU")


def _is_relu(layer: LayerSpec) -> bool:
    return layer.class_name in ("ops.Relu", "ops.ReLU") or layer.config.get("activation") == "relu"


_NONNEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "exponential")


def nonnegative(graph: ModelGraph) -> set[TensorRef]:
    """Tensors that cannot have negative values: for them, some rules cost less."""
    found: set[TensorRef] = set()
    for node in graph.nodes:
        if _makes_nonnegative(node.layer) or (
            has(node.layer, Trait.KEEPS_SIGN) and found.issuperset(_values(node))
        ):
            found.add(TensorRef(node.name))
    return found


def _values(node: Node) -> set[Any]:
    """The tensors that a call computes with; `None` stands for numbers, which may be negative."""
    moves = has(node.layer, Trait.MOVES)
    values = node.inputs if moves else flatten((node.args, dict(node.kwargs)))
    return {value if isinstance(value, TensorRef) else None for value in values}


def _makes_nonnegative(layer: LayerSpec) -> bool:
    plain_relu = layer.class_name == "ReLU" and not layer.config.get("negative_slope")
    return plain_relu or layer.config.get("activation") in _NONNEGATIVE
