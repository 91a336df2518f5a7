"""Building a model from a `ModelGraph`: the pruned Keras 3 model, and the legacy twin.

Nothing here imports Keras; the module to build with is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    TensorRef,
    map_references,
)
from keras_lrp_prune.surgery.kept import Kept


@dataclass(frozen=True)
class Built:
    """A model just built; its layers, and its tensors outside nested models, by graph name."""

    model: Any
    layers: dict[str, Any]
    tensors: dict[TensorRef, Any]


def rebuild(graph: ModelGraph, kept: Kept, keras_module: ModuleType) -> Any:
    """Builds a plain model from a graph, without what `kept` leaves out.

    Args:
        graph: The model as data. Nested models stay nested.
        kept: What is left of each layer; `Kept()` builds the whole model.
        keras_module: `keras` (3), or `tf_keras` for a legacy model.

    Returns:
        A functional or Sequential model of that Keras generation, with the weights set.
    """
    return build(graph, kept, keras_module).model


def build(graph: ModelGraph, kept: Kept, keras_module: ModuleType) -> Built:
    """Like `rebuild`, and also returns layers and tensors by their names in the graph."""
    dialect = _legacy_layer if keras_module.__name__ == "tf_keras" else _keras3_layer
    layers: dict[str, Any] = {}
    tensors: dict[TensorRef, Any] = {}
    model = _build_model(graph, "", kept, keras_module, dialect, layers, tensors)
    for layer in graph.flat().layers.values():
        if layer.weights:
            layers[layer.name].set_weights(kept.arrays(layer))
    return Built(model, layers, tensors)


MakeLayer = Callable[[LayerSpec, str, dict[str, Any], ModuleType], Any]


def _build_model(
    graph: ModelGraph,
    prefix: str,
    kept: Kept,
    keras_module: ModuleType,
    make_layer: MakeLayer,
    layers: dict[str, Any],
    tensors: dict[TensorRef, Any],
) -> Any:
    """Makes the layers of one (nested) model, calls them, and returns the model."""
    sequence = []
    for node in graph.nodes:
        path = prefix + node.layer.name
        layer = layers.get(path)
        if layer is None:
            layer = _make(node, path, kept, keras_module, make_layer, layers)
            layers[path] = layer
            sequence.append(layer)
        if graph.class_name == "Sequential":
            continue
        if node.is_input:
            outputs = layer.output
        else:
            args = map_references(tensors.__getitem__, node.args)
            outputs = layer(*args, **map_references(tensors.__getitem__, dict(node.kwargs)))
        for index, tensor in enumerate(_flatten(outputs)):
            tensors[TensorRef(node.name, index)] = tensor
    if graph.class_name == "Sequential":
        return keras_module.Sequential(sequence, name=graph.name)
    return keras_module.Model(
        map_references(tensors.__getitem__, graph.inputs),
        map_references(tensors.__getitem__, graph.outputs),
        name=graph.name,
    )


def _make(
    node: Node,
    path: str,
    kept: Kept,
    keras_module: ModuleType,
    make_layer: MakeLayer,
    layers: dict[str, Any],
) -> Any:
    if node.inner is not None:
        return _build_model(node.inner, path + "/", kept, keras_module, make_layer, layers, {})
    layer = replace(node.layer, name=path)
    if layer.class_name.startswith("ops."):
        return _make_operation(layer, kept.config(layer))
    # Layer names cannot hold a slash; the layers of a flat graph can come from nested models.
    return make_layer(layer, node.layer.name.replace("/", "__"), kept.config(layer), keras_module)


def _make_operation(layer: LayerSpec, config: dict[str, Any]) -> Any:
    """An operation like the one that was read, with the new config."""
    operation = layer.source
    if config != layer.config:
        return type(operation)(**config)
    # Not the same one: it would hold on to this model for as long as the user's model lives.
    twin = object.__new__(type(operation))
    twin.__dict__.update(vars(operation), _inbound_nodes=[], _outbound_nodes=[])
    return twin


def _flatten(outputs: Any) -> list[Any]:
    if isinstance(outputs, dict):
        return [tensor for value in outputs.values() for tensor in _flatten(value)]
    if isinstance(outputs, list | tuple):
        return [tensor for value in outputs for tensor in _flatten(value)]
    return [outputs]


# A Lambda's code is already in this process: nothing is gained by refusing to load it.
_LOADING = {"Lambda": {"safe_mode": False}}


def _keras3_layer(
    layer: LayerSpec, name: str, config: dict[str, Any], keras_module: ModuleType
) -> Any:
    cls = (
        type(layer.source)
        if layer.source is not None
        else getattr(keras_module.layers, layer.class_name)
    )
    options = _LOADING.get(layer.class_name, {})
    return cls.from_config({**config, "name": name}, **options)


# What legacy Keras does not know, or what a twin for inference does not need.
_NOT_LEGACY = ("quantization_config", "renorm", "renorm_clipping", "renorm_momentum", "optional")
_TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")


def _legacy_layer(
    layer: LayerSpec, name: str, config: dict[str, Any], keras_module: ModuleType
) -> Any:
    translated = {
        key: value
        for key, value in config.items()
        if key not in _NOT_LEGACY and not key.endswith(_TRAINING_ONLY)
    }
    dtype = translated.get("dtype")
    if isinstance(dtype, dict):
        translated["dtype"] = dtype["config"]["name"]
    if "batch_shape" in translated:
        translated["batch_input_shape"] = translated.pop("batch_shape")
    cls = getattr(keras_module.layers, layer.class_name)
    return cls.from_config({**translated, "name": name})
