"""`prune()` and its result; the work is done in the rooms below."""

from keras_lrp_prune.pruning.group_costs import GroupSensitivity, Sensitivity, sensitivity
from keras_lrp_prune.pruning.result import PruningResult, load_result
from keras_lrp_prune.pruning.run import prune

__all__ = [
    "GroupSensitivity",
    "PruningResult",
    "Sensitivity",
    "load_result",
    "prune",
    "sensitivity",
]
