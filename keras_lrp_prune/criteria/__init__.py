"""What scores the units that can go: criteria, given by name or as objects.

A `Criterion` says what scores, and a `Scorer` does it; `register_criterion` gives one of your own a
name. Reached as `klp.criteria`; importing it needs no TensorFlow.
"""

from keras_lrp_prune.criteria.activations import Activation, APoZ, Taylor
from keras_lrp_prune.criteria.criterion import Criterion, ProbabilityScorer, Scorer
from keras_lrp_prune.criteria.group_taylor import GroupTaylor
from keras_lrp_prune.criteria.lrp import LRP, PXP, LogOdds
from keras_lrp_prune.criteria.norms import WeightNorm, over_kernels
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.random_order import Random
from keras_lrp_prune.criteria.reconstruction import ChannelOBS, ThiNet
from keras_lrp_prune.criteria.registry import (
    CRITERIA,
    register_criterion,
    unregister_criterion,
)
from keras_lrp_prune.criteria.scores import (
    Contributions,
    RevisableScores,
    Scores,
    relative_to_group,
)
from keras_lrp_prune.criteria.unique import UniqueContribution

__all__ = [
    "CRITERIA",
    "LRP",
    "PXP",
    "APoZ",
    "Activation",
    "ChannelOBS",
    "Contributions",
    "Criterion",
    "GroupTaylor",
    "LogOdds",
    "ProbabilityScorer",
    "Problem",
    "Random",
    "RevisableScores",
    "Scorer",
    "Scores",
    "Taylor",
    "ThiNet",
    "UniqueContribution",
    "WeightNorm",
    "over_kernels",
    "register_criterion",
    "relative_to_group",
    "unregister_criterion",
]
