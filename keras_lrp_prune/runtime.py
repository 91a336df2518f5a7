"""Running a model over many samples: one trace, batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_lrp_prune.graph.generations import keras_of

if TYPE_CHECKING:
    import keras

DEFAULT_BATCH_SIZE = 32


class CompiledForward:
    """A model's forward pass at inference, traced once for all batch sizes and masks.

    Args:
        model: A Keras model (3 or legacy) with one input and one output.
        batch_size: Samples per batch.

    Example:
    >>> outputs = CompiledForward(model)(x)
    """

    def __init__(self, model: keras.Model, batch_size: int = DEFAULT_BATCH_SIZE) -> None:
        import tensorflow as tf

        keras = keras_of(model)
        # Takes a tensor, even where the model wants a list or a dict with one.
        single = keras.Model(model.inputs[0], model.outputs[0])
        spec = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
        self._dtype = spec.dtype.as_numpy_dtype
        self._batch_size = batch_size
        self._function = tf.function(
            lambda x: single(x, training=False), input_signature=[spec], autograph=False
        )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The outputs for all samples; one forward pass over them."""
        parts = [
            np.asarray(self._function(x[start : start + self._batch_size].astype(self._dtype)))
            for start in range(0, len(x), self._batch_size)
        ]
        return np.concatenate(parts)
