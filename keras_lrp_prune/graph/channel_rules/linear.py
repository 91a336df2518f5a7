"""Convolutions and dense layers: new channels out of all that they read, or of each by itself."""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.graph.channel_rules.calls import Call
from keras_lrp_prune.graph.channel_rules.elementwise import activated
from keras_lrp_prune.graph.channels import Channels
from keras_lrp_prune.graph.flow import ChannelFlow


def dense(call: Call, flow: ChannelFlow) -> Channels:
    """`Dense`: reads and makes the last axis."""
    read_ids, role = call.read(flow)
    flow.weight(call.layer, "kernel", 0, read_ids, role)
    return activated(call, flow, _filters(call, flow, "kernel", -1, "units"))


def convolution(call: Call, flow: ChannelFlow) -> Channels:
    """`Conv1D`, `Conv2D`, `Conv3D`, grouped ones too."""
    axis, groups = call.channel_axis, call.config.get("groups", 1)
    if groups > 1:
        return _grouped(call, flow, groups, axis)
    read_ids, role = call.read(flow, axis)
    flow.weight(call.layer, "kernel", -2, read_ids, role)
    return activated(call, flow, _filters(call, flow, "kernel", -1, "filters"), axis)


def transposed(call: Call, flow: ChannelFlow) -> Channels:
    """`Conv1DTranspose` and its like: their kernels are `(..., filters, channels read)`."""
    axis = call.channel_axis
    read_ids, role = call.read(flow, axis)
    flow.weight(call.layer, "kernel", -1, read_ids, role)
    return activated(call, flow, _filters(call, flow, "kernel", -2, "filters"), axis)


def depthwise(call: Call, flow: ChannelFlow) -> Channels:
    """Depthwise convolution: `depth_multiplier` channels for each channel read."""
    layer, axis = call.layer, call.channel_axis
    ids, _ = call.read(flow, axis)
    flow.weight(layer, "kernel", -2, ids, "zeroed")
    out = np.repeat(ids, layer.weights["kernel"].shape[-1])
    if "bias" in layer.weights:
        flow.weight(layer, "bias", 0, out, "zeroed")
    return activated(call, flow, out, axis)


def separable(call: Call, flow: ChannelFlow) -> Channels:
    """Separable convolution: a depthwise one, then new channels by a pointwise one."""
    layer, axis = call.layer, call.channel_axis
    read_ids, role = call.read(flow, axis)
    multiplier = layer.weights["depthwise_kernel"].shape[-1]
    flow.weight(layer, "depthwise_kernel", -2, read_ids, role)
    flow.weight(layer, "pointwise_kernel", -2, np.repeat(read_ids, multiplier), "sliced")
    return activated(call, flow, _filters(call, flow, "pointwise_kernel", -1, "filters"), axis)


def _filters(call: Call, flow: ChannelFlow, weight: str, axis: int, size: str) -> np.ndarray:
    """The filters along `axis` of a kernel, with their biases and their number in the config."""
    layer = call.layer
    ids = flow.filters(layer, layer.weights[weight].shape[axis])
    flow.weight(layer, weight, axis, ids, "zeroed")
    if "bias" in layer.weights:
        flow.weight(layer, "bias", 0, ids, "zeroed")
    call.size(flow, size, ids)
    return ids


def _grouped(call: Call, flow: ChannelFlow, groups: int, axis: int) -> Channels:
    """A grouped convolution: groups go whole, or each loses the same positions.

    Whichever leaves more units to choose from; both leave a plain grouped convolution.
    """
    layer = call.layer
    width = layer.weights["kernel"].shape[-2]
    read_ids, role = call.read(flow, axis)
    ids = _filters(call, flow, "kernel", -1, "filters")
    incoming, outgoing = read_ids.reshape(groups, width), ids.reshape(groups, -1)
    if groups >= width:
        flow.unite(incoming[:, :1], incoming)
        flow.unite(incoming[:, :1], outgoing)
        call.size(flow, "groups", incoming[:, 0])
    else:
        flow.unite(incoming[0], incoming)
        flow.unite(outgoing[0], outgoing)
        flow.weight(layer, "kernel", -2, incoming[0], role)
    return activated(call, flow, ids, axis)
