"""Which units go next, by their scores, the classes' accuracies, and how much each class counts."""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.criteria.scores import RevisableScores, Scores
from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.selection.election import balanced
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.order import Order
from keras_lrp_prune.selection.ranking import Bundle, lowest_one_by_one, lowest_scored


def choose(
    prunable: Prunable,
    removed: np.ndarray,
    scores: Scores,
    rate: float,
    *,
    gains: np.ndarray,
    limits: Limits,
    order: Order,
    pool: float,
    class_accuracies: np.ndarray,
) -> list[Bundle]:
    """The units that go at the next step, in bundles, in the order in which they go.

    Args:
        prunable: What can go.
        removed: Units that are gone already, bool, shape `(units,)`.
        scores: How much units matter in the model without those.
        rate: Pruning rate to reach.
        gains: How much nearer to the goal each unit brings, not negative, shape `(units,)`.
        limits: What every group keeps.
        order: How much each class counts.
        pool: Share of everything that stands for election.
        class_accuracies: Of the model as it is, float, shape `(classes,)`.

    Returns:
        The bundles, at least one, unless none may go.
    """
    weights = order.class_weights(class_accuracies)
    if isinstance(scores, RevisableScores):
        return lowest_one_by_one(prunable, removed, scores, weights, gains, rate, limits)
    combined, known = scores.combined(weights), scores.contributions
    if known is None or not pool:
        return lowest_scored(prunable, removed, combined, rate, limits)
    contributions = known.weighted(weights)
    return balanced(
        prunable, removed, combined, contributions, gains, rate, limits=limits, pool=pool
    )
