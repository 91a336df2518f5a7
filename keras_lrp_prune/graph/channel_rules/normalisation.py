"""Normalisation layers."""

from __future__ import annotations

from keras_lrp_prune.graph.channel_rules.calls import Call, NoRule, along, axes_of, from_end, steady
from keras_lrp_prune.graph.channels import Channels
from keras_lrp_prune.graph.flow import ChannelFlow


def batch_norm(call: Call, flow: ChannelFlow) -> Channels:
    """Batch normalisation.

    Zero gamma and beta make a masked channel zero. Without gamma the moving mean is zeroed too:
    then a zero input stays zero.
    """
    layer, channels = call.layer, call.inputs[0]
    if call.config.get("renorm"):
        raise NoRule("batch renormalisation is not supported: fold it into plain statistics")
    axes = axes_of(call.config["axis"], call.rank)
    if len(axes) > 1:
        raise NoRule(f"it normalises several axes, {call.config['axis']}")
    if channels.axis not in axes:  # beta belongs to another axis: a zero channel does not stay zero
        return steady(channels.ids, False, channels.axis)
    has_gamma = "gamma" in layer.weights
    for name in layer.weights:
        zeroed = name in ("gamma", "beta") or (name == "moving_mean" and not has_gamma)
        flow.weight(layer, name, 0, channels.ids, "zeroed" if zeroed else "sliced")
    return steady(channels.ids, True, channels.axis) if has_gamma else channels


def group_norm(call: Call, flow: ChannelFlow) -> Channels:
    """Group normalisation: the channels that are normalised together go together."""
    layer = call.layer
    channels = along(call, flow, from_end(call.config["axis"], call.rank))
    groups = call.config["groups"]
    together = channels.ids.reshape(len(channels) if groups == -1 else groups, -1)
    flow.unite(together[:, :1], together)
    if groups != -1:
        call.size(flow, "groups", together[:, 0])
    for name in layer.weights:
        flow.weight(layer, name, 0, channels.ids, "zeroed")
    vanishes = "gamma" in layer.weights or bool(channels.vanishes.all())
    return steady(channels.ids, vanishes, channels.axis)


def layer_norm(call: Call, flow: ChannelFlow) -> Channels:
    """Normalisation over axes of a sample: channels that are normalised together are protected."""
    channels = call.inputs[0]
    if channels.axis in axes_of(call.config["axis"], call.rank):
        kind = call.layer.class_name
        flow.protect(channels.ids, f"layer {call.layer.name!r} ({kind}) normalises over channels")
    return steady(channels.ids, False, channels.axis)
