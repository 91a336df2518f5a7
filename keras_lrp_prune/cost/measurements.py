"""Costs that only a real model tells: bytes on disk, milliseconds per image."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.graph.generations import keras_of

if TYPE_CHECKING:
    import keras

_WARM_UP = 3
_SHARE_REPEATS = 50


def file_size(model: keras.Model) -> int:
    """Bytes of the model's `.keras` file, without an optimizer it was compiled with.

    An optimizer's state is as large as the weights, or twice, and depends on whether the model has
    been trained, so that models would not compare.

    Args:
        model: Any Keras model (3 or legacy).

    Returns:
        Size in bytes.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> file_size(model) > 1000
        True
    """
    if getattr(model, "inputs", None):
        # The same layers, not compiled.
        model = keras_of(model).Model(model.inputs, model.outputs, name=model.name)
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
    (times,) = call_times([_compiled(model, x)], repeats)
    return 1e3 * float(np.median(times)) / len(x)


def call_times(calls: Sequence[Callable[[], Any]], repeats: int) -> np.ndarray:
    """Times calls in turns, so that other work on the machine slows all of them alike.

    The first calls of each are not timed.

    Args:
        calls: Each must return when its work is done.
        repeats: Number of timed calls of each.

    Returns:
        Seconds, shape `(calls, repeats)`.
    """
    times = np.empty((_WARM_UP + repeats, len(calls)))
    for turn in times:
        for index, call in enumerate(calls):
            start = time.perf_counter()
            call()
            turn[index] = time.perf_counter() - start
    return times[_WARM_UP:].T


class LatencyShare:
    """Measures how long a model takes without some units, as a share of the whole model's time.

    It is the ratio of the medians of calls with one sample, in this process, the two models in
    turns. Even on a quiet machine it varies by a few per cent, so that shares closer than that
    cannot be told apart. Each set of units is measured once.

    Args:
        build: Makes the model without the units removed, bool `(units,)`.
        x: One sample, shape `(1, ...)`.
        agreed: Gives all workers the same share, though each has measured its own.
    """

    def __init__(
        self,
        build: Callable[[np.ndarray], keras.Model],
        x: np.ndarray,
        agreed: Callable[[float], float] = lambda share: share,
    ) -> None:
        self._build, self._x, self._agreed = build, x, agreed
        self._whole: Callable[[], Any] | None = None
        self._known: dict[bytes, float] = {}

    def __call__(self, removed: np.ndarray) -> float:
        """The share; 1 if nothing is removed. Costs a model built and 2 x 53 calls."""
        if not removed.any():
            return 1.0
        key = np.packbits(removed).tobytes()
        if key not in self._known:
            self._known[key] = self._agreed(self._measured(removed))
        return self._known[key]

    def _measured(self, removed: np.ndarray) -> float:
        if self._whole is None:
            self._whole = _compiled(self._build(np.zeros_like(removed)), self._x)
        small = _compiled(self._build(removed), self._x)
        medians = np.median(call_times([small, self._whole], _SHARE_REPEATS), axis=1)
        return float(medians[0] / medians[1])


def _compiled(model: keras.Model, x: np.ndarray) -> Callable[[], Any]:
    """A call of the compiled model that waits until an accelerator is done."""
    import tensorflow as tf

    batch = tf.constant(x)
    predict = tf.function(lambda images: model(images, training=False), autograph=False)
    return lambda: [output.numpy() for output in tf.nest.flatten(predict(batch))]
