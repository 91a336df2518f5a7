"""How legacy Keras (`tf_keras`) keeps the graph of a model, told in the words of Keras 3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from keras_lrp_prune.graph import reader_common as common
from keras_lrp_prune.graph.generations import LEGACY_KEYS, weights_of
from keras_lrp_prune.graph.layer_types import Trait, types_with
from keras_lrp_prune.graph.model_graph import LayerSpec

# TensorFlow functions that legacy graphs hold as layers, and the Keras 3 operations they are.
_OPERATIONS = {
    "__operators__.add": "ops.Add",
    "math.add": "ops.Add",
    "math.subtract": "ops.Subtract",
    "math.multiply": "ops.Multiply",
    "math.truediv": "ops.TrueDivide",
    "math.negative": "ops.Negative",
    "nn.bias_add": "ops.Add",
    "nn.relu": "ops.Relu",
    "nn.relu6": "ops.Relu6",
    "__operators__.getitem": "ops.GetItem",
}
_CHANNELS_LAST = ("data_format", "NHWC")  # the default of those that have a format
_LAMBDAS = ("TFOpLambda", "SlicingOpLambda")


def functional(model: Any) -> Any:
    """The functional model behind `model`; refuses what has none."""
    if isinstance(model, tf_keras.Sequential):
        if not model._graph_initialized:
            common.refuse_unbuilt(model)
    elif not model._is_graph_network:
        common.refuse_subclassed(model)
    common.refuse_own_call(model)
    return model


def class_name(model: Any) -> str:
    """`"Functional"` or `"Sequential"`."""
    return "Sequential" if isinstance(model, tf_keras.Sequential) else "Functional"


def calls(model: Any) -> Iterator[common.LiveCall]:
    """The calls of a functional model, in an order in which they can be executed."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            outputs = tf.nest.flatten(node.outputs)
            if node.is_input:
                yield common.LiveCall(node.layer, outputs)
            else:
                args = tuple(_argument(value) for value in node.call_args)
                kwargs = {
                    key: _argument(value)
                    for key, value in node.call_kwargs.items()
                    if (key, value) != _CHANNELS_LAST
                }
                yield common.LiveCall(node.layer, outputs, args, kwargs)


def structures(model: Any) -> tuple[Any, Any]:
    """The inputs and outputs of a functional model, as the user structured them."""
    return model._nested_inputs, model._nested_outputs


def is_model(operation: Any) -> bool:
    """Whether what is called is a model."""
    return isinstance(operation, tf_keras.Model)


def is_tensor(value: Any) -> bool:
    """Whether it is a symbolic tensor."""
    return hasattr(value, "_keras_history")


def layer(operation: Any) -> LayerSpec:
    """A layer as data, with the names that Keras 3 has for it."""
    name = common.type_name(operation, tf_keras.layers)
    keys = LEGACY_KEYS.get(name, {})
    config = {keys.get(key, key): value for key, value in common.config_of(operation).items()}
    if name in _LAMBDAS:
        name = _OPERATIONS.get(config["function"], f"tf.{config['function']}")
    variables = weights_of(operation)
    names = [variable.name.split("/")[-1].split(":")[0] for variable in variables]
    if name in types_with(Trait.DEPTHWISE):
        names = [name.replace("depthwise_kernel", "kernel") for name in names]
    return LayerSpec(operation.name, name, config, common.by_name(names, variables), operation)


def _argument(value: Any) -> Any:
    """An argument with constants as NumPy's and slices as Python's."""
    if isinstance(value, dict) and value.keys() == {"start", "stop", "step"}:
        return slice(*(value[key] for key in ("start", "stop", "step")))
    if isinstance(value, list):
        return [_argument(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_argument(item) for item in value)
    if isinstance(value, tf.Tensor | tf.Variable) and not is_tensor(value):
        array = np.asarray(value)
        return common.plain(array) if array.ndim == 0 else array
    return value
