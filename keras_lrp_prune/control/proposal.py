"""Which units go next, given their scores: the cheapest first, never the last of a group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure


@dataclass(frozen=True)
class Limits:
    """How much of each group may go.

    Args:
        min_channels: Channels that every group keeps: a number, or a share between 0 and 1 of
            the group's channels, rounded up.
        round_to: Groups that lose channels keep a multiple of this many (hardware widths).
    """

    min_channels: float = 1
    round_to: int = 1

    @property
    def is_share(self) -> bool:
        """Whether `min_channels` is a share of each group."""
        return 0 < self.min_channels < 1

    def kept(self, size: int) -> int:
        """Channels that a group of this size keeps."""
        if not self.is_share:
            return int(self.min_channels)
        # 0.1 of 30 is 3, whatever floats say.
        return max(1, ceil(round(self.min_channels * size, 9)))


def propose(
    structure: ChannelStructure,
    removed: np.ndarray,
    scores: np.ndarray,
    sparsity: float,
    limits: Limits,
) -> np.ndarray:
    """Adds the lowest-scored units until the pruning rate is as near to `sparsity` as it gets.

    Args:
        structure: Of the model.
        removed: Units that are gone already, bool, shape `(units,)`.
        scores: Score of each unit, summed over its filters, float, same shape.
        sparsity: Pruning rate to reach.
        limits: What every group keeps.

    Returns:
        The units that would be gone, bool; at least one more than before, unless none may go.
    """
    return without(removed, lowest_scored(structure, removed, scores, sparsity, limits))


def lowest_scored(
    structure: ChannelStructure,
    removed: np.ndarray,
    scores: np.ndarray,
    sparsity: float,
    limits: Limits,
) -> list[Bundle]:
    """What `propose` adds, in the order in which it goes."""
    bundles = cheapest_first(structure, removed, scores, limits)
    goal = sparsity * structure.unit_filters.sum()
    return bundles[: nearest(structure, removed, bundles, goal)]


def most_removed(structure: ChannelStructure, limits: Limits) -> np.ndarray:
    """The units that are gone when no more may go, bool, shape `(units,)`."""
    nothing = np.zeros(structure.n_units, bool)
    return propose(structure, nothing, np.zeros(structure.n_units), 1.0, limits)


def largest_rate(structure: ChannelStructure, limits: Limits) -> float:
    """The highest pruning rate that the limits leave."""
    return structure.pruning_rate(most_removed(structure, limits))


def rate_tolerance(structure: ChannelStructure, limits: Limits) -> float:
    """Half the pruning rate of the largest bundle of units that can go at once; 0 if none can."""
    filters = structure.unit_filters
    largest = max(
        (
            filters[group.units].max() * size
            for group in structure.groups
            for size in _bundle_sizes(group.size, group.size, limits)
        ),
        default=0,
    )
    return float(largest / filters.sum() / 2) if largest else 0.0


def is_nearest(structure: ChannelStructure, removed: np.ndarray, rate: float) -> bool:
    """Whether no more units, however small, bring the pruning rate nearer to `rate`."""
    filters = structure.unit_filters
    return bool((rate * filters.sum() - filters[removed].sum()) < filters.min() / 2)


def check_rate(what: str, rate: float, structure: ChannelStructure, limits: Limits) -> None:
    """Raises `ValueError` if the limits do not leave that pruning rate, and names the largest."""
    largest = largest_rate(structure, limits)
    if rate > largest + rate_tolerance(structure, limits):
        widest = max(group.size for group in structure.groups)
        raise ValueError(
            f"{what} {rate} cannot be reached: with min_channels={limits.min_channels} and "
            f"round_to={limits.round_to} the largest pruning rate is {largest:.4f}"
            + (f", as no group has more than {widest} channels." if not largest else ".")
        )


@dataclass(frozen=True)
class Bundle:
    """Units of a group that go at once, so that its width stays a multiple of `round_to`.

    Args:
        units: Which.
        filters: How many filters they are.
        score: Of the units, per filter.
        group: Number of the group.
        odd: Whether it makes the width a multiple, so that it goes before all others of the group.
    """

    units: np.ndarray
    filters: int
    score: float
    group: int
    odd: bool


def cheapest_first(
    structure: ChannelStructure, removed: np.ndarray, scores: np.ndarray, limits: Limits
) -> list[Bundle]:
    """All units that may go, in bundles with ascending scores; arguments as those of `propose`."""
    filters = structure.unit_filters
    bundles = []
    per_filter = scores / filters
    for number, group in enumerate(structure.groups):
        left = group.units[~removed[group.units]]
        left = left[np.argsort(per_filter[left], kind="stable")]
        start, score = 0, -np.inf
        for size in _bundle_sizes(len(left), group.size, limits):
            units = left[start : start + size]
            count = int(filters[units].sum())
            # Equal but for float rounding: never less than the bundle that goes before.
            score = max(score, float(scores[units].sum() / count))
            bundles.append(Bundle(units, count, score, number, size != limits.round_to))
            start += size
    return sorted(bundles, key=lambda bundle: bundle.score)


def _bundle_sizes(left: int, size: int, limits: Limits) -> Iterator[int]:
    """How many units of a group go at once, in the order in which they go.

    Args:
        left: Units that are left of the group.
        size: Units that it had at first.
        limits: What it keeps.
    """
    bundle = left % limits.round_to or limits.round_to
    while left - bundle >= limits.kept(size):
        yield bundle
        left, bundle = left - bundle, limits.round_to


def nearest(
    structure: ChannelStructure, removed: np.ndarray, bundles: Sequence[Bundle], goal: float
) -> int:
    """How many of the first bundles have to go, at least one, to come nearest to `goal` filters."""
    if not bundles:
        return 0
    after = structure.unit_filters[removed].sum() + np.cumsum([one.filters for one in bundles])
    return int(np.argmin(np.abs(after - goal))) + 1


def without(removed: np.ndarray, bundles: Iterable[Bundle]) -> np.ndarray:
    """The units that are gone when these bundles go too."""
    after = removed.copy()
    for bundle in bundles:
        after[bundle.units] = True
    return after
