"""Accuracy over the pruning rate, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np

from keras_lrp_prune.evaluation.metrics import harmonic_mean_accuracy, real_numbers
from keras_lrp_prune.files import formed

CurveKind = Literal["mean", "harmonic", "worst"]


@dataclass(frozen=True, eq=False)
class AccuracyCurve:
    """Accuracy of each class at each of several pruning rates.

    Attributes:
        rates: Pruning rates in [0, 1), strictly increasing, float64, shape `(r,)`.
        class_accuracy: Class accuracies in [0, 1], float64, shape `(r, n_classes)`.

    Raises:
        ValueError: If the rates or accuracies are out of range or do not fit together.

    Example:
        >>> curve = AccuracyCurve([0.0, 0.5], [[1.0, 1.0], [1.0, 0.5]])
        >>> curve.mean()
        array([1.  , 0.75])
        >>> curve.auc()
        0.875
    """

    rates: np.ndarray
    class_accuracy: np.ndarray

    def __post_init__(self) -> None:
        # A copy, so that the curve stays what it was when it was checked.
        rates = real_numbers("rates", self.rates)
        accuracy = real_numbers("class_accuracy", self.class_accuracy)
        if rates.ndim != 1 or not rates.size:
            raise ValueError(f"rates must have the shape (r,), r at least 1, not {rates.shape}.")
        # Both written so that NaN fails them too.
        if not ((rates >= 0) & (rates < 1)).all():
            raise ValueError(f"Pruning rates lie in [0, 1), but these are {rates.tolist()}.")
        if not (np.diff(rates) > 0).all():
            raise ValueError(f"rates must be strictly increasing, but are {rates.tolist()}.")
        if accuracy.ndim != 2 or len(accuracy) != len(rates) or not accuracy.shape[1]:
            raise ValueError(
                f"class_accuracy must have the shape ({len(rates)}, n_classes), one row per rate, "
                f"not {accuracy.shape}."
            )
        inside = (accuracy >= 0) & (accuracy <= 1)
        if not inside.all():
            row, column = np.argwhere(~inside)[0]
            raise ValueError(
                f"Accuracies lie within 0 and 1, but that of class {column} at the rate "
                f"{rates[row]:g} is {accuracy[row, column]}."
            )
        for name, array in (("rates", rates), ("class_accuracy", accuracy)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __repr__(self) -> str:
        first, last = self.mean()[[0, -1]]
        return (
            f"{type(self).__name__}({len(self.rates)} rates from {self.rates[0]:g} to "
            f"{self.rates[-1]:g}, {self.class_accuracy.shape[1]} classes, mean accuracy "
            f"{first:.1%} to {last:.1%})"
        )

    def mean(self) -> np.ndarray:
        """Mean of the class accuracies at each rate, shape `(r,)`."""
        return self.class_accuracy.mean(axis=1)

    def harmonic(self) -> np.ndarray:
        """Harmonic mean of the class accuracies at each rate, shape `(r,)`."""
        return np.array([harmonic_mean_accuracy(row) for row in self.class_accuracy])

    def worst(self) -> np.ndarray:
        """Accuracy of the worst class at each rate, shape `(r,)`."""
        return self.class_accuracy.min(axis=1)

    def auc(self, kind: CurveKind = "mean") -> float:
        """Area under the curve by the trapezoid rule, divided by the span of the rates.

        The division makes it an accuracy in [0, 1] whatever the rates.

        Args:
            kind: Which curve: `"mean"` (averaged over the classes), `"harmonic"` or `"worst"`.

        Returns:
            The normalised area.

        Raises:
            ValueError: If `kind` is unknown or the curve has fewer than two rates.

        Example:
            >>> AccuracyCurve([0.0, 0.5], [[1.0, 1.0], [1.0, 0.5]]).auc("worst")
            0.75
        """
        curves = {"mean": self.mean, "harmonic": self.harmonic, "worst": self.worst}
        if kind not in curves:
            raise ValueError(f"Unknown kind {kind!r}; choose from {tuple(curves)}.")
        if len(self.rates) < 2:
            raise ValueError("An area needs a curve of at least two rates; this one has one.")
        from sklearn.metrics import auc as area_under  # slow to import

        return float(area_under(self.rates, curves[kind]()) / (self.rates[-1] - self.rates[0]))

    def at(self, rate: float) -> np.ndarray:
        """Class accuracies at a rate, interpolated linearly between its neighbours.

        Args:
            rate: Pruning rate between the first and the last of the curve.

        Returns:
            The accuracies, float64, shape `(n_classes,)`.

        Raises:
            ValueError: If the rate lies outside the curve.

        Example:
            >>> AccuracyCurve([0.0, 0.5], [[1.0, 1.0], [1.0, 0.5]]).at(0.25)
            array([1.  , 0.75])
        """
        first, last = self.rates[0], self.rates[-1]
        if not first <= rate <= last:
            raise ValueError(f"The curve spans the rates {first:g} to {last:g}; {rate} is outside.")
        return np.array([np.interp(rate, self.rates, column) for column in self.class_accuracy.T])

    def to_dict(self) -> dict[str, Any]:
        """Gives the curve as plain lists, ready for JSON.

        Returns:
            A dictionary that `from_dict` takes.

        Example:
            >>> AccuracyCurve([0.0], [[1.0, 0.5]]).to_dict()
            {'rates': [0.0], 'class_accuracy': [[1.0, 0.5]]}
        """
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Makes a curve of what `to_dict` gave.

        Args:
            data: The dictionary; entries that such a curve does not have are left alone.

        Returns:
            The curve.

        Raises:
            ValueError: If an entry is missing, of another type or out of range.

        Example:
            >>> AccuracyCurve.from_dict({"rates": [0.0], "class_accuracy": [[1.0, 0.5]]}).worst()
            array([0.5])
        """
        names = {entry.name for entry in fields(cls)}
        known = {name: value for name, value in formed(data, dict).items() if name in names}
        return formed(known, cls)
