"""Models outside Python: version folders for TensorFlow Serving, files for LiteRT."""

from keras_lrp_prune.export.comparing import LiteRTComparison, compare_litert
from keras_lrp_prune.export.converting import litert
from keras_lrp_prune.export.running import LiteRTModel
from keras_lrp_prune.export.serving import saved_model
from keras_lrp_prune.extras import MissingExtraError

__all__ = [
    "LiteRTComparison",
    "LiteRTModel",
    "MissingExtraError",
    "compare_litert",
    "litert",
    "saved_model",
]
