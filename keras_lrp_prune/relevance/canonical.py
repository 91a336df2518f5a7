"""The canonical graph: a model rewritten for LRP without changing its function.

LRP rules are exact on a small dialect only: linear layers, activations by themselves, sums,
concatenations, pooling. Each pass below brings one construct into that dialect; filter layers
keep their names, so that relevances and masks carry over. What no pass can rewrite is left as it
is, for the engine to refuse.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from keras_lrp_prune.graph.layer_types import Trait, has, is_identity
from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    TensorRef,
    UnsupportedModelError,
    map_references,
    references,
)


def canonize(graph: ModelGraph) -> ModelGraph:
    """Rewrites a model for LRP; the outputs stay the same up to float rounding.

    It becomes flat and float32. Layers that do nothing at inference are dropped, activations become
    layers of their own, sums `Add` layers, separable convolutions two layers; batch norms are
    folded into the linear layer before them or, where there is none, turned into a depthwise
    convolution of size 1.

    Args:
        graph: Any `ModelGraph`.

    Returns:
        The canonical graph. Layers that were there keep their names.
    """
    graph = graph.flat()
    for rewrite in (
        drop_identities,
        sums_as_layers,
        split_separable,
        split_activations,
        fold_batch_norm,
        drop_identities,
        in_float32,
    ):
        graph = rewrite(graph)
    return graph


def check_ends(graph: ModelGraph) -> None:
    """Refuses a canonical graph with several inputs or outputs, of which engines know only one.

    Raises:
        UnsupportedModelError: If it has not one input and one output.
    """
    inputs, outputs = list(references(graph.inputs)), list(references(graph.outputs))
    if len(inputs) != 1 or len(outputs) != 1:
        raise UnsupportedModelError(
            f"LRP needs a model with one input and one output; model {graph.name!r} has "
            f"{len(inputs)} inputs and {len(outputs)} outputs."
        )


def strip_softmax(graph: ModelGraph) -> ModelGraph:
    """Removes a final softmax of a canonical graph."""
    return _strip_output(graph, ("softmax",))


def two_class_logits(graph: ModelGraph) -> ModelGraph:
    """Turns a single sigmoid (or logit) unit into two class scores: minus the logit, the logit."""
    graph = _strip_output(graph, ("sigmoid",))
    (output,) = references(graph.outputs)
    node = graph.by_name[output.node]
    if node.layer.class_name != "Dense" or node.shapes[0][-1] != 1:
        raise UnsupportedModelError(
            f"The two class scores are read off a Dense layer with one unit, but the model ends "
            f"with layer {node.layer.name!r} ({node.layer.class_name})."
        )
    # Of two units: minus the logit, and the logit.
    arrays = {
        name: np.concatenate([-array, array], -1) for name, array in node.layer.arrays().items()
    }
    layer = replace(node.layer, weights=arrays, config={**node.layer.config, "units": 2})
    shapes = ((*node.shapes[0][:-1], 2),)
    return _replace_nodes(graph, {node.name: (replace(node, layer=layer, shapes=shapes),)})


def split_preprocessing(graph: ModelGraph) -> tuple[ModelGraph | None, ModelGraph]:
    """Takes layers that only scale, shift or pad the input off the front of a flat graph.

    Relevance passes through them unchanged, and the first convolution becomes the input layer
    that LRP's input rules are meant for.

    Returns:
        The layers taken off as a graph of their own, if there are any, and the graph without them.
    """
    whole, taken = graph, []
    inputs = list(references(graph.inputs))
    while len(inputs) == 1:
        consumers = graph.consumers.get(inputs[0], ())
        if len(consumers) != 1:
            break
        node = graph.by_name[consumers[0]]
        if not has(node.layer, Trait.PREPARES):
            break
        taken.append(node.name)
        source = graph.by_name[inputs[0].node]
        config = {**source.layer.config, "batch_shape": tuple(node.shapes[0])}
        entry = replace(source, layer=replace(source.layer, config=config), shapes=node.shapes)
        graph = _replace_nodes(
            graph, {source.name: (entry,), node.name: ()}, {TensorRef(node.name): inputs[0]}
        )
    if not taken:
        return None, graph
    nodes = tuple(whole.by_name[name] for name in (inputs[0].node, *taken))
    return replace(whole, nodes=nodes, outputs=TensorRef(taken[-1])), graph


def drop_identities(graph: ModelGraph) -> ModelGraph:
    """Removes layers that do nothing at inference, in float32.

    Keras before 3.6 casts to the precision of the first layer; here all is float32.
    """
    dropped = {node.name: node.inputs[0] for node in graph.nodes if is_identity(node.layer)}
    moved = {TensorRef(name): source for name, source in dropped.items()}
    return _replace_nodes(graph, dict.fromkeys(dropped, ()), moved)


def sums_as_layers(graph: ModelGraph) -> ModelGraph:
    """Turns `x + y` of two tensors into an `Add` layer."""
    return _replace_nodes(
        graph,
        {
            node.name: (
                replace(
                    node,
                    layer=LayerSpec(node.layer.name, "Add", {"name": node.layer.name}),
                    args=(list(node.inputs),),
                    kwargs={},
                ),
            )
            for node in graph.nodes
            if node.layer.class_name == "ops.Add" and len(node.inputs) == 2
        },
    )


def depthwise_part(name: str) -> str:
    """Name of the depthwise part of the separable convolution called `name`.

    No layer of the user can have this name: a slash only follows the name of a nested model.
    """
    return f"{name}/depthwise"


def split_separable(graph: ModelGraph) -> ModelGraph:
    """Turns a separable convolution into a depthwise one and a pointwise one."""
    return _replace_nodes(
        graph,
        {
            node.name: _separable_parts(node)
            for node in graph.nodes
            if has(node.layer, Trait.SEPARABLE)
        },
    )


def split_activations(graph: ModelGraph) -> ModelGraph:
    """Makes every activation an `Activation` layer of its own."""
    replaced: dict[str, tuple[Node, ...]] = {}
    moved: dict[TensorRef, TensorRef] = {}
    for node in graph.nodes:
        layer = node.layer
        if has(layer, Trait.LINEAR) and layer.config["activation"] != "linear":
            activation = _activation(node, "/activation", layer.config["activation"])
            linear = replace(layer, config={**layer.config, "activation": "linear"})
            replaced[node.name] = (replace(node, layer=linear), activation)
            moved[TensorRef(node.name)] = TensorRef(activation.name)
        elif name := _as_activation(layer):
            activation = _activation(node, "", name)
            replaced[node.name] = (replace(activation, args=node.args),)
    return _replace_nodes(graph, replaced, moved)


def fold_batch_norm(graph: ModelGraph) -> ModelGraph:
    """Folds each batch norm into the linear layer before it, or makes it a linear layer."""
    replaced: dict[str, tuple[Node, ...]] = {}
    moved: dict[TensorRef, TensorRef] = {}
    calls = [node.layer.name for node in graph.nodes]
    for node in graph.nodes:
        if node.layer.class_name != "BatchNormalization" or not _normalises_last(node):
            continue
        source = graph.by_name[node.inputs[0].node]
        scale, shift = _batch_norm_affine(node.layer)
        alone = len(graph.consumers[node.inputs[0]]) == 1 and calls.count(source.layer.name) == 1
        if has(source.layer, Trait.LINEAR) and source.name not in replaced and alone:
            folded = replace(source, layer=_folded(source.layer, scale, shift))
            replaced |= {source.name: (folded,), node.name: ()}
            moved[TensorRef(node.name)] = node.inputs[0]
        else:
            replaced[node.name] = (replace(node, layer=_as_linear(node, scale, shift), kwargs={}),)
    return _replace_nodes(graph, replaced, moved)


def next_linear(graph: ModelGraph) -> dict[str, set[str]]:
    """Layer with weights to the layers with weights that read it next, of a canonical graph."""
    nearest: dict[str, set[str]] = {}
    for node in reversed(graph.nodes):
        found: set[str] = set()
        for index in range(len(node.shapes)):
            for name in graph.consumers.get(TensorRef(node.name, index), ()):
                reader = graph.by_name[name].layer
                found |= {reader.name} if reader.weights else nearest[name]
        nearest[node.name] = found
    return {node.layer.name: nearest[node.name] for node in graph.nodes if node.layer.weights}


def in_float32(graph: ModelGraph) -> ModelGraph:
    """Sets every layer's dtype to float32."""
    return _replace_nodes(
        graph,
        {
            node.name: (
                replace(
                    node,
                    layer=replace(
                        node.layer,
                        config={**node.layer.config, "dtype": "float32"},
                        weights={
                            name: np.asarray(array, np.float32)
                            for name, array in node.layer.arrays().items()
                        },
                    ),
                ),
            )
            for node in graph.nodes
        },
    )


def _replace_nodes(
    graph: ModelGraph,
    replaced: Mapping[str, tuple[Node, ...]],
    moved: Mapping[TensorRef, TensorRef] | None = None,
) -> ModelGraph:
    """Puts other nodes in the place of some; `moved` redirects tensors for all later readers."""
    moved = moved or {}

    def follow(ref: TensorRef, own: Collection[str] = ()) -> TensorRef:
        # A node that replaces another still reads the tensors of nodes in the same replacement.
        while ref in moved and ref.node not in own:
            ref = moved[ref]
        return ref

    nodes: list[Node] = []
    for node in graph.nodes:
        new = replaced.get(node.name, (node,))
        redirect = partial(follow, own={entry.name for entry in new})
        nodes.extend(
            replace(
                entry,
                args=map_references(redirect, entry.args),
                kwargs=map_references(redirect, dict(entry.kwargs)),
            )
            for entry in new
        )
    return replace(
        graph,
        nodes=tuple(nodes),
        inputs=map_references(follow, graph.inputs),
        outputs=map_references(follow, graph.outputs),
    )


def _strip_output(graph: ModelGraph, activations: tuple[str, ...]) -> ModelGraph:
    for output in list(references(graph.outputs)):
        node = graph.by_name[output.node]
        if node.layer.class_name == "Activation" and node.layer.config["activation"] in activations:
            graph = _replace_nodes(graph, {node.name: ()}, {output: node.inputs[0]})
    return graph


def _activation(node: Node, suffix: str, activation: str) -> Node:
    name = node.layer.name + suffix
    layer = LayerSpec(name, "Activation", {"name": name, "activation": activation})
    return Node(node.name + suffix, layer, (TensorRef(node.name),), {}, node.shapes)


def _as_activation(layer: LayerSpec) -> str | None:
    """The name of the activation that a layer computes, if `Activation` has one for it."""
    config = layer.config
    if layer.class_name == "ReLU":
        plain = not config.get("negative_slope") and not config.get("threshold")
        return {None: "relu", 6.0: "relu6"}.get(config.get("max_value")) if plain else None
    if layer.class_name == "ELU" and config.get("alpha", 1.0) == 1.0:
        return "elu"
    if has(layer, Trait.SOFTMAX) and config.get("axis", -1) == -1:
        return "softmax"
    return "sigmoid" if layer.class_name == "ops.Sigmoid" else None


def _separable_parts(node: Node) -> tuple[Node, Node]:
    layer, weights, config = node.layer, node.layer.weights, node.layer.config
    name = depthwise_part(layer.name)
    kernel, rank = weights["depthwise_kernel"], layer.class_name[-2:]
    shared = ("strides", "padding", "data_format", "dilation_rate")
    first = LayerSpec(
        name,
        f"DepthwiseConv{rank}",
        {
            "name": name,
            "kernel_size": config["kernel_size"],
            "depth_multiplier": config["depth_multiplier"],
            "use_bias": False,
            "activation": "linear",
            **{key: config[key] for key in shared},
        },
        {"kernel": kernel},
    )
    second = LayerSpec(
        layer.name,
        f"Conv{rank}",
        {
            "name": layer.name,
            "filters": config["filters"],
            "kernel_size": (1,) * (len(kernel.shape) - 2),
            "groups": 1,
            "data_format": config["data_format"],
            "use_bias": config["use_bias"],
            "activation": config["activation"],
        },
        {
            "kernel": weights["pointwise_kernel"],
            **({"bias": weights["bias"]} if config["use_bias"] else {}),
        },
    )
    width = kernel.shape[-1] * kernel.shape[-2]
    before = depthwise_part(node.name)
    return (
        Node(before, first, node.args, node.kwargs, ((*node.shapes[0][:-1], width),)),
        replace(node, layer=second, args=(TensorRef(before),), kwargs={}),
    )


def _normalises_last(node: Node) -> bool:
    """Whether a batch norm is an affine map of the last axis, by fixed statistics."""
    axis = node.layer.config["axis"]
    last = len(node.shapes[0]) - 1
    other = node.layer.config.get("renorm") or node.kwargs.get("training")
    return axis in (-1, last, [last]) and not other


def _batch_norm_affine(layer: LayerSpec) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of batch norm at inference, in float64."""
    arrays = {name: array.astype(np.float64) for name, array in layer.arrays().items()}
    scale = arrays.get("gamma", 1.0) / np.sqrt(arrays["moving_variance"] + layer.config["epsilon"])
    return scale, arrays.get("beta", 0.0) - arrays["moving_mean"] * scale


def _folded(layer: LayerSpec, scale: np.ndarray, shift: np.ndarray) -> LayerSpec:
    """A linear layer followed by an affine map of its channels, as one linear layer."""
    arrays = layer.arrays()
    kernel = arrays["kernel"].astype(np.float64)
    columns = scale
    if has(layer, Trait.DEPTHWISE):
        columns = scale.reshape(kernel.shape[-2:])
    elif has(layer, Trait.TRANSPOSED):
        columns = scale[:, None]
    weights = {"kernel": kernel * columns, "bias": arrays.get("bias", 0.0) * scale + shift}
    return replace(layer, weights=weights, config={**layer.config, "use_bias": True})


def _as_linear(node: Node, scale: np.ndarray, shift: np.ndarray) -> LayerSpec:
    """An affine map of channels as a linear layer: depthwise of size 1, or a diagonal Dense."""
    name = node.layer.name
    common: dict[str, Any] = {"name": name, "use_bias": True, "activation": "linear"}
    axes = len(node.shapes[0]) - 2
    if axes not in (1, 2):
        config = {**common, "units": len(scale)}
        return LayerSpec(name, "Dense", config, {"kernel": np.diag(scale), "bias": shift})
    config = {
        **common,
        "kernel_size": (1,) * axes,
        "depth_multiplier": 1,
        "data_format": "channels_last",
    }
    kernel = scale.reshape(*config["kernel_size"], -1, 1)
    return LayerSpec(name, f"DepthwiseConv{axes}D", config, {"kernel": kernel, "bias": shift})
