"""The curve of a method, as data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_lrp_prune.evaluation import AccuracyCurve


@dataclass(frozen=True, eq=False, repr=False)
class MethodCurve(AccuracyCurve):
    """The accuracy curve of a method on held-out samples, and what it took.

    Attributes:
        reached: Pruning rate that was reached for each of `rates`, float64, shape `(r,)`: the
            nearest that whole units allow, or the largest that the limits allow.
        method: The method's name.
        seed: Of its draws.
        decisions: Digest of the units removed at each rate; equal digests mean that the same units
            were removed.
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
