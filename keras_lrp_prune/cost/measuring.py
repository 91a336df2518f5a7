"""Costs that only a real model tells: bytes on disk, milliseconds per image."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

_WARM_UP = 3


def file_size(model: keras.Model) -> int:
    """Bytes of the model's `.keras` file.

    Args:
        model: Any Keras model (3 or legacy); an optimizer it was compiled with is part of the file.

    Returns:
        Size in bytes.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> file_size(model) > 1000
        True
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        return path.stat().st_size


def latency(model: keras.Model, x: np.ndarray, repeats: int = 30) -> float:
    """Median time that the compiled model takes for one image.

    Tracing and the first calls are not timed.

    Args:
        model: Any Keras model (3 or legacy) with one input.
        x: A batch of inputs, shape `(batch, ...)`; the batch size of the measurement.
        repeats: Number of timed calls.

    Returns:
        Milliseconds per image.

    Raises:
        ValueError: If `x` is empty or `repeats` is less than 1.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> latency(model, np.zeros((8, 4), "float32"), repeats=5) > 0
        True
    """
    if len(x) == 0 or repeats < 1:
        raise ValueError(
            f"latency needs at least one image and one repeat, got {len(x)} and {repeats}."
        )
    import tensorflow as tf

    batch = tf.constant(x)
    predict = tf.function(lambda images: model(images, training=False), autograph=False)
    times = []
    for _ in range(_WARM_UP + repeats):
        start = time.perf_counter()
        for output in tf.nest.flatten(predict(batch)):
            output.numpy()  # waits until an accelerator is done
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[_WARM_UP:]) / len(x)
