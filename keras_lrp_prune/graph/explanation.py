"""What becomes of each layer's channels: the groups that run through it, or why they stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.model_graph import ModelGraph, Node, Shape, TensorRef


@dataclass(frozen=True)
class LayerExplanation:
    """What can be pruned of one layer, and why the rest cannot.

    Args:
        name: The layer; `"outer/inner"` inside a nested model.
        class_name: Its class; operations such as `x + y` have the prefix `"ops."`.
        shapes: Shapes of its outputs, with the batch axis; a shared layer has those of all calls.
        filters: Number of its filters, 0 for a layer that only passes channels on.
        channels: Channels of its outputs; for a layer with filters, these.
        groups: Channel groups that run through it, with the number of its channels in each.
        reason: Why (some of) its channels stay; `None` if all can be pruned.
        has_weights: Whether it has weights.
        barrier: Whether it has no channel rule.
    """

    name: str
    class_name: str
    shapes: tuple[Shape, ...]
    filters: int
    channels: int
    groups: Mapping[str, int]
    reason: str | None
    has_weights: bool
    barrier: bool

    @property
    def prunable(self) -> int:
        """How many of its channels can be pruned."""
        return sum(self.groups.values())

    @property
    def leads(self) -> bool:
        """Whether a channel group is named after this layer."""
        return self.name in self.groups


class GroupIndex:
    """Looks up the channel group of each unit."""

    def __init__(self, structure: ChannelStructure) -> None:
        self._names: list[str | None] = [*(group.name for group in structure.groups), None]
        self._number = np.full(structure.n_units + 1, len(structure.groups))
        for number, group in enumerate(structure.groups):
            self._number[group.units] = number

    def counts(self, units: np.ndarray) -> dict[str | None, int]:
        """How many of the units lie in each group, in the order in which the groups are met.

        Args:
            units: int, shape `(channels,)`, -1 for those that stay.

        Returns:
            Group name to number of channels; `None` stands for channels that stay.
        """
        numbers, first, counts = np.unique(
            self._number[units], return_index=True, return_counts=True
        )
        order = np.argsort(first)
        return {self._names[numbers[i]]: int(counts[i]) for i in order}


def explain_layers(graph: ModelGraph, structure: ChannelStructure) -> tuple[LayerExplanation, ...]:
    """Says of each layer what can be pruned, in the order of the graph.

    Args:
        graph: The model, nested or flat.
        structure: Its channel structure.
    """
    graph = graph.flat()
    index = GroupIndex(structure)
    calls: dict[str, list[Node]] = {}
    for node in graph.nodes:
        calls.setdefault(node.layer.name, []).append(node)
    reasons: dict[str, str] = {}  # by node: passed on to the layers behind
    found = []
    for name, nodes in calls.items():
        layer = nodes[0].layer
        counts = index.counts(_units(name, nodes, structure))
        staying = counts.pop(None, 0)
        reason = _reason(nodes, structure, reasons) if staying else None
        if reason is not None:
            reasons.update((node.name, reason) for node in nodes)
        found.append(
            LayerExplanation(
                name,
                layer.class_name,
                tuple(dict.fromkeys(shape for node in nodes for shape in node.shapes)),
                filters=len(structure.filter_units.get(name, ())),
                channels=staying + sum(counts.values()),
                groups={group: count for group, count in counts.items() if group is not None},
                reason=reason or structure.barriers.get(name),
                has_weights=bool(layer.weights),
                barrier=name in structure.barriers,
            )
        )
    return tuple(found)


def _units(name: str, nodes: list[Node], structure: ChannelStructure) -> np.ndarray:
    """The unit of each filter of a layer, or of each channel that it passes on."""
    if name in structure.filter_units:
        return structure.filter_units[name]
    outputs = [
        structure.tensor_units[TensorRef(node.name, output)]
        for node in nodes
        for output in range(len(node.shapes))
    ]
    return np.concatenate([*outputs, np.zeros(0, np.int64)])


def _reason(nodes: list[Node], structure: ChannelStructure, reasons: Mapping[str, str]) -> str:
    """Why channels of a layer stay: its own reason, else that of the layers it reads."""
    name = nodes[0].layer.name
    if nodes[0].is_input:
        return "input of the model"
    if name in structure.barriers:
        return structure.barriers[name]
    if name in structure.protected:
        return structure.protected[name]
    read = (reasons[ref.node] for node in nodes for ref in node.inputs if ref.node in reasons)
    return next(read, "made of channels that no filter owns")
