"""How good a model is for each class: accuracies, their harmonic mean, curves over the rate."""

from keras_lrp_prune.evaluation.chance import (
    USUAL_CAUSES,
    AtChanceWarning,
    Guessing,
    warn_at_chance,
)
from keras_lrp_prune.evaluation.curves import AccuracyCurve
from keras_lrp_prune.evaluation.metrics import (
    DECIMALS,
    FEW_POINTS,
    class_accuracies,
    classification_report,
    harmonic_mean_accuracy,
    probabilities,
    soft_class_accuracies,
)

__all__ = [
    "DECIMALS",
    "FEW_POINTS",
    "USUAL_CAUSES",
    "AccuracyCurve",
    "AtChanceWarning",
    "Guessing",
    "class_accuracies",
    "classification_report",
    "harmonic_mean_accuracy",
    "probabilities",
    "soft_class_accuracies",
    "warn_at_chance",
]
