"""What is left of each layer without some units: positions along weight axes, and sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure, selects
from keras_lrp_prune.graph.model_graph import LayerSpec

Path = tuple[str | int, ...]
Take = Callable[[Any, np.ndarray, int], Any]  # values, indices, axis


@dataclass(frozen=True)
class Kept:
    """What rebuilding keeps; the empty one keeps everything.

    Args:
        positions: Layer name to weight name to axis to the indices kept along it.
        sizes: Layer name to the paths of numbers (see `Size`) and their new values.
    """

    positions: Mapping[str, Mapping[str, Mapping[int, np.ndarray]]] = field(default_factory=dict)
    sizes: Mapping[str, Mapping[Path, int]] = field(default_factory=dict)

    def arrays(self, layer: LayerSpec) -> list[np.ndarray]:
        """The layer's weights without what was removed, in the order of `layer.weights`."""
        return self._cut(layer.name, layer.arrays(), np.take)

    def values(self, layer: LayerSpec, take: Take) -> list[Any]:
        """Like `arrays`, but weights that nothing is removed from are returned as they are.

        Args:
            layer: The layer.
            take: Takes indices along an axis, as `np.take`.
        """
        return self._cut(layer.name, layer.weights, take)

    def _cut(self, layer: str, weights: Mapping[str, Any], take: Take) -> list[Any]:
        cuts = self.positions.get(layer, {})
        values = []
        for name, value in weights.items():
            for axis, indices in cuts.get(name, {}).items():
                value = take(value, indices, axis)
            values.append(value)
        return values

    def config(self, layer: LayerSpec) -> dict[str, Any]:
        """The layer's config with the new sizes."""
        config = dict(layer.config)
        for path, value in self.sizes.get(layer.name, {}).items():
            if path[0] == "config":
                config = replaced(config, path[1:], value)
        if layer.name in self.positions or layer.name in self.sizes:
            config = {key: _without_shapes(entry) for key, entry in config.items()}
        return config

    def call(
        self, layer: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call of the layer with the new sizes."""
        arguments: dict[str, Any] = {"args": args, "kwargs": kwargs}
        for path, value in self.sizes.get(layer, {}).items():
            if path[0] in arguments:
                arguments = replaced(arguments, path, value)
        return arguments["args"], arguments["kwargs"]


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
    sizes: dict[str, dict[Path, int]] = {}
    for size in structure.sizes:
        # Also where nothing goes: a position counted from the end becomes one from the start.
        count = int((~selects(removed, size.units)).sum())
        sizes.setdefault(size.layer, {})[size.path] = count
    return Kept(positions, sizes)


def replaced(structure: Any, path: Path, value: Any) -> Any:
    """Nested dicts, lists, tuples and slices with another value at `path`."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(structure, slice):
        parts = {"start": structure.start, "stop": structure.stop, key: value}
        return slice(parts["start"], parts["stop"], structure.step)
    if isinstance(structure, Mapping):
        return {**structure, key: replaced(structure[key], rest, value)}
    entries = list(structure)
    entries[int(key)] = replaced(entries[int(key)], rest, value)
    return type(structure)(entries)


def _without_shapes(entry: Any) -> Any:
    """A config entry without the build shapes that wrappers keep of the layers inside them."""
    if isinstance(entry, Mapping):
        return {
            key: _without_shapes(value) for key, value in entry.items() if key != "build_config"
        }
    return entry
