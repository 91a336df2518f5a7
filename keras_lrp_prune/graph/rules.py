"""A second name for `graph.channel_rules`, which users' own channel rules may import."""

from keras_lrp_prune.graph.channel_rules import (
    Call,
    ChannelFlow,
    ChannelRule,
    Channels,
    NoRule,
)
from keras_lrp_prune.graph.layer_registry import register_layer_rule

__all__ = ["Call", "ChannelFlow", "ChannelRule", "Channels", "NoRule", "register_layer_rule"]
