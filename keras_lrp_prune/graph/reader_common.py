"""What the readers of both Keras generations share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from keras_lrp_prune.graph.channel_rules.calls import is_of_a_library
from keras_lrp_prune.graph.generations import generation
from keras_lrp_prune.graph.layer_types import LAYER_TYPES
from keras_lrp_prune.graph.model_graph import UnsupportedModelError


@dataclass(frozen=True)
class LiveCall:
    """One call in a live model.

    Args:
        operation: The layer, model or operation that is called.
        outputs: Its symbolic output tensors.
        args, kwargs: Its arguments, symbolic tensors among them; none for an input layer.
    """

    operation: Any
    outputs: Sequence[Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def type_name(operation: Any, layers: ModuleType) -> str:
    """Name of a layer's or operation's class; `"own.X"` for a user's class with a Keras name `X`.

    Tables look layer types up by name; none of them has a name with that prefix.

    Args:
        operation: The layer or operation.
        layers: The module that has the layer classes of its Keras.
    """
    name = type(operation).__name__
    known = hasattr(layers, name) or not LAYER_TYPES.keys().isdisjoint((name, f"ops.{name}"))
    return f"own.{name}" if known and not is_of_a_library(operation) else name


def config_of(layer: Any) -> dict[str, Any]:
    """`layer.get_config()` in plain values.

    Raises:
        UnsupportedModelError: If the layer's class does not implement it.
    """
    try:
        return {key: plain(value) for key, value in layer.get_config().items()}
    except (NotImplementedError, ValueError, TypeError) as error:
        name = type(layer).__name__
        if type(layer).__module__.split(".")[0] == generation(layer):
            raise UnsupportedModelError(
                f"Layer {layer.name!r} ({name}) holds something that Keras cannot write into a "
                "config, such as an activation made by functools.partial. Give it a named function "
                f"or a layer. Keras says: {' '.join(str(error).split())[:200]}"
            ) from error
        raise UnsupportedModelError(
            f"Layer {layer.name!r} ({name}) cannot be copied, because it has no config. Implement "
            f"{name}.get_config(), which returns the arguments of its constructor. Keras says: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error


def plain(value: Any) -> Any:
    """NumPy values and wrapped containers as Python's, so that configs can be compared."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(plain(item) for item in value)
    return value


def by_name(names: Sequence[str], variables: Sequence[Any]) -> dict[str, Any]:
    """Variables by their names; equal names get a number."""
    weights: dict[str, Any] = {}
    for name, variable in zip(names, variables, strict=True):
        unique, count = name, 1
        while unique in weights:
            unique, count = f"{name}#{count}", count + 1
        weights[unique] = variable
    return weights


def refuse_own_call(model: Any) -> None:
    """Raises the error for a model whose class computes something else than its graph."""
    owner = next(cls for cls in type(model).__mro__ if "call" in vars(cls))
    if generation(model) != owner.__module__.split(".")[0]:
        raise UnsupportedModelError(
            f"Model {model.name!r} ({type(model).__qualname__}) has a call() of its own, which "
            "cannot be read as a graph. Write what it does as layers of a functional model: "
            "keras.Model(inputs, outputs)."
        )


def refuse_subclassed(model: Any) -> NoReturn:
    """Raises the error for a model that is not a graph of layers."""
    raise UnsupportedModelError(
        f"Model {model.name!r} ({type(model).__qualname__}) is a subclassed model: its "
        "layers are called in Python code, which cannot be read as a graph. Write it as a "
        "functional model: keras.Model(inputs, outputs)."
    )


def refuse_unbuilt(model: Any) -> NoReturn:
    """Raises the error for a Sequential model that does not know its input."""
    raise UnsupportedModelError(
        f"Sequential model {model.name!r} has no input shape yet. Start it with "
        "keras.Input(shape), or call it once on data, before pruning."
    )
