"""Second moments of what layers read: what each number has in common with the others.

Least squares solves for new weights with them; a criterion asks them how much of a channel the
others can make up for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky

from keras_lrp_prune.recovery.threads import one_thread


@dataclass(frozen=True)
class SecondMoments:
    """Sums of products of numbers that are read together, over all times that they are read.

    Args:
        matrix: X'X, float64. A row of X has the numbers and, behind them, zeros but for a 1 that
            says at which of some places it was read; where there is one place, a column of ones.
        places: How many there are.
    """

    matrix: np.ndarray
    places: int = 1

    @classmethod
    def of_sums(cls, products: np.ndarray, sums: np.ndarray, count: float) -> SecondMoments:
        """Those of which the parts are known.

        Args:
            products: Sums of products, over all places, shape `(numbers, numbers)`.
            sums: Sums of the numbers at each place, shape `(places, numbers)`.
            count: How often each place was read.
        """
        counts = count * np.eye(len(sums))
        return cls(np.block([[products, sums.T], [sums, counts]]), len(sums))

    def __add__(self, other: SecondMoments) -> SecondMoments:
        return SecondMoments(self.matrix + other.matrix, self.places)

    @property
    def products(self) -> np.ndarray:
        """Of the numbers, without the places, shape `(numbers, numbers)`."""
        return self.matrix[: -self.places, : -self.places]

    @property
    def means(self) -> np.ndarray:
        """Of the numbers at each place, shape `(places, numbers)`."""
        ends = self.matrix[-self.places :]
        return ends[:, : -self.places] / np.diag(ends[:, -self.places :])[:, None]

    @property
    def centred(self) -> np.ndarray:
        """The products of the numbers without their means, shape `(numbers, numbers)`."""
        found = self.products
        counts = np.diag(self.matrix)[-self.places :]
        for mean, count in zip(self.means, counts, strict=True):
            found = found - count * np.outer(mean, mean)
        return found

    def only(self, numbers: np.ndarray) -> SecondMoments:
        """Those of some of the numbers, by their indices."""
        width = len(self.matrix)
        left = np.concatenate([numbers, np.arange(width - self.places, width)])
        return SecondMoments(self.matrix[np.ix_(left, left)], self.places)

    def inverse(self, damping: float) -> Inverse:
        """The inverse of the centred products, with something added to their diagonal.

        Args:
            damping: What is added, as a share of the mean square of the numbers.
        """
        strength = damping * float(np.diag(self.products).mean()) or 1.0
        return Inverse.of(solved(self.centred, np.eye(len(self.products)), strength))


@dataclass(frozen=True)
class Inverse:
    """The inverse of second moments of the numbers that are left.

    Column `u` of it, over its entry `u`, takes what the others tell of number `u` away from it:
    `x H[:, u] / H[u, u]` is what is left of it, x being centred. When a number goes, what its
    column has in common with the others goes from them; no more than that is kept, and columns are
    computed as they are asked for.

    Args:
        whole: Of all numbers, float64, shape `(numbers, numbers)`.
        gone: For each number that is gone, its column over the square root of its entry on the
            diagonal, at that time, shape `(gone, numbers)`.
        diagonal: Zeros for those that are gone, shape `(numbers,)`.
    """

    whole: np.ndarray
    gone: np.ndarray
    diagonal: np.ndarray

    @classmethod
    def of(cls, whole: np.ndarray) -> Inverse:
        """That of all numbers."""
        return cls(whole, np.zeros((0, len(whole))), np.diag(whole).copy())

    def column(self, number: int) -> np.ndarray:
        """What the other numbers tell of one that is left, shape `(numbers,)`."""
        found: np.ndarray = self.whole[:, number] - self.gone[:, number] @ self.gone
        return found

    def restored(self, numbers: np.ndarray) -> np.ndarray:
        """What takes away from each of some numbers what those beside them tell of it.

        It is as `H[:, u] / H[u, u]` would be if the others of them were gone.

        Args:
            numbers: Their indices, shape `(some,)`; nothing is gone yet.

        Returns:
            Shape `(numbers, some)`.
        """
        columns = self.whole[:, numbers]
        found: np.ndarray = np.linalg.solve(columns[numbers], columns.T).T
        return found

    def without(self, number: int) -> Inverse:
        """That of the others; costs a product of each number with each that is gone."""
        column = self.column(number) / np.sqrt(self.diagonal[number])
        diagonal = np.maximum(self.diagonal - column**2, 0)
        diagonal[number] = 0
        return Inverse(self.whole, np.concatenate([self.gone, column[None]]), diagonal)


def with_ones(x: np.ndarray) -> np.ndarray:
    """The numbers and, behind them, a column of ones."""
    return np.concatenate([x, np.ones((len(x), 1))], 1)


def solved(square: np.ndarray, right: np.ndarray, strength: float) -> np.ndarray:
    """Solves a symmetric system with something added to its diagonal."""
    square = square.copy()
    square.flat[:: len(square) + 1] += strength
    with one_thread():  # where cores are shared, several wait for each other many times as long
        # As the square is symmetric, its transpose lies in memory as LAPACK works on it in place.
        factor = cholesky(square.T, lower=True, overwrite_a=True, check_finite=False)
    return cho_solve((factor, True), right, check_finite=False)
