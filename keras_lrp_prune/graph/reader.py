"""Reading a live model into a `ModelGraph`."""

from __future__ import annotations

import importlib
from collections import Counter
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.model_graph import LayerSpec, ModelGraph, Node, TensorRef

if TYPE_CHECKING:
    import keras

# Each module says how one Keras generation keeps its graphs.
_READERS = {
    "keras": "keras_lrp_prune.graph.reader_keras3",
    "tf_keras": "keras_lrp_prune.graph.reader_legacy",
}


def read_model(model: keras.Model) -> ModelGraph:
    """Reads a functional or Sequential model; costs no forward pass and copies no weight.

    Args:
        model: A built `keras.Model` or legacy `tf_keras.Model`, functional or Sequential; nested
            models become nested graphs.

    Returns:
        The `ModelGraph`; its weights are the model's live variables. Class names, config entries
        and weight names are those of Keras 3.

    Raises:
        UnsupportedModelError: For a subclassed model, a Sequential without an input shape,
            quantised layers or layers with LoRA, a layer without a config, or a KERAS_BACKEND
            other than TensorFlow.
        TypeError: If it is not a Keras model at all.
    """
    return _Reading(importlib.import_module(_READERS[keras_of(model).__name__])).read(model)


class _Reading:
    """Reads a model and those nested in it; a layer in several of them has one `LayerSpec`."""

    def __init__(self, reader: ModuleType) -> None:
        self._reader = reader
        self._specs: dict[int, tuple[LayerSpec, ModelGraph | None]] = {}

    def read(self, model: Any) -> ModelGraph:
        functional = self._reader.functional(model)
        seen: Counter[str] = Counter()
        produced: dict[int, TensorRef] = {}
        nodes = []
        for call in self._reader.calls(functional):
            spec, inner = self._spec(call.operation)
            count = seen[spec.name]
            seen[spec.name] += 1
            name = spec.name if count == 0 else f"{spec.name}#{count}"
            for index, tensor in enumerate(call.outputs):
                produced[id(tensor)] = TensorRef(name, index)
            nodes.append(
                Node(
                    name=name,
                    layer=spec,
                    args=self._referring(call.args, produced),
                    kwargs={
                        key: self._referring(value, produced)
                        for key, value in call.kwargs.items()
                        if value is not None
                    },
                    shapes=tuple(tuple(tensor.shape) for tensor in call.outputs),
                    inner=inner,
                )
            )
        inputs, outputs = self._reader.structures(functional)
        return ModelGraph(
            name=model.name,
            class_name=self._reader.class_name(model),
            nodes=tuple(nodes),
            inputs=self._referring(inputs, produced),
            outputs=self._referring(outputs, produced),
            source=model,
        )

    def _spec(self, operation: Any) -> tuple[LayerSpec, ModelGraph | None]:
        """The layer and, if it is a model, its graph."""
        if id(operation) not in self._specs:
            if self._reader.is_model(operation):
                inner = self.read(operation)
                spec = LayerSpec(operation.name, inner.class_name, source=operation)
                self._specs[id(operation)] = spec, inner
            else:
                self._specs[id(operation)] = self._reader.layer(operation), None
        return self._specs[id(operation)]

    def _referring(self, structure: Any, produced: dict[int, TensorRef]) -> Any:
        """A structure with references in the place of symbolic tensors."""
        if self._reader.is_tensor(structure):
            return produced[id(structure)]
        if isinstance(structure, dict):
            return {key: self._referring(value, produced) for key, value in structure.items()}
        if isinstance(structure, list):
            return [self._referring(value, produced) for value in structure]
        if isinstance(structure, tuple):
            return tuple(self._referring(value, produced) for value in structure)
        return structure
