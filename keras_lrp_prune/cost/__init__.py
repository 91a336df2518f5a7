"""What a model costs: filters, parameters, floating-point operations, energy, bytes, latency."""

from keras_lrp_prune.cost.cost_model import Cost, CostModel
from keras_lrp_prune.cost.energy import energy
from keras_lrp_prune.cost.flops import CountedCall, CountedTensor, register_layer_flops
from keras_lrp_prune.cost.measurements import LatencyShare, file_size, latency
from keras_lrp_prune.cost.shares import COUNTED_SHARES, ModelCostShares, check_budget

__all__ = [
    "COUNTED_SHARES",
    "Cost",
    "CostModel",
    "CountedCall",
    "CountedTensor",
    "LatencyShare",
    "ModelCostShares",
    "check_budget",
    "energy",
    "file_size",
    "latency",
    "register_layer_flops",
]
