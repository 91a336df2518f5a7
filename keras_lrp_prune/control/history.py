"""One record per step of a pruning run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from keras_lrp_prune.cost import Cost
from keras_lrp_prune.evaluation import harmonic_mean_accuracy
from keras_lrp_prune.files import formed


@dataclass(frozen=True)
class StepRecord:
    """What one proposal did.

    Args:
        step: Number of the proposal; 0 is the unpruned model.
        rate: Pruning rate of the proposal.
        harmonic_mean: Harmonic mean accuracy on the reference set.
        class_accuracies: Accuracy of each class on the reference set.
        soft_harmonic_mean: Harmonic mean of the mean probabilities of the true classes.
        soft_class_accuracies: Mean probability of the true class, by class; it steers.
        filters, params, flops: What is left; FLOPs are per sample.
        accepted: Whether the proposal was kept.
        reason: Why it was not, or an empty string.
    """

    step: int
    rate: float
    harmonic_mean: float
    class_accuracies: tuple[float, ...]
    soft_harmonic_mean: float
    soft_class_accuracies: tuple[float, ...]
    filters: int
    params: int
    flops: int
    accepted: bool
    reason: str = ""

    @classmethod
    def of(
        cls,
        step: int,
        rate: float,
        hard: np.ndarray,
        soft: np.ndarray,
        cost: Cost,
        *,
        reason: str = "",
    ) -> Self:
        """A record from hard and soft class accuracies; with a `reason`, of an undone step."""
        return cls(
            step=step,
            rate=rate,
            harmonic_mean=harmonic_mean_accuracy(hard),
            class_accuracies=tuple(map(float, hard)),
            soft_harmonic_mean=harmonic_mean_accuracy(soft),
            soft_class_accuracies=tuple(round(float(value), 6) for value in soft),
            filters=cost.filters,
            params=cost.parameters,
            flops=cost.flops,
            accepted=not reason,
            reason=reason,
        )

    @property
    def worst_class(self) -> int:
        """The class with the lowest accuracy."""
        accuracies = list(zip(self.class_accuracies, self.soft_class_accuracies, strict=True))
        return min(range(len(accuracies)), key=accuracies.__getitem__)

    @property
    def cost(self) -> Cost:
        """What is left."""
        return Cost(self.filters, self.params, self.flops)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> StepRecord:
        """The inverse of `to_dict`.

        Raises:
            ValueError: If it is none; the message says what is missing or of another type.
        """
        return formed(record, cls)
