"""Closed-form fitting on the reference set: linear heads on frozen features."""

from keras_lrp_prune.recovery.head import with_linear_head

__all__ = ["with_linear_head"]
