"""From a model to its channel structure: one walk over the graph, one channel rule per call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_lrp_prune.graph.channel_rules.calls import Call, NoRule, steady
from keras_lrp_prune.graph.channels import ChannelGroup, Channels, ChannelStructure
from keras_lrp_prune.graph.flow import ChannelFlow
from keras_lrp_prune.graph.layer_registry import CHANNEL_RULES
from keras_lrp_prune.graph.model_graph import (
    ModelGraph,
    Node,
    TensorRef,
    UnsupportedModelError,
    references,
)

if TYPE_CHECKING:
    import keras


def find_channel_groups(model: keras.Model) -> list[ChannelGroup]:
    """Finds which channels of a model can only be removed together.

    Costs no forward pass; linear in the number of layers.

    Args:
        model: A functional or Sequential model, of Keras 3 or legacy Keras (`tf_keras`).

    Returns:
        The unprotected channel groups, in the order of the model's layers.

    Raises:
        UnsupportedModelError: If the model cannot be read as a graph.
        TypeError: If it is no model.

    Example:
    >>> model = keras.applications.MobileNet(weights=None)
    >>> for group in klp.find_channel_groups(model):
    ...     print(group.name, group.size)
    """
    from keras_lrp_prune.graph.reader import read_model

    return list(channel_structure(read_model(model)).groups)


def channel_structure(graph: ModelGraph, protect: tuple[str, ...] = ()) -> ChannelStructure:
    """Walks the graph once and collects what the channel rules say.

    Args:
        graph: A model, nested or flat; layers are named as in `graph.flat()`.
        protect: Names of filter layers to leave alone; a nested model's name protects all in it.

    Returns:
        The `ChannelStructure`.

    Raises:
        UnsupportedModelError: If `protect` names a layer that the model does not have.
    """
    graph = graph.flat()
    flow = ChannelFlow()
    channels: dict[TensorRef, Channels] = {}
    for node in graph.nodes:
        shapes = tuple(graph.shape(ref) for ref in node.inputs)
        inputs = tuple(channels[ref] for ref in node.inputs)
        for index, out in enumerate(_outputs(node, shapes, inputs, flow)):
            channels[TensorRef(node.name, index)] = out
    for entry, ref in graph.entries:
        if ref in channels:  # a rewritten graph may have lost the tensor
            found = channels[ref]
            flow.size(entry, ("config", "batch_shape", found.axis), found.ids)
    for ref in references(graph.outputs):
        flow.protect(channels[ref].ids, "output of the model")
    _protect_layers(graph, protect, flow)
    return flow.structure(channels)


def _outputs(
    node: Node, shapes: tuple, inputs: tuple[Channels, ...], flow: ChannelFlow
) -> list[Channels]:
    """The channels of each output of a call: by its rule, or as a barrier."""
    name, class_name = node.layer.name, node.layer.class_name
    if node.is_input:
        return _protected(node, "input of the model", flow)
    rule = CHANNEL_RULES.of(node.layer)
    reason = f"no channel rule for {class_name}"
    if rule is not None:
        call = Call(node.layer, inputs, shapes, node.shapes, node.args, node.kwargs)
        try:
            out = rule(call, flow)
            return _checked(node, out if isinstance(out, list) else [out])
        except NoRule as no_rule:
            reason = str(no_rule)
    flow.barriers[name] = f"{class_name}: {reason}"
    for channels in inputs:
        flow.protect(channels.ids, f"read by layer {name!r} ({class_name}): {reason}")
    return _protected(node, f"layer {name!r} ({class_name}): {reason}", flow)


def _checked(node: Node, outputs: list[Channels]) -> list[Channels]:
    """What a channel rule returned, if it fits the shapes of the outputs."""
    who = f"The channel rule for {node.layer.class_name}"
    fits = len(outputs) == len(node.shapes) and all(
        isinstance(channels, Channels)
        and (len(shape) < 2 or shape[channels.axis] in (None, len(channels)))
        for channels, shape in zip(outputs, node.shapes, strict=False)
    )
    if not fits:
        raise TypeError(
            f"{who} must return the Channels of each output of layer {node.layer.name!r}, whose "
            f"shapes are {node.shapes}; it returned {outputs!r}."
        )
    for channels in outputs:
        for what, kinds in (("ids", "iu"), ("vanishes", "b")):
            values, known = getattr(channels, what), _KINDS[kinds]
            array = isinstance(values, np.ndarray) and values.dtype.kind in kinds
            if not array or values.shape != (len(channels),):
                raise TypeError(
                    f"{who} must return Channels whose {what} are a NumPy array of {known}, one "
                    f"for each channel of layer {node.layer.name!r}: shape {(len(channels),)}; "
                    f"they are {values!r}."
                )
    return outputs


_KINDS = {"iu": "whole numbers", "b": "bools"}


def _protected(node: Node, reason: str, flow: ChannelFlow) -> list[Channels]:
    """Protected channels for each output of a call."""
    count = node.layer.config.get("filters", node.layer.config.get("units"))
    filters = np.zeros(0, np.int64)
    if isinstance(count, int):
        filters = flow.filters(node.layer, count)
        flow.protect(filters, reason)
    outputs = []
    for shape in node.shapes:
        width = (shape[-1] if len(shape) > 1 else 1) or 0
        ids = filters if len(filters) == width else flow.new_channels(width)
        flow.protect(ids, reason)
        outputs.append(steady(ids, vanishes=True))
    return outputs


def _protect_layers(graph: ModelGraph, names: tuple[str, ...], flow: ChannelFlow) -> None:
    for name in names:
        hit = graph.layers_called(name)
        if not hit:
            raise UnsupportedModelError(graph.no_layer("protect", name))
        for layer in hit:
            flow.protect_layer(layer, f"layer {name!r} is named in protect=")
