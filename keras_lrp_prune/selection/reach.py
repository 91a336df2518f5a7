"""Which pruning rates can be reached within the limits."""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.selection.limits import Limits, bundle_sizes
from keras_lrp_prune.selection.ranking import propose


def most_removed(prunable: Prunable, limits: Limits) -> np.ndarray:
    """The units that are gone when no more may go, bool, shape `(units,)`."""
    nothing = np.zeros(prunable.n_units, bool)
    return propose(prunable, nothing, np.zeros(prunable.n_units), 1.0, limits)


def largest_rate(prunable: Prunable, limits: Limits) -> float:
    """The highest pruning rate that the limits allow."""
    return prunable.rate(most_removed(prunable, limits))


def rate_tolerance(prunable: Prunable, limits: Limits) -> float:
    """Half the pruning rate of the largest bundle of units that can go at once; 0 if none can."""
    sizes = prunable.unit_sizes
    largest = max(
        (
            sizes[group.units].max() * count
            for group in prunable.groups
            for count in bundle_sizes(group.size, group.size, limits)
        ),
        default=0,
    )
    return float(largest / sizes.sum() / 2) if largest else 0.0


def is_nearest(prunable: Prunable, removed: np.ndarray, rate: float) -> bool:
    """Whether no more units, however small, bring the pruning rate nearer to `rate`."""
    sizes = prunable.unit_sizes
    return bool((rate * sizes.sum() - sizes[removed].sum()) < sizes.min() / 2)


def comes_nearer(
    prunable: Prunable, removed: np.ndarray, proposal: np.ndarray, rate: float
) -> bool:
    """Whether a proposal takes something, and ends no further from `rate` than it begins."""
    sizes, total = prunable.unit_sizes, prunable.unit_sizes.sum()
    before, after = (abs(rate * total - sizes[gone].sum()) for gone in (removed, proposal))
    return bool((proposal & ~removed).any() and after <= before)


def check_rate(what: str, rate: float, prunable: Prunable, limits: Limits) -> None:
    """Raises `ValueError` if the limits do not allow that pruning rate; it names the largest."""
    largest = largest_rate(prunable, limits)
    if rate > largest + rate_tolerance(prunable, limits):
        widest, noun = max(group.size for group in prunable.groups), prunable.unit_noun
        raise ValueError(
            f"{what} {rate} cannot be reached: with {' and '.join(limits.in_words(noun))} the "
            f"largest pruning rate is {largest:.4f}"
            + (f", as no group has more than {widest} {noun}." if not largest else ".")
        )
