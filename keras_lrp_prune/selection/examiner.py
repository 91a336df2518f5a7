"""What the loop asks of a model: how good it is without some units, and which of them matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from keras_lrp_prune.criteria.scores import Scores
from keras_lrp_prune.evaluation import class_accuracies, soft_class_accuracies


@dataclass(frozen=True)
class Evaluation:
    """Hard and soft class accuracies on the reference set, float, shape `(classes,)`."""

    hard: np.ndarray
    soft: np.ndarray

    @classmethod
    def of(cls, y: np.ndarray, probabilities: np.ndarray) -> Self:
        """From the classes `y` of samples and their class probabilities `(samples, classes)`."""
        return cls(class_accuracies(y, probabilities), soft_class_accuracies(y, probabilities))


class Examiner(Protocol):
    """Says how good a model without some of its units is, and which units matter in it."""

    def evaluate(self, removed: np.ndarray) -> Evaluation:
        """Accuracies of the model without the removed units, bool `(units,)`."""
        ...

    def scores(self, removed: np.ndarray) -> Scores:
        """Scores of that model's units; the candidates that are evaluated next start from it."""
        ...
