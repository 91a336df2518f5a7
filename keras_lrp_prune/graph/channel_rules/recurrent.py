"""Recurrent layers, and layers that run another one over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channel_rules.calls import Call, NoRule, is_of_a_library, steady
from keras_lrp_prune.graph.channel_rules.elementwise import activated, activation_vanishes
from keras_lrp_prune.graph.channels import Channels
from keras_lrp_prune.graph.flow import ChannelFlow
from keras_lrp_prune.graph.model_graph import Shape


def recurrent(call: Call, flow: ChannelFlow) -> list[Channels]:
    """`SimpleRNN`, `GRU`, `LSTM`: every gate has a column for each unit."""
    if call.sequences > 1:
        raise NoRule("its initial state comes from another layer")
    ids = _cell(call, flow, "")
    call.size(flow, "units", ids)
    vanishes = _cell_vanishes(call, flow, ids)
    return [steady(ids, vanishes) for _ in call.output_shapes]


def bidirectional(call: Call, flow: ChannelFlow) -> list[Channels]:
    """`Bidirectional`: unit `j` of both directions goes together."""
    merge_mode, wrapped = call.config["merge_mode"], call.config["layer"]
    backward = call.config.get("backward_layer") or wrapped
    kinds = (wrapped["class_name"], backward["class_name"])
    if call.sequences > 1 or len(call.output_shapes) > 1:
        raise NoRule("it takes or returns states")
    # Not at the top: the table of layer types knows this rule.
    from keras_lrp_prune.graph.layer_types import Trait, types_with

    if merge_mode is None or len(set(kinds)) > 1 or kinds[0] not in types_with(Trait.RECURRENT):
        raise NoRule(f"directions {kinds} merged by {merge_mode!r}")
    if wrapped["config"]["units"] != backward["config"]["units"]:
        raise NoRule("its directions have different numbers of units")
    directions = (
        _inside(call, wrapped, "forward_layer"),
        _inside(call, backward, "backward_layer"),
    )
    ids = _cell(directions[0], flow, "")
    _cell(directions[1], flow, "#1")
    for key in ("layer", "backward_layer"):
        if call.config.get(key):
            call.size(flow, key, ids, "config", "units")
    vanishes = all(_cell_vanishes(direction, flow, ids) for direction in directions)
    return [steady(np.tile(ids, 2 if merge_mode == "concat" else 1), vanishes)]


def time_distributed(call: Call, flow: ChannelFlow) -> Channels | list[Channels]:
    """`TimeDistributed`: as the layer inside, at each time step."""
    # Not at the top: the table of layer types knows this rule.
    from keras_lrp_prune.graph.layer_registry import CHANNEL_RULES

    inside = call.config["layer"]
    layer = replace(
        call.layer,
        class_name=inside["class_name"],
        config=inside["config"],
        source=getattr(call.layer.source, "layer", None),
    )
    rule = CHANNEL_RULES.of(layer)
    if rule is None:
        raise NoRule(f"no channel rule for the {inside['class_name']} inside")
    if any(channels.axis == 1 - call.rank for channels in call.inputs):
        raise NoRule("its channels lie along the time axis")
    step = replace(
        call,
        layer=layer,
        input_shapes=tuple(map(_without_time, call.input_shapes)),
        output_shapes=tuple(map(_without_time, call.output_shapes)),
        config_path=(*call.config_path, "layer", "config"),
    )
    return rule(step, flow)


def _without_time(sizes: Shape) -> Shape:
    return (sizes[0], *sizes[2:])


def _inside(call: Call, config: Mapping[str, Any], attribute: str) -> Call:
    """The same call of a layer inside a wrapper."""
    live = getattr(call.layer.source, attribute, None)
    if live is not None and not is_of_a_library(live):
        raise NoRule(f"the {config['class_name']} inside is a layer of your own")
    layer = replace(
        call.layer, class_name=config["class_name"], config=config["config"], source=live
    )
    return replace(call, layer=layer)


def _cell(call: Call, flow: ChannelFlow, suffix: str) -> np.ndarray:
    """Tells the weights of one recurrent cell; `suffix` is that of a second cell's names."""
    layer = call.layer
    kernel, recurrent_kernel, bias = (
        name + suffix for name in ("kernel", "recurrent_kernel", "bias")
    )
    units = layer.weights[recurrent_kernel].shape[0]
    read_ids, role = call.read(flow)
    ids = flow.filters(layer, units)
    gates = np.tile(ids, layer.weights[kernel].shape[-1] // units)
    flow.weight(layer, kernel, 0, read_ids, role)
    flow.weight(layer, kernel, -1, gates, "zeroed")
    # Where the state of a masked unit is not zero, the other units must not read it.
    flow.weight(
        layer, recurrent_kernel, 0, ids, "sliced" if _cell_vanishes(call, flow, ids) else "unread"
    )
    flow.weight(layer, recurrent_kernel, -1, gates, "zeroed")
    if bias in layer.weights:
        flow.weight(layer, bias, -1, gates, "zeroed")
    return ids


def _cell_vanishes(call: Call, flow: ChannelFlow, ids: np.ndarray) -> bool:
    """Whether the state of a masked unit stays zero."""
    if "recurrent_activation" in call.config:  # only checked for functions that may mix units
        activation_vanishes(call, ids, flow, "recurrent_activation")
    return activated(call, flow, ids).vanishes.all().item()
