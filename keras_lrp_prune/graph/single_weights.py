"""Single frozen weights in layers that train: `.keras` files store the flags of layers only."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from keras_lrp_prune.graph.generations import generation

if TYPE_CHECKING:
    import keras


def frozen_weights(model: keras.Model) -> list[int]:
    """Positions in `model.weights` of weights that are frozen although their layer trains.

    They are not told by their paths, which can be equal in nested models. Legacy Keras has none.

    Example:
        >>> model.get_layer("conv").kernel.trainable = False
        >>> frozen_weights(model)
        [0]
    """
    if generation(model) != "keras":
        return []
    frozen = {
        id(weight)
        for layer in model._flatten_layers()
        if layer.trainable
        for weight in layer._trainable_variables
        if not weight.trainable
    }
    return [i for i, weight in enumerate(model.weights) if id(weight) in frozen]


def freeze_weights(model: keras.Model, positions: Collection[int]) -> None:
    """Freezes single weights, and leaves the flags of the layers.

    Args:
        model: The model; for one of legacy Keras, `positions` must be empty.
        positions: As `frozen_weights` gives them.

    Raises:
        ValueError: If the model has no such weight to train.
    """
    for position in positions:
        if not (0 <= position < len(model.weights) and model.weights[position].trainable):
            raise ValueError(f"weight {position} of the model is none that could be frozen")
    for position in positions:
        model.weights[position].trainable = False
