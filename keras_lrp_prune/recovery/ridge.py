"""Ridge regression of what is missing, from samples that come in batches; all in float64.

Both ways to hold the samples give the same solutions: their sums of products where there are more
samples than inputs, the samples themselves where there are fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from keras_lrp_prune.recovery.second_moments import SecondMoments, solved, with_ones

# Strengths of the penalty to choose from, relative to the mean eigenvalue of X'X.
RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Where the search for the best one starts: most of them lie there or beside it.
_FIRST = RIDGES.index(1e-1)
# Of sums of squares: what eigenvalues of products may be off by.
_ROUNDING = 1e-13


class Samples(Protocol):
    """Inputs X and missing outputs E of a layer; some are held out to choose the ridge.

    The penalised error is `||X D - E||^2 + ridge * mean * ||D||^2`, with the mean eigenvalue of
    X'X. A bias, where there may be one, is not penalised.
    """

    def add(self, x: np.ndarray, missing: np.ndarray, held_out: np.ndarray) -> None:
        """Takes in samples.

        Args:
            x: float64, shape `(n, inputs)`.
            missing: What the outputs lack, float64, shape `(n, outputs)`.
            held_out: Which are not fitted to while the ridge is chosen, bool, shape `(n,)`. They
                are of other images: windows of one image overlap, so that they would tell each
                other's outputs.
        """
        ...

    def error(self) -> float:
        """Sum of squares that the outputs of the samples held out lack without a correction."""
        ...

    def trial(self, ridge: float) -> float:
        """What they lack with the correction that the other samples give."""
        ...

    def correction(self, ridge: float) -> np.ndarray:
        """The correction that all samples give.

        Returns:
            float64, shape `(inputs + 1, outputs)`: what to add to the kernel and, in the last row,
            to the bias.
        """
        ...


class Products:
    """X'X and X'E, X with a column of ones: memory does not grow with the samples.

    Args:
        n_inputs, n_outputs: Numbers that the layer reads and gives.
        bias: Whether its outputs can be shifted.
    """

    def __init__(self, n_inputs: int, n_outputs: int, *, bias: bool) -> None:
        self._fitted, self._held = (_Sums.empty(n_inputs, n_outputs) for _ in range(2))
        self._bias = bias

    def add(self, x: np.ndarray, missing: np.ndarray, held_out: np.ndarray) -> None:
        """See `Samples`."""
        for sums, which in ((self._fitted, ~held_out), (self._held, held_out)):
            sums.add(with_ones(x[which]), missing[which])

    def error(self) -> float:
        """See `Samples`."""
        return self._held.ee

    def trial(self, ridge: float) -> float:
        """See `Samples`."""
        correction, held = self._of_fitted.solution(ridge), self._held
        explained = 2 * held.xe - held.moments.matrix @ correction
        return held.ee - float((correction * explained).sum())

    def correction(self, ridge: float) -> np.ndarray:
        """See `Samples`."""
        return _System.of(self._fitted + self._held, self._bias).solution(ridge)

    @cached_property
    def _of_fitted(self) -> _System:
        return _System.of(self._fitted, self._bias)


@dataclass
class _Sums:
    """Sums over samples: X'X, X'E and E'E; X has a column of ones behind it."""

    moments: SecondMoments
    xe: np.ndarray
    ee: float = 0.0

    @classmethod
    def empty(cls, n_inputs: int, n_outputs: int) -> _Sums:
        width = n_inputs + 1
        return cls(SecondMoments(np.zeros((width, width))), np.zeros((width, n_outputs)))

    def add(self, x: np.ndarray, missing: np.ndarray) -> None:
        self.moments.matrix[:] += x.T @ x
        self.xe += x.T @ missing
        self.ee += float((missing**2).sum())

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.moments + other.moments, self.xe + other.xe, self.ee + other.ee)


@dataclass(frozen=True)
class _System:
    """The normal equations; where there is a bias, of samples around their means."""

    xx: np.ndarray
    xe: np.ndarray
    mean_x: np.ndarray
    mean_e: np.ndarray
    mean: float  # eigenvalue of X'X
    least: float  # penalty: less is lost in the rounding of X'X

    @classmethod
    def of(cls, sums: _Sums, bias: bool) -> _System:
        moments, xe = sums.moments, sums.xe[:-1]
        count = moments.matrix[-1, -1]
        (mean_x,), mean_e = moments.means * bias, sums.xe[-1] / count * bias
        xx = moments.centred if bias else moments.products
        xe = xe - count * np.outer(mean_x, mean_e) if bias else xe
        # Where inputs hardly vary around large means, what is left without these is rounding.
        squares = float(np.trace(moments.products))
        mean = max(np.trace(xx), 1e-9 * squares) / len(xx) or 1.0
        return cls(xx, xe, mean_x, mean_e, mean, _ROUNDING * squares)

    def solution(self, ridge: float) -> np.ndarray:
        kernel = solved(self.xx, self.xe, max(ridge * self.mean, self.least))
        return np.vstack([kernel, self.mean_e - self.mean_x @ kernel])


class Rows:
    """The samples themselves: solved through XX', which is smaller than X'X here.

    Args:
        bias: Whether the layer's outputs can be shifted.
    """

    def __init__(self, *, bias: bool) -> None:
        self._bias = bias
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, x: np.ndarray, missing: np.ndarray, held_out: np.ndarray) -> None:
        """See `Samples`."""
        self._parts.append((x, missing, held_out))

    def error(self) -> float:
        """See `Samples`."""
        return float((self._sorted.held_missing**2).sum())

    def trial(self, ridge: float) -> float:
        """See `Samples`."""
        rows = self._sorted
        n, missing = rows.n_fitted, rows.missing[: rows.n_fitted]
        mean_e = missing.mean(0) * self._bias
        shares = solved(rows.xx[:n, :n], missing - mean_e, ridge * rows.mean(rows.xx[:n, :n]))
        left = rows.held_missing - mean_e - rows.xx[n:, :n] @ shares
        return float((left**2).sum())

    def correction(self, ridge: float) -> np.ndarray:
        """See `Samples`."""
        rows, xx = self._sorted, self._sorted.xx
        mean_x, mean_e = (array.mean(0) * self._bias for array in (rows.x, rows.missing))
        if self._bias:
            means = xx.mean(0)
            xx = xx - means - means[:, None] + means.mean()
        # The shares of the samples sum to zero where there is a bias: X need not be centred.
        kernel = rows.x.T @ solved(xx, rows.missing - mean_e, ridge * rows.mean(xx))
        return np.vstack([kernel, mean_e - (rows.around + mean_x) @ kernel])

    @cached_property
    def _sorted(self) -> _SortedRows:
        x, missing, held_out = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        self._parts.clear()
        order = np.argsort(held_out, kind="stable")
        x, n_fitted = x[order], int((~held_out).sum())
        around = x[:n_fitted].mean(0) * self._bias
        x -= around
        return _SortedRows(x, missing[order], n_fitted, around, x @ x.T)


@dataclass(frozen=True)
class _SortedRows:
    """Samples, those that are fitted to first, and their products."""

    x: np.ndarray
    missing: np.ndarray
    n_fitted: int
    around: np.ndarray  # what was taken from the inputs: their means over those fitted to
    xx: np.ndarray

    @property
    def held_missing(self) -> np.ndarray:
        return self.missing[self.n_fitted :]

    def mean(self, xx: np.ndarray) -> float:
        """The mean eigenvalue of X'X from XX'."""
        return float(np.trace(xx)) / self.x.shape[1] or 1.0


def best_correction(samples: Samples) -> tuple[np.ndarray | None, float | None]:
    """The correction by all samples, its ridge chosen by the held-out ones.

    Their error falls towards the best ridge and rises behind it, so that the search goes from one
    to the next as long as it falls.

    Args:
        samples: Some of them held out.

    Returns:
        The correction and its ridge, or `(None, None)` if none brings the held-out outputs closer.
    """
    best, lowest = _FIRST, samples.trial(RIDGES[_FIRST])
    for ahead in (range(_FIRST + 1, len(RIDGES)), range(_FIRST - 1, -1, -1)):
        for number in ahead:
            error = samples.trial(RIDGES[number])
            if not error < lowest:
                break
            best, lowest = number, error
        if best != _FIRST:
            break
    if not lowest < samples.error():
        return None, None
    return samples.correction(RIDGES[best]), RIDGES[best]
