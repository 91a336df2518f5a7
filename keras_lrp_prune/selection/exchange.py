"""Units that come back, so that what goes is chosen anew among more."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.selection.limits import Limits

# From this pruning rate on: before, little is lost that could come back.
_FROM = 0.55
# A share of what is left comes back, and no more than a share of what is gone.
_OF_LEFT, _OF_GONE = 0.1, 0.5


def is_worth_it(prunable: Prunable, removed: np.ndarray) -> bool:
    """Whether so much is gone that some of it may be missed more than what is left."""
    return prunable.rate(removed) >= _FROM


def with_some_back(
    prunable: Prunable, removed: np.ndarray, worth: np.ndarray, limits: Limits
) -> np.ndarray:
    """The units that would still be gone if those that would matter most came back.

    A tenth as many come back as are left, and at most half of those that are gone.

    Args:
        prunable: What can go.
        removed: Units that are gone, bool, shape `(units,)`.
        worth: How much each of them would matter, summed over what comes back with it, float, same
            shape.
        limits: Groups that come back in part keep a multiple of what they say.

    Returns:
        bool, shape `(units,)`; the same as `removed` where too little is gone.
    """
    sizes = prunable.unit_sizes
    gone, left = sizes[removed].sum(), sizes[~removed].sum()
    most = min(_OF_LEFT * left, _OF_GONE * gone)
    bundles = sorted(
        (
            bundle
            for group in prunable.groups
            for bundle in _bundles(group.units[removed[group.units]], worth / sizes, limits)
        ),
        key=lambda bundle: -bundle[0],
    )
    still = removed.copy()
    for _, units in bundles:
        most -= sizes[units].sum()
        if most < 0:
            break
        still[units] = False
    return still


def _bundles(
    gone: np.ndarray, worth: np.ndarray, limits: Limits
) -> Iterator[tuple[float, np.ndarray]]:
    """What comes back of a group at once, the worthiest first, with its worth for its size."""
    gone = gone[np.argsort(-worth[gone], kind="stable")]
    for start in range(0, len(gone), limits.round_to):
        units = gone[start : start + limits.round_to]
        yield float(worth[units].mean()), units
