"""How good a candidate is, and which of its units matter: in one pass, or in two."""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.control.loop import Evaluation
from keras_lrp_prune.evaluation import class_accuracies, probabilities, soft_class_accuracies
from keras_lrp_prune.relevance.criteria import LRP, Criterion, Problem
from keras_lrp_prune.runtime import CompiledForward
from keras_lrp_prune.surgery.masking import ChannelMask


class OnePass:
    """LRP's forward pass gives the accuracies too: nothing is computed twice.

    An evaluation costs one LRP pass over the reference set; the scores after it nothing.

    Args:
        problem: The model and the reference set.
        criterion: LRP on them.
    """

    def __init__(self, problem: Problem, criterion: LRP) -> None:
        self._y = problem.reference.y
        self._criterion = criterion
        self._removed = np.empty(0, bool)
        self._scores = np.empty(0)

    def evaluate(self, removed: np.ndarray) -> Evaluation:
        """See `Examiner`."""
        self._scores, found = self._criterion.examine(removed)
        self._removed = removed
        return _evaluation(self._y, found)

    def scores(self, removed: np.ndarray) -> np.ndarray:
        """See `Examiner`."""
        if not np.array_equal(removed, self._removed):
            self.evaluate(removed)
        return self._scores


class TwoPasses:
    """A criterion that does not run the model to its outputs, or not to these.

    An evaluation costs a forward pass over the reference set, scores what the criterion costs.

    Args:
        problem: The model and the reference set.
        criterion: Scores the units of the masked working model.
    """

    def __init__(self, problem: Problem, criterion: Criterion) -> None:
        working = problem.working()
        names = {name: layer.weights for name, layer in problem.graph.layers.items()}
        self._mask = ChannelMask(problem.structure, working.layers, names)
        self._forward = CompiledForward(working.model, problem.batch_size, problem.strategy)
        self._problem = problem
        self._criterion = criterion

    def evaluate(self, removed: np.ndarray) -> Evaluation:
        """See `Examiner`."""
        self._mask.set(removed)
        reference = self._problem.reference
        found = probabilities(self._forward(reference.x), self._problem.head.kind)
        return _evaluation(reference.y, found)

    def scores(self, removed: np.ndarray) -> np.ndarray:
        """See `Examiner`."""
        self._mask.set(removed)
        return self._criterion.scores(removed)


def examiner(problem: Problem, criterion: Criterion) -> OnePass | TwoPasses:
    """The cheaper way that suits the criterion."""
    if isinstance(criterion, LRP):
        return OnePass(problem, criterion)
    return TwoPasses(problem, criterion)


def _evaluation(y: np.ndarray, found: np.ndarray) -> Evaluation:
    return Evaluation(class_accuracies(y, found), soft_class_accuracies(y, found))
