"""Weight norms as criteria."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lrp_prune.arguments import whole
from keras_lrp_prune.criteria.criterion import Criterion, Scorer
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.scores import Scores, relative_to_group
from keras_lrp_prune.graph.channels import ChannelStructure


@dataclass(frozen=True)
class WeightNorm(Criterion):
    """Norm of each filter's kernel (Li et al. 2017), relative to its group.

    Args:
        order: 1 or 2.

    Raises:
        TypeError, ValueError: For another order.

    Example:
    >>> result = klp.prune(model, (x, y), 0.3, criterion=klp.criteria.WeightNorm(order=2))
    """

    order: int = 1

    passes = 0
    one_shot = True

    def __post_init__(self) -> None:
        whole(1, 2)("order", self.order)

    @property
    def name(self) -> str:
        """`"l1"` or `"l2"`."""
        return f"l{self.order}"

    @property
    def help(self) -> str:
        """See `Criterion`."""
        return f"{self.name.upper()} norm of its kernels"

    def scorer(self, problem: Problem[ChannelStructure]) -> Scorer:
        """See `Criterion`."""
        return _NormScorer(problem, self.order)


class _NormScorer(Scorer[ChannelStructure]):
    """Knows the scores from the start."""

    def __init__(self, problem: Problem[ChannelStructure], order: int) -> None:
        super().__init__(problem)
        self._order = order
        self.refresh()

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Scorer`."""
        return self._scores

    def refresh(self) -> None:
        """See `Scorer`."""
        layers, structure = self.problem.graph.layers, self.problem.structure
        sums = over_kernels(
            structure,
            lambda layer, weight: np.asarray(layers[layer].arrays()[weight], np.float64),
            lambda rows: np.linalg.norm(rows, ord=self._order, axis=1),
        )
        self._scores = Scores(relative_to_group(structure, sums[None], order=2))


def over_kernels(
    structure: ChannelStructure,
    kernel: Callable[[str, str], np.ndarray],
    figure: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """A figure of the kernels that make filters, summed over the filters of each unit.

    Args:
        structure: The channel structure.
        kernel: `kernel(layer, weight)` returns that weight, or an array like it.
        figure: Of an array with a row for each filter, shape `(filters, values)`, to one number for
            each, shape `(filters,)`.

    Returns:
        float64, shape `(units,)`.
    """
    sums = np.zeros(structure.n_units)
    for entry in structure.weight_axes:
        # Only the kernel that makes the filter: not those that read it, nor the batch norm behind.
        makes = entry.role == "zeroed" and "kernel" in entry.weight
        if makes and entry.layer in structure.filter_units:
            rows = np.moveaxis(kernel(entry.layer, entry.weight), entry.axis, 0)
            found = figure(rows.reshape(len(rows), -1))
            owned = entry.units >= 0
            np.add.at(sums, entry.units[owned], found[owned])
    return sums


CRITERIA: Sequence[Criterion] = (WeightNorm(order=1), WeightNorm(order=2))
