"""A network run over samples from layer to layer, so that layers can change on the way."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from keras_lrp_prune.graph.model_graph import (
    ModelGraph,
    TensorRef,
    flatten,
    map_references,
    references,
)
from keras_lrp_prune.surgery.builder import Built, build
from keras_lrp_prune.surgery.kept import Kept

Values = dict[TensorRef, Any]


class Replay:
    """Computes what some calls read, one call after the other, in the order of the graph.

    What later calls read of the earlier ones is kept on the host, so that each call is computed
    once; where it takes more memory than allowed, it is computed again from what was kept last.

    Args:
        graph: A flat model with one input; it is built anew, once it is run, and stays as it is.
        kept: What is left of each layer.
        keras: The module to build with.
        x: Samples, shape `(n, ...)`.
        batch_size: Samples that are run at once.
        memory: Bytes that may be kept.
    """

    def __init__(
        self,
        graph: ModelGraph,
        kept: Kept,
        keras: ModuleType,
        x: np.ndarray,
        *,
        batch_size: int,
        memory: float,
    ) -> None:
        self._graph, self._kept, self._keras = graph, kept, keras
        self._nodes = graph.nodes
        self._own_mode_first = keras.__name__ == "tf_keras"
        self._batch_size = batch_size
        self._memory = memory
        (source,) = references(graph.inputs)
        self._done, self._n_samples = 0, len(x)
        self._stored: dict[TensorRef, np.ndarray] = {source: x}
        self._outputs = list(references(graph.outputs))

    @property
    def layers(self) -> Mapping[str, Any]:
        """The layers by name; they may be changed as long as no call of them was passed."""
        return self._built.layers

    @cached_property
    def _built(self) -> Built:
        return build(self._graph, self._kept, self._keras)

    @cached_property
    def _dtype(self) -> Any:
        """What the model takes."""
        import tensorflow as tf

        return tf.as_dtype(self._built.model.inputs[0].dtype).as_numpy_dtype

    def up_to(self, name: str) -> Iterator[tuple[slice, Any]]:
        """What the call named so reads, batch by batch.

        Args:
            name: A call that comes after those that were asked for before, with one input.

        Yields:
            Which samples, and the tensor.
        """
        end = next(index for index, node in enumerate(self._nodes) if node.name == name)
        (wanted,) = self._nodes[end].inputs
        later = self._read_from(end)
        store: dict[TensorRef, np.ndarray] | None = {}
        for batch in self._batches(self._n_samples):
            values = self._run(batch, end)
            yield batch, values[wanted]
            left = {ref: np.asarray(values[ref]) for ref in later if ref in values}
            if batch.start == 0 and _bytes(left, self._n_samples) > self._memory:
                store = None
            if store is not None:
                for ref, array in left.items():
                    if ref not in store:
                        store[ref] = np.empty((self._n_samples, *array.shape[1:]), array.dtype)
                    store[ref][batch] = array
        if store is not None:
            self._stored, self._done = store, end

    def first(self, refs: Sequence[TensorRef], n_samples: int) -> list[np.ndarray]:
        """Tensors that are made, or read, behind the calls that were asked for.

        Args:
            refs: The tensors.
            n_samples: For how many of the samples.
        """
        makers = {ref.node for ref in refs}
        end = max(number for number, node in enumerate(self._nodes, 1) if node.name in makers)
        parts: list[list[np.ndarray]] = [[] for _ in refs]
        for batch in self._batches(n_samples):
            values = self._run(batch, max(end, self._done))
            for part, ref in zip(parts, refs, strict=True):
                part.append(np.asarray(values[ref]))
        return [np.concatenate(part) for part in parts]

    def _batches(self, n_samples: int) -> Iterator[slice]:
        for start in range(0, n_samples, self._batch_size):
            yield slice(start, min(start + self._batch_size, n_samples))

    def _run(self, batch: slice, end: int) -> Values:
        """Every tensor from what is kept up to a call, which is left out."""
        values: Values = {ref: array[batch] for ref, array in self._stored.items()}
        if not self._done:
            values = {ref: array.astype(self._dtype, copy=False) for ref, array in values.items()}
        for node in self._nodes[self._done : end]:
            if node.is_input:
                continue
            name = node.layer.name
            args, kwargs = self._kept.call(name, node.args, dict(node.kwargs))
            args, kwargs = (map_references(values.__getitem__, part) for part in (args, kwargs))
            kwargs = self._at_inference(self.layers[name], kwargs)
            for index, output in enumerate(flatten(self.layers[name](*args, **kwargs))):
                values[TensorRef(node.name, index)] = output
        return values

    def _at_inference(self, layer: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments with which a model calls a layer at inference.

        A layer that is called by itself may be in training mode, such as `RandomFlip`: so it gets
        `training=False`. In legacy Keras, `training=True` in the call of the layer is kept, as the
        model would do; in Keras 3 the model's `training=False` counts more.
        """
        heeded = "training" in inspect.signature(layer.call).parameters
        if heeded and not (self._own_mode_first and "training" in kwargs):
            return {**kwargs, "training": False}
        return kwargs

    def _read_from(self, start: int) -> set[TensorRef]:
        """The tensors that calls from `start` on read, and the outputs of the model."""
        return {ref for node in self._nodes[start:] for ref in node.inputs} | set(self._outputs)


def _bytes(arrays: Mapping[TensorRef, np.ndarray], n_samples: int) -> int:
    return sum(array[0].nbytes * n_samples for array in arrays.values())
