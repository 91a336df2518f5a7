"""How channels travel through a model: which can only go together, and what each one touches.

Every channel that a layer produces gets a number. The layer rules (`rules.py`) say how a layer
passes numbers on, which must share one fate, and which positions of which weights belong to
them. Channels that share a fate form a *unit*; units that run through the same filter layers
form a `ChannelGroup`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from keras_lrp_prune.graph.model_graph import LayerSpec, Shape, TensorRef

Role = Literal["zeroed", "sliced"]


@dataclass(frozen=True)
class Channels:
    """What is known of a tensor's last axis.

    Args:
        ids: Number of each channel, int64, shape `(channels,)`.
        vanishes: Whether the channel is exactly zero once its filter is masked, bool,
            same shape. Behind a sigmoid, say, it is a constant instead.
    """

    ids: np.ndarray
    vanishes: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class WeightAxis:
    """Says which unit each position along one axis of a weight belongs to.

    `role` is `"zeroed"` if masking sets the positions to zero, `"sliced"` if only rebuilding
    cares. Unit -1 stands for positions that stay.
    """

    layer: str
    weight: str
    axis: int
    units: np.ndarray
    role: Role


@dataclass(frozen=True)
class ConfigSize:
    """Says that entry `key` of a layer's config (or item `axis` of it) counts `units`."""

    layer: str
    key: str
    axis: int | None
    units: np.ndarray


@dataclass(frozen=True)
class ChannelGroup:
    """Channels, across layers, that can only be removed together: the unit of pruning.

    Args:
        name: The first filter layer in the group.
        units: The structure's numbers of the group's channels, shape `(size,)`.
        filters: Filter layer to the indices of its filters, shape `(size, k)`: row `i` holds
            the `k` filters of the layer that go with channel `i` of the group.

    Example:
    >>> groups = klp.find_channel_groups(model)
    >>> groups[0].name, groups[0].size, sorted(groups[0].filters)
    """

    name: str
    units: np.ndarray
    filters: Mapping[str, np.ndarray]

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.units)


@dataclass(frozen=True)
class ChannelStructure:
    """What pruning needs to know of a model, as arrays over its units.

    Args:
        groups: The channel groups; together they hold every unit once.
        filter_units: Filter layer to the unit of each of its filters, -1 for protected ones.
        weight_axes, config_sizes: What a unit touches in weights and configs.
        tensor_units: Tensor of the flat graph to the unit of each position of its last axis.
        protected: Layer to the reason why (some of) its filters are protected.
        barriers: Layers without a rule, with their class names.
    """

    groups: tuple[ChannelGroup, ...]
    filter_units: Mapping[str, np.ndarray]
    weight_axes: tuple[WeightAxis, ...]
    config_sizes: tuple[ConfigSize, ...]
    tensor_units: Mapping[TensorRef, np.ndarray]
    protected: Mapping[str, str]
    barriers: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_units(self) -> int:
        """Number of units, protected channels left out."""
        return sum(group.size for group in self.groups)

    @cached_property
    def unit_filters(self) -> np.ndarray:
        """Number of filters in each unit, int64, shape `(units,)`."""
        counts = np.zeros(self.n_units, np.int64)
        for units in self.filter_units.values():
            np.add.at(counts, units[units >= 0], 1)
        return counts

    def pruning_rate(self, removed: np.ndarray) -> float:
        """Filters removed over all filters in unprotected groups.

        Args:
            removed: bool, shape `(units,)`.
        """
        counts = self.unit_filters
        return float(counts[removed].sum() / max(counts.sum(), 1))

    def removed_filters(self, removed: np.ndarray) -> dict[str, np.ndarray]:
        """Filter layer to the sorted indices of its filters that go."""
        return {
            layer: np.flatnonzero(hit)
            for layer, units in self.filter_units.items()
            if (hit := selects(removed, units)).any()
        }

    def kept_filters(self, removed: np.ndarray) -> dict[str, np.ndarray]:
        """Filter layer (every one) to the sorted indices of its filters that stay."""
        return {
            layer: np.flatnonzero(~selects(removed, units))
            for layer, units in self.filter_units.items()
        }


def selects(removed: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Which positions belong to a removed unit (unit -1 never does)."""
    return np.append(removed, False)[units]


class ChannelFlow:
    """Collects what the layer rules say, and turns it into a `ChannelStructure`."""

    def __init__(self) -> None:
        self._count = 0
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self._protected: list[tuple[np.ndarray, str]] = []
        self._filters: dict[str, np.ndarray] = {}
        self._axes: dict[tuple[str, str, int], tuple[np.ndarray, Role]] = {}
        self._sizes: dict[tuple[str, str, int | None], np.ndarray] = {}
        self.barriers: dict[str, str] = {}

    def new_channels(self, count: int) -> np.ndarray:
        """Numbers for `count` channels that nobody has seen yet."""
        self._count += count
        return np.arange(self._count - count, self._count)

    def filters(self, layer: LayerSpec, count: int) -> np.ndarray:
        """The numbers of a layer's filters; a shared layer gets the same at every call."""
        if layer.name not in self._filters:
            self._filters[layer.name] = self.new_channels(count)
        return self._filters[layer.name]

    def unite(self, first: np.ndarray, second: np.ndarray) -> None:
        """Channels at equal positions share one fate."""
        self._pairs.append((first, second))

    def protect(self, ids: np.ndarray, reason: str) -> None:
        """These channels stay, and why."""
        self._protected.append((np.asarray(ids), reason))

    def protect_layer(self, layer: LayerSpec, reason: str) -> None:
        """The layer's filters stay, if it has any."""
        if layer.name in self._filters:
            self.protect(self._filters[layer.name], reason)

    def weight(self, layer: LayerSpec, name: str, axis: int, ids: np.ndarray, role: Role) -> None:
        """Positions along `axis` of a weight belong to these channels."""
        axis %= len(layer.weights[name].shape)
        known = self._axes.setdefault((layer.name, name, axis), (ids, role))
        if known[0] is not ids:
            self.unite(known[0], ids)

    def size(self, layer: LayerSpec, key: str, ids: np.ndarray, axis: int | None = None) -> None:
        """Entry `key` of the config (item `axis` of it) counts these channels."""
        known = self._sizes.setdefault((layer.name, key, axis), ids)
        if known is not ids:
            self.unite(known, ids)

    def structure(self, tensors: Mapping[TensorRef, Channels]) -> ChannelStructure:
        """The units and groups that follow from what was collected."""
        unit_of, reasons = self._units()
        filter_units = {layer: unit_of[ids] for layer, ids in self._filters.items()}
        protected = {
            layer: reasons[int(ids[unit_of[ids] < 0][0])]
            for layer, ids in self._filters.items()
            if (unit_of[ids] < 0).any()
        }
        return ChannelStructure(
            groups=_groups(filter_units),
            filter_units=filter_units,
            weight_axes=tuple(
                WeightAxis(layer, name, axis, unit_of[ids], role)
                for (layer, name, axis), (ids, role) in self._axes.items()
            ),
            config_sizes=tuple(
                ConfigSize(layer, key, axis, unit_of[ids])
                for (layer, key, axis), ids in self._sizes.items()
            ),
            tensor_units={ref: unit_of[channels.ids] for ref, channels in tensors.items()},
            protected=protected,
            barriers=dict(self.barriers),
        )

    def _units(self) -> tuple[np.ndarray, dict[int, str]]:
        """The unit of each channel (-1: protected), and the reason for each protected one."""
        # Not at the top: the worker's interpreter needs no SciPy.
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        if self._pairs:
            first = np.concatenate([pair[0] for pair in self._pairs])
            second = np.concatenate([pair[1] for pair in self._pairs])
        else:
            first = second = np.zeros(0, np.int64)
        links = coo_matrix((np.ones(len(first), bool), (first, second)), (self._count,) * 2)
        total, component = connected_components(links, directed=False)
        reason_of: dict[int, str] = {}
        for ids, reason in self._protected:
            for number in np.unique(component[ids]).tolist():
                reason_of[number] = reason  # the last: what is said of outputs, or by the user
        owned = np.zeros(total, bool)
        for ids in self._filters.values():
            owned[component[ids]] = True
        owned[list(reason_of)] = False
        # Units are numbered in the order in which the filter layers meet them.
        number_of = np.full(total, -1)
        if self._filters:
            met = component[np.concatenate(list(self._filters.values()))]
            order = met[np.sort(np.unique(met, return_index=True)[1])]
            order = order[owned[order]]
            number_of[order] = np.arange(len(order))
        unit_of = number_of[component]
        reasons = {
            int(channel): reason_of[int(component[channel])]
            for ids in self._filters.values()
            for channel in ids[unit_of[ids] < 0]
        }
        return unit_of, reasons


def _groups(filter_units: Mapping[str, np.ndarray]) -> tuple[ChannelGroup, ...]:
    """Units that run through the same layers, equally often, form a group."""
    positions: dict[int, dict[str, list[int]]] = {}
    for layer, units in filter_units.items():
        for index, unit in enumerate(units):
            if unit >= 0:
                positions.setdefault(int(unit), {}).setdefault(layer, []).append(index)
    members: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for unit in sorted(positions):
        signature = tuple((layer, len(found)) for layer, found in positions[unit].items())
        members.setdefault(signature, []).append(unit)
    groups = []
    names: set[str] = set()
    for signature, together in members.items():
        name = next((layer for layer, _ in signature if layer not in names), None)
        name = name or "+".join(layer for layer, _ in signature)
        names.add(name)
        filters = {
            layer: np.array([positions[unit][layer] for unit in together]) for layer, _ in signature
        }
        groups.append(ChannelGroup(name, np.array(together), filters))
    return tuple(groups)


def broadcast_last(shapes: Sequence[Shape]) -> int | None:
    """Size of the last axis after broadcasting, `None` if it is not known."""
    sizes = {shape[-1] if shape else 1 for shape in shapes} - {1}
    return 1 if not sizes else sizes.pop() if len(sizes) == 1 else None
