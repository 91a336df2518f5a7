"""What an optimizer keeps for each entry of a weight: moments, accumulated gradients, averages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

AVERAGES = "_model_variables_moving_average"

# Slots that do not start at zero, with the option that has their first value. At zero, Ftrl would
# divide zero by zero as soon as a gradient is zero, and Adagrad's first step would be huge.
_FRESH = {"_accumulators": "initial_accumulator_value"}


@dataclass(frozen=True)
class Slot:
    """A variable of an optimizer that has an entry for each entry of a weight.

    Args:
        variable: Of the shape of the weight.
        fresh: The value that its entries start with.
        is_average: Whether Keras writes it back into the weight (`use_ema=True`).
    """

    variable: Any
    fresh: float
    is_average: bool


def optimizers_within(optimizer: Any) -> Iterator[Any]:
    """An optimizer and those inside it, such as the one that a loss-scaling optimizer wraps."""
    yield optimizer
    inner = getattr(optimizer, "inner_optimizer", None)
    for one in (*getattr(optimizer, "optimizers", ()), *([] if inner is None else [inner])):
        yield from optimizers_within(one)


def slots_of(optimizer: Any, weight: Any) -> Iterator[Slot]:
    """Everything that the optimizer, and those inside it, keep for each entry of a weight.

    Variables that sum up several entries, as those of Adafactor, are left out.

    Args:
        optimizer: Of Keras 3; one that is not built yet has no slots.
        weight: A `keras.Variable`.
    """
    for one in optimizers_within(optimizer):
        weights = getattr(one, "_trainable_variables", ())
        places = [place for place, known in enumerate(weights) if known is weight]
        for name, slots in vars(one).items():
            if not (isinstance(slots, list) and len(slots) == len(weights)):
                continue
            for place in places:
                slot = slots[place]
                if (
                    isinstance(slot, keras.Variable)
                    and slot is not weight
                    and tuple(slot.shape) == tuple(weight.shape)
                ):
                    fresh = getattr(one, _FRESH[name]) if name in _FRESH else 0.0
                    yield Slot(slot, fresh, name == AVERAGES)
