"""A `ModelGraph` as JSON-able data plus named arrays, to hand it to another process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_lrp_prune.graph.model_graph import LayerSpec, ModelGraph, Node, TensorRef

_TENSOR = "__tensor__"


def to_plain(graph: ModelGraph) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Splits a flat graph of built-in layers into a JSON-able dict and its weights.

    The arrays are called `"layer:weight"`.
    """
    arrays = {
        f"{layer.name}:{weight}": values
        for layer in graph.layers.values()
        for weight, values in layer.arrays().items()
    }
    plain = {
        "name": graph.name,
        "class_name": graph.class_name,
        "layers": [
            {
                "name": layer.name,
                "class_name": layer.class_name,
                "config": dict(layer.config),
                "weights": list(layer.weights),
            }
            for layer in graph.layers.values()
        ],
        "nodes": [
            {
                "name": node.name,
                "layer": node.layer.name,
                "args": _encode(node.args),
                "kwargs": _encode(dict(node.kwargs)),
                "shapes": node.shapes,
            }
            for node in graph.nodes
        ],
        "inputs": _encode(graph.inputs),
        "outputs": _encode(graph.outputs),
    }
    return plain, arrays


def from_plain(plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ModelGraph:
    """The inverse of `to_plain`."""
    layers = {
        entry["name"]: LayerSpec(
            entry["name"],
            entry["class_name"],
            entry["config"],
            {weight: arrays[f"{entry['name']}:{weight}"] for weight in entry["weights"]},
        )
        for entry in plain["layers"]
    }
    nodes = tuple(
        Node(
            entry["name"],
            layers[entry["layer"]],
            tuple(_decode(entry["args"])),
            _decode(entry["kwargs"]),
            tuple(tuple(shape) for shape in entry["shapes"]),
        )
        for entry in plain["nodes"]
    )
    return ModelGraph(
        plain["name"],
        plain["class_name"],
        nodes,
        _decode(plain["inputs"]),
        _decode(plain["outputs"]),
    )


def json_default(value: Any) -> Any:
    """Turns NumPy numbers and arrays into numbers and lists; `json.dumps` takes it as `default`.

    Raises:
        TypeError: For anything else.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be written as JSON.")


def checked_config(who: str, config: Any) -> Mapping[str, Any]:
    """What a `get_config` returned, which tells runs apart.

    Args:
        who: Whose it is, for messages.
        config: What it returned.

    Raises:
        TypeError: If it is no dict of plain data.
    """
    if not isinstance(config, Mapping):
        raise TypeError(
            f"{who}.get_config() returns a dict such as "
            f'{{"class_name": ..., "config": {{argument: value}}}}, not {config!r}.'
        )
    try:
        json.dumps(config, default=json_default, sort_keys=True)
    except TypeError as error:
        raise TypeError(
            f"{who}.get_config() is no plain data, so that no run can be told by it: {error}"
        ) from error
    return config


def _encode(structure: Any) -> Any:
    if isinstance(structure, TensorRef):
        return {_TENSOR: [structure.node, structure.index]}
    if isinstance(structure, Mapping):
        return {key: _encode(value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return [_encode(value) for value in structure]
    return structure


def _decode(structure: Any) -> Any:
    if isinstance(structure, Mapping):
        if _TENSOR in structure:
            return TensorRef(*structure[_TENSOR])
        return {key: _decode(value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return [_decode(value) for value in structure]
    return structure
