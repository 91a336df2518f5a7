"""Whether samples fit a model's input: its dtype, and the ids that its embeddings have."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_lrp_prune.data.errors import DataError, some
from keras_lrp_prune.graph.layer_types import Trait, has
from keras_lrp_prune.graph.model_graph import LayerSpec, ModelGraph, Node, references


def check_fits(graph: ModelGraph, x: np.ndarray) -> None:
    """Checks samples against the input of a model; one with several inputs is refused elsewhere.

    Args:
        graph: The model.
        x: Samples, shape `(n, ...)`.

    Raises:
        DataError: If the dtype of the input cannot hold the samples, or they are no ids of an
            `Embedding` that reads them.
    """
    import tensorflow as tf

    graph = graph.flat()
    start, *others = {ref.node for ref in references(graph.inputs)}
    if others:
        return
    dtype = graph.by_name[start].layer.config.get("dtype")
    if isinstance(dtype, str) and dtype != "string":
        cast(x, tf.as_dtype(dtype).as_numpy_dtype)
    for node in _readers(graph, start):
        if node.layer.class_name == "Embedding":
            _check_ids(node, x)


def cast(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Samples in the dtype that a model takes.

    Args:
        x: Samples, shape `(n, ...)`.
        dtype: What `np.dtype` takes.

    Raises:
        DataError: If values would be lost: fractions, values outside the range, or digits of whole
            numbers. (That fractions are rounded to the precision of a float is no loss.)

    Example:
        >>> import numpy as np
        >>> cast(np.array([[0.0, 255.0]]), "uint8")
        array([[  0, 255]], dtype=uint8)
    """
    wanted = np.dtype(dtype)
    if x.dtype == wanted or np.can_cast(x.dtype, wanted):
        return x.astype(wanted, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        found = x.astype(wanted)
    changed = found.astype(np.float64) != x
    if wanted.kind not in "iub":
        changed &= ~np.isfinite(found.astype(np.float64)) | (x == np.floor(x))
    if changed.any():
        where = np.unravel_index(np.flatnonzero(changed)[0], x.shape)
        rows = np.flatnonzero(changed.reshape(len(x), -1).any(axis=1))
        raise DataError(
            f"The model takes {wanted.name}, which does not hold x: {x[where]} would become "
            f"{found[where]} ({some(rows, 'sample')}). Give samples in the range and units that "
            "the model was trained on."
        )
    return found


def _readers(graph: ModelGraph, start: str) -> list[Node]:
    """The calls that read the input's values as they are."""
    found, names = [], [start]
    for name in names:
        for node in graph.nodes:
            if any(ref.node == name for ref in node.inputs):
                found.append(node)
                if _passes_ids_on(node.layer):
                    names.append(node.name)
    return found


def _passes_ids_on(layer: LayerSpec) -> bool:
    return layer.class_name == "ops.Cast" or has(layer, Trait.IDENTITY, Trait.REARRANGES)


def _check_ids(node: Node, x: np.ndarray) -> None:
    count = int(node.layer.config["input_dim"])
    outside = (x < 0) | (x >= count) | (x != np.floor(x))
    if outside.any():
        rows = np.flatnonzero(outside.reshape(len(x), -1).any(axis=1))
        raise DataError(
            f"x must hold ids from 0 to {count - 1}, which layer {node.layer.name!r} (Embedding) "
            f"knows; it holds {x[outside][0]} ({some(rows, 'sample')})."
        )
