"""Removing channels that the user names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_lrp_prune.display_names import meant
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.channels import ChannelStructure, selects
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.surgery.builder import rebuild
from keras_lrp_prune.surgery.kept import kept_without

if TYPE_CHECKING:
    import keras


def delete_channels(model: keras.Model, channels: Mapping[str, Iterable[int]]) -> keras.Model:
    """Removes filters, and all channels that can only go with them.

    The model itself is not changed.

    Args:
        model: A functional or Sequential model, of Keras 3 or legacy Keras (`tf_keras`).
        channels: Filter layer to the indices of the filters to remove (or a mask, bool, with an
            entry for each filter); layers of a nested model are `"outer/inner"`.

    Returns:
        A plain `keras.Model` (or `tf_keras.Model`) without them, compiled as the model was.

    Raises:
        UnsupportedModelError: If the model cannot be read as a graph.
        TypeError: For an argument of another type.
        ValueError: For a layer or index that does not exist, a protected filter (the message
            says why it is), or if nothing would be left of a layer or branch.

    Example:
    >>> smaller = klp.delete_channels(model, {"conv1": [0, 3]})
    """
    from keras_lrp_prune.graph.reader import read_model

    if not isinstance(channels, Mapping):
        raise TypeError(
            "delete_channels takes a dict of layer names and indices, such as "
            f"{{'conv1': [0, 3]}}, not {type(channels).__name__}."
        )
    graph = read_model(model)
    structure = channel_structure(graph)
    removed = np.zeros(structure.n_units, bool)
    for layer, indices in channels.items():
        removed[_units(structure, layer, indices)] = True
    emptied = dict.fromkeys(
        ref.node
        for ref, units in structure.tensor_units.items()
        if len(units) and selects(removed, units).all()
    )
    if emptied:
        first, *others = emptied
        also = f" (nor of what belongs to it: {', '.join(others[:5])})" if others else ""
        raise ValueError(
            f"delete_channels would leave no filter in layer {first}{also}. Keep at least one, or "
            "take the whole branch out of the model."
        )
    return rebuild(graph, kept_without(structure, removed), keras_of(model))


def _units(structure: ChannelStructure, layer: str, given: Iterable[int]) -> np.ndarray:
    """The units of a layer's filters; a clear error if they cannot go."""
    if layer not in structure.filter_units:
        raise ValueError(
            f"{layer!r} is not a layer with filters of its own. "
            f"{meant(layer, structure.filter_units)}"
        )
    units = structure.filter_units[layer]
    indices = _indices(layer, given, len(units))
    outside = indices[(indices < 0) | (indices >= len(units))]
    if len(outside):
        raise ValueError(
            f"Layer {layer!r} has filters 0 to {len(units) - 1}, not {outside.tolist()}."
        )
    if (units[indices] < 0).any():
        stays = indices[units[indices] < 0].tolist()
        raise ValueError(
            f"Filters {stays} of layer {layer!r} are protected: {structure.protected[layer]}."
        )
    return units[indices]


def _indices(layer: str, given: Iterable[int], count: int) -> np.ndarray:
    """Indices given as such, or as a mask."""
    listed = given if isinstance(given, int | np.ndarray) else list(given)
    try:
        array = np.atleast_1d(listed)
    except ValueError:  # lists of different lengths in it
        array = np.array(listed, object)
    if array.dtype == bool and len(array) == count:
        return np.flatnonzero(array)
    if len(array) and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"Filters of layer {layer!r} are named by whole numbers, or by a mask of {count} "
            f"bools, not by {array.tolist()}."
        )
    return np.unique(array.astype(np.int64))
