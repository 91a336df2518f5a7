"""What layers lose in their outputs with each unit that they read, and how it follows.

Whatever is asked of the outputs is quadratic in what goes, so that no values are needed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from keras_lrp_prune.criteria.scores import RevisableScores
from keras_lrp_prune.recovery.second_moments import Inverse


class Losses(Protocol):
    """What a layer loses with each of the units that it reads."""

    @property
    def each(self) -> np.ndarray:
        """float64, shape `(units,)`; zeros for units that are gone."""
        ...

    def without(self, column: int) -> Self:
        """The same when that unit goes too."""
        ...


@dataclass(frozen=True)
class MadeUpFor:
    """Losses where the weights of what is left make up for it, as an optimal brain surgeon has it.

    With `W_u` the weights that read a channel, it is `W_u' F W_u / H_uu`: an error of the outputs
    in squares that count as `F` says. What is left is then read with weights
    `W_v - W_u H_vu / H_uu`.

    Args:
        inverse: `H`, that of the damped second moments; the units come first, behind them what
            stays in any case.
        weights: The products `W_u' F W_v`, float64, shape `(channels, channels)`.
        n_units: How many of the channels are units.
    """

    inverse: Inverse
    weights: np.ndarray
    n_units: int

    @property
    def each(self) -> np.ndarray:
        """See `Losses`."""
        scale = self.inverse.diagonal[: self.n_units]
        squares = np.diag(self.weights)[: self.n_units]
        return np.divide(squares, scale, out=np.zeros(self.n_units), where=scale > 0)

    def without(self, column: int) -> Self:
        """See `Losses`."""
        direction = self.inverse.column(column) / self.inverse.diagonal[column]
        shared = np.outer(direction, self.weights[column])
        square = self.weights[column, column] * np.outer(direction, direction)
        weights = self.weights - shared - shared.T + square
        weights[column] = weights[:, column] = 0
        return replace(self, inverse=self.inverse.without(column), weights=weights)


@dataclass(frozen=True)
class LeftOut:
    """Losses with weights as they are, in squares of the outputs.

    Args:
        products: Of what each two units add to outputs, float64, shape `(units, units)`.
        gone: Of what each unit adds and all that are gone by now, shape `(units,)`.
        left: Whether each unit is still there, bool, same shape.
    """

    products: np.ndarray
    gone: np.ndarray
    left: np.ndarray

    @classmethod
    def of(cls, products: np.ndarray) -> Self:
        """Where all units are there."""
        return cls(products, np.zeros(len(products)), np.ones(len(products), bool))

    @property
    def each(self) -> np.ndarray:
        """See `Losses`; below zero where it makes up for what is gone."""
        return np.where(self.left, np.diag(self.products) + 2 * self.gone, 0)

    def without(self, column: int) -> Self:
        """See `Losses`."""
        left = self.left.copy()
        left[column] = False
        return replace(self, gone=self.gone + self.products[column], left=left)


@dataclass(frozen=True)
class Fixed:
    """Losses that do not follow: nothing makes up for them.

    Args:
        each: float64, shape `(units,)`.
    """

    each: np.ndarray

    def without(self, column: int) -> Self:
        """See `Losses`."""
        left = self.each.copy()
        left[column] = 0
        return replace(self, each=left)


@dataclass(frozen=True)
class LayerLosses:
    """What one layer loses.

    Args:
        units: Numbers of the units that it reads, shape `(units,)`.
        losses: With each of them.
    """

    units: np.ndarray
    losses: Losses

    def without(self, gone: np.ndarray) -> Self:
        """The same when these units go too; itself if it reads none of them.

        Args:
            gone: Numbers of units.
        """
        columns = np.flatnonzero(np.isin(self.units, gone)).tolist()
        losses = self.losses
        for column in columns:
            losses = losses.without(column)
        return replace(self, losses=losses) if columns else self


@dataclass(frozen=True)
class LossScores(RevisableScores):
    """The losses of all layers, added up; classes play no part.

    Args:
        layers: The losses of each layer.
    """

    layers: Sequence[LayerLosses] = ()

    @classmethod
    def of(cls, layers: Sequence[LayerLosses], n_units: int) -> Self:
        """Those of all units."""
        sums = np.zeros((1, n_units))
        for layer in layers:
            sums[0, layer.units] += layer.losses.each
        return cls(sums, layers=layers)

    def revised(self, gone: np.ndarray) -> Self:
        """See `RevisableScores`; costs the products of the layers that read them."""
        layers = [layer.without(gone) for layer in self.layers]
        sums = self.by_class.copy()
        for before, after in zip(self.layers, layers, strict=True):
            if after is not before:
                sums[0, before.units] += after.losses.each - before.losses.each
        sums[0, gone] = 0
        return replace(self, by_class=sums, layers=layers)
