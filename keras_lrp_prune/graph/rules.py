"""`graph.channel_rules`, for channel rules of one's own that import it by this name."""

from keras_lrp_prune.graph.channel_rules import (
    Call,
    ChannelFlow,
    ChannelRule,
    Channels,
    NoRule,
)
from keras_lrp_prune.graph.layer_registry import register_layer_rule

__all__ = ["Call", "ChannelFlow", "ChannelRule", "Channels", "NoRule", "register_layer_rule"]
