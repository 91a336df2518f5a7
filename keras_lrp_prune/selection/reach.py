"""Which pruning rates the limits leave within reach."""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.selection.limits import Limits, bundle_sizes
from keras_lrp_prune.selection.ranking import propose


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
            for size in bundle_sizes(group.size, group.size, limits)
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
