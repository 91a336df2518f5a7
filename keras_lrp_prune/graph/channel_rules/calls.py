"""One call of a layer, as a channel rule sees it, and how its inputs are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channels import Channels, Role
from keras_lrp_prune.graph.flow import ChannelFlow
from keras_lrp_prune.graph.model_graph import LayerSpec, Shape, TensorRef, references


class NoRule(Exception):
    """Raised by a rule for a call that it does not cover, with the reason: the call is a barrier.

    The rule must raise it before it tells the `ChannelFlow` anything.
    """


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    Args:
        layer: The layer: its `config` and `weights`.
        inputs: Channels of each input.
        input_shapes, output_shapes: With the batch axis.
        args, kwargs: The arguments, with a `TensorRef` for each tensor.
        config_path: Where the layer's config lies in that of the layer that is rebuilt: deeper for
            a layer inside a wrapper.
    """

    layer: LayerSpec
    inputs: tuple[Channels, ...]
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    config_path: tuple[str, ...] = ("config",)

    @property
    def config(self) -> Mapping[str, Any]:
        """The layer's config."""
        return self.layer.config

    @property
    def rank(self) -> int:
        """Number of axes of the first input, the batch axis included."""
        return len(self.input_shapes[0])

    @property
    def channel_axis(self) -> int:
        """The axis that the layer takes for the channels, by its data format; from the end."""
        first = self.config.get("data_format") == "channels_first"
        return 1 - self.rank if first else -1

    @property
    def sequences(self) -> int:
        """Number of tensors it reads, without a mask, which only says which time steps count."""
        others = {key: value for key, value in self.kwargs.items() if key != "mask"}
        return len(list(references((self.args, others))))

    @property
    def numbers(self) -> tuple[Any, ...]:
        """Arguments that are not tensors, as `3.0` in `x + 3.0`."""
        return tuple(_numbers((self.args, dict(self.kwargs))))

    def read(self, flow: ChannelFlow, axis: int = -1) -> tuple[np.ndarray, Role]:
        """The channels along `axis` that a weight reads, and the role of the positions that do.

        It is `"unread"` if a masked channel is not zero here: masking then zeroes these positions.
        """
        channels = along(self, flow, axis)
        return channels.ids, "sliced" if channels.vanishes.all() else "unread"

    def size(self, flow: ChannelFlow, key: str, ids: np.ndarray, *path: str | int) -> None:
        """Entry `key` of the config (or what lies deeper in it) counts these channels.

        Raises:
            ValueError: If the config has no such entry.
        """
        if key not in self.config:
            layer = self.layer
            raise ValueError(
                f"The channel rule for layer {layer.name!r} ({layer.class_name}) speaks of an "
                f"entry {key!r} of its config; it has {', '.join(self.config) or 'none'}. "
                f"{layer.class_name}.get_config() must return every argument of the constructor."
            )
        flow.size(self.layer, (*self.config_path, key, *path), ids)


ChannelRule = Callable[[Call, ChannelFlow], Channels | list[Channels]]


def is_of_a_library(thing: Any) -> bool:
    """Whether a layer, or an activation function, is one of Keras' or TensorFlow's own."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    module = getattr(named, "__module__", None) or ""
    return module.split(".")[0] in ("keras", "tf_keras", "tensorflow")


def from_end(axis: int, rank: int) -> int:
    """An axis counted from the end."""
    return axis if axis < 0 else axis - rank


def axes_of(value: Any, rank: int) -> set[int]:
    """Axes, given as a number or several, counted from the end."""
    return {from_end(int(axis), rank) for axis in np.atleast_1d(value).tolist()}


def steady(ids: np.ndarray, vanishes: bool, axis: int = -1) -> Channels:
    """Channels that all vanish, or all do not, when masked."""
    return Channels(ids, np.full(len(ids), vanishes), axis)


def along(call: Call, flow: ChannelFlow, axis: int, index: int = 0) -> Channels:
    """The channels of an input along `axis`; if they lie along another, they are protected."""
    channels, shape = call.inputs[index], call.input_shapes[index]
    if channels.axis == axis:
        return channels
    flow.protect(
        channels.ids, f"layer {call.layer.name!r} ({call.layer.class_name}) works on another axis"
    )
    fixed = flow.new_channels(shape[axis] or 0)
    flow.protect(fixed, f"layer {call.layer.name!r} reads an axis that holds no channels")
    return steady(fixed, True, axis)


def _numbers(arguments: Any) -> Iterator[Any]:
    if isinstance(arguments, list | tuple):
        for item in arguments:
            yield from _numbers(item)
    elif isinstance(arguments, Mapping):
        for item in arguments.values():
            yield from _numbers(item)
    elif not isinstance(arguments, TensorRef) and arguments is not None:
        yield arguments
