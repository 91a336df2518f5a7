"""How what a layer reads is told by units, and what is kept of it for each sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np

from keras_lrp_prune.criteria.uniqueness import ByPair, ByPosition, Part, Plain, Products, Unique
from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.recovery.least_squares import windows_read_by
from keras_lrp_prune.recovery.patches import NoWindows
from keras_lrp_prune.recovery.second_moments import SecondMoments

Tensor = Any
_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Layout:
    """One tensor that a layer reads, as positions by channels: units first, then what stays.

    Where a unit has several channels of it, as behind a `Flatten`, each is a place of its own at
    every position, with means of its own; what stays is not counted on then.

    Args:
        units: Numbers of the units, shape `(units,)`.
        channels: Channel of each unit for each place, shape `(places, units)`; the number of
            channels where a unit has fewer.
        others: Channels that stay, shape `(others,)`.
        positions: How many the tensor has.
        axis: Its axis of channels, counted from the end.
        refitted: Whether the layer can be refitted, so that others can make up for a unit.
    """

    units: np.ndarray
    channels: np.ndarray
    others: np.ndarray
    positions: int
    axis: int
    refitted: bool

    @classmethod
    def of(
        cls, units: np.ndarray, shape: Sequence[int | None], axis: int, *, refitted: bool
    ) -> Self:
        """The layout of a tensor.

        Args:
            units: Unit of each channel, -1 for those that stay, shape `(channels,)`.
            shape: Of the tensor, without the batch axis.
            axis: Its axis of channels, counted from the end.
            refitted: Whether the layer that reads it can be refitted.
        """
        owned = np.flatnonzero(units >= 0)
        numbers, column, counts = np.unique(units[owned], return_inverse=True, return_counts=True)
        channels = np.full((counts.max(), len(numbers)), len(units))
        order = np.argsort(column, kind="stable")
        place = np.concatenate([np.arange(count) for count in counts])
        channels[place, column[order]] = owned[order]
        others = np.flatnonzero(units < 0) if len(channels) == 1 else np.zeros(0, np.int64)
        positions = prod(size or 1 for size in shape) // len(units)
        return cls(numbers, channels, others, positions, axis, refitted)

    @property
    def rows(self) -> int:
        """Positions and places of a sample."""
        return self.positions * len(self.channels)

    @property
    def width(self) -> int:
        """Units and what stays."""
        return len(self.units) + len(self.others)

    @property
    def by_position(self) -> bool:
        """Whether values and gradients take less than their products."""
        return self.rows * (self.width + len(self.units)) <= self._n_products

    @property
    def kept(self) -> int:
        """Numbers that are kept of a sample."""
        if not self.refitted:
            return len(self.units)
        return min(self.rows * (self.width + len(self.units)), self._n_products)

    @property
    def _n_products(self) -> int:
        return self.width * len(self.units) + self.channels.size

    def summary(
        self, value: Tensor, gradient: Tensor, counts: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What is kept of a batch.

        Args:
            value: What the layer read.
            gradient: The gradient by it.
            counts: Whether each sample counts, 1 or 0, float32.

        Returns:
            Sums over samples (none where the layer is not refitted): of products of values, of
            values at each place, and of samples and positions; and what is kept of each sample,
            tensors of shape `(batch, numbers)`.
        """
        import tensorflow as tf

        value, gradient = (self._as_rows(one) for one in (value, gradient))
        units = len(self.units)
        gradient = gradient[..., :units]
        if not self.refitted:
            return [], [tf.einsum("bpu,bpu->bu", value[..., :units], gradient)]
        counted = value * counts[:, None, None]
        sums = [
            tf.einsum("bpc,bpd->cd", counted, value),
            tf.reduce_sum(self._by_place(counted), (0, 1)),
            self.positions * tf.reduce_sum(counts),
        ]
        kept = (
            [value, gradient]
            if self.by_position
            else [
                tf.einsum("bpc,bpu->bcu", value, gradient),
                tf.reduce_sum(self._by_place(gradient), 1),
            ]
        )
        batch = tf.shape(value)[0]
        return [tf.cast(one, tf.float64) for one in sums], [
            tf.reshape(one, (batch, prod(one.shape[1:]))) for one in kept
        ]

    def part(
        self,
        moments: SecondMoments | None,
        kept: np.ndarray,
        alive: np.ndarray,
        damping: float,
    ) -> Part:
        """What the units that are left add to some samples.

        Args:
            moments: On other samples; `None` where the layer is not refitted.
            kept: What is kept of these, float32, shape `(samples, numbers)`.
            alive: Indices of the units that are left.
            damping: See `SecondMoments.inverse`.
        """
        if moments is None:
            return Plain(kept[:, alive].astype(np.float64))
        left = np.concatenate([alive, np.arange(len(self.units), self.width)])
        moments = moments.only(left)
        means = moments.means.astype(np.float32)
        return Unique.of(moments, damping, self._products(kept, means, alive, left), len(alive))

    def _products(
        self, kept: np.ndarray, means: np.ndarray, alive: np.ndarray, left: np.ndarray
    ) -> Products:
        """Of what is kept of samples, for the channels that are left, without their means."""
        n, units, places = len(kept), len(self.units), len(self.channels)
        if self.by_position:
            end = self.rows * self.width
            values = kept[:, :end].reshape(n, self.positions, places, self.width)[..., left] - means
            gradients = kept[:, end:].reshape(n, self.rows, units)[..., alive]
            return ByPosition(values.reshape(n, self.rows, len(left)), gradients)
        end = self.width * units
        sums = kept[:, :end].reshape(n, self.width, units)[:, left[:, None], alive]
        gradients = kept[:, end:].reshape(n, places, units)[..., alive]
        return ByPair(sums - np.swapaxes(np.tensordot(means, gradients, (0, 1)), 0, 1))

    def _as_rows(self, tensor: Tensor) -> Tensor:
        """Shape `(batch, positions and places, units and others)`; zeros where a unit has fewer."""
        import tensorflow as tf

        rank = len(tensor.shape)
        order = [axis for axis in range(rank) if axis != rank + self.axis]
        if self.axis != -1:
            tensor = tf.transpose(tensor, [*order, rank + self.axis])
        batch, size = tf.shape(tensor)[0], tensor.shape[-1]
        tensor = tf.reshape(tensor, (batch, self.positions, size))
        if np.array_equal(self.channels, np.arange(size)[None]):
            return tensor
        tensor = tf.pad(tensor, ((0, 0), (0, 0), (0, 1)))
        units = tf.reshape(
            tf.gather(tensor, self.channels.ravel(), axis=-1), (batch, self.rows, len(self.units))
        )
        if not len(self.others):
            return units
        return tf.concat([units, tf.gather(tensor, self.others, axis=-1)], -1)

    def _by_place(self, rows: Tensor) -> Tensor:
        """Shape `(batch, positions, places, ...)`."""
        import tensorflow as tf

        return tf.reshape(
            rows, (tf.shape(rows)[0], self.positions, len(self.channels), rows.shape[-1])
        )

    @property
    def bytes_kept(self) -> int:
        """Bytes that are kept of a sample."""
        return _FLOAT * self.kept


def is_refitted(graph: ModelGraph, call: str) -> bool:
    """Whether the layer of a call can be refitted."""
    try:
        windows_read_by(graph, graph.by_name[call])
    except NoWindows:
        return False
    return True
