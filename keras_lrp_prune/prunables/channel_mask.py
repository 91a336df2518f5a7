"""Masking in place: removed channels become exactly zero, and come back bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.generations import weights_of
from keras_lrp_prune.prunables.masked_weights import MaskedWeight, masked_weights


class ChannelMask:
    """Sets the weights of removed units to zero, in place, and restores them exactly.

    It keeps a copy of each weight of which something is masked, on the same device as the weight.
    A change costs no forward pass and no retracing: weights are variables. While nothing is masked
    they can be given other values.

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
            self._variables.append(_MaskedVariable(weights_of(layers[weight.layer])[index], weight))

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
    """One weight of which positions can be masked; keeps a copy while some are."""

    def __init__(self, variable: Any, weight: MaskedWeight) -> None:
        self._weight = weight
        self._variable = variable
        self._original: Any = None
        self._kept = np.ones((), bool)

    def set(self, removed: np.ndarray) -> None:
        import tensorflow as tf

        kept = self._weight.kept(removed, self._variable.shape)
        if (kept == self._kept).all():
            return
        if self._kept.all():  # it may have been given other values since
            self._original = tf.convert_to_tensor(self._variable)
        self._variable.assign(tf.where(kept, self._original, tf.zeros((), self._original.dtype)))
        self._kept = kept
        if kept.all():
            self._original = None
