"""Peers in their own code, in a process of its own: Torch-Pruning, and PXP of its authors.

`peers.py` starts it, with the folder of PXP's repository on the path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import torch_pruning
from pxp import ComponentAttibution, GlobalPruningOperations
from pxp.composites import get_rule_by_name, layer_map_base
from relevance_zennit import Network
from torch import nn
from zennit.composites import NameLayerMapComposite

from keras_lrp_prune.graph.plain import from_plain
from keras_lrp_prune.relevance.wire import receive, send

Networks = Iterator[Network]


@dataclass(frozen=True)
class Task:
    """A network, and the samples that it is pruned by.

    Args:
        network: It stays as it is.
        x: Images, channels first.
        y: Classes.
        rates: Shares of all filters to prune: from 0 on, in equal steps.
    """

    network: Network
    x: torch.Tensor
    y: torch.Tensor
    rates: tuple[float, ...]


def torch_pruning_taylor(task: Task) -> Networks:
    """`GroupTaylorImportance` without its normaliser, scored again at each step."""
    network = deepcopy(task.network).requires_grad_()
    *others, head = (one for one in network.modules() if isinstance(one, nn.Linear | nn.Conv2d))
    total = sum(len(one.weight) for one in others)
    # As many as here: they round up.
    nearest = [max(round(total * rate) - 0.5, 0) / total for rate in task.rates]
    pruner = torch_pruning.pruner.BasePruner(
        network,
        task.x[:1],
        torch_pruning.importance.GroupTaylorImportance(normalizer=None),
        global_pruning=True,
        pruning_ratio=task.rates[-1],
        iterative_steps=len(task.rates) - 1,
        iterative_pruning_ratio_scheduler=lambda *_: nearest,
        ignored_layers=[head],
    )
    yield network
    for _ in task.rates[1:]:
        network.zero_grad()
        nn.functional.cross_entropy(network(task.x), task.y).backward()
        pruner.step()
        yield network


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


def accuracies(network: Network, x: torch.Tensor, y: torch.Tensor) -> float:
    """Mean of the class accuracies."""
    with torch.no_grad():
        right = torch.cat([network(part) for part in x.split(100)]).argmax(1) == y
    return float(np.mean([right[y == label].float().mean() for label in y.unique()]))


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
