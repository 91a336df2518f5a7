"""Which units go next, given what each adds to each sample: those that make up for each other.

Scores of single units ignore that many go at once. To first order, what a sample loses is the sum
of their contributions, and that sum can stay small though its terms are not: what one unit adds to
the log odds of a sample's class, another takes away. Units whose contributions cancel out in
every sample leave the class scores where they were.
"""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.ranking import (
    LEAST_GAIN,
    Bundle,
    cheapest_first,
    lowest_scored,
    nearest,
)


def balanced(
    prunable: Prunable,
    removed: np.ndarray,
    scores: np.ndarray,
    contributions: np.ndarray,
    gains: np.ndarray,
    rate: float,
    limits: Limits,
    pool: float,
) -> list[Bundle]:
    """Of the lowest-scored units, adds those whose contributions cancel out in each sample.

    The bundles that `lowest_scored` would take for a step of the size of the pool stand for
    election. They are elected one after another: each time the one with which the lost
    contributions (summed over units, squared, summed over samples) grow least for what it gains.

    Costs no pass: `samples * candidates` multiplications for each unit that goes.

    Args:
        prunable: What can go.
        removed: Units that are gone already, bool, shape `(units,)`.
        scores: Score of each unit, summed over what goes with it, float, same shape.
        contributions: What each unit adds to each sample, float, shape `(samples, units)`.
        gains: What is gained by each unit, such as its size or FLOPs, shape `(units,)`.
        rate: Pruning rate to reach.
        limits: What every group keeps.
        pool: Share of everything that stands for election; if it is no more than what goes, the
            lowest-scored go.

    Returns:
        What goes, in the order in which it is elected; at least one bundle, unless none may go.
    """
    total, gone = prunable.unit_sizes.sum(), prunable.unit_sizes[removed].sum()
    need = rate * total - gone
    if pool * total <= need:
        return lowest_scored(prunable, removed, scores, rate, limits)
    bundles = cheapest_first(prunable, removed, scores, limits)
    bundles = bundles[: nearest(prunable, removed, bundles, gone + pool * total)]
    if not bundles:
        return []
    lost = np.stack([contributions[:, bundle.units].sum(1) for bundle in bundles])
    gained = np.array([gains[bundle.units].sum() for bundle in bundles])
    elected = _elected(bundles, lost, gained, need)
    return [bundles[index] for index in elected]


def _elected(bundles: list[Bundle], lost: np.ndarray, gained: np.ndarray, need: float) -> list[int]:
    """Which bundles go, for a size of `need` in all; `lost` has a row for each bundle."""
    sizes = np.array([bundle.size for bundle in bundles])
    odd = {bundle.group: index for index, bundle in enumerate(bundles) if bundle.odd}
    waits_for = np.array([-1 if one.odd else odd.get(one.group, -1) for one in bundles])
    gained = np.maximum(gained, LEAST_GAIN)
    squared, along = (lost**2).sum(1), np.zeros(len(bundles))
    taken = np.zeros(len(bundles), bool)
    elected: list[int] = []
    while (need > 0 or not elected) and not taken.all():
        ready = ~taken & ((waits_for < 0) | taken[waits_for])
        growth = np.where(ready, (2 * along + squared) / gained, np.inf)
        best = int(np.argmin(growth))
        if elected and sizes[best] - need > need:
            break  # the size is nearer to `need` without it
        along += lost @ lost[best]
        need -= sizes[best]
        taken[best] = True
        elected.append(best)
    return elected
