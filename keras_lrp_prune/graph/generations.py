"""Keras 3 and legacy Keras (`tf_keras`): which one a model belongs to, and what differs."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

GENERATIONS = ("keras", "tf_keras")

# Layer type to names of config entries: those of legacy Keras, and those of Keras 3 and of graphs.
LEGACY_KEYS = {
    "InputLayer": {"batch_input_shape": "batch_shape"},
    "LeakyReLU": {"alpha": "negative_slope"},
}


def generation(thing: Any) -> str | None:
    """`"keras"` or `"tf_keras"`, whose class (or a base) a model, layer or operation has."""
    for cls in type(thing).__mro__:
        package = cls.__module__.split(".")[0]
        if package in GENERATIONS:
            return package
    return None


def weights_of(layer: Any) -> list[Any]:
    """A layer's weights, in the order of `layer.weights` where all of it is trainable.

    Legacy Keras lists frozen weights last, so that its order changes with the trainable flags.
    """
    if generation(layer) != "tf_keras" or not hasattr(layer, "_flatten_layers"):
        return list(layer.weights)
    parts = list(layer._flatten_layers())
    kinds = ("_trainable_weights", "_non_trainable_weights")
    found = [weight for kind in kinds for part in parts for weight in getattr(part, kind, ())]
    return list({id(weight): weight for weight in found}.values())


def keras_named(name: str) -> ModuleType:
    """The Keras module of that name.

    Raises:
        KeyError: If it is not one of `GENERATIONS`.
    """
    if name not in GENERATIONS:
        raise KeyError(name)
    return importlib.import_module(name)


def keras_of(model: Any) -> ModuleType:
    """The Keras module that a model belongs to.

    Args:
        model: A Keras 3 or a legacy Keras (`tf_keras`) model.

    Returns:
        `keras` or `tf_keras`. `tf_keras` is loaded only if the model is a legacy one.

    Raises:
        TypeError: If it is not a Keras model.

    Example:
    >>> keras_of(model).models.clone_model(model)
    """
    name = generation(model)
    module = keras_named(name) if name else None
    if module is None or not isinstance(model, module.Model):
        is_path = isinstance(model, str | os.PathLike)
        advice = f" Load it: keras.models.load_model({str(model)!r})." if is_path else ""
        if generation(getattr(model, "model", None)):
            advice = " Give its model: result.model."
        raise TypeError(
            "Expected a Keras 3 model (keras.Model) or a legacy Keras model (tf_keras.Model), got "
            f"{type(model).__module__}.{type(model).__qualname__}.{advice}"
        )
    return module
