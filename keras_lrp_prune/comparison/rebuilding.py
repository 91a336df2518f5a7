"""The models that methods leave, measured."""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.data import ReferenceSet
from keras_lrp_prune.evaluation import class_accuracies
from keras_lrp_prune.pruning.recovering import recover
from keras_lrp_prune.pruning.task import Task
from keras_lrp_prune.relevance.criteria import Problem
from keras_lrp_prune.runtime import CompiledForward, scope
from keras_lrp_prune.surgery.building import build
from keras_lrp_prune.surgery.kept import kept_without


class RebuiltModels:
    """The models that come out: what is left after some units went, rebuilt and measured.

    Rebuilt, because a masked model takes as long as a whole one. A measurement costs one forward
    pass of the smaller model and its trace, and what the recovery takes.

    Args:
        task: The model.
        problem: The model and its reference set, for the recovery; nothing is scored.
        recovery: How what is left is refitted, as in `prune`.
    """

    def __init__(self, task: Task, problem: Problem, recovery: str | None) -> None:
        self._task, self._problem, self._recovery = task, problem, recovery

    def class_accuracies(self, removed: np.ndarray, samples: ReferenceSet) -> np.ndarray:
        """Accuracy of each class.

        Args:
            removed: Units that are gone, bool, shape `(units,)`.
            samples: What to measure on.

        Returns:
            float64, shape `(classes,)`.
        """
        task = self._task
        refitted = recover(
            task.flat, self._problem, removed, self._recovery, task.keras_module
        ).graph
        with scope(task.strategy):
            small = build(refitted, kept_without(task.structure, removed), task.keras_module).model
            forward = CompiledForward(small, task.batch_size, task.strategy)
        return class_accuracies(samples.y, task.probabilities(forward, samples))
