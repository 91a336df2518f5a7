"""How each layer type passes channels on: one table, one small function per kind of layer.

A rule is a function `rule(call, flow)`. It reads the channels of the call's inputs, tells the
`ChannelFlow` which weights, sizes and channels belong together, and returns the channels of the
output (a list of them for several outputs). A layer type without a rule is a barrier: what it
reads and what it returns is protected.
"""

from keras_lrp_prune.graph.channels import Channels
from keras_lrp_prune.graph.flow import ChannelFlow
from keras_lrp_prune.graph.rules.calls import Call, NoRule
from keras_lrp_prune.graph.rules.table import LayerRule, register_layer_rule, rule_for

__all__ = [
    "Call",
    "ChannelFlow",
    "Channels",
    "LayerRule",
    "NoRule",
    "register_layer_rule",
    "rule_for",
]
