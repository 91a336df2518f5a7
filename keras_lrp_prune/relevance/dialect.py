"""The dialect on which iNNvestigate is tested to be exact; what lies outside is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from keras_lrp_prune.graph.layer_types import is_of_keras
from keras_lrp_prune.graph.model_graph import ModelGraph, Node, UnsupportedModelError
from keras_lrp_prune.relevance.canonical import check_ends
from keras_lrp_prune.relevance.own_layers import has_own_function

Condition = Callable[[Mapping[str, Any], int], bool]

_ACTIVATIONS = ("relu", "relu6", "elu", "selu", "tanh", "sigmoid", "silu", "swish", "gelu")


def _always(config: Mapping[str, Any], rank: int) -> bool:
    return True


def _channels_last(config: Mapping[str, Any], rank: int) -> bool:
    return config.get("data_format", "channels_last") == "channels_last"


def _linear(config: Mapping[str, Any], rank: int) -> bool:
    return (
        _channels_last(config, rank)
        and config.get("groups", 1) == 1
        and config["activation"] == "linear"
    )


# Layer type: what its config and the rank of its output must fulfil.
DIALECT: Mapping[str, Condition] = {
    "InputLayer": _always,
    "Conv2D": _linear,
    "DepthwiseConv2D": _linear,
    "Dense": lambda config, rank: config["activation"] == "linear",
    "Activation": lambda config, rank: config["activation"] in _ACTIVATIONS,
    "Add": _always,
    "Concatenate": lambda config, rank: config["axis"] in (-1, rank - 1),
    "Flatten": _channels_last,
    "Reshape": _always,
    "MaxPooling2D": _channels_last,
    "AveragePooling2D": _channels_last,
    "GlobalMaxPooling2D": _channels_last,
    "GlobalAveragePooling2D": _channels_last,
    "ZeroPadding2D": _channels_last,
    "Cropping2D": _channels_last,
}


# Deep Taylor decomposition is defined for ReLU networks.
_RELU_ONLY = ("deep_taylor", "deep_taylor.bounded")


def check_dialect(graph: ModelGraph, analyzer: str) -> None:
    """Refuses a canonical graph on which iNNvestigate would be wrong.

    Args:
        graph: The canonical graph.
        analyzer: Name of the analyzer to be used.

    Raises:
        UnsupportedModelError: Naming the layers and what is wrong with them.
    """
    check_ends(graph)
    calls = Counter(node.layer.name for node in graph.nodes)
    problems = [problem for node in graph.nodes if (problem := _problem(node, calls, analyzer))]
    if problems:
        raise UnsupportedModelError(
            "The engine 'innvestigate' is not exact on these layers and refuses them: "
            f"{'; '.join(problems)}. Choose engine='native' or another criterion (such as "
            f"'taylor'), or rewrite these layers with: {', '.join(DIALECT)}, BatchNormalization, "
            "ReLU, SeparableConv2D."
        )


def _problem(node: Node, calls: Counter[str], analyzer: str) -> str | None:
    layer = node.layer
    where = f"{layer.name!r} ({layer.class_name})"
    if calls[layer.name] > 1:
        return f"{where} is called more than once"
    if has_own_function(layer):
        return f"{where}, whose LRP rule was registered, which is for the engine 'native'"
    condition = DIALECT.get(layer.class_name)
    if condition is None or not is_of_keras(layer):
        return where
    if not condition(layer.config, len(node.shapes[0])):
        return f"{where} with this configuration"
    activation = layer.config.get("activation", "linear")
    if analyzer in _RELU_ONLY and activation not in ("linear", "relu"):
        return f"{where}: {analyzer!r} is for ReLU networks, not for {activation!r}"
    return None
