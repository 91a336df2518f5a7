"""The record of a step as users read it: in filters, parameters and FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keras_lrp_prune.control.history import Step, worst_class
from keras_lrp_prune.cost import Cost
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
    def of(cls, step: Step) -> StepRecord:
        """The record of a step whose counts of what is left are filters, parameters and FLOPs."""
        return cls(**step.to_dict())

    def as_step(self) -> Step:
        """The step that this is the record of."""
        return Step.from_dict(self.to_dict(), self.cost.counts())

    @property
    def worst_class(self) -> int:
        """The class with the lowest accuracy."""
        return worst_class(self.class_accuracies, self.soft_class_accuracies)

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
            ValueError: If it is no such record; the message says what is missing or of another
                type.
        """
        return formed(record, cls)
