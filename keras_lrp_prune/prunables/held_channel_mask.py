"""Masks that hold while a model is trained: what is masked is zero after every weight update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.model_graph import LayerSpec
from keras_lrp_prune.prunables.masked_weights import MaskedWeight, masked_weights
from keras_lrp_prune.prunables.prunable import Undo
from keras_lrp_prune.prunables.slots import Slot, slots_of


class HeldChannelMask:
    """Zeroes the weights of removed units in a live Keras 3 model, and keeps them at zero.

    Each weight gets a `keras.constraints.Constraint`, which the optimizer applies in the same
    compiled step as its update: whatever the update adds (momentum, weight decay, accumulated
    gradients), also in the steps between two calls from Python. What the optimizer keeps for the
    weight (moments, averages) is put back to where it started: Keras averages weights before it
    applies constraints, and writes the averages into the weights at the end. A mask is a variable,
    so that a change costs no retracing; it takes a byte for each channel.

    Make it in the scope of the model's strategy.

    Args:
        structure: Of the model.
        layers: Layer name (as in the structure) to the layer, read from the live model.
        optimizers: Gives those that train the model; they need not be built yet.

    Example:
    >>> mask = HeldChannelMask(structure, graph.flat().layers, lambda: [model.optimizer])
    >>> mask.set(removed)  # bool, shape (units,)
    >>> with mask.holding():  # steps that are traced (or run eagerly) here hold it
    ...     model.train_function(iterator)
    """

    def __init__(
        self,
        structure: ChannelStructure,
        layers: Mapping[str, LayerSpec],
        optimizers: Callable[[], Iterable[Any]] = tuple,
    ) -> None:
        self._structure = structure
        self._weights = {
            f"{weight.layer}/{weight.name}": _HeldWeight(
                layers[weight.layer].weights[weight.name], weight, optimizers
            )
            for weight in masked_weights(structure)
        }

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Has the constraints in place; afterwards those of the weights' own are back."""
        with ExitStack() as stack:
            for weight in self._weights.values():
                stack.enter_context(weight.holding())
            yield

    def set(self, removed: np.ndarray) -> Undo:
        """Masks these units; others are left as they are, and no longer held.

        Args:
            removed: bool, shape `(units,)`.

        Returns:
            A function that takes this back, bit for bit, if the model was not trained since.
        """
        undos = [weight.set(removed) for weight in self._weights.values()]

        def undo() -> None:
            for one in undos:
                one()

        return undo

    def broken(self) -> list[str]:
        """Names of the weights that are not zero where they are masked."""
        return [name for name, weight in self._weights.items() if weight.is_broken()]

    def found(self) -> np.ndarray:
        """Units that are zero in the present weights, bool, shape `(units,)`.

        A group whose units are all zero counts as not masked.
        """
        zero = np.zeros(self._structure.n_units, bool)
        for weight in self._weights.values():
            zero[weight.plan.units] = True
        for weight in self._weights.values():
            weight.rule_out(zero)
        for group in self._structure.groups:
            if zero[group.units].all():
                zero[group.units] = False
        return zero


class _HeldWeight:
    """One weight, of which positions along one axis or several can be masked."""

    def __init__(
        self,
        variable: Any,
        plan: MaskedWeight,
        optimizers: Callable[[], Iterable[Any]],
    ) -> None:
        self.plan = plan
        self._variable, self._optimizers = variable, optimizers
        nothing = np.zeros(int(plan.units.max(initial=0)) + 1, bool)
        self._kept = tf.Variable(plan.kept(nothing, variable.shape), trainable=False)

    def slots(self) -> Iterator[Slot]:
        """What the optimizers keep for the weight; optimizers may be built in the first step."""
        for optimizer in self._optimizers():
            yield from slots_of(optimizer, self._variable)

    @contextmanager
    def holding(self) -> Iterator[None]:
        own = self._variable.constraint
        self._variable.constraint = _KeptOnly(self._kept, own, self.slots)
        try:
            yield
        finally:
            self._variable.constraint = own

    def set(self, removed: np.ndarray) -> Undo:
        kept_before, kept = self._kept.numpy(), self.plan.kept(removed, self._variable.shape)
        averages = [slot.variable for slot in self.slots() if slot.is_average]
        undos = [_zeroed(variable, ~kept) for variable in (self._variable, *averages)]

        def undo() -> None:
            self._kept.assign(kept_before)
            for one in undos:
                one()

        if (kept != kept_before).any():
            self._kept.assign(kept)
        return undo

    def is_broken(self) -> bool:
        values = np.asarray(self._variable)
        return bool((values[np.broadcast_to(~self._kept.numpy(), values.shape)] != 0).any())

    def rule_out(self, zero: np.ndarray) -> None:
        """Clears, in place, the units that have something here that is not zero."""
        values = np.asarray(self._variable) != 0
        for entry in self.plan.axes:
            axis = entry.axis % values.ndim
            alive = values.any(tuple(other for other in range(values.ndim) if other != axis))
            zero[entry.units[alive & (entry.units >= 0)]] = False


def _zeroed(variable: Any, where: np.ndarray) -> Undo:
    """Zeroes a variable at some places; returns what takes that back."""
    values = np.asarray(variable).copy()
    gone = np.broadcast_to(where, values.shape) & (values != 0)
    saved = values[gone]

    def undo() -> None:
        if saved.size:
            restored = np.asarray(variable).copy()
            restored[gone] = saved
            variable.assign(restored)

    if saved.size:
        values[gone] = 0
        variable.assign(values)
    return undo


class _KeptOnly(keras.constraints.Constraint):
    """Zeroes what is not kept, after the constraint that the weight has already."""

    def __init__(self, kept: tf.Variable, inner: Any, slots: Callable[[], Iterator[Slot]]) -> None:
        self.kept, self.inner, self.slots = kept, inner, slots

    def __call__(self, w: Any) -> Any:
        w = tf.convert_to_tensor(w if self.inner is None else self.inner(w))
        # Not a product: zero times infinity is not zero.
        for slot in self.slots():
            fresh = tf.constant(slot.fresh, slot.variable.dtype)
            slot.variable.assign(tf.where(self.kept, slot.variable, fresh))
        return tf.where(self.kept, w, tf.zeros((), w.dtype))
