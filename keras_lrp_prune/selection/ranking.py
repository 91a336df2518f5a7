"""Which units go next, given their scores: the cheapest first, never the last of a group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lrp_prune.criteria.scores import RevisableScores, Scores
from keras_lrp_prune.prunables.prunable import Prunable, UnitGroup
from keras_lrp_prune.selection.limits import Limits, bundle_sizes

# The gain of a unit that gains nothing, so that it can be divided by.
LEAST_GAIN = 1e-12


def propose(
    prunable: Prunable,
    removed: np.ndarray,
    scores: np.ndarray,
    rate: float,
    limits: Limits,
) -> np.ndarray:
    """Adds the lowest-scored units until the pruning rate is as near to `rate` as it gets.

    Args:
        prunable: What can go.
        removed: Units that are gone already, bool, shape `(units,)`.
        scores: Score of each unit, summed over what goes with it, float, same shape.
        rate: Pruning rate to reach.
        limits: What every group keeps.

    Returns:
        The units that would be gone, bool; at least one more than before, unless none may go.
    """
    return also_removed(removed, lowest_scored(prunable, removed, scores, rate, limits))


def lowest_scored(
    prunable: Prunable,
    removed: np.ndarray,
    scores: np.ndarray,
    rate: float,
    limits: Limits,
) -> list[Bundle]:
    """What `propose` adds, in the order in which it goes."""
    bundles = cheapest_first(prunable, removed, scores, limits)
    goal = rate * prunable.unit_sizes.sum()
    return bundles[: nearest(prunable, removed, bundles, goal)]


def lowest_one_by_one(
    prunable: Prunable,
    removed: np.ndarray,
    scores: RevisableScores,
    class_weights: np.ndarray,
    gains: np.ndarray,
    rate: float,
    limits: Limits,
) -> list[Bundle]:
    """The units with the lowest scores for what they gain, one bundle after another.

    Like `lowest_scored`, with the scores of the others revised whenever a bundle goes.

    Args:
        prunable: What can go.
        removed: Units that are gone already, bool, shape `(units,)`.
        scores: How much units matter.
        class_weights: Weight of each class, shape `(classes,)`.
        gains: What is gained by each unit, such as its size or FLOPs, shape `(units,)`.
        rate: Pruning rate to reach.
        limits: What every group keeps.
    """
    sizes, goal = prunable.unit_sizes, rate * prunable.unit_sizes.sum()
    missing = goal - sizes[removed].sum()
    # Bundles are ranked by their scores for their sizes.
    worth = sizes / np.maximum(gains, LEAST_GAIN)
    gone, combined = removed, worth * scores.combined(class_weights)

    def first_of(number: int) -> Bundle | None:
        return next(_of_group(prunable, number, gone, combined, limits), None)

    group_of = np.empty(prunable.n_units, np.int64)
    for number, group in enumerate(prunable.groups):
        group_of[group.units] = number
    firsts = [first_of(number) for number in range(len(prunable.groups))]
    taken: list[Bundle] = []
    while ready := [first for first in firsts if first is not None]:
        best = min(ready, key=lambda bundle: bundle.score)
        if taken and abs(missing - best.size) >= abs(missing):
            break  # nearer to the goal without it
        taken.append(best)
        missing -= best.size
        gone = also_removed(gone, [best])
        scores, before = scores.revised(best.units), combined
        combined = worth * scores.combined(class_weights)
        changed = group_of[combined != before]
        for number in {best.group, *np.unique(changed).tolist()}:
            firsts[number] = first_of(number)
    return taken


def lowest_of_group(
    prunable: Prunable,
    group: UnitGroup,
    scores: Scores,
    class_weights: np.ndarray,
    share: float,
) -> np.ndarray:
    """The units that go where one group alone loses units, the lowest scored first.

    Args:
        prunable: What can go.
        group: The group that loses some.
        scores: How much units matter; those that can be are revised whenever one goes.
        class_weights: Weight of each class, shape `(classes,)`.
        share: How much of the group goes, to the nearest unit; at least one goes, and one stays.

    Returns:
        bool, shape `(units,)`; nothing of a group with a single unit.
    """
    sizes, removed = prunable.unit_sizes, np.zeros(prunable.n_units, bool)
    missing = share * sizes[group.units].sum()
    for _ in range(group.size - 1):
        left = group.units[~removed[group.units]]
        lowest = left[np.argmin(scores.combined(class_weights)[left] / sizes[left])]
        if removed.any() and abs(missing - sizes[lowest]) >= abs(missing):
            break  # nearer to the share without it
        removed[lowest] = True
        missing -= sizes[lowest]
        if isinstance(scores, RevisableScores):
            scores = scores.revised(np.array([lowest]))
    return removed


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
    bundles = [
        bundle
        for number in range(len(prunable.groups))
        for bundle in _of_group(prunable, number, removed, scores, limits)
    ]
    return sorted(bundles, key=lambda bundle: bundle.score)


def _of_group(
    prunable: Prunable, number: int, removed: np.ndarray, scores: np.ndarray, limits: Limits
) -> Iterator[Bundle]:
    """The bundles of a group that may go, with ascending scores."""
    group, sizes = prunable.groups[number], prunable.unit_sizes
    left = group.units[~removed[group.units]]
    left = left[np.argsort(scores[left] / sizes[left], kind="stable")]
    lengths = bundle_sizes(len(left), group.size, limits)
    if not len(lengths):
        return
    starts, gone = np.cumsum(lengths) - lengths, left[: lengths.sum()]
    counts = np.add.reduceat(sizes[gone], starts)
    # Scores rise within a group; float rounding could make them fall, which is prevented.
    rising = np.maximum.accumulate(np.add.reduceat(scores[gone], starts) / counts)
    rows = (array.tolist() for array in (starts, lengths, counts, rising))
    for start, length, count, score in zip(*rows, strict=True):
        units = gone[start : start + length]
        yield Bundle(units, count, score, number, length != limits.round_to)


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
