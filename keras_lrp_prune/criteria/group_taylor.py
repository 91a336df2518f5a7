"""The Taylor expansion over the kernels that write a channel and those that read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lrp_prune.criteria.criterion import Criterion, Scorer
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.scores import Scores
from keras_lrp_prune.graph.channels import ChannelStructure, WeightAxis
from keras_lrp_prune.graph.layer_types import Trait, has
from keras_lrp_prune.graph.model_graph import ModelGraph, UnsupportedModelError


@dataclass(frozen=True)
class GroupTaylor(Criterion):
    """First-order change of the loss without the weights that write a unit, and that read it.

    The magnitudes of weight times gradient of the loss (Molchanov et al. 2019, arXiv:1906.10771),
    of all samples together, added up over what a kernel has of a unit, and averaged over the
    kernels that write or read the group (DepGraph: Fang et al. 2023, arXiv:2301.12900). Groups
    compare as they are. So does Torch-Pruning's `GroupTaylorImportance(normalizer=None)`: as there,
    depthwise kernels, biases and batch norms have no part in it.

    Example:
    >>> result = klp.prune(model, (x, y), 0.3, criterion=klp.criteria.GroupTaylor())
    """

    name = "taylor.group"
    help = "first-order change of the loss without the kernels that write and read it"
    passes = 2
    needs = ("samples", "gradients")

    def scorer(self, problem: Problem[ChannelStructure]) -> Scorer[ChannelStructure]:
        """See `Criterion`.

        Raises:
            UnsupportedModelError: If no kernel writes or reads a group.
        """
        return _GroupTaylorScorer(problem)


class _GroupTaylorScorer(Scorer[ChannelStructure]):
    def __init__(self, problem: Problem[ChannelStructure]) -> None:
        super().__init__(problem)
        structure = problem.structure
        self._kernels = list(_kernels(problem.graph, structure))
        # How many kernels each unit's group has: their mean is taken.
        self._counts = np.zeros(structure.n_units)
        for group in structure.groups:
            mine = [entry for entry in self._kernels if np.isin(group.units, entry.units).any()]
            if not mine:
                raise UnsupportedModelError(
                    f"Criterion 'taylor.group' takes kernels that write or read channels; group "
                    f"{group.name!r} has none. Choose another criterion, such as 'taylor'."
                )
            self._counts[group.units] = len(mine)

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Scorer`."""
        gradients, variables = self.problem.weight_gradients(), self.problem.variables()
        sums = np.zeros(self.problem.structure.n_units)
        for entry in self._kernels:
            weight = np.asarray(variables[entry.layer][entry.weight], np.float64)
            change = np.abs(weight * gradients[entry.layer][entry.weight])
            of_channel = np.moveaxis(change, entry.axis, 0).reshape(len(entry.units), -1).sum(1)
            owned = entry.units >= 0
            np.add.at(sums, entry.units[owned], of_channel[owned])
        # Units are ranked by their scores over their sizes, which are to be these means.
        return Scores((sums / self._counts * self.problem.structure.unit_sizes)[None])


def _kernels(graph: ModelGraph, structure: ChannelStructure) -> Iterator[WeightAxis]:
    """The axes of kernels that have positions of units: those that they make, or read."""
    for entry in structure.weight_axes:
        depthwise = "depthwise" in entry.weight or has(graph.layers[entry.layer], Trait.DEPTHWISE)
        if "kernel" in entry.weight and not depthwise and (entry.units >= 0).any():
            yield entry


CRITERIA: Sequence[Criterion] = (GroupTaylor(),)
