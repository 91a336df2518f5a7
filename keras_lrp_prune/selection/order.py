"""The order: how much each class counts when the next filters are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from keras_lrp_prune.arguments import checked


@runtime_checkable
class Order(Protocol):
    """Turns class accuracies into class weights."""

    def class_weights(self, class_accuracies: np.ndarray) -> np.ndarray:
        """Weight of each class, float64, shape `(classes,)`, mean 1."""
        ...

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same order again."""
        ...


class HarmonicOrder:
    """Weights classes by how much the harmonic mean accuracy hangs on them.

    The weight of class c is the derivative of the harmonic mean H with respect to its accuracy
    a_c: `dH/da_c = H^2 / (C a_c^2)`. A class at half the accuracy of another counts four times
    as much, so that what it needs goes later.

    Args:
        floor: Accuracies below it count as this, so that a class that is lost already does not
            take all the weight.

    Example:
    >>> HarmonicOrder().class_weights(np.array([0.9, 0.45]))
    array([0.4, 1.6])
    """

    @checked
    def __init__(self, floor: float = 0.05) -> None:
        self.floor = floor

    def class_weights(self, class_accuracies: np.ndarray) -> np.ndarray:
        """See `Order`."""
        weights = 1.0 / np.maximum(class_accuracies, self.floor) ** 2
        return weights / weights.mean()

    def get_config(self) -> dict[str, Any]:
        """See `Order`."""
        return {"floor": self.floor}


class UniformOrder:
    """Every class counts the same, whatever its accuracy."""

    def class_weights(self, class_accuracies: np.ndarray) -> np.ndarray:
        """See `Order`."""
        return np.ones(len(class_accuracies))

    def get_config(self) -> dict[str, Any]:
        """See `Order`."""
        return {}


ORDERS: Mapping[str, type] = {"harmonic": HarmonicOrder, "uniform": UniformOrder}


def make_order(order: str | Mapping[str, Any] | Order) -> Order:
    """An order from its name, its `{"class_name", "config"}`, or itself.

    Raises:
        ValueError: For an unknown name, or what is no order.
    """
    if isinstance(order, Mapping):
        by_class = {cls.__name__: cls for cls in ORDERS.values()}
        if order.get("class_name") in by_class:
            made: Order = by_class[order["class_name"]](**order.get("config", {}))
            return made
    elif isinstance(order, str):
        if order in ORDERS:
            made = ORDERS[order]()
            return made
    elif isinstance(order, Order) and not isinstance(order, type):
        return order
    raise ValueError(
        f"Unknown order {order!r}. There are: {', '.join(ORDERS)}; or give an object with "
        "class_weights(class_accuracies) and get_config()."
    )


def order_config(order: Order) -> dict[str, Any]:
    """An order in the form that `make_order` takes back."""
    return {"class_name": type(order).__name__, "config": order.get_config()}
