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
from torch_network import Network
from zennit.layer import Sum

from keras_lrp_prune.graph.plain import from_plain
from keras_lrp_prune.relevance.wire import ConnectionLost, receive, send


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
    network = Network(from_plain(message["graph"], arrays), Sum).to(message["device"])
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
