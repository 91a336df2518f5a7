"""Masking in place: removed channels become exactly zero, and come back bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure, selects
from keras_lrp_prune.graph.generations import weights_of
from keras_lrp_prune.prunables.masked_weights import MaskedWeight, masked_weights


class ChannelMask:
    """Sets the weights of removed units to zero, in place, and restores them exactly.

    It keeps a copy of the masked columns only, so its memory is that of what is masked (of the
    whole weight, where rows are masked too). A change costs no forward pass and no retracing:
    weights are variables. While nothing is masked they can be given other values.

    Args:
        structure: Of the model.
        layers: Layer name (as in the structure) to the live layer.
        weight_names: Layer name to the names of its weights, in the order of `weights_of`.

    Example:
    >>> mask = ChannelMask(structure, layers, weight_names)
    >>> mask.set(removed)  # bool, shape (units,)
    >>> mask.clear()  # every bit as it was
    """

    def __init__(
        self,
        structure: ChannelStructure,
        layers: Mapping[str, Any],
        weight_names: Mapping[str, Iterable[str]],
    ) -> None:
        self.removed = np.zeros(structure.n_units, bool)
        self._variables = []
        for weight in masked_weights(structure):
            index = list(weight_names[weight.layer]).index(weight.name)
            kind = _MaskedVariable if len(weight.axes) == 1 else _MaskedMatrix
            self._variables.append(kind(weights_of(layers[weight.layer])[index], weight))

    def set(self, removed: np.ndarray) -> None:
        """Masks exactly these units; others that were masked come back.

        Args:
            removed: bool, shape `(units,)`.
        """
        for variable in self._variables:
            variable.set(removed)
        self.removed = removed.copy()

    def clear(self) -> None:
        """Unmasks everything."""
        self.set(np.zeros_like(self.removed))


class _MaskedVariable:
    """One weight of which positions along one axis can be masked."""

    def __init__(self, variable: Any, weight: MaskedWeight) -> None:
        (entry,) = weight.axes
        self._units = entry.units
        self._variable = variable
        self._axis = entry.axis
        self._masked = np.zeros(len(entry.units), bool)
        self._saved: dict[int, np.ndarray] = {}

    def set(self, removed: np.ndarray) -> None:
        masked = selects(removed, self._units)
        if (masked == self._masked).all():
            return
        # Position first, so that a masked channel is one contiguous row to save and restore.
        values = np.asarray(self._variable).copy()
        rows = np.moveaxis(values, self._axis, 0)
        for index in np.flatnonzero(masked & ~self._masked):
            self._saved[int(index)] = rows[index].copy()
            rows[index] = 0
        for index in np.flatnonzero(~masked & self._masked):
            rows[index] = self._saved.pop(int(index))
        self._variable.assign(values)
        self._masked = masked


class _MaskedMatrix:
    """One weight of which positions along several axes can be masked; keeps a copy meanwhile.

    Rare: a layer that reads channels which do not vanish when they are masked.
    """

    def __init__(self, variable: Any, weight: MaskedWeight) -> None:
        self._weight = weight
        self._variable = variable
        self._original = np.asarray(variable)
        self._kept = np.ones((), bool)

    def set(self, removed: np.ndarray) -> None:
        kept = self._weight.kept(removed, self._original.shape)
        if (kept == self._kept).all():
            return
        if self._kept.all():  # it may have been given other values since
            self._original = np.asarray(self._variable).copy()
        self._variable.assign(np.where(kept, self._original, np.zeros_like(self._original)))
        self._kept = kept
