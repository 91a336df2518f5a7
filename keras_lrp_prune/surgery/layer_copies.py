"""Making a layer or operation like one that was read, with another config.

Custom functions and classes need not be registered with Keras: the live layer holds them.
"""

from __future__ import annotations

import inspect
import itertools
import operator
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from keras_lrp_prune.graph.generations import GENERATIONS, LEGACY_KEYS, generation
from keras_lrp_prune.graph.model_graph import LayerSpec, UnsupportedModelError

# Config entries (or their endings) that can be Python functions, of which configs hold only names.
_FUNCTIONS = ("activation", "_initializer", "_regularizer", "_constraint")
_PLAIN = (str, int, float, bool, tuple, list, type(None))
# The operations of legacy graphs, as functions of Keras 3.
_OPERATIONS: Mapping[str, Callable[[ModuleType], Callable[..., Any]]] = {
    "ops.Add": lambda keras: keras.ops.add,
    "ops.Subtract": lambda keras: keras.ops.subtract,
    "ops.Multiply": lambda keras: keras.ops.multiply,
    "ops.TrueDivide": lambda keras: keras.ops.true_divide,
    "ops.Negative": lambda keras: keras.ops.negative,
    "ops.Relu": lambda keras: keras.ops.relu,
    "ops.Relu6": lambda keras: keras.ops.relu6,
    "ops.GetItem": lambda keras: operator.getitem,
}
_LIBRARIES = (*GENERATIONS, "builtins", "numpy", "tensorflow")


def make_layer(spec: LayerSpec, name: str, config: dict[str, Any], keras: ModuleType) -> Any:
    """Makes a layer or operation.

    Args:
        spec: The one that was read; of another Keras generation only if it is a built-in layer, or
            an operation of legacy graphs.
        name: Name of the new layer.
        config: Its config, as in `spec` but for sizes.
        keras: The module to make it with.

    Raises:
        UnsupportedModelError: If its class cannot make it from the config.
    """
    source = spec.source if generation(spec.source) == keras.__name__ else None
    if source is not None and not isinstance(source, keras.layers.Layer):
        return _make_operation(spec, config)
    config = {**config, "name": name}
    if keras.__name__ == "tf_keras":
        config = _in_legacy_words(spec, config if source is not None else _for_inference(config))
    if source is None and spec.class_name in _OPERATIONS:
        return _OPERATIONS[spec.class_name](keras)
    if source is None:
        return getattr(keras.layers, spec.class_name).from_config(config)
    if spec.class_name == "Lambda":
        return _make_lambda(source, config)
    return _make_alike(spec, config, keras)


def custom_objects(things: Iterable[Any], keras: ModuleType) -> dict[str, Any]:
    """The functions and classes of the user's that layers, optimizers or metrics hold, by name."""
    found: dict[str, Any] = {}
    for thing in things:
        for value in (thing, *vars(thing).values()):
            named = value if isinstance(value, FunctionType | type) else type(value)
            if (named.__module__ or "").split(".")[0] not in _LIBRARIES:
                found[named.__name__] = found[keras.utils.get_registered_name(named)] = named
    return found


def cut_initializer(initializer: Any, cuts: Mapping[int, np.ndarray], keras: ModuleType) -> Any:
    """An initializer for a weight that was cut: an array of constants is cut alike."""
    value = getattr(initializer, "value", None)
    array = np.asarray(value)
    if not cuts or not isinstance(initializer, keras.initializers.Constant) or not array.ndim:
        return initializer
    for axis, indices in cuts.items():
        array = np.take(array, indices, axis)
    return keras.initializers.Constant(array)


def _make_operation(spec: LayerSpec, config: dict[str, Any]) -> Any:
    operation = spec.source
    if config != spec.config:
        made = type(operation)(**config)
        made.name = operation.name  # few operations take a name
        return made
    # A new object: the user's operation would keep this model alive as long as the user's model.
    twin = object.__new__(type(operation))
    twin.__dict__.update(vars(operation), _inbound_nodes=[], _outbound_nodes=[])
    return twin


def _make_lambda(source: Any, config: dict[str, Any]) -> Any:
    """A `Lambda` layer with the live function: its code in the config lacks what it refers to."""
    return type(source)(
        source.function,
        output_shape=source._output_shape,
        mask=source.mask,
        arguments=source.arguments,
        **{key: config[key] for key in ("name", "trainable", "dtype")},
    )


def _make_alike(spec: LayerSpec, config: dict[str, Any], keras: ModuleType) -> Any:
    """A layer of the same class."""
    source, cls = spec.source, type(spec.source)
    built_in = cls.__module__.split(".")[0] == keras.__name__
    if built_in:
        config |= _live_functions(source, config) | _layers_as_activations(source, config, keras)
    try:
        with keras.utils.custom_object_scope(custom_objects(source._flatten_layers(), keras)):
            layer = cls.from_config(config)
    except Exception as error:
        raise UnsupportedModelError(
            f"Layer {spec.name!r} ({spec.class_name}) cannot be remade from its config: "
            f"{spec.class_name}.get_config() must return what its constructor (or from_config) "
            f"takes. Keras says: {' '.join(str(error).split())}"
        ) from error
    if not built_in:
        _check_arguments(spec, config, layer)
    _keep_functions_inside(source, layer)
    return layer


def _keep_functions_inside(source: Any, layer: Any) -> None:
    """Gives the layers inside a wrapper their live functions; names could mean other functions."""
    parts = zip(source._flatten_layers(), layer._flatten_layers(), strict=False)
    for old, new in itertools.islice(parts, 1, None):
        vars(new).update(
            (key, value)
            for key, value in vars(old).items()
            if key.endswith(_FUNCTIONS) and isinstance(value, FunctionType)
        )


def _live_functions(source: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The live layer's functions, for the entries of the config that name them."""
    values = {key: getattr(source, key, None) for key in config if key.endswith(_FUNCTIONS)}
    return {
        key: value
        for key, value in values.items()
        if callable(value)
        and not hasattr(value, "get_config")
        and (isinstance(config[key], dict) or config[key] == getattr(value, "__name__", None))
    }


def _layers_as_activations(
    source: Any, config: dict[str, Any], keras: ModuleType
) -> dict[str, Any]:
    """Copies of layers that are a layer's activation: Keras 3.5 does not read their configs."""
    values = {key: getattr(source, key, None) for key in config if key.endswith("activation")}
    return {
        key: type(value).from_config(value.get_config())
        for key, value in values.items()
        if isinstance(value, keras.layers.Layer)
    }


def _check_arguments(spec: LayerSpec, config: dict[str, Any], layer: Any) -> None:
    """Refuses a layer that has lost an argument which its `get_config` leaves out."""
    for key in inspect.signature(type(layer).__init__).parameters:
        values = [getattr(thing, key, None) for thing in (spec.source, layer)]
        plain = all(isinstance(value, _PLAIN) for value in values)
        if key not in config and plain and values[0] != values[1]:
            raise UnsupportedModelError(
                f"Layer {spec.name!r} ({spec.class_name}) loses {key}={values[0]!r} when it is "
                f"remade from its config. Add {key!r} to what {spec.class_name}.get_config() "
                "returns."
            )


# Entries that legacy Keras does not know, and those that a twin for inference does not need.
_NOT_LEGACY = ("quantization_config", "renorm", "renorm_clipping", "renorm_momentum", "optional")
_FOR_TRAINING = ("_initializer", "_regularizer", "_constraint")


def _for_inference(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a built-in layer, with only the entries that every Keras generation knows."""
    config = {
        key: value
        for key, value in config.items()
        if key not in _NOT_LEGACY and not key.endswith(_FOR_TRAINING)
    }
    if isinstance(config.get("dtype"), dict):
        config["dtype"] = config["dtype"]["config"]["name"]
    return config


def _in_legacy_words(spec: LayerSpec, config: dict[str, Any]) -> dict[str, Any]:
    keys = {new: old for old, new in LEGACY_KEYS.get(spec.class_name, {}).items()}
    return {keys.get(key, key): value for key, value in config.items()}
