"""Layers that work on each element, or on each channel, by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channel_rules.calls import Call, along, axes_of, is_of_a_library, steady
from keras_lrp_prune.graph.channels import Channels
from keras_lrp_prune.graph.flow import ChannelFlow

# Elementwise activations, by Keras' name (or class, where a layer serves as an activation): is
# f(0) = 0, so that a masked channel stays zero?
ACTIVATIONS = {
    "linear": True,
    "relu": True,
    "relu6": True,
    "leaky_relu": True,
    "elu": True,
    "selu": True,
    "celu": True,
    "gelu": True,
    "silu": True,
    "swish": True,
    "mish": True,
    "hard_silu": True,
    "hard_swish": True,
    "hard_tanh": True,
    "tanh": True,
    "tanh_shrink": True,
    "soft_shrink": True,
    "hard_shrink": True,
    "softsign": True,
    "sparse_plus": False,
    "sparse_sigmoid": False,
    "squareplus": False,
    "sigmoid": False,
    "hard_sigmoid": False,
    "log_sigmoid": False,
    "softplus": False,
    "exponential": False,
    "ELU": True,
    "LeakyReLU": True,
}


def activated(call: Call, flow: ChannelFlow, ids: np.ndarray, axis: int = -1) -> Channels:
    """A linear layer's channels behind its `activation`."""
    return steady(ids, activation_vanishes(call, ids, flow), axis)


def activation_vanishes(
    call: Call, ids: np.ndarray, flow: ChannelFlow, key: str = "activation"
) -> bool:
    """Whether the call's activation maps zero to zero; channels that it may mix are protected."""
    live = getattr(call.layer.source, key, None)
    if live is not None and not is_of_a_library(live):  # whatever it is called: even "relu"
        reason = f"layer {call.layer.name!r}: its {key}, a function of your own, may mix channels"
        flow.protect(ids, reason)
        return False
    name, options = call.config.get(key) or "linear", {}
    if isinstance(name, Mapping):  # a layer serves as the activation
        name, options = name["class_name"], name["config"]
        name = str(options) if name == "function" else name
    if name == "ReLU":
        return relu_vanishes(options)
    if name not in ACTIVATIONS:
        flow.protect(ids, f"layer {call.layer.name!r}: {key} {name!r} may mix channels")
    return ACTIVATIONS.get(name, False)


def relu_vanishes(config: Mapping[str, Any]) -> bool:
    """Whether a `ReLU` maps zero to zero: unless a threshold meets a negative slope."""
    return not (config.get("negative_slope") or 0.0) * (config.get("threshold") or 0.0)


def dropout(call: Call, flow: ChannelFlow) -> Channels:
    """`Dropout` and its like: passes on; a `noise_shape` that counts the channels goes along."""
    channels = call.inputs[0]
    shape = call.config.get("noise_shape")
    if shape is not None and len(shape) >= -channels.axis:
        place = len(shape) + channels.axis
        if shape[place] == len(channels) > 1:
            call.size(flow, "noise_shape", channels.ids, place)
    return channels


def passing(call: Call, flow: ChannelFlow) -> Channels:
    """Works on each element by itself (or only at training), and keeps a zero."""
    return call.inputs[0]


def losing_zeros(call: Call, flow: ChannelFlow) -> Channels:
    """Works on each element by itself, but does not keep a zero."""
    return steady(call.inputs[0].ids, False, call.inputs[0].axis)


def activation(call: Call, flow: ChannelFlow) -> Channels:
    """`Activation`: on each element by itself, or its channels are protected."""
    channels = call.inputs[0]
    vanishes = activation_vanishes(call, channels.ids, flow)
    return Channels(channels.ids, channels.vanishes & vanishes, channels.axis)


def softmax(call: Call, flow: ChannelFlow) -> Channels:
    """`Softmax` mixes channels, unless it runs over other axes."""
    channels, axis = call.inputs[0], call.config.get("axis", -1)
    if axis is None or channels.axis in axes_of(axis, call.rank):
        flow.protect(channels.ids, f"layer {call.layer.name!r} (Softmax) mixes channels")
    return steady(channels.ids, False, channels.axis)


def relu(call: Call, flow: ChannelFlow) -> Channels:
    """`ReLU` with its options."""
    channels = call.inputs[0]
    vanishes = channels.vanishes & relu_vanishes(call.config)
    return Channels(channels.ids, vanishes, channels.axis)


def prelu(call: Call, flow: ChannelFlow) -> Channels:
    """`PReLU`: a slope for each channel, unless they share one."""
    channels = call.inputs[0]
    if call.layer.weights["alpha"].shape[channels.axis] == len(channels):
        flow.weight(call.layer, "alpha", channels.axis, channels.ids, "sliced")
    return channels


def layer_scale(call: Call, flow: ChannelFlow) -> Channels:
    """ConvNeXt's `LayerScale`: a factor for each channel."""
    channels = along(call, flow, -1)
    (factors,) = call.layer.weights  # Keras gives it no name of its own
    flow.weight(call.layer, factors, 0, channels.ids, "sliced")
    call.size(flow, "projection_dim", channels.ids)
    return channels


def rescaling(call: Call, flow: ChannelFlow) -> Channels:
    """`Rescaling` by one scale and offset for all."""
    scale, offset = call.config["scale"], call.config["offset"]
    channels = call.inputs[0]
    if np.size(scale) > 1 or np.size(offset) > 1:
        return by_position(call, flow)
    vanishes = channels.vanishes & (float(np.ravel(offset)[0]) == 0)
    return Channels(channels.ids, vanishes, channels.axis)


def by_position(call: Call, flow: ChannelFlow) -> Channels:
    """Numbers in the config for each channel: preprocessing of inputs, whose channels stay."""
    channels = call.inputs[0]
    reason = f"layer {call.layer.name!r} ({call.layer.class_name}) treats each channel differently"
    flow.protect(channels.ids, reason)
    return steady(channels.ids, False, channels.axis)


def spatial(call: Call, flow: ChannelFlow) -> Channels:
    """Pooling, padding, cropping and resizing over the axes beside the channels."""
    channels = along(call, flow, call.channel_axis)
    fills = call.config.get("pad_to_aspect_ratio") and np.any(call.config.get("fill_value") or 0)
    return Channels(channels.ids, channels.vanishes & (not fills), channels.axis)


def global_pooling(call: Call, flow: ChannelFlow) -> Channels:
    """Global pooling over the axes beside the channels, which may go."""
    channels = along(call, flow, call.channel_axis)
    axis = call.channel_axis if call.config.get("keepdims") else -1
    return Channels(channels.ids, channels.vanishes, axis)
