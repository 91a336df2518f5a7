"""Layers and operations that move values: channel numbers move as the values do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channel_rules.calls import Call, NoRule, axes_of, from_end, steady
from keras_lrp_prune.graph.channels import Channels
from keras_lrp_prune.graph.flow import ChannelFlow
from keras_lrp_prune.graph.model_graph import Shape


def flatten(call: Call, flow: ChannelFlow) -> Channels:
    """`Flatten`; of channels-first tensors, it moves the channels to the end first."""
    channels, shape = call.inputs[0], call.input_shapes[0]
    if call.config.get("data_format") == "channels_first" and call.rank > 2:
        order = (0, *range(2, call.rank), 1)
        channels = _permuted(channels, order)
        shape = tuple(shape[axis] for axis in order)
    return _regrouped(channels, shape, call.output_shapes[0], flow)


def reshape(call: Call, flow: ChannelFlow, *, size: str = "target_shape") -> Channels:
    """`Reshape`: exact if every position of one new axis belongs to one channel.

    Channels that come to lie at the same position share one fate from then on.
    """
    out = _regrouped(call.inputs[0], call.input_shapes[0], call.output_shapes[0], flow)
    if call.config[size][out.axis] != -1:
        call.size(flow, size, out.ids, out.axis)
    return out


def permute(call: Call, flow: ChannelFlow) -> Channels:
    """`Permute`."""
    return _permuted(call.inputs[0], (0, *call.config["dims"]))


def transpose(call: Call, flow: ChannelFlow) -> Channels:
    """`ops.transpose`."""
    axes = call.config["axes"]
    order = range(call.rank)[::-1] if axes is None else [axis % call.rank for axis in axes]
    return _permuted(call.inputs[0], order)


def swap_axes(call: Call, flow: ChannelFlow) -> Channels:
    """`ops.swapaxes`."""
    order = list(range(call.rank))
    first, second = call.config["axis1"], call.config["axis2"]
    order[first], order[second] = order[second], order[first]
    return _permuted(call.inputs[0], order)


def move_axes(call: Call, flow: ChannelFlow) -> Channels:
    """`ops.moveaxis`."""
    marks = np.empty(tuple(range(1, call.rank + 1)))  # sizes that tell which axis is which
    moved = np.moveaxis(marks, call.config["source"], call.config["destination"])
    return _permuted(call.inputs[0], [size - 1 for size in moved.shape])


def repeat_vector(call: Call, flow: ChannelFlow) -> Channels:
    """`RepeatVector`: a new axis before the channels."""
    return call.inputs[0]


def expand_dims(call: Call, flow: ChannelFlow) -> Channels:
    """`ops.expand_dims`: new axes of size 1."""
    channels = call.inputs[0]
    rank = len(call.output_shapes[0])
    new = axes_of(call.config["axis"], rank)
    old = [axis for axis in range(-rank, 0) if axis not in new]
    return Channels(channels.ids, channels.vanishes, old[channels.axis])


def squeeze(call: Call, flow: ChannelFlow) -> Channels:
    """`ops.squeeze`: axes of size 1 go."""
    given = call.config["axis"]
    if given is None:
        given = [axis for axis, size in enumerate(call.input_shapes[0]) if size == 1]
    return _without_axes(call, axes_of(given, call.rank))


def reduction(call: Call, flow: ChannelFlow) -> Channels:
    """`ops.mean` and its like over axes beside the channels; zeros stay zero."""
    if call.config["axis"] is None:
        raise NoRule("it reduces all axes at once")
    axes = axes_of(call.config["axis"], call.rank)
    if call.config.get("keepdims"):
        _check_not_channels(call, axes)
        return call.inputs[0]
    return _without_axes(call, axes)


def total(call: Call, flow: ChannelFlow) -> Channels:
    """`ops.sum`: over the channels too, as a masked one adds nothing if it is zero."""
    channels, axes = call.inputs[0], call.config["axis"]
    summed = axes is None or channels.axis in axes_of(axes, call.rank)
    if not summed or not channels.vanishes.all():
        return reduction(call, flow)
    shape = call.output_shapes[0]
    width = (shape[-1] if len(shape) > 1 else 0) or 0
    return steady(flow.new_channels(width), vanishes=True)


def flip(call: Call, flow: ChannelFlow) -> Channels:
    """`ops.flip`, `ops.roll`: positions along axes beside the channels."""
    if call.config["axis"] is None:
        raise NoRule("it moves the channels")
    _check_not_channels(call, axes_of(call.config["axis"], call.rank))
    return call.inputs[0]


def pad(call: Call, flow: ChannelFlow) -> Channels:
    """`ops.pad` of axes beside the channels."""
    channels = call.inputs[0]
    widths = np.broadcast_to(call.config["pad_width"], (call.rank, 2))
    if widths[channels.axis].any():
        raise NoRule("it pads the channels")
    constant = call.kwargs.get("constant_values") or 0
    vanishes = channels.vanishes & (not np.any(constant))
    return Channels(channels.ids, vanishes, channels.axis)


def split(call: Call, flow: ChannelFlow) -> list[Channels]:
    """`ops.split`: into equal parts, which lose the same channels, or at given positions."""
    channels, cuts = call.inputs[0], call.config["indices_or_sections"]
    if from_end(call.config["axis"], call.rank) != channels.axis:
        return [channels for _ in call.output_shapes]
    if isinstance(cuts, int):
        parts = np.split(channels.ids, cuts)
        for part in parts[1:]:
            flow.unite(parts[0], part)
    else:
        cuts = [int(cut) for cut in cuts]
        parts = np.split(channels.ids, cuts)
        for number, cut in enumerate(cuts):
            call.size(flow, "indices_or_sections", channels.ids[:cut], number)
        for part in parts:
            flow.separate(part)
    vanishes = np.split(channels.vanishes, cuts)
    return [Channels(ids, zero, channels.axis) for ids, zero in zip(parts, vanishes, strict=True)]


def get_item(call: Call, flow: ChannelFlow) -> Channels:
    """`x[...]` with numbers, slices, an ellipsis and new axes."""
    channels, key = call.inputs[0], call.args[1]
    # A model that was loaded from a file has lists of slices.
    several = isinstance(key, tuple | list)
    entries = tuple(key) if several else (key,)
    if isinstance(key, list) and all(isinstance(entry, int) for entry in key):
        raise NoRule("it is indexed by an array")
    place, new_axis = _places(entries, call.rank, channels.axis)
    if place is None:
        return Channels(channels.ids, channels.vanishes, new_axis)
    part = entries[place]
    if not isinstance(part, slice) or part.step not in (None, 1):
        raise NoRule("it picks single channels")
    start, stop, _ = part.indices(len(channels))
    path: tuple[str | int, ...] = ("args", 1, place) if several else ("args", 1)
    if part.start not in (None, 0):
        flow.size(call.layer, (*path, "start"), channels.ids[:start])
    if part.stop is not None:
        flow.size(call.layer, (*path, "stop"), channels.ids[:stop])
    flow.separate(channels.ids[start:stop])
    return Channels(channels.ids[start:stop], channels.vanishes[start:stop], new_axis)


def _places(entries: Sequence[Any], rank: int, axis: int) -> tuple[int | None, int]:
    """Which entry of an index picks from the channel axis, and which axis that becomes."""
    if not all(
        entry is None or entry is Ellipsis or isinstance(entry, int | slice) for entry in entries
    ):
        raise NoRule("it is indexed by an array")
    taken = sum(entry is not None and entry is not Ellipsis for entry in entries)
    wide: list[tuple[int | None, Any]] = []
    for number, entry in enumerate(entries):
        if entry is Ellipsis:
            wide += [(None, slice(None))] * (rank - taken)
        else:
            wide.append((number, entry))
    if Ellipsis not in entries:
        wide += [(None, slice(None))] * (rank - taken)
    source = 0
    place: int | None = None
    result: list[int | None] = []  # for each axis of the result, the axis it comes from
    for at, entry in wide:
        if entry is None:
            result.append(None)
            continue
        if source == rank + axis:
            place = None if entry == slice(None) else at
        if isinstance(entry, slice):
            result.append(source)
        source += 1
    if rank + axis not in result:
        raise NoRule("it picks a single channel")
    return place, result.index(rank + axis) - len(result)


def _permuted(channels: Channels, order: Sequence[int]) -> Channels:
    """The channels of a tensor whose axes were put in another order."""
    rank = len(order)
    return Channels(channels.ids, channels.vanishes, list(order).index(rank + channels.axis) - rank)


def _without_axes(call: Call, axes: set[int]) -> Channels:
    _check_not_channels(call, axes)
    channels = call.inputs[0]
    behind = sum(axis > channels.axis for axis in axes)
    return Channels(channels.ids, channels.vanishes, channels.axis + behind)


def _check_not_channels(call: Call, axes: set[int]) -> None:
    if call.inputs[0].axis in axes:
        raise NoRule("it works over the channels")


def _regrouped(channels: Channels, source: Shape, target: Shape, flow: ChannelFlow) -> Channels:
    """The channels of a tensor reshaped from `source` to `target`, both with the batch axis."""
    if source[-1] == target[-1] and channels.axis == -1:
        return channels  # only axes before the channels change
    sizes = [size for size in source[1:] if size is not None]
    wanted = [size for size in target[1:] if size is not None]
    if len(sizes) + len(wanted) < len(source) + len(target) - 2:
        raise NoRule(f"the shape {source[1:]} is not fixed; give the model a fixed input size")
    if np.prod(sizes) != np.prod(wanted):
        raise NoRule(f"reshaping {source} to {target} changes the batch axis")
    numbers = np.arange(len(channels)).reshape([-1, *[1] * (-1 - channels.axis)])
    positions = np.broadcast_to(numbers, sizes).reshape(wanted)
    best = max(_candidates(positions, len(channels)), default=None)
    if best is None:
        raise NoRule(f"reshaping {source[1:]} to {target[1:]} mixes channels with other axes")
    exact, _, axis = best
    at = np.moveaxis(positions, axis, 0).reshape(wanted[axis], -1)
    first = at[:, 0]
    if exact:
        return Channels(channels.ids[first], channels.vanishes[first], axis)
    flow.unite(channels.ids[first][:, None], channels.ids[at])
    return Channels(channels.ids[first], np.logical_and.reduce(channels.vanishes[at], axis=1), axis)


def _candidates(positions: np.ndarray, count: int) -> Iterator[tuple[bool, int, int]]:
    """Axes along which the channels at `positions` can be told apart.

    Yields whether each position belongs to one channel, the axis' length, and the axis.
    """
    for axis in range(-positions.ndim, 0):
        at = np.moveaxis(positions, axis, 0).reshape(positions.shape[axis], -1)
        place = np.zeros(count, np.int64)
        place[at] = np.arange(len(at))[:, None]
        if (at == at[:, :1]).all():
            yield True, len(at), axis
        elif (place[at] == np.arange(len(at))[:, None]).all():
            yield False, len(at), axis
