"""Methods side by side: the accuracy of each over the pruning rate, on held-out samples."""

from keras_lrp_prune.comparison.curve import accuracy_curve
from keras_lrp_prune.comparison.method_comparison import DEFAULT_METHODS, Comparison, compare
from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.comparison.methods import METHODS, Method

__all__ = [
    "DEFAULT_METHODS",
    "METHODS",
    "Comparison",
    "Method",
    "MethodCurve",
    "accuracy_curve",
    "compare",
]
