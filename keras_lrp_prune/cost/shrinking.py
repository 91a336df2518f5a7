"""When it pays to make something anew for what is left of a model."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")

# Floating-point operations of a forward pass in the time that building and tracing one call of a
# layer takes: 1.4e8 (EfficientNetB0) to 8e8 (ResNet50), VGG16 with its few large layers 3.4e9, as
# measured on two CPU cores. A forward pass and one of LRP take about as long to trace.
_TRACING = 5e8


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Inside, garbage is looked for among new objects alone, which is faster.

    TensorFlow and Keras make a million objects when they are loaded, and a collection goes through
    all that there are. Where the caller has set some apart already, they stay as they are.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class Shrinking(Generic[T]):
    """Something compiled for a model, made anew without what is gone where that pays.

    It pays where the passes of a step save more time than tracing takes. Times are estimated from
    floating-point operations, so that the same units are left out whenever a run comes to the same
    state: it gives the same result to the last bit, whatever else the machine does, and whether or
    not it was interrupted before.

    Args:
        make: Makes it without some units.
        work: Floating-point operations of a step's passes without some units.
        shape: Calls of layers in the model, and how many units there are.
        close: Frees one that another takes the place of.

    Attributes:
        made: The present one.
        left_out: The units that it is made without.
    """

    def __init__(
        self,
        make: Callable[[np.ndarray], T],
        work: Callable[[np.ndarray], float],
        shape: tuple[int, int],
        *,
        close: Callable[[T], None] = lambda made: None,
    ) -> None:
        self._make, self._work, self._close = make, work, close
        n_calls, n_units = shape
        self._tracing = _TRACING * n_calls
        self.left_out = np.zeros(n_units, bool)
        self._whole = work(self.left_out)
        self.made = make(self.left_out)

    def pays(self, removed: np.ndarray) -> bool:
        """Whether a step saves more without these units than tracing takes."""
        return self._whole - self._work(removed) > self._tracing

    def settle(self, removed: np.ndarray) -> bool:
        """Says which units are gone where a step begins; whether it was made anew for them."""
        return self._leave_out(removed if self.pays(removed) else np.zeros_like(removed))

    def without(self, removed: np.ndarray) -> T:
        """It, for a call where these units are masked; some of them are left out.

        Args:
            removed: bool, shape `(units,)`.
        """
        self._leave_out(self.left_out & removed)  # not what came back
        return self.made

    def _leave_out(self, removed: np.ndarray) -> bool:
        if np.array_equal(removed, self.left_out):
            return False
        self._close(self.made)
        del self.made
        # Models are cycles of references: Python finds them late, and each holds megabytes.
        gc.collect()
        self.left_out, self.made = removed.copy(), self._make(removed)
        return True
