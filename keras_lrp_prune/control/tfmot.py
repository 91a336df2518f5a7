"""The one place that imports TensorFlow Model Optimization, and leaves no trace of it.

Its import sets `TF_USE_LEGACY_KERAS=1`, which turns a `tf.keras` that is not loaded yet into
legacy Keras for the whole process. So `tf.keras` is loaded first, as it would have been, and the
environment is put back afterwards.
"""

from __future__ import annotations

import os

import tensorflow as tf

from keras_lrp_prune.graph.model_graph import UnsupportedModelError

_VARIABLE = "TF_USE_LEGACY_KERAS"

_backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
if _backend != "tensorflow":
    raise UnsupportedModelError(
        f"keras_lrp_prune needs the TensorFlow backend, but KERAS_BACKEND is {_backend!r}. Set "
        "KERAS_BACKEND=tensorflow before Keras is imported."
    )
tf.keras.__name__  # noqa: B018 - loads the lazy module
_before = os.environ.get(_VARIABLE)
import tensorflow_model_optimization as _tfmot  # noqa: E402 - after the lines above

if _before is None:
    os.environ.pop(_VARIABLE, None)
else:
    os.environ[_VARIABLE] = _before

PruningSchedule = _tfmot.sparsity.keras.PruningSchedule

__all__ = ["PruningSchedule"]
