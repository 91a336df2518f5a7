"""What a model costs: filters, parameters, floating-point operations, energy, bytes, latency."""

from keras_lrp_prune.cost.counting import Cost, CostModel
from keras_lrp_prune.cost.energy import energy
from keras_lrp_prune.cost.flops import CountedCall, CountedTensor, register_layer_flops
from keras_lrp_prune.cost.measuring import LatencyShare, file_size, latency
from keras_lrp_prune.cost.shares import BUDGETS, COUNTED_SHARES, Shares, check_budget

__all__ = [
    "BUDGETS",
    "COUNTED_SHARES",
    "Cost",
    "CostModel",
    "CountedCall",
    "CountedTensor",
    "LatencyShare",
    "Shares",
    "check_budget",
    "energy",
    "file_size",
    "latency",
    "register_layer_flops",
]
