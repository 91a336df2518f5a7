"""Models outside Python: version folders for TensorFlow Serving, files for LiteRT."""

from keras_lrp_prune.export.litert_comparison import LiteRTComparison, compare_litert
from keras_lrp_prune.export.litert_conversion import litert
from keras_lrp_prune.export.litert_model import LiteRTModel
from keras_lrp_prune.export.version_folder import saved_model
from keras_lrp_prune.extras import MissingExtraError

__all__ = [
    "LiteRTComparison",
    "LiteRTModel",
    "MissingExtraError",
    "compare_litert",
    "litert",
    "saved_model",
]
