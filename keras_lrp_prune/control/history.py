"""One record per step of a pruning run, whatever it is that is pruned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from keras_lrp_prune.evaluation import harmonic_mean_accuracy
from keras_lrp_prune.files import formed
from keras_lrp_prune.selection.examiner import Evaluation

# A function from removed units, bool `(units,)`, to counts of what is left, by name. The first is
# what the pruning rate is a share of, named as the prunable names it.
Counts = Callable[[np.ndarray], Mapping[str, int]]


@dataclass(frozen=True)
class Step:
    """What one proposal did.

    Args:
        step: Number of the proposal; 0 is the unpruned model.
        rate: Pruning rate of the proposal.
        harmonic_mean: Harmonic mean accuracy on the reference set.
        class_accuracies: Accuracy of each class on the reference set.
        soft_harmonic_mean: Harmonic mean of the mean probabilities of the true classes.
        soft_class_accuracies: Mean probability of the true class, by class; it steers.
        left: Counts of what is left, by name; see `Counts`.
        accepted: Whether the proposal was kept.
        reason: Why it was not, or an empty string.
    """

    step: int
    rate: float
    harmonic_mean: float
    class_accuracies: tuple[float, ...]
    soft_harmonic_mean: float
    soft_class_accuracies: tuple[float, ...]
    left: Mapping[str, int]
    accepted: bool
    reason: str = ""

    @classmethod
    def of(
        cls,
        step: int,
        rate: float,
        found: Evaluation,
        left: Mapping[str, int],
        *,
        reason: str = "",
    ) -> Self:
        """Made from what is found of a proposal; with a `reason` it is an undone step."""
        return cls(
            step=step,
            rate=rate,
            harmonic_mean=harmonic_mean_accuracy(found.hard),
            class_accuracies=tuple(map(float, found.hard)),
            soft_harmonic_mean=harmonic_mean_accuracy(found.soft),
            soft_class_accuracies=tuple(round(float(value), 6) for value in found.soft),
            left=left,
            accepted=not reason,
            reason=reason,
        )

    @property
    def worst_class(self) -> int:
        """The class with the lowest accuracy."""
        return worst_class(self.class_accuracies, self.soft_class_accuracies)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data, in which the counts of `left` are entries beside the others."""
        plain: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            plain |= value if field.name == "left" else {field.name: value}
        return plain

    @classmethod
    def from_dict(cls, record: Any, counts: Collection[str]) -> Self:
        """The inverse of `to_dict`.

        Args:
            record: Plain data.
            counts: Names of the counts of what is left.

        Raises:
            ValueError: If it is no such record; the message says what is missing or of another
                type.
        """
        if isinstance(record, Mapping) and "left" not in record:
            left = {name: record[name] for name in counts if name in record}
            if missing := [name for name in counts if name not in left]:
                raise ValueError(f"it lacks {missing[0]!r}")
            others = {name: value for name, value in record.items() if name not in left}
            record = {**others, "left": left}
        made: Self = formed(record, cls)
        return made


def worst_class(hard: tuple[float, ...], soft: tuple[float, ...]) -> int:
    """The class with the lowest accuracy; of equal hard ones that with the lowest soft one."""
    accuracies = list(zip(hard, soft, strict=True))
    return min(range(len(accuracies)), key=accuracies.__getitem__)
