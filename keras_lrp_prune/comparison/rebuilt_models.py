"""Measuring the models that methods leave."""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.data import ReferenceSet
from keras_lrp_prune.examination.refit import Refitter
from keras_lrp_prune.examination.remainder import Remainder
from keras_lrp_prune.examination.subject import Subject


class RebuiltModels:
    """Rebuilds what is left of a model without some units, and measures it.

    It is rebuilt because a masked model takes as long as a whole one. A measurement costs one
    forward pass of the smaller model, its trace, and the recovery.

    Args:
        subject: The model.
        refitter: Refits what is left.
    """

    def __init__(self, subject: Subject, refitter: Refitter) -> None:
        self._subject, self._refitter = subject, refitter

    def class_accuracies(self, removed: np.ndarray, samples: ReferenceSet) -> np.ndarray:
        """Accuracy of each class.

        Args:
            removed: Units that are gone, bool, shape `(units,)`.
            samples: What to measure on.

        Returns:
            float64, shape `(classes,)`.
        """
        left = Remainder(self._subject, removed)
        graph = left.recovered(self._refitter).graph
        return left.class_accuracies(graph, samples)
