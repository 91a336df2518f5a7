"""What a channel adds to a figure of each sample beyond what other channels can make up for.

All that is asked of a layer's input is linear in it: a sample counts by its products of values and
gradients, summed over positions, channel by channel. So no values are needed again when a channel
goes; what the others can make up for changes with the inverse of the second moments alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from keras_lrp_prune.recovery.second_moments import Inverse, SecondMoments


class Products(Protocol):
    """Values of channels times gradients by channels, summed over the positions of each sample."""

    @property
    def own(self) -> np.ndarray:
        """The values of each unit's channel times its gradient, float64, `(samples, units)`."""
        ...

    def along(self, direction: np.ndarray) -> np.ndarray:
        """The values in one direction times the gradient by each unit's channel.

        Args:
            direction: float64, shape `(channels,)`.

        Returns:
            Shape `(samples, units)`.
        """
        ...

    def each(self, directions: np.ndarray) -> np.ndarray:
        """The values in a direction for each unit, times the gradient by its channel.

        Args:
            directions: float64, shape `(channels, units)`.

        Returns:
            float64, shape `(samples, units)`.
        """
        ...


@dataclass(frozen=True)
class ByPosition:
    """Values and gradients as they are: where there are fewer positions than channels.

    Args:
        values: Without their means, float32, shape `(samples, positions, channels)`.
        gradients: float32, shape `(samples, positions, units)`.
    """

    values: np.ndarray
    gradients: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """See `Products`."""
        values = self.values[..., : self.gradients.shape[-1]]
        return np.einsum("spu,spu->su", values, self.gradients, dtype=np.float64)

    def along(self, direction: np.ndarray) -> np.ndarray:
        """See `Products`."""
        weights = self.values @ direction.astype(np.float32)
        return (weights[:, None] @ self.gradients)[:, 0]

    def each(self, directions: np.ndarray) -> np.ndarray:
        """See `Products`."""
        n, positions, channels = self.values.shape
        # One product, and not one for each sample.
        rows = self.values.reshape(-1, channels) @ directions.astype(np.float32)
        left = rows.reshape(n, positions, -1)
        return np.einsum("spu,spu->su", left, self.gradients, dtype=np.float64)


@dataclass(frozen=True)
class ByPair:
    """The sums for each pair of channels.

    Args:
        sums: Of values without their means, float32, shape `(samples, channels, units)`.
    """

    sums: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """See `Products`."""
        units = np.arange(self.sums.shape[-1])
        return self.sums[:, units, units].astype(np.float64)

    def along(self, direction: np.ndarray) -> np.ndarray:
        """See `Products`."""
        return direction.astype(np.float32) @ self.sums

    def each(self, directions: np.ndarray) -> np.ndarray:
        """See `Products`."""
        return np.einsum("cu,scu->su", directions, self.sums, dtype=np.float64)


class Part(Protocol):
    """What the units that one layer reads add to some samples."""

    @property
    def contributions(self) -> np.ndarray:
        """float64, shape `(samples, units)`; zeros for units that are gone."""
        ...

    @property
    def plain(self) -> np.ndarray:
        """The same, whatever others can make up for."""
        ...

    def restored(self, gone: np.ndarray) -> np.ndarray:
        """What each of some units would add if it were the only one of them that is left.

        Args:
            gone: bool, shape `(units,)`; none of them has been taken out of this.

        Returns:
            float64, shape `(samples, units)`; zeros for the other units.
        """
        ...

    def without(self, column: int) -> Self:
        """The same when that unit goes too."""
        ...


@dataclass(frozen=True)
class Unique:
    """Contributions of what others cannot make up for, as the layer can be refitted.

    Args:
        inverse: Of the second moments on other samples; the units come first, behind them what
            stays in any case.
        sums: What is left of each unit times its entry on the diagonal of the inverse, times the
            gradient, float64, shape `(samples, units)`.
        products: Of these samples.
    """

    inverse: Inverse
    sums: np.ndarray
    products: Products

    @classmethod
    def of(cls, moments: SecondMoments, damping: float, products: Products, n_units: int) -> Self:
        """Those of all units.

        Args:
            moments: On other samples.
            damping: See `SecondMoments.inverse`.
            products: Of these samples.
            n_units: How many of the channels are units.
        """
        inverse = moments.inverse(damping)
        return cls(inverse, products.each(inverse.whole[:, :n_units]), products)

    @property
    def contributions(self) -> np.ndarray:
        """See `Part`."""
        scale = self.inverse.diagonal[: self.sums.shape[1]]
        return np.divide(self.sums, scale, out=np.zeros_like(self.sums), where=scale > 0)

    @property
    def plain(self) -> np.ndarray:
        """See `Part`; of deviations from the mean, which a bias makes up for."""
        return self.products.own

    def restored(self, gone: np.ndarray) -> np.ndarray:
        """See `Part`."""
        columns = np.flatnonzero(gone)
        directions = np.zeros((len(self.inverse.whole), len(gone)))
        directions[:, columns] = self.inverse.restored(columns)
        return self.products.each(directions)

    def without(self, column: int) -> Self:
        """See `Part`."""
        direction = self.inverse.column(column)
        share = direction[: self.sums.shape[1]] / direction[column]
        sums = self.sums - self.products.along(direction) * share
        sums[:, column] = 0
        return replace(self, inverse=self.inverse.without(column), sums=sums)


@dataclass(frozen=True)
class Plain:
    """Contributions as they are, where a layer cannot be refitted, so that nothing makes up for it.

    Args:
        contributions: float64, shape `(samples, units)`.
    """

    contributions: np.ndarray

    @property
    def plain(self) -> np.ndarray:
        """See `Part`."""
        return self.contributions

    def restored(self, gone: np.ndarray) -> np.ndarray:
        """See `Part`."""
        return self.contributions * gone

    def without(self, column: int) -> Self:
        """See `Part`."""
        left = self.contributions.copy()
        left[:, column] = 0
        return replace(self, contributions=left)


@dataclass(frozen=True)
class Reading:
    """What the units that one layer reads add to all samples.

    Args:
        units: Their numbers, in ascending order, shape `(units,)`.
        parts: For each fold of the samples, in the order of the folds.
    """

    units: np.ndarray
    parts: Sequence[Part]

    @cached_property
    def contributions(self) -> np.ndarray:
        """float64, shape `(samples, units)`."""
        return np.concatenate([part.contributions for part in self.parts])

    @property
    def plain(self) -> np.ndarray:
        """The same, whatever others can make up for."""
        return np.concatenate([part.plain for part in self.parts])

    def restored(self, removed: np.ndarray) -> np.ndarray:
        """What each of some units would add if it were the only one of them that is left.

        Args:
            removed: bool, shape `(all units,)`; none of them has been taken out of this.

        Returns:
            float64, shape `(samples, units)`; zeros for the other units.
        """
        gone = removed[self.units]
        return np.concatenate([part.restored(gone) for part in self.parts])

    def without(self, gone: np.ndarray) -> Self:
        """The same when these units go too; itself if it has none of them.

        Args:
            gone: Numbers of units.
        """
        columns = np.flatnonzero(np.isin(self.units, gone)).tolist()
        parts = self.parts
        for column in columns:
            parts = [part.without(column) for part in parts]
        return replace(self, parts=parts) if columns else self


@dataclass(frozen=True)
class SharedReadings:
    """Layers that read some of the same units: mostly one, several where a sum is read.

    Args:
        readings: What the units add through each of them.
    """

    readings: Sequence[Reading]

    @classmethod
    def grouped(cls, readings: Sequence[Reading]) -> list[Self]:
        """All readings, those that share units together."""
        units = [reading.units for reading in readings]
        number = np.repeat(np.arange(len(units)), [len(one) for one in units])
        holds = np.concatenate([*units, np.zeros(0, np.int64)])
        size = max(len(units), int(holds.max(initial=-1)) + 1)
        graph = coo_array((np.ones(len(holds)), (number, len(units) + holds)), (2 * size, 2 * size))
        group = connected_components(graph, directed=False)[1][: len(units)]
        pairs = list(zip(group.tolist(), readings, strict=True))
        return [
            cls([one for its, one in pairs if its == own]) for own in dict.fromkeys(group.tolist())
        ]

    @cached_property
    def units(self) -> np.ndarray:
        """Their numbers, in ascending order, shape `(units,)`."""
        return np.unique(np.concatenate([reading.units for reading in self.readings]))

    @cached_property
    def contributions(self) -> np.ndarray:
        """What each unit adds to each sample in all, float64, shape `(samples, units)`."""
        if len(self.readings) == 1:
            return self.readings[0].contributions
        found = np.zeros((len(self.readings[0].contributions), len(self.units)))
        for reading in self.readings:
            found[:, np.searchsorted(self.units, reading.units)] += reading.contributions
        return found

    def without(self, gone: np.ndarray) -> Self:
        """The same when these units go too."""
        return replace(self, readings=[reading.without(gone) for reading in self.readings])
