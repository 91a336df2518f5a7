"""Ridge regression of what is missing, from samples that come in batches; all in float64.

Both ways to hold the samples give the same solutions: their sums of products where there are more
samples than inputs, the samples themselves where there are fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

import numpy as np

from keras_lrp_prune.recovery.second_moments import SecondMoments, solved, with_ones

# Strengths of the penalty to choose from, relative to the mean eigenvalue of X'X.
RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)

Solver = Callable[[float], np.ndarray]


class Samples(Protocol):
    """Inputs X and missing outputs E of a layer.

    A correction is float64, shape `(inputs + 1, outputs)`: what to add to the kernel and, in its
    last row, to the bias.
    """

    def add(self, x: np.ndarray, missing: np.ndarray) -> None:
        """Takes in samples.

        Args:
            x: float64, shape `(n, inputs)`.
            missing: What the outputs lack, float64, shape `(n, outputs)`.
        """
        ...

    def __add__(self, other: Self) -> Self:
        """The samples of both."""
        ...

    def solver(self, bias: bool) -> Solver:
        """Gives, for a ridge, the D that minimises `||X D - E||^2 + ridge * mean * ||D||^2`.

        `mean` is the mean eigenvalue of X'X. A bias, where there may be one, is not penalised.
        """
        ...

    def error(self, correction: np.ndarray | None = None) -> float:
        """Sum of squares that are still missing after a correction, or without one."""
        ...


class Products:
    """X'X and X'E, X with a column of ones: memory does not grow with the samples."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        self._moments = SecondMoments(np.zeros((n_inputs + 1, n_inputs + 1)))
        self._xe = np.zeros((n_inputs + 1, n_outputs))
        self._ee = 0.0

    def add(self, x: np.ndarray, missing: np.ndarray) -> None:
        """See `Samples`."""
        x = with_ones(x)
        self._moments.matrix[:] += x.T @ x
        self._xe += x.T @ missing
        self._ee += float((missing**2).sum())

    def __add__(self, other: Products) -> Products:
        n_inputs, n_outputs = self._xe.shape
        both = Products(n_inputs - 1, n_outputs)
        both._moments = self._moments + other._moments
        both._xe = self._xe + other._xe
        both._ee = self._ee + other._ee
        return both

    def solver(self, bias: bool) -> Solver:
        """See `Samples`."""
        moments, xe = self._moments, self._xe[:-1]
        xx = moments.centred if bias else moments.products
        (mean_x,), mean_e = moments.means, self._xe[-1] / moments.matrix[-1, -1]
        if bias:
            xe = xe - moments.matrix[-1, -1] * np.outer(mean_x, mean_e)

        # Where inputs hardly vary, the trace is nothing but rounding: it gets a lower bound.
        mean = max(np.trace(xx), 1e-9 * np.trace(moments.products)) / len(xx) or 1.0

        def solve(ridge: float) -> np.ndarray:
            kernel = solved(xx, xe, ridge * mean)
            return np.vstack([kernel, mean_e - mean_x @ kernel if bias else 0 * mean_e])

        return solve

    def error(self, correction: np.ndarray | None = None) -> float:
        """See `Samples`."""
        if correction is None:
            return self._ee
        explained = 2 * self._xe - self._moments.matrix @ correction
        return self._ee - float((correction * explained).sum())


class Rows:
    """The samples themselves: solved through XX', which is smaller than X'X here."""

    def __init__(self) -> None:
        self._x: list[np.ndarray] = []
        self._missing: list[np.ndarray] = []

    def add(self, x: np.ndarray, missing: np.ndarray) -> None:
        """See `Samples`."""
        self._x.append(x)
        self._missing.append(missing)

    def __add__(self, other: Rows) -> Rows:
        both = Rows()
        both._x, both._missing = self._x + other._x, self._missing + other._missing
        return both

    def solver(self, bias: bool) -> Solver:
        """See `Samples`."""
        x, missing = np.concatenate(self._x), np.concatenate(self._missing)
        mean_x, mean_e = (array.mean(0) * bias for array in (x, missing))
        x, missing = x - mean_x, missing - mean_e
        xx = x @ x.T
        mean = np.trace(xx) / x.shape[1] or 1.0

        def solve(ridge: float) -> np.ndarray:
            kernel = x.T @ solved(xx, missing, ridge * mean)
            return np.vstack([kernel, mean_e - mean_x @ kernel])

        return solve

    def error(self, correction: np.ndarray | None = None) -> float:
        """See `Samples`."""
        left = np.concatenate(self._missing)
        if correction is not None:
            left = left - with_ones(np.concatenate(self._x)) @ correction
        return float((left**2).sum())


def best_correction(
    fitting: Samples, held_out: Samples, *, bias: bool
) -> tuple[np.ndarray | None, float | None]:
    """The correction by all samples, its ridge chosen by the held-out ones.

    Args:
        fitting: Samples to fit to.
        held_out: Samples of the same kind, of other images: windows of one image overlap, so that
            they would tell each other's outputs.
        bias: Whether the layer's outputs can be shifted.

    Returns:
        The correction and its ridge, or `(None, None)` if none brings the held-out outputs closer.
    """
    solve = fitting.solver(bias)
    errors = [held_out.error(solve(ridge)) for ridge in RIDGES]
    best = int(np.argmin(errors))
    if not errors[best] < held_out.error():
        return None, None
    return (fitting + held_out).solver(bias)(RIDGES[best]), RIDGES[best]
