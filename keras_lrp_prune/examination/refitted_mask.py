"""A network that is refitted to each mask: what is scored and judged is what recovery leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_lrp_prune.criteria.criterion import Criterion, Scorer
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.examination.recovery_choice import Recovery
from keras_lrp_prune.examination.refit import Refitted, Refitter
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.model_graph import TensorRef
from keras_lrp_prune.recovery.weights import with_own_weights


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
    same way.

    Args:
        refitter: Refits what is left of the whole model.
        apart: Its problem `with_weights_apart`; the graph of that gets the refitted weights.
        scorer: Scores that one; it is told of new weights.
    """

    def __init__(
        self,
        refitter: Refitter,
        apart: Problem[ChannelStructure],
        scorer: Scorer,
    ) -> None:
        self._refitter, self._apart, self._scorer = refitter, apart, scorer
        self._removed = np.zeros(apart.structure.n_units, bool)

    def rows(self, removed: np.ndarray, tensor: TensorRef) -> np.ndarray:
        """What the network refitted to these units computes for the reference samples.

        It is not masked for that, nor is it run: refitting gives it.

        Args:
            removed: bool, shape `(units,)`; at least one.
            tensor: The features that a linear head reads, or the outputs.
        """
        return self._refitter.refitted(removed).rows[tensor]

    @property
    def passes(self) -> int:
        """Forward passes over the reference set that refitting has cost so far."""
        return self._refitter.passes

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

    def _refit(self, removed: np.ndarray) -> None:
        """Writes the weights that suit what is left."""
        found = self._refitter.refitted(removed) if removed.any() else Refitted()
        layers = self._refitter.problem.graph.layers
        for name, layer in self._apart.graph.layers.items():
            own = {**layers[name].arrays(), **found.weights.get(name, {})}
            for weight, array in layer.weights.items():
                array[...] = own[weight]
