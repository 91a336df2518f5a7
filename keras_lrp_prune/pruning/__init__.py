"""`prune()` and its result: ties the rooms below together."""

from keras_lrp_prune.pruning.result import PruningResult, load_result
from keras_lrp_prune.pruning.run import prune

__all__ = ["PruningResult", "load_result", "prune"]
