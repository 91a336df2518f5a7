"""`explain` and `plot_channel_groups`: what of a model can be pruned, as a table and a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.explanation import GroupIndex, LayerExplanation, explain_layers
from keras_lrp_prune.graph.model_graph import ModelGraph, TensorRef
from keras_lrp_prune.report import (
    Box,
    LayerTable,
    enumeration,
    plot_graph,
    reason_lines,
    table_text,
)

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

# The most groups that a row of the table names, and the most barriers that are named below it.
_MOST_GROUPS, _MOST_BARRIERS = 3, 4

# Names of layers are long: the table may be wider than others.
_PIPED_WIDTH = 140


@dataclass(frozen=True, repr=False)
class Explanation:
    """What `explain()` returns; printed, it is a table.

    Args:
        model: The model's name.
        layers: What can be pruned of each layer, in the order of the model.
        groups: Channel group to its number of channels.
        barriers: Layers without a channel rule, with their classes and reasons.

    Example:
    >>> explanation = klp.explain(model)
    >>> print(explanation)
    >>> [layer.name for layer in explanation.layers if layer.reason]
    """

    model: str
    layers: tuple[LayerExplanation, ...]
    groups: Mapping[str, int]
    barriers: Mapping[str, str]

    @property
    def filters(self) -> int:
        """Number of filters of the model."""
        return sum(layer.filters for layer in self.layers)

    @property
    def prunable_filters(self) -> int:
        """Number of filters that can be pruned."""
        return sum(layer.prunable for layer in self.layers if layer.filters)

    @property
    def prunable_share(self) -> float:
        """Share of the filters that can be pruned, in [0, 1]."""
        return self.prunable_filters / max(self.filters, 1)

    def to_text(self, all_layers: bool = False) -> str:
        """Returns the table, the totals and the barriers as plain text.

        Args:
            all_layers: Whether to show every layer. By default those without weights are left out
                unless they are barriers.
        """
        rows = [
            _row(layer)
            for layer in self.layers
            if all_layers or layer.has_weights or layer.filters or layer.barrier
        ]
        text = table_text(
            LayerTable(rows, title=f"Channels of {self.model}"), piped_width=_PIPED_WIDTH
        )
        hidden = len(self.layers) - len(rows)
        lines = [
            f"{self.prunable_filters:,} of {self.filters:,} filters "
            f"({100 * self.prunable_share:.1f} %) can be pruned, "
            f"in {_count(len(self.groups), 'channel group')}.",
            *[f"Not shown: {_count(hidden, 'layer')} without weights."] * (hidden > 0),
            *reason_lines("Barrier", self.barriers, _MOST_BARRIERS),
        ]
        return "\n".join([text, "", *lines])

    def __str__(self) -> str:
        return self.to_text()

    __repr__ = __str__


@checked
def explain(model: keras.Model, protect: Sequence[str] = ()) -> Explanation:
    """Says of each layer whether its filters can be pruned, with which others, or why not.

    Costs no forward pass.

    Args:
        model: A functional or Sequential Keras 3 model.
        protect: Layers to leave alone (a nested model's name: all in it), as in `prune`.

    Returns:
        An `Explanation`; `print` it to see the table.

    Raises:
        UnsupportedModelError: If the model cannot be read as a graph, or has no layer that
            `protect` names.
        TypeError: For an argument of another type.

    Example:
    >>> print(klp.explain(keras.applications.MobileNet(weights=None)))
    """
    graph, structure = _structure(model, protect)
    return Explanation(
        graph.name,
        explain_layers(graph, structure),
        {group.name: group.size for group in structure.groups},
        dict(structure.barriers),
    )


@checked
def plot_channel_groups(
    model: keras.Model,
    path: str | os.PathLike[str] | None = None,
    protect: Sequence[str] = (),
) -> Figure:
    """Draws a model's layers as boxes, coloured by the channel groups that run through them.

    Data flow from top to bottom; a long model goes on at the top of the next column. The layer
    that gives a group its name is in bold. Channels that stay are grey, barriers outlined in red.

    Args:
        model: A functional or Sequential Keras 3 model.
        path: File to write, `.png`, `.svg` or `.pdf`; by default none.
        protect: Layers to leave alone, as in `prune`.

    Returns:
        The matplotlib figure.

    Raises:
        UnsupportedModelError: If the model cannot be read as a graph, or has no layer that
            `protect` names.
        TypeError: For an argument of another type.
        ValueError: If the path has another ending.
        OSError: If the file cannot be written.

    Example:
    >>> klp.plot_channel_groups(keras.applications.MobileNet(weights=None), "groups.svg")
    """
    graph, structure = _structure(model, protect)
    graph = graph.flat()
    index = GroupIndex(structure)
    number = {node.name: i for i, node in enumerate(graph.nodes)}
    boxes = [
        Box(
            node.name,
            node.layer.class_name,
            index.counts(structure.tensor_units[TensorRef(node.name)]),
            barrier=node.layer.name in structure.barriers,
        )
        for node in graph.nodes
    ]
    edges = [(number[ref.node], number[node.name]) for node in graph.nodes for ref in node.inputs]
    sizes = {group.name: group.size for group in structure.groups}
    title = f"{graph.name}: {_count(len(sizes), 'channel group')}"
    return plot_graph(boxes, edges, sizes, path, title=title)


def _structure(model: keras.Model, protect: Sequence[str]) -> tuple[ModelGraph, ChannelStructure]:
    from keras_lrp_prune.graph.reader import read_model

    graph = read_model(model)
    return graph, channel_structure(graph, tuple(protect))


def _row(layer: LayerExplanation) -> tuple[object, ...]:
    shapes = enumeration([_shape(shape) for shape in layer.shapes], 1)
    counts = (layer.filters, layer.prunable) if layer.filters else (None, None)
    return (layer.name, layer.class_name, shapes, *counts, _remark(layer))


def _remark(layer: LayerExplanation) -> str:
    """In words: prunable, follows others, or why not."""
    others = [group for group in layer.groups if group != layer.name]
    parts = ["prunable"] * layer.leads
    if others:
        parts.append(f"{'also ' * layer.leads}follows {enumeration(others, _MOST_GROUPS)}")
    if layer.reason is not None:
        staying = layer.channels - layer.prunable
        share = f"{staying:,} stay: " if layer.groups else ""
        barrier = "barrier: " if layer.barrier else ""
        parts.append(share + barrier + layer.reason.removeprefix(f"{layer.class_name}: "))
    return "; ".join(parts)


def _shape(shape: tuple[int | None, ...]) -> str:
    """A shape without the batch axis, unknown sizes as a question mark."""
    sizes = ["?" if size is None else str(size) for size in shape[1:]]
    return f"({', '.join(sizes)})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
