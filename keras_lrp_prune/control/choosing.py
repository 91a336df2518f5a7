"""Which units go next, by their scores, the classes' accuracies, and what the schedule asks for."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_lrp_prune.control.balance import propose_balanced
from keras_lrp_prune.control.proposal import Limits, propose
from keras_lrp_prune.control.schedules import observed_class_weights
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.relevance.scores import Scores


def choose(
    structure: ChannelStructure,
    removed: np.ndarray,
    scores: Scores,
    goal: float,
    *,
    limits: Limits,
    schedule: Any,
    class_accuracies: np.ndarray,
) -> np.ndarray:
    """The units that would be gone at the next step.

    Args:
        structure: Of the model.
        removed: Units that are gone already, bool, shape `(units,)`.
        scores: How much units matter in the model without those.
        goal: Pruning rate to reach.
        limits: What every group keeps.
        schedule: Its order weighs the classes, its pool stands for election; a schedule without
            them weighs classes alike, and lets the lowest-scored units go.
        class_accuracies: Of the model as it is, float, shape `(classes,)`.

    Returns:
        bool, shape `(units,)`; at least one more than before, unless none may go.
    """
    weights = observed_class_weights(schedule, class_accuracies)
    combined, known = scores.combined(weights), scores.contributions
    pool = getattr(schedule, "pool", 0.0)
    if known is None or not pool:
        return propose(structure, removed, combined, goal, limits)
    return propose_balanced(
        *(structure, removed, combined, known.weighted(weights), goal), limits=limits, pool=pool
    )
