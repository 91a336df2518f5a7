"""How Keras 3 keeps the graph of a model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import keras

from keras_lrp_prune.graph import reader_common as common
from keras_lrp_prune.graph.model_graph import LayerSpec, UnsupportedModelError


def functional(model: keras.Model) -> Any:
    """The functional model behind `model`; refuses what has none."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UnsupportedModelError(
            f"keras_lrp_prune needs the TensorFlow backend, but Keras runs on {backend!r}. "
            "Set KERAS_BACKEND=tensorflow before Keras is imported."
        )
    if isinstance(model, keras.Sequential):
        common.refuse_own_call(model)
        return model._functional or common.refuse_unbuilt(model)
    if not hasattr(model, "_nodes_by_depth"):
        common.refuse_subclassed(model)
    common.refuse_own_call(model)
    return model


def class_name(model: keras.Model) -> str:
    """`"Functional"` or `"Sequential"`."""
    return "Sequential" if isinstance(model, keras.Sequential) else "Functional"


def calls(model: Any) -> Iterator[common.LiveCall]:
    """The calls of a functional model, in an order in which they can be executed."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                yield common.LiveCall(node.operation, node.output_tensors)
            else:
                arguments = node.arguments
                yield common.LiveCall(
                    node.operation, node.output_tensors, arguments.args, arguments.kwargs
                )


def structures(model: Any) -> tuple[Any, Any]:
    """The inputs and outputs of a functional model, as the user structured them."""
    return model._inputs_struct, model._outputs_struct


def is_model(operation: Any) -> bool:
    """Whether what is called is a model."""
    return isinstance(operation, keras.Model)


def is_tensor(value: Any) -> bool:
    """Whether it is a symbolic tensor."""
    return isinstance(value, keras.KerasTensor)


def layer(operation: Any) -> LayerSpec:
    """A layer or operation as data.

    Raises:
        UnsupportedModelError: If it is quantised, has LoRA enabled, or has no config.
    """
    if not isinstance(operation, keras.Layer):
        return LayerSpec(
            operation.name,
            f"ops.{common.type_name(operation, keras.layers)}",
            _operation_config(operation),
            source=operation,
        )
    for part in operation._flatten_layers():
        _check_layer(part)
    variables = operation.weights
    return LayerSpec(
        operation.name,
        common.type_name(operation, keras.layers),
        common.config_of(operation),
        common.by_name([variable.name for variable in variables], variables),
        operation,
    )


def _check_layer(layer: keras.Layer) -> None:
    where = f"Layer {layer.name!r} ({type(layer).__name__})"
    quantization = getattr(layer.dtype_policy, "quantization_mode", None)
    if quantization is not None:
        raise UnsupportedModelError(
            f"{where} is quantised ({quantization}), and channels of quantised weights cannot be "
            "removed. Prune the model before quantising it: model.quantize(...) on the result."
        )
    if getattr(layer, "lora_enabled", False):
        raise UnsupportedModelError(
            f"{where} has LoRA enabled. Put its merged kernel (layer.kernel) into a model without "
            "LoRA and prune that one; enable LoRA on the result."
        )


def _operation_config(operation: Any) -> dict[str, Any]:
    """What the operation was made with: a parameter's value is the attribute of its name."""
    automatic = getattr(getattr(operation, "_auto_config", None), "config", {})
    known = {**automatic, **vars(operation)}
    return {
        name: common.plain(known[name])
        for name in inspect.signature(type(operation).__init__).parameters
        if name in known and name not in ("self", "name", "args", "kwargs")
    }
