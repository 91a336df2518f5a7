"""What the kernel of a layer reads: its windows on the input, as rows of a matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from keras_lrp_prune.graph.generations import weights_of
from keras_lrp_prune.graph.layer_types import Trait, has
from keras_lrp_prune.graph.model_graph import LayerSpec


@dataclass(frozen=True)
class Windows:
    """Where on its input a layer applies its kernel; channels lie last.

    Args:
        kernel: Name of the weight, of shape `(*size, channels read, filters)`.
        size, strides, dilation: One number for each axis between the batch and the channels.
        padding: `"valid"`, `"same"` or `"causal"`.
    """

    kernel: str
    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str = "valid"

    def counts(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Number of windows along each axis of an input of that shape, `(n, ..., channels)`."""
        sizes = (shape[1:-1] or (1,), self._reach, self.strides, self._padded(shape))
        return tuple(
            (size + sum(padded) - reach) // stride + 1
            for size, reach, stride, padded in zip(*sizes, strict=True)
        )

    def rows(self, x: np.ndarray, chosen: np.ndarray, dtype: DTypeLike = np.float64) -> np.ndarray:
        """What the kernel sees in some windows.

        Args:
            x: The input, shape `(n, ..., channels)`.
            chosen: Numbers of windows, the first sample's first, int64, shape `(m,)`.
            dtype: Of what is returned.

        Returns:
            Shape `(m, prod(size) * channels)`, in the order of the kernel.
        """
        counts = self.counts(x.shape)
        if x.ndim == 2:  # of a dense layer: one window
            x = x[:, None]
        x = np.pad(x, [(0, 0), *self._padded(x.shape), (0, 0)])
        axes = tuple(range(1, x.ndim - 1))
        view = np.lib.stride_tricks.sliding_window_view(x, self._reach, axes)
        view = np.moveaxis(view, x.ndim - 1, -1)  # copying is quick along the channels
        sample, *place = np.unravel_index(chosen, (len(x), *counts))
        starts = (at * stride for at, stride in zip(place, self.strides, strict=True))
        steps = (slice(None, None, step) for step in self.dilation)
        seen = view[(slice(None), *(slice(None) for _ in axes), *steps)][(sample, *starts)]
        return seen.reshape(len(chosen), -1).astype(dtype, copy=False)

    @property
    def _reach(self) -> tuple[int, ...]:
        return tuple((k - 1) * step + 1 for k, step in zip(self.size, self.dilation, strict=True))

    def _padded(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        """Zeros before and behind each axis."""
        sizes = zip(shape[1:-1] or (1,), self._reach, self.strides, strict=True)
        return [_PADDING[self.padding](*entry) for entry in sizes]


def _same(size: int, reach: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


_PADDING: Mapping[str, Callable[[int, int, int], tuple[int, int]]] = {
    "valid": lambda size, reach, stride: (0, 0),
    "same": _same,
    "causal": lambda size, reach, stride: (reach - 1, 0),
}


class NoWindows(Exception):
    """A layer has no kernel that reads windows of all its channels; the message says why."""


def windows_of(layer: LayerSpec, rank: int) -> Windows:
    """How a layer reads its input.

    Args:
        layer: The layer.
        rank: Number of axes of its input.

    Raises:
        NoWindows: If it reads it in another way.
    """
    if has(layer, Trait.DEPTHWISE) or layer.config.get("groups", 1) > 1:
        raise NoWindows("depthwise or grouped, so that no filter reads all channels")
    if layer.config.get("data_format") == "channels_first":
        raise NoWindows("channels lie first")
    axes = max(rank - 2, 1)
    if has(layer, Trait.SEPARABLE):
        return _pointwise(axes, "pointwise_kernel")
    if layer.class_name == "Dense" and has(layer, Trait.LINEAR):
        return _pointwise(axes, "kernel")
    if has(layer, Trait.LINEAR) and not has(layer, Trait.TRANSPOSED):
        return _convolution(layer.config, axes)
    raise NoWindows(f"{layer.class_name} is not a layer that can be refitted")


def front_part(layer: LayerSpec, live: Any, keras: ModuleType) -> Callable[[Any], Any]:
    """What a layer does to its input before its kernel reads it.

    Args:
        layer: The layer as data.
        live: The layer.
        keras: The Keras module that it belongs to.

    Returns:
        The depthwise part of a separable convolution; else a function that does nothing.
    """
    if not has(layer, Trait.SEPARABLE):
        return lambda x: x
    names = ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier")
    depthwise = getattr(keras.layers, layer.class_name.replace("Separable", "Depthwise"))(
        **{name: layer.config[name] for name in names}, use_bias=False, dtype=live.dtype
    )
    kernel = np.asarray(weights_of(live)[list(layer.weights).index("depthwise_kernel")])
    depthwise.build((None, *(None,) * (kernel.ndim - 2), kernel.shape[-2]))
    depthwise.set_weights([kernel])
    return depthwise


def width(kernel: Any) -> int:
    """How many numbers each filter of a kernel reads."""
    return prod(kernel.shape[:-1])


def _convolution(config: Mapping[str, Any], axes: int) -> Windows:
    named = ("kernel_size", "strides", "dilation_rate")
    size, strides, dilation = (_each(config[name], axes) for name in named)
    return Windows("kernel", size, strides, dilation, config["padding"])


def _pointwise(axes: int, kernel: str) -> Windows:
    return Windows(kernel, (1,) * axes, (1,) * axes, (1,) * axes)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)
