"""Methods side by side: the accuracy of each over the pruning rate, on held-out samples."""

from keras_lrp_prune.comparison.curve import DEFAULT_RATES, MethodCurve, accuracy_curve
from keras_lrp_prune.comparison.methods import METHODS, Method

__all__ = [
    "DEFAULT_METHODS",
    "DEFAULT_RATES",
    "METHODS",
    "Comparison",
    "Method",
    "MethodCurve",
    "accuracy_curve",
    "compare",
]
