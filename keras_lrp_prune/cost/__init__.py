"""What a model costs: filters, parameters, floating-point operations, file size, latency."""

from keras_lrp_prune.cost.counting import Cost, CostModel
from keras_lrp_prune.cost.measuring import file_size, latency

__all__ = ["Cost", "CostModel", "file_size", "latency"]
