"""When it pays to make something anew for what is left of a model."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


class Shrinking(Generic[T]):
    """Something compiled for a model, made anew without what is gone once that pays.

    It pays when the time that was spent on masked units since it was last made comes to the time
    that making it took, the first call with its tracing included. So, whatever comes later, no more
    than about as much time is lost as could have been saved.

    Args:
        make: Makes it without some units.
        work: What a call takes without some units, in any measure.
        n_units: How many units there are.
        close: Frees one that another takes the place of.

    Attributes:
        made: The present one.
        left_out: The units that it is made without.
    """

    def __init__(
        self,
        make: Callable[[np.ndarray], T],
        work: Callable[[np.ndarray], float],
        n_units: int,
        *,
        close: Callable[[T], None] = lambda made: None,
    ) -> None:
        self._make, self._work, self._close = make, work, close
        self._begin(np.zeros(n_units, bool))

    @property
    def pays(self) -> bool:
        """Whether it would pay by now to make it anew."""
        return self._uses > 1 and self._wasted >= self._cost

    def settle(self, removed: np.ndarray) -> None:
        """Says that these units are probably gone for good; may make it anew without them."""
        if self.pays:
            self._make_anew(removed)

    @contextmanager
    def without(self, removed: np.ndarray) -> Iterator[T]:
        """Gives it to be called, once, where these units are masked; others were left out.

        Args:
            removed: bool, shape `(units,)`.
        """
        if (self.left_out & ~removed).any():  # units that came back
            self._make_anew(self.left_out & removed)
        start = time.perf_counter()
        yield self.made
        seconds = time.perf_counter() - start
        self._uses += 1
        if self._uses == 1:
            self._cost += seconds
        else:
            # What the first call took beyond others is its tracing.
            self._cost -= seconds if self._uses == 2 else 0.0
            self._wasted += seconds * (1 - self._work(removed) / self._size)

    def _make_anew(self, removed: np.ndarray) -> None:
        self._close(self.made)
        del self.made
        # Models are cycles of references: Python finds them late, and each holds megabytes.
        gc.collect()
        self._begin(removed)

    def _begin(self, removed: np.ndarray) -> None:
        start = time.perf_counter()
        self.left_out, self.made = removed.copy(), self._make(removed)
        self._cost, self._wasted, self._uses = time.perf_counter() - start, 0.0, 0
        self._size = self._work(removed) or 1.0
