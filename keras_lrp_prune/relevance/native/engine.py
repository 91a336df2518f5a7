"""The native engine: one forward and one backward sweep give the relevance of every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    TensorRef,
    map_references,
    references,
)
from keras_lrp_prune.relevance.analyzers import check_analyzer
from keras_lrp_prune.relevance.canonical import LINEAR
from keras_lrp_prune.relevance.lrp_engine import LRPEngine
from keras_lrp_prune.relevance.native.composites import Composite, make_composite, place_of
from keras_lrp_prune.relevance.native.layers import (
    BACKWARD,
    ELEMENTWISE,
    SUMS,
    Visit,
    along_gradient,
)
from keras_lrp_prune.relevance.native.rules import Rule, Step
from keras_lrp_prune.relevance.native.support import check_supported, nonnegative
from keras_lrp_prune.surgery.building import build
from keras_lrp_prune.surgery.kept import Kept

Tensor = Any


class NativeEngine(LRPEngine):
    """LRP in TensorFlow operations, in this process.

    A call costs a forward pass and a backward sweep of one or two transposed passes per linear
    layer. It is traced once; masks are variable updates.

    Args:
        graph: The model.
        analyzer: An analyzer's name, such as `"lrp.sequential_preset_a"`, or a `Composite`.
        options: Keyword arguments of the analyzer.
        two_class: Whether a single sigmoid or logit unit is read as two classes.

    Raises:
        ValueError: For an unknown analyzer or option, or an unsuitable value.
        UnsupportedModelError: If there is no way back through a layer; the message names it.
    """

    name = "native"

    def __init__(
        self,
        graph: ModelGraph,
        analyzer: str | Composite,
        options: Mapping[str, Any] | None = None,
        *,
        two_class: bool = False,
    ) -> None:
        if isinstance(analyzer, str):
            check_analyzer(analyzer, options or {}, native=True)
        composite = make_composite(analyzer, options or {})
        super().__init__(graph, two_class=two_class)
        check_supported(self._graph, taylor=composite.taylor)
        self._sweep = _Sweep(self._graph, composite, list(self._widths))

    @property
    def traces(self) -> int:
        """How often a sweep was traced: of filters and of inputs, each once if asked for."""
        return self._sweep.traces

    def close(self) -> None:
        """Frees the working copy of the model."""
        vars(self).pop("_sweep", None)

    def _channel_sums(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        sums = self._sweep.by_class(x, y)
        return {name: np.asarray(value, np.float64) for name, value in sums.items()}

    def _mask(self, news: Mapping[str, np.ndarray]) -> None:
        self._sweep.mask(news)

    def _input_relevance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(self._sweep.of_input(x, y))


class _Sweep:
    """The working copy of a canonical graph, and the compiled way through it and back."""

    def __init__(self, graph: ModelGraph, composite: Composite, layers: list[str]) -> None:
        self.traces = 0
        self._graph = graph
        self._taylor = composite.taylor
        self._rules: dict[str, Rule] = {
            node.name: composite.rule_for(place_of(graph, index))
            for index, node in enumerate(graph.nodes)
            if node.layer.class_name in LINEAR
        }
        self._nonnegative = nonnegative(graph)
        self._live = build(_without_biases(graph), Kept(), keras).layers
        self._biases = {
            layer.name: tf.Variable(layer.arrays()["bias"], trainable=False)
            for layer in graph.layers.values()
            if layer.class_name in LINEAR and "bias" in layer.weights
        }
        self._kept: dict[str, np.ndarray] = {}
        (self._source,) = references(graph.inputs)
        (self._output,) = references(graph.outputs)
        shape = (None, *graph.shape(self._source)[1:])
        samples, classes = tf.TensorSpec(shape, tf.float32), tf.TensorSpec([None], tf.int64)
        compiled = partial(tf.function, input_signature=[samples, classes], autograph=False)
        self._by_class = compiled(partial(self._class_sums, layers=layers))
        self._of_input = compiled(self._input)

    def by_class(self, x: np.ndarray, y: np.ndarray) -> dict[str, Tensor]:
        """Relevance of each layer's output channels, `(classes, channels)`."""
        return self._by_class(x, y.astype(np.int64))

    def of_input(self, x: np.ndarray, y: np.ndarray) -> Tensor:
        """Relevance of the inputs for output `y` of each sample (-1: its highest)."""
        return self._of_input(x, y.astype(np.int64))

    def mask(self, news: Mapping[str, np.ndarray]) -> None:
        """See `LRPEngine`."""
        self._kept |= news
        for name in {key.partition(":")[2] for key in news}:
            layer = self._graph.layers[name]
            arrays = layer.arrays()
            kernel, bias = arrays["kernel"], arrays.get("bias")
            made, read = (self._kept.get(f"{kind}:{name}") for kind in ("made", "read"))
            made_shape, read_shape = _mask_shapes(layer.class_name, kernel)
            if made is not None:
                kernel = kernel * made.reshape(made_shape)
                bias = None if bias is None else bias * made
            if read is not None:
                kernel = kernel * read.reshape(read_shape)
            self._live[name].weights[0].assign(kernel)
            if bias is not None:
                self._biases[name].assign(bias)

    def _class_sums(self, x: Tensor, y: Tensor, *, layers: list[str]) -> dict[str, Tensor]:
        relevance = self._relevances(x, y)
        n_classes = self._graph.shape(self._output)[-1]
        sums: dict[str, Tensor] = {}
        for node in self._graph.nodes:
            name = node.layer.name
            if name in layers:
                values = relevance[TensorRef(node.name)]
                axes = list(range(1, len(values.shape) - 1))
                per_sample = tf.reduce_sum(values, axes) if axes else values
                by_class = tf.math.unsorted_segment_sum(per_sample, y, n_classes)
                sums[name] = sums[name] + by_class if name in sums else by_class
        return sums

    def _input(self, x: Tensor, y: Tensor) -> Tensor:
        return self._relevances(x, y)[self._source]

    def _relevances(self, x: Tensor, y: Tensor) -> dict[TensorRef, Tensor]:
        """Relevance of every tensor for output `y` of each sample."""
        self.traces += 1
        values = self._forward(x)
        scores = values[self._output]
        if self._taylor:
            scores = tf.nn.relu(scores)
        y = tf.where(y < 0, tf.argmax(scores, -1), y)
        relevance = {self._output: scores * tf.one_hot(y, scores.shape[-1])}
        for node in reversed(self._graph.nodes):
            passed = relevance.get(TensorRef(node.name))
            if node.is_input or passed is None:  # nothing that is explained depends on it
                continue
            parts = self._backward(node, [values[ref] for ref in node.inputs], passed)
            for ref, part in zip(node.inputs, parts, strict=True):
                if part is not None:
                    relevance[ref] = relevance[ref] + part if ref in relevance else part
        for ref, value in values.items():
            relevance.setdefault(ref, tf.zeros_like(value))
        return relevance

    def _forward(self, x: Tensor) -> dict[TensorRef, Tensor]:
        values = {self._source: x}
        for node in self._graph.nodes:
            if not node.is_input:
                out = self._call(node, [values[ref] for ref in node.inputs])
                if node.layer.name in self._biases:
                    out += self._biases[node.layer.name]
                values[TensorRef(node.name)] = out
        return values

    def _call(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """The call of a layer (without bias) as a function of the tensors that it reads."""
        given = iter(inputs)
        args = map_references(lambda _: next(given), node.args)
        kwargs = map_references(lambda _: next(given), dict(node.kwargs))
        return self._live[node.layer.name](*args, **kwargs)

    def _backward(
        self, node: Node, inputs: list[Tensor], passed: Tensor
    ) -> Sequence[Tensor | None]:
        layer = self._live[node.layer.name]
        if node.name in self._rules:
            step = Step(
                inputs[0],
                layer.weights[0],
                self._biases.get(node.layer.name),
                lambda x, kernel: layer.stateless_call([kernel], [], x)[0],
                passed,
                nonnegative=node.inputs[0] in self._nonnegative,
            )
            return [self._rules[node.name](step)]
        visit = Visit(self._graph, node, layer, partial(self._call, node), inputs, passed)
        kind = node.layer.class_name
        if self._taylor and kind in (*ELEMENTWISE, *SUMS):
            return along_gradient(visit)
        return BACKWARD[kind](visit)


_ONE_GROUP = ("groups", 1)


def _without_biases(graph: ModelGraph) -> ModelGraph:
    """The graph with linear layers that have no bias: the rules treat it apart."""

    def bare(layer: LayerSpec) -> LayerSpec:
        if layer.class_name not in LINEAR:
            return layer
        # Legacy Keras tells one group of layers that Keras 3 does not know to have any.
        config = {key: value for key, value in layer.config.items() if (key, value) != _ONE_GROUP}
        kernel = {"kernel": layer.weights["kernel"]}
        return replace(layer, config={**config, "use_bias": False}, weights=kernel)

    specs = {name: bare(layer) for name, layer in graph.layers.items()}
    nodes = tuple(replace(node, layer=specs[node.layer.name]) for node in graph.nodes)
    return replace(graph, nodes=nodes)


def _mask_shapes(class_name: str, kernel: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes in which masks of a layer's outputs and inputs multiply its kernel."""
    rows, columns = kernel.shape[-2:]
    if class_name.startswith("Depthwise"):
        return (rows, columns), (rows, 1)
    if class_name.endswith("Transpose"):
        return (rows, 1), (1, columns)
    return (1, columns), (rows, 1)
