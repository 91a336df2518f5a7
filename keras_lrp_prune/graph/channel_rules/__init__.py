"""How each layer type passes channels on: one small function per kind of layer.

A channel rule is a function `rule(call, flow)`. It reads the channels of the call's inputs, tells
the `ChannelFlow` which weights, sizes and channels belong together, and returns the channels of the
output (a list of them for several outputs). The table in `graph.layer_types` gives each layer type
its rule; a type without one is a barrier: what it reads and what it returns is protected.
"""

from keras_lrp_prune.graph.channel_rules.calls import Call, ChannelRule, NoRule
from keras_lrp_prune.graph.channels import Channels
from keras_lrp_prune.graph.flow import ChannelFlow

__all__ = ["Call", "ChannelFlow", "ChannelRule", "Channels", "NoRule"]
