"""Collects what the channel rules say of channels, and finds which can only go together.

Every channel that a layer produces gets a number. The rules pass numbers on, say which must share
one fate, and which positions of which weights and sizes belong to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import numpy as np

from keras_lrp_prune.graph.channels import (
    ChannelGroup,
    Channels,
    ChannelStructure,
    Role,
    Size,
    WeightAxis,
)
from keras_lrp_prune.graph.model_graph import LayerSpec, TensorRef


class ChannelFlow:
    """Collects what the channel rules say, call by call; `structure` gives what follows from it."""

    def __init__(self) -> None:
        self._count = 0
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self._protected: list[tuple[np.ndarray, str]] = []
        self._filters: dict[str, np.ndarray] = {}
        self._axes: dict[tuple[str, str, int], tuple[np.ndarray, Role]] = {}
        self._sizes: dict[tuple[str, tuple[str | int, ...]], np.ndarray] = {}
        self._parts: list[np.ndarray] = []
        self.barriers: dict[str, str] = {}

    def new_channels(self, count: int) -> np.ndarray:
        """Numbers for `count` channels that nobody has seen yet; without a filter, they stay."""
        self._count += count
        return np.arange(self._count - count, self._count)

    def filters(self, layer: LayerSpec, count: int) -> np.ndarray:
        """The numbers of a layer's filters; a shared layer gets the same at every call."""
        if layer.name not in self._filters:
            self._filters[layer.name] = self.new_channels(count)
        return self._filters[layer.name]

    def unite(self, first: np.ndarray, second: np.ndarray) -> None:
        """Channels at equal positions (after broadcasting) share one fate."""
        first, second = np.broadcast_arrays(first, second)
        self._pairs.append((first.ravel(), second.ravel()))

    def separate(self, ids: np.ndarray) -> None:
        """These channels form a tensor of their own: some of them must be left."""
        self._parts.append(ids)

    def protect(self, ids: np.ndarray, reason: str) -> None:
        """These channels stay, and why."""
        self._protected.append((np.asarray(ids), reason))

    def protect_layer(self, layer: LayerSpec, reason: str) -> None:
        """The layer's filters stay, if it has any."""
        if layer.name in self._filters:
            self.protect(self._filters[layer.name], reason)

    def weight(self, layer: LayerSpec, name: str, axis: int, ids: np.ndarray, role: Role) -> None:
        """Positions along `axis` of a weight belong to these channels.

        Args:
            layer: The layer that has the weight.
            name: The weight's name in `layer.weights`.
            axis: From the start, or negative from the end.
            ids: The channel of each position, int, shape `(positions along the axis,)`.
            role: What masking does to them, see `WeightAxis`.

        Raises:
            ValueError: If the layer has no such weight, the weight no such axis, the axis another
                number of positions, or there is no such role.
        """
        _check_weight(layer, name, axis, ids, role)
        axis %= len(layer.weights[name].shape)
        known, known_role = self._axes.get((layer.name, name, axis), (ids, role))
        if known is not ids:
            self.unite(known, ids)
        self._axes[layer.name, name, axis] = known, role if known_role == "sliced" else known_role

    def size(self, layer: LayerSpec, path: tuple[str | int, ...], ids: np.ndarray) -> None:
        """The number at `path` (see `Size`) counts these channels."""
        known = self._sizes.setdefault((layer.name, path), ids)
        if known is not ids:
            self.unite(known, ids)

    def structure(self, tensors: Mapping[TensorRef, Channels]) -> ChannelStructure:
        """The units and groups that follow from what was collected."""
        self._protect_inseparable()
        unit_of, reasons = self._units()
        filter_units = {layer: unit_of[ids] for layer, ids in self._filters.items()}
        protected = {
            layer: reasons[int(ids[unit_of[ids] < 0][0])]
            for layer, ids in self._filters.items()
            if (unit_of[ids] < 0).any()
        }
        return ChannelStructure(
            groups=_groups(filter_units, [unit_of[ids] for ids in self._parts]),
            filter_units=filter_units,
            weight_axes=tuple(
                WeightAxis(layer, name, axis, unit_of[ids], role)
                for (layer, name, axis), (ids, role) in self._axes.items()
            ),
            sizes=tuple(
                Size(layer, path, unit_of[ids]) for (layer, path), ids in self._sizes.items()
            ),
            tensor_units={ref: unit_of[channels.ids] for ref, channels in tensors.items()},
            tensor_axes={ref: channels.axis for ref, channels in tensors.items()},
            protected=protected,
            barriers=dict(self.barriers),
        )

    def _protect_inseparable(self) -> None:
        """Protects groups of one unit: of every group, one has to stay."""
        unit_of, _ = self._units()
        filter_units = {layer: unit_of[ids] for layer, ids in self._filters.items()}
        groups = _groups(filter_units, [unit_of[ids] for ids in self._parts])
        alone = [int(group.units[0]) for group in groups if group.size == 1]
        for layer, ids in self._filters.items():
            hit = ids[np.isin(unit_of[ids], alone)]
            if len(hit):
                self.protect(hit, f"the channels of layer {layer!r} can only go all together")

    def _units(self) -> tuple[np.ndarray, dict[int, str]]:
        """The unit of each channel (-1: protected), and the reason for each protected filter."""
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
                reason_of[number] = reason  # the last one counts: of outputs, or `protect=`
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


def _check_weight(layer: LayerSpec, name: str, axis: int, ids: np.ndarray, role: Role) -> None:
    """Refuses what a channel rule says of a weight if that cannot be true of it."""
    who = f"The channel rule for layer {layer.name!r} ({layer.class_name})"
    if name not in layer.weights:
        raise ValueError(
            f"{who} speaks of a weight {name!r}; it has {', '.join(layer.weights) or 'none'}."
        )
    if role not in get_args(Role):
        raise ValueError(
            f"{who} gives weight {name!r} the role {role!r}. There are: "
            f"{', '.join(get_args(Role))}."
        )
    shape = tuple(layer.weights[name].shape)
    if not -len(shape) <= axis < len(shape):
        raise ValueError(
            f"{who} speaks of axis {axis} of weight {name!r}, whose shape is {shape}: it has axes "
            f"0 to {len(shape) - 1}, or -1 to {-len(shape)} from the end."
        )
    if np.shape(ids) != (shape[axis],):
        raise ValueError(
            f"{who} gives axis {axis} of weight {name!r} channels of shape {np.shape(ids)}. The "
            f"weight has shape {shape}: that takes one for each of its {shape[axis]} positions, "
            f"shape {(shape[axis],)}."
        )


def _groups(
    filter_units: Mapping[str, np.ndarray], parts: list[np.ndarray]
) -> tuple[ChannelGroup, ...]:
    """Units that run through the same layers and parts, equally often, form a group."""
    group_of = _group_numbers(filter_units, parts)
    sizes = np.bincount(group_of)
    filters: list[dict[str, np.ndarray]] = [{} for _ in sizes]
    for layer, units in filter_units.items():
        indices = np.flatnonzero(units >= 0)
        order = np.lexsort((units[indices], group_of[units[indices]]))
        met, starts = np.unique(group_of[units[indices[order]]], return_index=True)
        for group, together in zip(met.tolist(), _split(indices[order], starts), strict=True):
            filters[group][layer] = together.reshape(sizes[group], -1)
    members = _split(np.argsort(group_of, kind="stable"), np.cumsum(sizes) - sizes)
    groups: list[ChannelGroup] = []
    names: set[str] = set()
    for units, through in zip(members, filters, strict=True):
        name = _new_name(list(through), names)
        names.add(name)
        groups.append(ChannelGroup(name, units, through))
    return tuple(groups)


def _split(array: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    """The parts of an array that begin at `starts`; none of an empty array, unlike `np.split`."""
    return np.split(array, starts[1:]) if len(starts) else []


def _group_numbers(filter_units: Mapping[str, np.ndarray], parts: list[np.ndarray]) -> np.ndarray:
    """The group of each unit, int64, shape `(units,)`, numbered by their first units.

    No Python object for each unit: a large model has hundreds of thousands.
    """
    last = max((units.max(initial=-1) for units in filter_units.values()), default=-1)
    label = np.zeros(last + 1, np.int64)
    used = 1
    for units in (*filter_units.values(), *map(np.unique, parts)):
        met, times = np.unique(units[units >= 0], return_counts=True)
        kinds, kind = np.unique(label[met] * (len(units) + 1) + times, return_inverse=True)
        label[met] = used + kind
        used += len(kinds)
    _, first, group = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]


def _new_name(layers: list[str], names: set[str]) -> str:
    """The first layer that gives no other group its name, or all, with a number if need be."""
    for layer in (*layers, "+".join(layers)):
        if layer not in names:
            return layer
    number = 2
    while f"{layers[0]}#{number}" in names:
        number += 1
    return f"{layers[0]}#{number}"
