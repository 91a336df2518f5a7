"""Which weights a mask of channels zeroes, for masks in place, in training and in LRP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure, WeightAxis, selects


@dataclass(frozen=True)
class MaskedWeight:
    """One weight, of which positions along one axis or several can be masked.

    Args:
        layer: The layer that has it.
        name: Its name there.
        axes: Which unit each position along those axes belongs to.
    """

    layer: str
    name: str
    axes: tuple[WeightAxis, ...]

    @property
    def units(self) -> np.ndarray:
        """The units that can be masked here."""
        units = np.concatenate([entry.units for entry in self.axes])
        return units[units >= 0]

    def kept(self, removed: np.ndarray, shape: Iterable[int]) -> np.ndarray:
        """What is not masked, bool, of the weight's shape with 1 for axes that no mask runs along.

        Args:
            removed: Units that are masked, bool, shape `(units,)`.
            shape: Of the weight.
        """
        sizes = list(shape)
        masked = {entry.axis % len(sizes) for entry in self.axes}
        kept = np.ones([size if axis in masked else 1 for axis, size in enumerate(sizes)], bool)
        for entry in self.axes:
            np.moveaxis(kept, entry.axis, 0)[selects(removed, entry.units)] = False
        return kept


def masked_weights(structure: ChannelStructure) -> list[MaskedWeight]:
    """All weights that have positions which masking zeroes."""
    by_weight: dict[tuple[str, str], list[WeightAxis]] = {}
    for entry in structure.weight_axes:
        if entry.role != "sliced":
            by_weight.setdefault((entry.layer, entry.weight), []).append(entry)
    return [MaskedWeight(layer, weight, tuple(axes)) for (layer, weight), axes in by_weight.items()]


def made_units(structure: ChannelStructure) -> dict[str, np.ndarray]:
    """Layer with masked weights to the unit of each channel that it makes."""
    units = dict(structure.filter_units)
    # A bias has an entry for each output channel; a depthwise kernel only for each input channel.
    for entry in sorted(structure.weight_axes, key=lambda entry: entry.weight != "bias"):
        if entry.role == "zeroed":
            units.setdefault(entry.layer, entry.units)
    return units


def read_units(structure: ChannelStructure, weight: str) -> dict[str, np.ndarray]:
    """Layer with a weight of that name to the unit of each channel that it must not read."""
    return {
        entry.layer: entry.units
        for entry in structure.weight_axes
        if entry.role == "unread" and entry.weight == weight
    }
