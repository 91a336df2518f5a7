"""Layers and operations that bring several tensors together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channel_rules.calls import Call, NoRule, along, from_end
from keras_lrp_prune.graph.channels import Channels
from keras_lrp_prune.graph.flow import ChannelFlow
from keras_lrp_prune.graph.model_graph import TensorRef


def merged(call: Call, flow: ChannelFlow) -> Channels:
    """Add and its like: equal positions share one fate; zero if all inputs are."""
    own, vanishes, stretched = _united(call, flow)
    kept = not stretched and _keeps_zero(call.layer.class_name, call.numbers)
    return Channels(own.ids, np.logical_and.reduce(vanishes) & kept, own.axis)


def multiplied(call: Call, flow: ChannelFlow) -> Channels:
    """Multiply, squeeze-excite included: zero if any input is."""
    own, vanishes, _ = _united(call, flow)
    return Channels(own.ids, np.logical_or.reduce(vanishes), own.axis)


def divided(call: Call, flow: ChannelFlow) -> Channels:
    """`x / 2`: a tensor by a number."""
    if len(call.inputs) > 1 or not call.numbers:
        raise NoRule("a masked channel would be divided by zero")
    if not isinstance(call.args[0], TensorRef):
        raise NoRule("it divides by a tensor: a masked channel would be divided by zero")
    return multiplied(call, flow)


def raised(call: Call, flow: ChannelFlow) -> Channels:
    """`x ** 2`: a tensor to the power of a positive number."""
    positive = len(call.numbers) == 1 and np.size(call.numbers[0]) == 1 and call.numbers[0] > 0
    if len(call.inputs) > 1 or not positive or not isinstance(call.args[0], TensorRef):
        raise NoRule("it is not a power with a positive number as its exponent")
    return call.inputs[0]


def concatenate(call: Call, flow: ChannelFlow) -> Channels:
    """Concatenate: side by side along the channels, or one behind the other."""
    axis = from_end(call.config["axis"], len(call.output_shapes[0]))
    if all(channels.axis != axis for channels in call.inputs):
        return _one_behind_the_other(call, flow, call.inputs[0].axis)
    inputs = [along(call, flow, axis, index) for index in range(len(call.inputs))]
    return Channels(
        np.concatenate([channels.ids for channels in inputs]),
        np.concatenate([channels.vanishes for channels in inputs]),
        axis,
    )


def stack(call: Call, flow: ChannelFlow) -> Channels:
    """`ops.stack`: along a new axis."""
    channels = _one_behind_the_other(call, flow, call.inputs[0].axis)
    new = from_end(call.config["axis"], call.rank + 1)
    axis = channels.axis - 1 if new >= channels.axis else channels.axis
    return Channels(channels.ids, channels.vanishes, axis)


def _one_behind_the_other(call: Call, flow: ChannelFlow, axis: int) -> Channels:
    """Inputs joined along another axis than the channels: equal channels share one fate."""
    inputs = [along(call, flow, axis, index) for index in range(len(call.inputs))]
    for other in inputs[1:]:
        flow.unite(inputs[0].ids, other.ids)
    vanishes = np.logical_and.reduce([channels.vanishes for channels in inputs])
    return Channels(inputs[0].ids, vanishes, axis)


def _united(call: Call, flow: ChannelFlow) -> tuple[Channels, np.ndarray, bool]:
    """The inputs brought together by broadcasting.

    Returns their common channels, whether each vanishes in each of the inputs that have them all,
    and whether there are inputs with a single channel for all.
    """
    axis = _common_axis(call)
    width = call.output_shapes[0][axis] or 0
    if any(_size_along(np.shape(number), axis) > 1 for number in call.numbers):
        raise NoRule("it combines channels with an array")
    full, stretched = [], False
    for index, (channels, shape) in enumerate(zip(call.inputs, call.input_shapes, strict=True)):
        if _size_along(shape[1:], axis) == width:
            full.append(along(call, flow, axis, index))
        else:
            stretched = True
            flow.protect(channels.ids, f"layer {call.layer.name!r} spreads it over all channels")
    if not full:
        raise NoRule("its inputs do not have matching channels")
    for other in full[1:]:
        flow.unite(full[0].ids, other.ids)
    return full[0], np.stack([channels.vanishes for channels in full]), stretched


def _common_axis(call: Call) -> int:
    """The axis that most channels lie along."""
    widest = max(call.inputs, key=lambda channels: (len(channels), -channels.axis))
    return widest.axis


def _size_along(shape: Sequence[int | None], axis: int) -> int:
    """Size along an axis counted from the end; 1 where broadcasting would add the axis."""
    return (shape[axis] or 0) if len(shape) >= -axis else 1


# Operations on zero channels and numbers whose result is not simply the sum of these.
_OF_ZERO: dict[str, Callable[[Any, Any], Any]] = {
    "ops.Maximum": np.maximum,
    "ops.Minimum": np.minimum,
}


def _keeps_zero(class_name: str, numbers: tuple[Any, ...]) -> bool:
    """Whether zero channels stay zero beside these numbers."""
    if class_name not in _OF_ZERO:
        return not any(np.any(number) for number in numbers)
    return not np.any(reduce(_OF_ZERO[class_name], numbers, 0))
