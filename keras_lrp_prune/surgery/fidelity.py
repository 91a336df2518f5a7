"""Whether two models compute the same: a copy and its model, a masked one and a rebuilt one."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from keras_lrp_prune.graph.generations import generation
from keras_lrp_prune.graph.model_graph import (
    ModelGraph,
    UnsupportedModelError,
    flatten,
    map_references,
)
from keras_lrp_prune.surgery.builder import Built

# Largest difference of outputs, relative to the largest output; by the precision it is computed in.
_TOLERANCE, _TOLERANCE_HALF = 1e-3, 5e-2
_HALF = ("float16", "bfloat16")


def check_copy(graph: ModelGraph, copy: Built, x: np.ndarray, keras: ModuleType) -> None:
    """Refuses a model whose copy computes something else, as a layer has state outside Keras.

    Costs a forward pass of both. A model that is random at inference cannot be checked.

    Args:
        graph: The flat graph that the copy was built of.
        copy: The copy; nothing was removed from it.
        x: A few samples.
        keras: The module of both.

    Raises:
        UnsupportedModelError: Naming the layer, and what to do.
    """
    difference = largest_difference(graph.source, copy.model, x, keras)
    if difference is not None:
        layers = _unlike(graph, copy, x, keras, _tolerance(graph.source))
        which = ", ".join(f"{name!r} ({graph.layers[name].class_name})" for name in layers)
        raise UnsupportedModelError(
            f"Model {graph.name!r} cannot be rebuilt: a copy with nothing removed gives other "
            f"outputs, by up to {difference:.3g} on {len(x)} samples. "
            f"{f'Layers that differ: {which}.' if layers else 'No single layer differs.'} What a "
            "layer computes with must be a weight (add_weight), or an argument that get_config() "
            "returns; attributes set from outside are lost when the model is saved, too."
        )


def largest_difference(first: Any, second: Any, x: np.ndarray, keras: ModuleType) -> float | None:
    """How much the outputs of two models differ, or `None` if they are the same.

    They are the same within the precision that the models compute in; models that are random at
    inference cannot be compared, and count as the same.

    Args:
        first: A model with one input.
        second: Another that takes the same.
        x: A few samples.
        keras: The module of both.
    """
    expected, found = (_outputs(it, x, keras) for it in (first, second))
    tolerance = _tolerance(first)
    if not _differ(expected, found, tolerance):
        return None
    if _differ(expected, _outputs(first, x, keras), tolerance):
        return None
    return float(np.abs(expected - found).max())


def _outputs(model: Any, x: np.ndarray, keras: ModuleType) -> np.ndarray:
    # Not at the top: the worker sets up TensorFlow before it is imported.
    import tensorflow as tf

    # Takes a tensor, even where the model wants a list or a dict with one.
    single = keras.Model(model.inputs[0], model.outputs[0])
    dtype = tf.as_dtype(model.inputs[0].dtype).as_numpy_dtype
    return np.asarray(single(x.astype(dtype), training=False)).astype(np.float64)


def _differ(first: np.ndarray, second: np.ndarray, tolerance: float) -> bool:
    if first.shape != second.shape:
        return True
    largest = np.abs(first[np.isfinite(first)]).max(initial=0)
    return not np.allclose(second, first, rtol=0, atol=tolerance * largest, equal_nan=True)


def _tolerance(model: Any) -> float:
    dtypes = {getattr(layer, "compute_dtype", None) for layer in model._flatten_layers()}
    return _TOLERANCE_HALF if dtypes & set(_HALF) else _TOLERANCE


def _unlike(
    graph: ModelGraph, copy: Built, x: np.ndarray, keras: ModuleType, tolerance: float
) -> list[str]:
    """Names of the layers that compute something else than their copies, given the same inputs."""
    refs = [ref for ref in copy.tensors if ref.node in graph.by_name]
    tensors = keras.Model(copy.model.inputs[0], [copy.tensors[ref] for ref in refs])
    values = dict(zip(refs, tensors(x, training=False), strict=True))

    def run(layer: Any, args: Any, kwargs: Any) -> list[np.ndarray]:
        outputs = layer(
            *map_references(values.__getitem__, args), **map_references(values.__getitem__, kwargs)
        )
        return [np.asarray(value).astype(np.float64) for value in flatten(outputs)]

    found: dict[str, None] = {}  # in the order of the graph, each once
    for node in graph.nodes:
        source = node.layer.source
        if node.is_input or generation(source) != keras.__name__:
            continue
        call = node.args, dict(node.kwargs)
        pairs = zip(run(source, *call), run(copy.layers[node.layer.name], *call), strict=True)
        if any(_differ(*pair, tolerance) for pair in pairs):
            found[node.layer.name] = None
    return list(found)
