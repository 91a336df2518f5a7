"""A network that is refitted to each mask: what is scored and judged is what recovery leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

import numpy as np

from keras_lrp_prune.criteria.criterion import Criterion, Scorer
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.examination.recovery_choice import RECOVERIES, Recovery
from keras_lrp_prune.examination.refit import Refitted, refitted
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.recovery.weights import with_own_weights

# Images and mirror images, of the whole network and of what is left; features.
_PASSES: Mapping[str, int] = {"least_squares": 4, "head": 1}


def refits_each_step(criterion: Criterion, recovery: Recovery) -> bool:
    """Whether what is left is refitted at each step, and not in the end alone."""
    return criterion.refits_each_step and recovery.chosen is not None


def with_weights_apart(problem: Problem[ChannelStructure]) -> Problem[ChannelStructure]:
    """The same problem, of which the weights can change while the model keeps its own."""
    return replace(problem, graph=with_own_weights(problem.graph))


class RefittedMask:
    """Masks units in a working copy, and refits what they leave of it.

    Each mask is refitted from the whole network and its weights, whichever mask was there before:
    what comes out hangs on the mask alone, so that a run that goes on from a checkpoint goes the
    same way, and a last refit finds the same.

    Args:
        problem: The whole model, and the reference set.
        apart: The same `with_weights_apart`; its graph gets the refitted weights.
        scorer: Scores that one; it is told of new weights.
        recovery: What is refitted.
        keras: The Keras that the model is of.

    Attributes:
        passes: Forward passes over the reference set that refitting has cost so far.
    """

    def __init__(
        self,
        problem: Problem[ChannelStructure],
        apart: Problem[ChannelStructure],
        scorer: Scorer,
        recovery: Recovery,
        keras: ModuleType,
    ) -> None:
        self._problem, self._apart, self._scorer = problem, apart, scorer
        self._recovery, self._keras = recovery.chosen, keras
        self._removed = np.zeros(problem.structure.n_units, bool)
        self._found = Refitted()
        self.passes = 0

    def set(self, removed: np.ndarray) -> None:
        """Masks exactly these units; refits, if they are others."""
        if np.array_equal(removed, self._removed):
            return
        self._refit(removed)
        self._scorer.refresh()
        self._apart.refresh()
        self._apart.mask().set(removed)
        self._removed = removed.copy()

    def clear(self) -> None:
        """Unmasks everything; all weights are those of the whole network."""
        self.set(np.zeros_like(self._removed))

    def known(self, removed: np.ndarray) -> Refitted | None:
        """The weights that suit what these units leave, if they are those that are masked."""
        return self._found if np.array_equal(removed, self._removed) else None

    def _refit(self, removed: np.ndarray) -> None:
        """Writes the weights that suit what is left."""
        problem, self._found = self._problem, Refitted()
        if removed.any():
            self._found = refitted(problem, removed, self._recovery, self._keras)
            self.passes += sum(_PASSES[part] for part in RECOVERIES[self._recovery])
        for name, layer in self._apart.graph.layers.items():
            own = {**problem.graph.layers[name].arrays(), **self._found.weights.get(name, {})}
            for weight, array in layer.weights.items():
                array[...] = own[weight]
