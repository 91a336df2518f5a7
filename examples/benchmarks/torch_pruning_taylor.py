"""Torch-Pruning's own code: its Taylor importance, scored again at each step."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch_pruning
from torch import nn
from torch_network import Network

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
