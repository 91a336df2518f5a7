"""Zennit in a process of its own: a canonical graph in PyTorch, and its relevances.

`relevance.py` starts it. TensorFlow and PyTorch can bring two copies of LLVM, which do not bear
each other in one process.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
import zennit.composites
import zennit.rules
import zennit.types
from torch import nn
from zennit.layer import Sum

from keras_lrp_prune.graph.model_graph import ModelGraph, Node, TensorRef, references
from keras_lrp_prune.graph.plain import from_plain
from keras_lrp_prune.relevance.wire import ConnectionLost, receive, send

FLATTENING = ("Flatten", "Reshape")


class Network(nn.ModuleDict):
    """A canonical graph in PyTorch, channels first, with the weights of the graph."""

    def __init__(self, graph: ModelGraph) -> None:
        super().__init__(
            {node.name: layer(graph, node) for node in graph.nodes if not node.is_input}
        )
        self.graph = graph
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The class scores."""
        values = {}
        for node in self.graph.nodes:
            read = [values[ref] for ref in node.inputs]
            # zennit's layer for sums adds along the last axis of one tensor.
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


def layer(graph: ModelGraph, node: Node) -> nn.Module:
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
        case "Add":
            return Sum()
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


class Analyzer:
    """Zennit's composite on a network, and the relevance of every layer with weights.

    Args:
        network: Where to put the rules.
        rules: The rules' names and arguments for `"convolution"`, `"dense"` and, if it differs,
            the `"first"` layer.
        stabilizer: What sums and pooling add to their divisors.
        device: `"cpu"` or `"cuda"`.
    """

    def __init__(
        self, network: Network, rules: dict[str, Any], stabilizer: float, device: str
    ) -> None:
        made = {
            place: getattr(zennit.rules, name)(**arguments)
            for place, (name, arguments) in rules.items()
        }
        linear = [
            (zennit.types.Convolution, made["convolution"]),
            (nn.Linear, made["dense"]),
        ]
        composite = zennit.composites.SpecialFirstLayerMapComposite(
            [*zennit.composites.layer_map_base(stabilizer), *linear],
            [(zennit.types.Linear, made["first"])] if "first" in made else [],
        )
        self._network = network
        self._device = device
        self._outputs: dict[str, torch.Tensor] = {}
        self._stack = ExitStack()
        self._stack.enter_context(composite.context(network))
        for node in network.graph.nodes:
            if node.layer.weights:
                keep = partial(self._keep, node.layer.name)
                self._stack.callback(network[node.name].register_forward_hook(keep).remove)

    def relevance(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """Relevance summed over space and class, by layer, and of the input as `"input"`."""
        source = torch.tensor(x.transpose(0, 3, 1, 2), device=self._device, requires_grad=True)
        classes = torch.tensor(y, device=self._device)
        scores = self._network(source)
        chosen = nn.functional.one_hot(classes, scores.shape[-1])
        scores.backward(scores.detach() * chosen)
        sums = {"input": source.grad.permute(0, 2, 3, 1)}
        for name, output in self._outputs.items():
            per_sample = output.grad.flatten(2).sum(2) if output.ndim > 2 else output.grad
            total = per_sample.new_zeros(scores.shape[-1], per_sample.shape[1])
            sums[name] = total.index_add_(0, classes, per_sample)
        self._outputs.clear()
        return {name: values.cpu().numpy() for name, values in sums.items()}

    def close(self) -> None:
        """Takes the rules off the network."""
        self._stack.close()

    def _keep(self, name: str, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        self._outputs[name] = output


def main() -> None:
    """Answers on standard output: first the network, then rules and samples in any order."""
    # Libraries print; the reply stream must carry replies only.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    message, arrays = receive(sys.stdin.buffer)
    torch.set_num_threads(message["threads"])
    network = Network(from_plain(message["graph"], arrays)).to(message["device"])
    analyzer = None
    results = {}
    while True:
        send(replies, {}, results)
        try:
            asked, arrays = receive(sys.stdin.buffer)
        except ConnectionLost:
            return
        if asked["do"] == "compose":
            if analyzer:
                analyzer.close()
            composite = asked["rules"], asked["stabilizer"]
            analyzer, results = Analyzer(network, *composite, message["device"]), {}
        elif asked["do"] == "scores":
            x = torch.tensor(arrays["x"].transpose(0, 3, 1, 2), device=message["device"])
            results = {"scores": network(x).cpu().numpy()}
        else:
            results = analyzer.relevance(arrays["x"], arrays["y"])


if __name__ == "__main__":
    main()
