"""The curve of a method, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypedDict

import numpy as np

from keras_lrp_prune.evaluation import AccuracyCurve
from keras_lrp_prune.files import formed


@dataclass(frozen=True, eq=False, repr=False)
class MethodCurve(AccuracyCurve):
    """The accuracy curve of a method on held-out samples, and what it took.

    Attributes:
        reached: Pruning rate that stands behind each of `rates`, float64, shape `(r,)`: the
            nearest that whole groups allow, or the largest that there is.
        method: The method's name.
        seed: Of its draws.
        decisions: Digest of the units removed at each rate: where it is the same, the same units
            were.
        forward_passes: Number of plain forward passes over the reference set.
        scoring_passes: How often the criterion scored: by a pass over it, such as LRP's, which
            gives the accuracies too, or without one (`"l1"`, `"l2"`, `"random"`).
        forward_equivalents: Both together: a scoring pass counts by its time over that of a
            forward pass of the unpruned model, measured in the same run.
        seconds: What the decisions took, without start-up and without the measurement.
        engine: What computed LRP, if anything did.

    Example:
    >>> curve = klp.accuracy_curve(model, (x, y), (x_test, y_test), "lrp-iterative")
    >>> curve.auc(), curve.auc("harmonic"), curve.auc("worst")
    """

    reached: np.ndarray
    method: str
    seed: int
    decisions: str
    forward_passes: int
    scoring_passes: int
    forward_equivalents: float
    seconds: float
    engine: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        reached = np.array(self.reached, np.float64)
        if reached.shape != self.rates.shape:
            raise ValueError(f"reached must have the shape {self.rates.shape}, as rates has.")
        reached.flags.writeable = False
        object.__setattr__(self, "reached", reached)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, by {self.method}, seed {self.seed})"

    def to_dict(self) -> dict[str, Any]:
        """Gives the curve as plain data, ready for JSON; `from_dict` takes it back."""
        others = {name: getattr(self, name) for name in _PLAIN}
        return {**super().to_dict(), "reached": self.reached.tolist(), **others}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Makes a curve of what `to_dict` gave.

        Raises:
            ValueError: If an entry is missing, or is of another type or out of range.
        """
        return cls(**formed(data, _Saved))


class _Saved(TypedDict):
    rates: list[float]
    class_accuracy: list[list[float]]
    reached: list[float]
    method: str
    seed: int
    decisions: str
    forward_passes: int
    scoring_passes: int
    forward_equivalents: float
    seconds: float
    engine: str | None


_PLAIN = (
    *("method", "seed", "decisions", "forward_passes", "scoring_passes"),
    *("forward_equivalents", "seconds", "engine"),
)
