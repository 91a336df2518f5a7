"""Input sizes that a model leaves open, filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

from keras_lrp_prune.graph.model_graph import ModelGraph, references
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.kept import Kept


def sized(graph: ModelGraph, sample_shape: Sequence[int], keras: ModuleType) -> ModelGraph:
    """The flat graph with all sizes known, and any number of samples.

    Args:
        graph: A model with one input.
        sample_shape: Shape of a sample, without the batch dimension.
        keras: The Keras to try it in, where sizes or the number of samples have to change.
    """
    flat = graph.flat()
    (entry,) = references(flat.inputs)
    shape = (None, *sample_shape)
    if tuple(flat.shape(entry)) == shape:
        return flat
    nodes = tuple(
        replace(node, layer=replace(node.layer, config={**node.layer.config, "batch_shape": shape}))
        if node.name == entry.node
        else node
        for node in flat.nodes
    )
    tensors = build(replace(flat, nodes=nodes), Kept(), keras).tensors
    shapes: dict[str, list[tuple[int | None, ...]]] = {}
    for ref, tensor in tensors.items():
        shapes.setdefault(ref.node, []).append(tuple(tensor.shape))
    nodes = tuple(replace(node, shapes=tuple(shapes[node.name])) for node in nodes)
    return replace(flat, nodes=nodes)
