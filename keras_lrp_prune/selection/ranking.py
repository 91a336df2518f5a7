"""Which units go next, given their scores: the cheapest first, never the last of a group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.selection.limits import Limits, bundle_sizes


def propose(
    prunable: Prunable,
    removed: np.ndarray,
    scores: np.ndarray,
    sparsity: float,
    limits: Limits,
) -> np.ndarray:
    """Adds the lowest-scored units until the pruning rate is as near to `sparsity` as it gets.

    Args:
        prunable: What can go.
        removed: Units that are gone already, bool, shape `(units,)`.
        scores: Score of each unit, summed over what goes with it, float, same shape.
        sparsity: Pruning rate to reach.
        limits: What every group keeps.

    Returns:
        The units that would be gone, bool; at least one more than before, unless none may go.
    """
    return also_removed(removed, lowest_scored(prunable, removed, scores, sparsity, limits))


def lowest_scored(
    prunable: Prunable,
    removed: np.ndarray,
    scores: np.ndarray,
    sparsity: float,
    limits: Limits,
) -> list[Bundle]:
    """What `propose` adds, in the order in which it goes."""
    bundles = cheapest_first(prunable, removed, scores, limits)
    goal = sparsity * prunable.unit_sizes.sum()
    return bundles[: nearest(prunable, removed, bundles, goal)]


@dataclass(frozen=True)
class Bundle:
    """Units of a group that go at once, so that its width stays a multiple of `round_to`.

    Args:
        units: The numbers of the units.
        size: How much goes with them (filters, weights).
        score: The sum of their scores, divided by the size.
        group: Number of the group.
        odd: Whether it is a smaller bundle after which the width is a multiple of `round_to`, so
            that it goes before all others of the group.
    """

    units: np.ndarray
    size: int
    score: float
    group: int
    odd: bool


def cheapest_first(
    prunable: Prunable, removed: np.ndarray, scores: np.ndarray, limits: Limits
) -> list[Bundle]:
    """All units that may go, in bundles with ascending scores; arguments as those of `propose`."""
    sizes = prunable.unit_sizes
    bundles = []
    relative = scores / sizes
    for number, group in enumerate(prunable.groups):
        left = group.units[~removed[group.units]]
        left = left[np.argsort(relative[left], kind="stable")]
        start, score = 0, -np.inf
        for size in bundle_sizes(len(left), group.size, limits):
            units = left[start : start + size]
            count = int(sizes[units].sum())
            # Scores rise within a group; float rounding could make them fall, which is prevented.
            score = max(score, float(scores[units].sum() / count))
            bundles.append(Bundle(units, count, score, number, size != limits.round_to))
            start += size
    return sorted(bundles, key=lambda bundle: bundle.score)


def nearest(prunable: Prunable, removed: np.ndarray, bundles: Sequence[Bundle], goal: float) -> int:
    """How many of the first bundles have to go, at least one, to come nearest to that size."""
    if not bundles:
        return 0
    after = prunable.unit_sizes[removed].sum() + np.cumsum([one.size for one in bundles])
    return int(np.argmin(np.abs(after - goal))) + 1


def also_removed(removed: np.ndarray, bundles: Iterable[Bundle]) -> np.ndarray:
    """The units that are gone when these bundles go too."""
    after = removed.copy()
    for bundle in bundles:
        after[bundle.units] = True
    return after
