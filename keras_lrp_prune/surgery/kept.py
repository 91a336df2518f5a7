"""What is left of each layer without some units: positions along weight axes, config sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure, selects
from keras_lrp_prune.graph.model_graph import LayerSpec


@dataclass(frozen=True)
class Kept:
    """What rebuilding keeps; the empty one keeps everything.

    Args:
        positions: Layer name to weight name to axis to the indices kept along it.
        sizes: Layer name to config entries `(key, item or None)` and their new values.
    """

    positions: Mapping[str, Mapping[str, Mapping[int, np.ndarray]]] = field(default_factory=dict)
    sizes: Mapping[str, Mapping[tuple[str, int | None], int]] = field(default_factory=dict)

    def arrays(self, layer: LayerSpec) -> list[np.ndarray]:
        """The layer's weights without what was removed, in the order of `layer.weights`."""
        cuts = self.positions.get(layer.name, {})
        arrays = []
        for name, array in layer.arrays().items():
            for axis, indices in cuts.get(name, {}).items():
                array = np.take(array, indices, axis)
            arrays.append(array)
        return arrays

    def config(self, layer: LayerSpec) -> dict[str, Any]:
        """The layer's config with the new sizes."""
        config = dict(layer.config)
        for (key, item), value in self.sizes.get(layer.name, {}).items():
            if item is None:
                config[key] = value
            else:
                entries = list(config[key])
                entries[item] = value
                config[key] = tuple(entries)
        return config


def kept_without(structure: ChannelStructure, removed: np.ndarray) -> Kept:
    """What stays of each layer without the removed units.

    Args:
        structure: Of the model in question.
        removed: bool, shape `(units,)`.
    """
    positions: dict[str, dict[str, dict[int, np.ndarray]]] = {}
    for entry in structure.weight_axes:
        gone = selects(removed, entry.units)
        if gone.any():
            axes = positions.setdefault(entry.layer, {}).setdefault(entry.weight, {})
            axes[entry.axis] = np.flatnonzero(~gone)
    sizes: dict[str, dict[tuple[str, int | None], int]] = {}
    for size in structure.config_sizes:
        gone = selects(removed, size.units)
        if gone.any():
            sizes.setdefault(size.layer, {})[size.key, size.axis] = int((~gone).sum())
    return Kept(positions, sizes)
