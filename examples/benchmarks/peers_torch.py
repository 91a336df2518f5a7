"""Peers in their own code, in a process of its own: Torch-Pruning, and PXP of its authors.

`peers.py` starts it, with the folder of PXP's repository on the path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from pxp import ComponentAttibution, GlobalPruningOperations
from pxp.composites import get_rule_by_name, layer_map_base
from torch import nn
from torch_network import Network, accuracies
from torch_pruning_taylor import Networks, Task, torch_pruning_taylor
from zennit.composites import NameLayerMapComposite

from keras_lrp_prune.graph.plain import from_plain
from keras_lrp_prune.relevance.wire import receive, send


def pxp(task: Task, *, again: bool) -> Networks:
    """Their sample configuration: the epsilon rule everywhere, magnitudes, relevance 1.

    Args:
        task: The task.
        again: Whether relevance is computed again at each step, and not once.
    """
    network = deepcopy(task.network)
    relevance = None
    for rate in task.rates:
        if rate:
            if relevance is None or again:
                relevance = pxp_relevance(network, task)
            operations = GlobalPruningOperations(nn.Conv2d, list(relevance))
            total = sum(map(len, relevance.values()))
            nearest = (round(total * rate) + 0.5) / total  # they round down
            mask = operations.generate_global_pruning_mask(
                network, relevance, nearest, subsequent_layer_pruning="Conv2d", device="cpu"
            )
            operations.fit_pruning_mask(network, mask)
        yield network


def pxp_relevance(network: Network, task: Task) -> Mapping[str, torch.Tensor]:
    """What their code says of each convolution."""
    linear = [
        name for name, one in network.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)
    ]
    composite = NameLayerMapComposite(
        name_map=[(linear, get_rule_by_name("Epsilon"))], layer_map=layer_map_base()
    )
    samples = torch.utils.data.TensorDataset(task.x, task.y)
    loader = torch.utils.data.DataLoader(samples, batch_size=20)
    copy = deepcopy(network)  # their code leaves its hooks on it
    attribution = ComponentAttibution("Relevance", "CNN", nn.Conv2d)
    return attribution.attribute(copy, loader, composite)


PEERS: Mapping[str, Callable[[Task], Networks]] = {
    "taylor.group": torch_pruning_taylor,
    "pxp": partial(pxp, again=False),
    "pxp-iterative": partial(pxp, again=True),
}


def main() -> None:
    """Reads the network and the samples, and answers with the curve of each peer."""
    # Libraries print; the reply stream must carry replies only.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    message, arrays = receive(sys.stdin.buffer)
    images = {
        name: torch.tensor(arrays.pop(name).transpose(0, 3, 1, 2)) for name in ("x", "x_test")
    }
    classes = {name: torch.tensor(arrays.pop(name)) for name in ("y", "y_test")}
    torch.set_num_threads(message["threads"])
    network = Network(from_plain(message["graph"], arrays)).eval()
    task = Task(network, images["x"], classes["y"], tuple(message["rates"]))
    curves: dict[str, Any] = {}
    for name in message["peers"]:
        curves[name] = np.array(
            [
                accuracies(pruned, images["x_test"], classes["y_test"])
                for pruned in PEERS[name](task)
            ]
        )
    versions = {name: version(name) for name in ("torch", "torch-pruning", "zennit")}
    send(replies, {"versions": versions}, curves)


if __name__ == "__main__":
    main()
