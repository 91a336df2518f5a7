"""A canonical graph as a PyTorch module, for peers that work on those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from keras_lrp_prune.graph.model_graph import ModelGraph, Node, TensorRef, references

FLATTENING = ("Flatten", "Reshape")


class Network(nn.ModuleDict):
    """A canonical graph in PyTorch, channels first, with the weights of the graph.

    Args:
        graph: The graph.
        sums: Makes a layer that adds along the last axis of one tensor; without it, a graph that
            has sums is not carried over.
    """

    def __init__(self, graph: ModelGraph, sums: Callable[[], nn.Module] | None = None) -> None:
        super().__init__(
            {node.name: layer(graph, node, sums) for node in graph.nodes if not node.is_input}
        )
        self.graph = graph
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The class scores."""
        values = {}
        for node in self.graph.nodes:
            read = [values[ref] for ref in node.inputs]
            given = torch.stack(read, -1) if len(read) > 1 else next(iter(read), x)
            if node.layer.class_name in FLATTENING:
                given = given.movedim(1, -1)  # the order in which TensorFlow flattens
            values[TensorRef(node.name)] = x if node.is_input else self[node.name](given)
        return values[next(references(self.graph.outputs))]


class UnevenlyPadded(nn.Conv2d):
    """Pads inside the layer, so that rules see what TensorFlow's layer reads.

    Args:
        edges: Zeros to the left, right, top and bottom.
    """

    def __init__(self, *args: Any, edges: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.edges = edges

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolves."""
        return super().forward(nn.functional.pad(x, self.edges))


def layer(graph: ModelGraph, node: Node, sums: Callable[[], nn.Module] | None) -> nn.Module:
    """One layer of a canonical graph."""
    config = node.layer.config
    match node.layer.class_name:
        case "Conv2D" | "DepthwiseConv2D":
            return convolution(graph, node)
        case "Dense":
            kernel = node.layer.arrays()["kernel"]
            return with_weights(nn.Linear(*kernel.shape), kernel.T, node)
        case "Activation" if config["activation"] in ("relu", "relu6"):
            return {"relu": nn.ReLU, "relu6": nn.ReLU6}[config["activation"]]()
        case "MaxPooling2D" if config["padding"] == "valid":
            return nn.MaxPool2d(tuple(config["pool_size"]), tuple(config["strides"]))
        case "GlobalAveragePooling2D":
            last = nn.Identity() if config["keepdims"] else nn.Flatten()
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), last)
        case "ZeroPadding2D":
            (top, bottom), (left, right) = config["padding"]
            return nn.ZeroPad2d((left, right, top, bottom))
        case "Flatten" | "Reshape" if len(node.shapes[0]) == 2:
            return nn.Flatten()
        case "Add" if sums is not None:
            return sums()
    raise ValueError(f"layer {node.layer.name!r} ({node.layer.class_name}) is not carried over")


def convolution(graph: ModelGraph, node: Node) -> nn.Module:
    """A convolution with TensorFlow's padding, which can be uneven."""
    config, kernel = node.layer.config, node.layer.arrays()["kernel"]
    size, strides, filters = kernel.shape[:2], tuple(config["strides"]), node.shapes[0][-1]
    groups = kernel.shape[2] if node.layer.class_name == "DepthwiseConv2D" else 1
    over = [0, 0]  # rows and columns that the windows reach over the edges
    if config["padding"] == "same":
        sides = zip(graph.shape(node.inputs[0])[1:3], size, strides, strict=True)
        over = [max((-(-side // step) - 1) * step + width - side, 0) for side, width, step in sides]
    shape = (kernel.shape[2], filters, size, strides)
    if all(total % 2 == 0 for total in over):
        made = nn.Conv2d(*shape, padding=(over[0] // 2, over[1] // 2), groups=groups)
    else:
        edges = [edge for total in reversed(over) for edge in (total // 2, total - total // 2)]
        made = UnevenlyPadded(*shape, groups=groups, edges=tuple(edges))
    # A depthwise kernel is (height, width, inputs, multiplier).
    kernel = kernel.reshape(*size, -1, filters)
    return with_weights(made, kernel.transpose(3, 2, 0, 1), node)


def with_weights(made: nn.Module, kernel: np.ndarray, node: Node) -> nn.Module:
    """Sets the weights of a layer."""
    bias = node.layer.arrays().get("bias", np.zeros(len(kernel), np.float32))
    for name, array in (("weight", kernel), ("bias", bias)):
        setattr(made, name, nn.Parameter(torch.tensor(np.ascontiguousarray(array))))
    return made


def accuracies(network: Network, x: torch.Tensor, y: torch.Tensor) -> float:
    """Mean of the class accuracies."""
    with torch.no_grad():
        right = torch.cat([network(part) for part in x.split(100)]).argmax(1) == y
    return float(np.mean([right[y == label].float().mean() for label in y.unique()]))
