"""Callbacks for `model.fit`."""

from keras_lrp_prune.callbacks.filter_pruning import FilterPruning

__all__ = ["FilterPruning"]
