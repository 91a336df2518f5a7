"""Channels as data: which can only go together, and what each one touches.

Channels that share one fate form a *unit*; units that run through the same filter layers form a
`ChannelGroup`. The channel rules (`channel_rules/`) say what shares a fate; `flow.py` collects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from keras_lrp_prune.graph.model_graph import TensorRef

Role = Literal["zeroed", "unread", "sliced"]


@dataclass(frozen=True)
class Channels:
    """What is known of the axis of a tensor that holds its channels.

    Args:
        ids: Number of each channel, int64, shape `(channels,)`.
        vanishes: Whether the channel is exactly zero once its filter is masked, bool,
            same shape. Behind a sigmoid, say, it is something else.
        axis: The axis, counted from the end: -1 is the last.
    """

    ids: np.ndarray
    vanishes: np.ndarray
    axis: int = -1

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class WeightAxis:
    """Says which unit each position along one axis of a weight belongs to.

    `role` says what masking does: `"zeroed"` positions make the channel and are set to zero;
    `"unread"` ones read a channel that is not zero when it is masked, and are set to zero, too;
    `"sliced"` ones are left as they are. Rebuilding removes all three. Unit -1 stands for positions
    that stay.
    """

    layer: str
    weight: str
    axis: int
    units: np.ndarray
    role: Role


@dataclass(frozen=True)
class Size:
    """Says that a number in a layer's config, or among the arguments of its call, counts `units`.

    `path` leads to the number: `("config", "filters")`, `("config", "target_shape", -1)`, or
    `("args", 1, 3, "stop")` for the 3 in `x[:, :, :, :3]`.
    """

    layer: str
    path: tuple[str | int, ...]
    units: np.ndarray


@dataclass(frozen=True)
class ChannelGroup:
    """Units that run through the same filter layers; a unit is what can only be removed together.

    Most often these are all channels of a convolution, with those that are coupled to them.

    Args:
        name: The first filter layer in the group.
        units: The numbers of its units, shape `(size,)`.
        filters: Filter layer to the indices of its filters, shape `(size, k)`: row `i` holds
            the `k` filters of the layer that go with unit `i` of the group.

    Example:
    >>> groups = klp.find_channel_groups(model)
    >>> groups[0].name, groups[0].size, sorted(groups[0].filters)
    """

    name: str
    units: np.ndarray
    filters: Mapping[str, np.ndarray]

    @property
    def size(self) -> int:
        """Number of units."""
        return len(self.units)


@dataclass(frozen=True)
class ChannelStructure:
    """What pruning needs to know of a model, as arrays over its units.

    Args:
        groups: The channel groups; together they hold every unit once.
        filter_units: Filter layer to the unit of each of its filters, -1 for protected ones.
        weight_axes, sizes: What a unit touches in weights, configs and arguments.
        tensor_units: Tensor of the flat graph to the unit of each of its channels.
        tensor_axes: Tensor to the axis of its channels, counted from the end.
        protected: Layer to the reason why (some of) its filters are protected.
        barriers: Layers without a channel rule, with their class names and reasons.
    """

    groups: tuple[ChannelGroup, ...]
    filter_units: Mapping[str, np.ndarray]
    weight_axes: tuple[WeightAxis, ...]
    sizes: tuple[Size, ...]
    tensor_units: Mapping[TensorRef, np.ndarray]
    tensor_axes: Mapping[TensorRef, int]
    protected: Mapping[str, str]
    barriers: Mapping[str, str] = field(default_factory=dict)

    unit_noun: ClassVar[str] = "channels"
    size_noun: ClassVar[str] = "filters"

    @property
    def n_units(self) -> int:
        """Number of units, protected channels left out."""
        return sum(group.size for group in self.groups)

    @cached_property
    def unit_sizes(self) -> np.ndarray:
        """Number of filters in each unit, int64, shape `(units,)`."""
        counts = np.zeros(self.n_units, np.int64)
        for units in self.filter_units.values():
            np.add.at(counts, units[units >= 0], 1)
        return counts

    def rate(self, removed: np.ndarray) -> float:
        """Filters removed over all filters in unprotected groups.

        Args:
            removed: bool, shape `(units,)`.
        """
        counts = self.unit_sizes
        return float(counts[removed].sum() / max(counts.sum(), 1))

    def kept_filters(self, removed: np.ndarray) -> dict[str, np.ndarray]:
        """Filter layer (every one) to the sorted indices of its filters that stay."""
        return {
            layer: np.flatnonzero(~selects(removed, units))
            for layer, units in self.filter_units.items()
        }

    def removed_filters(self, removed: np.ndarray) -> dict[str, np.ndarray]:
        """Filter layer to the sorted indices of its filters that go, where some do."""
        gone = {layer: selects(removed, units) for layer, units in self.filter_units.items()}
        return {layer: np.flatnonzero(which) for layer, which in gone.items() if which.any()}


def selects(removed: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Which positions belong to a removed unit (unit -1 never does)."""
    return np.append(removed, False)[units]
