"""Refitting without training, on the reference set: layers by least squares, linear heads."""

from keras_lrp_prune.recovery.head import with_linear_head

__all__ = ["with_linear_head"]
