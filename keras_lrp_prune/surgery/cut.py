"""A model without some units as data: cut, but not built."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure, WeightAxis, selects
from keras_lrp_prune.graph.model_graph import LayerSpec, ModelGraph, Node, Shape, TensorRef
from keras_lrp_prune.surgery.kept import Kept, kept_without


@dataclass(frozen=True)
class Cut:
    """What is left of a model; its units keep the numbers that they have in the whole one.

    Args:
        graph: What is left, with copies of the weights that were cut.
        structure: Which unit each position that is left belongs to. Its groups are those of the
            whole model.
    """

    graph: ModelGraph
    structure: ChannelStructure


def cut(graph: ModelGraph, structure: ChannelStructure, removed: np.ndarray) -> Cut:
    """Takes units out of a flat model.

    Args:
        graph: The model, flat.
        structure: Its channel structure.
        removed: bool, shape `(units,)`.
    """
    kept = kept_without(structure, removed)
    specs = {name: _cut_layer(layer, kept) for name, layer in graph.layers.items()}

    def cut_node(node: Node) -> Node:
        args, kwargs = kept.call(node.layer.name, node.args, dict(node.kwargs))
        shapes = tuple(
            _cut_shape(shape, TensorRef(node.name, index), structure, removed)
            for index, shape in enumerate(node.shapes)
        )
        return replace(node, layer=specs[node.layer.name], args=args, kwargs=kwargs, shapes=shapes)

    smaller = replace(graph, nodes=tuple(map(cut_node, graph.nodes)))
    return Cut(smaller, _cut_structure(structure, removed))


def _cut_layer(layer: LayerSpec, kept: Kept) -> LayerSpec:
    config = kept.config(layer)
    if layer.name not in kept.positions:
        return replace(layer, config=config)
    arrays = dict(zip(layer.weights, kept.arrays(layer), strict=True))
    return replace(layer, config=config, weights=arrays)


def _cut_shape(
    shape: Shape, ref: TensorRef, structure: ChannelStructure, removed: np.ndarray
) -> Shape:
    units = structure.tensor_units.get(ref)
    if units is None:
        return shape
    sizes = list(shape)
    sizes[structure.tensor_axes[ref]] = int((~selects(removed, units)).sum())
    return tuple(sizes)


def _cut_structure(structure: ChannelStructure, removed: np.ndarray) -> ChannelStructure:
    def left(units: np.ndarray) -> np.ndarray:
        return units[~selects(removed, units)]

    def cut_axis(entry: WeightAxis) -> WeightAxis:
        return replace(entry, units=left(entry.units))

    return replace(
        structure,
        filter_units={name: left(units) for name, units in structure.filter_units.items()},
        weight_axes=tuple(map(cut_axis, structure.weight_axes)),
        sizes=tuple(replace(size, units=left(size.units)) for size in structure.sizes),
        tensor_units={ref: left(units) for ref, units in structure.tensor_units.items()},
    )
