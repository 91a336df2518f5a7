"""Reading a live Keras 3 model into a `ModelGraph`."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import keras
import numpy as np

from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    TensorRef,
    UnsupportedModelError,
)


def read_model(model: keras.Model) -> ModelGraph:
    """Reads a functional or Sequential model; costs no forward pass and copies no weight.

    Args:
        model: A built `keras.Model`, functional or Sequential; nested models become nested
            graphs.

    Returns:
        The `ModelGraph`; its weights are the model's live variables.

    Raises:
        UnsupportedModelError: For a subclassed model, a Sequential without an input shape,
            or a KERAS_BACKEND other than TensorFlow.
        TypeError: If it is not a Keras 3 model at all.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UnsupportedModelError(
            f"keras_lrp_prune needs the TensorFlow backend, but Keras runs on {backend!r}. "
            "Set KERAS_BACKEND=tensorflow before Keras is imported."
        )
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Expected a Keras 3 model (keras.Model), got {type(model).__module__}."
            f"{type(model).__qualname__}."
        )
    functional = _functional(model)
    calls = [
        node
        for depth in sorted(functional._nodes_by_depth, reverse=True)
        for node in functional._nodes_by_depth[depth]
    ]
    seen: Counter[str] = Counter()
    specs: dict[int, tuple[LayerSpec, ModelGraph | None]] = {}
    produced: dict[int, TensorRef] = {}
    nodes = []
    for call in calls:
        operation = call.operation
        if id(operation) not in specs:
            specs[id(operation)] = _read_operation(operation)
        spec, inner = specs[id(operation)]
        count = seen[spec.name]
        seen[spec.name] += 1
        name = spec.name if count == 0 else f"{spec.name}#{count}"
        for index, tensor in enumerate(call.output_tensors):
            produced[id(tensor)] = TensorRef(name, index)
        nodes.append(
            Node(
                name=name,
                layer=spec,
                args=() if call.is_input else _to_references(call.arguments.args, produced),
                kwargs={
                    key: _to_references(value, produced)
                    for key, value in ({} if call.is_input else call.arguments.kwargs).items()
                    if value is not None
                },
                shapes=tuple(tuple(tensor.shape) for tensor in call.output_tensors),
                inner=inner,
            )
        )
    return ModelGraph(
        name=model.name,
        class_name="Sequential" if isinstance(model, keras.Sequential) else "Functional",
        nodes=tuple(nodes),
        inputs=_to_references(functional._inputs_struct, produced),
        outputs=_to_references(functional._outputs_struct, produced),
    )


def _functional(model: keras.Model) -> Any:
    """The functional model behind `model`."""
    if isinstance(model, keras.Sequential):
        if model._functional is None:
            raise UnsupportedModelError(
                f"Sequential model {model.name!r} has no input shape yet. Start it with "
                "keras.Input(shape), or call it once on data, before pruning."
            )
        return model._functional
    if not hasattr(model, "_nodes_by_depth"):
        raise UnsupportedModelError(
            f"Model {model.name!r} ({type(model).__qualname__}) is a subclassed model: its "
            "layers are called in Python code, which cannot be read as a graph. Write it as a "
            "functional model: keras.Model(inputs, outputs)."
        )
    return model


def _read_operation(operation: Any) -> tuple[LayerSpec, ModelGraph | None]:
    if isinstance(operation, keras.Model):
        inner = read_model(operation)
        return LayerSpec(operation.name, inner.class_name, source=operation), inner
    if not isinstance(operation, keras.Layer):
        class_name = "ops." + type(operation).__name__
        config = _operation_config(operation)
        return LayerSpec(operation.name, class_name, config, source=operation), None
    weights: dict[str, Any] = {}
    for variable in operation.weights:
        name, count = variable.name, 1
        while name in weights:
            name, count = f"{variable.name}#{count}", count + 1
        weights[name] = variable
    spec = LayerSpec(
        operation.name, type(operation).__name__, operation.get_config(), weights, operation
    )
    return spec, None


def _operation_config(operation: Any) -> dict[str, Any]:
    """What the operation was made with: a parameter's value is the attribute of its name."""
    automatic = getattr(getattr(operation, "_auto_config", None), "config", {})
    known = {**automatic, **vars(operation)}
    return {
        name: _plain(known[name])
        for name in inspect.signature(type(operation).__init__).parameters
        if name in known and name not in ("self", "name", "args", "kwargs")
    }


def _plain(value: Any) -> Any:
    """NumPy values as Python's, so that configs can be compared."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value


def _to_references(structure: Any, produced: dict[int, TensorRef]) -> Any:
    if isinstance(structure, keras.KerasTensor):
        return produced[id(structure)]
    if isinstance(structure, dict):
        return {key: _to_references(value, produced) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)(_to_references(value, produced) for value in structure)
    return structure
