"""The way through a canonical graph and back: the relevance of every tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lrp_prune.graph.layer_types import Trait, has
from keras_lrp_prune.graph.model_graph import (
    LayerSpec,
    ModelGraph,
    Node,
    TensorRef,
    map_references,
    references,
)
from keras_lrp_prune.relevance.native.composites import Composite, place_of
from keras_lrp_prune.relevance.native.convolutions import is_turned, turned
from keras_lrp_prune.relevance.native.layers import Visit, along_gradient, backward_of
from keras_lrp_prune.relevance.native.rules import LinearCall, Redistribution, Rule
from keras_lrp_prune.relevance.native.support import nonnegative
from keras_lrp_prune.relevance.own_layers import has_own_function
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.kept import Kept

Tensor = Any
Values = dict[TensorRef, Tensor]


class Sweep:
    """The working copy of a canonical graph, and functions of a batch to be compiled.

    Make it in the scope of the strategy that the functions will run under.

    Args:
        graph: The canonical graph, with one input and one output.
        composite: Which rule for which layer.
        widths: Name of each layer whose relevances are wanted to its number of channels.
    """

    def __init__(self, graph: ModelGraph, composite: Composite, widths: Mapping[str, int]) -> None:
        self.graph = graph
        self._taylor = composite.taylor
        self._widths = widths
        self._rules: dict[str, Rule] = {
            node.name: composite.rule_for(place_of(graph, index))
            for index, node in enumerate(graph.nodes)
            if has(node.layer, Trait.LINEAR)
        }
        self._nonnegative = nonnegative(graph)
        self._live = build(_without_biases(graph), Kept(), keras).layers
        self._biases = {
            layer.name: tf.Variable(layer.arrays()["bias"], trainable=False)
            for layer in graph.layers.values()
            if has(layer, Trait.LINEAR) and "bias" in layer.weights
        }
        self._kept: dict[str, np.ndarray] = {}
        self._changed: dict[str, Mapping[str, np.ndarray]] = {}
        (self._source,) = references(graph.inputs)
        (self.output,) = references(graph.outputs)
        self._n_classes = graph.shape(self.output)[-1]

    def own_class(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Relevance of all channels for the class of each sample, summed over each class.

        Args:
            x: Samples.
            y: Classes; samples of class -1 do not count.

        Returns:
            float64 `(classes, channels)`, the layers of `widths` side by side, and the outputs.
        """
        values = self.forward(x)
        start = self._explained(values, tf.one_hot(y, self._n_classes))
        relevance = self._back(values, self._shares(values), start)
        return self._by_class(self._channels(relevance), y), values[self.output]

    def own_class_magnitudes(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Like `own_class`, of magnitudes, and each sample counts alike, whatever its score is.

        Relevance starts at 1 for the class of each sample; of what a channel gets of it, summed
        over space, the magnitude is taken.

        Args:
            x: Samples.
            y: Classes; samples of class -1 do not count.

        Returns:
            As `own_class`.
        """
        values = self.forward(x)
        relevance = self._back(values, self._shares(values), tf.one_hot(y, self._n_classes))
        return self._by_class(tf.abs(self._channels(relevance)), y), values[self.output]

    def every_class(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Relevance of all channels for every class, summed over all samples.

        One forward pass for all classes, and one way back for each.

        Args:
            x: Samples.
            y: Classes; only samples of class -1 do not count.

        Returns:
            As `own_class`.
        """
        values = self.forward(x)
        shares = self._shares(values)
        counts = tf.cast(y >= 0, tf.float32)[:, None]

        def for_class(index: Tensor) -> Tensor:
            chosen = counts * tf.one_hot(index, self._n_classes)
            start = self._explained(values, chosen)
            return tf.reduce_sum(self._channels(self._back(values, shares, start)), 0)

        sums = tf.map_fn(
            for_class,
            tf.range(self._n_classes),
            fn_output_signature=tf.float64,
            parallel_iterations=1,
        )
        return sums, values[self.output]

    def log_odds(self, x: Tensor, y: Tensor) -> tuple[tuple[()], Tensor]:
        """Relevance of all channels for the log odds of each sample's class, sample by sample.

        The log odds `z_y - log sum_{c != y} exp z_c` are explained through the scores z: relevance
        starts at each score as the score times the gradient there, positive for the own class and
        negative for its rivals, as in contrastive LRP (Gu et al. 2018, arXiv:1812.02100; with
        softmax gradients: Iwana et al. 2019, arXiv:1908.04351).

        Args:
            x: Samples.
            y: Classes.

        Returns:
            Nothing to sum up, and float32 `(batch, channels + classes)`: the relevance of the
            layers of `widths` side by side, then the outputs.
        """
        values = self.forward(x)
        scores = values[self.output]
        own, rivals = self.sides(scores, y)
        start = self._explained(values, own - tf.nn.softmax(rivals))
        relevance = self._back(values, self._shares(values), start)
        channels = tf.cast(self._channels(relevance), tf.float32)
        return (), tf.concat([channels, scores], -1)

    def of_input(self, x: Tensor, y: Tensor) -> tuple[tuple[()], Tensor]:
        """Relevance of the input, like `x`, for output `y` of each sample (-1: its highest)."""
        values = self.forward(x)
        y = tf.where(y < 0, tf.argmax(values[self.output], -1), y)
        start = self._explained(values, tf.one_hot(y, self._n_classes))
        relevance = self._back(values, self._shares(values), start)
        return (), relevance.get(self._source, tf.zeros_like(x))

    def mask(self, news: Mapping[str, np.ndarray]) -> None:
        """See `LRPEngine`."""
        self._kept |= news
        for name in {key.partition(":")[2] for key in news}:
            self._assign(name)

    def set_weights(self, layer: str, weights: Mapping[str, np.ndarray]) -> None:
        """See `LRPEngine`."""
        self._changed[layer] = weights
        self._assign(layer)

    def kernel(self, layer: str) -> np.ndarray:
        """The kernel of a linear layer as it is now, with zeros where it is masked."""
        return np.asarray(self._live[layer].weights[0])

    def _assign(self, name: str) -> None:
        """Gives a layer its weights, with zeros where they are masked."""
        layer = self.graph.layers[name]
        arrays = self._changed.get(name) or layer.arrays()
        if not has(layer, Trait.LINEAR):
            live = zip(self._live[name].weights, arrays.items(), strict=True)
            for variable, (weight, array) in live:
                variable.assign(array * self._kept.get(f"{weight}:{name}", True))
            return
        kernel, bias = arrays["kernel"], arrays.get("bias")
        made, read = (self._kept.get(f"{kind}:{name}") for kind in ("made", "read"))
        made_shape, read_shape = _mask_shapes(layer, kernel)
        if made is not None:
            kernel = kernel * made.reshape(made_shape)
            bias = None if bias is None else bias * made
        if read is not None:
            kernel = kernel * read.reshape(read_shape)
        self._live[name].weights[0].assign(kernel)
        if bias is not None:
            self._biases[name].assign(bias)

    def sides(self, scores: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot, the own class of each sample; and the scores of its rivals alone."""
        own = tf.one_hot(y, self._n_classes)
        return own, tf.where(own > 0, scores.dtype.min, scores)

    def forward(
        self,
        x: Tensor,
        seen: Callable[[Node, list[Tensor]], list[Tensor]] = lambda node, inputs: inputs,
    ) -> Values:
        """Every tensor; `seen` is told what each call reads, and says what it reads instead."""
        values = {self._source: x}
        for node in self.graph.nodes:
            if not node.is_input:
                out = self.call(node, seen(node, [values[ref] for ref in node.inputs]))
                if node.layer.name in self._biases:
                    out += self._biases[node.layer.name]
                values[TensorRef(node.name)] = out
        return values

    def call(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """The call of a layer (without bias) as a function of the tensors that it reads."""
        given = iter(inputs)
        args = map_references(lambda _: next(given), node.args)
        kwargs = map_references(lambda _: next(given), dict(node.kwargs))
        live = self._live[node.layer.name]
        if is_turned(node.layer):
            (x,) = inputs
            return _with_kernel(node.layer, live, x, live.weights[0].value)
        return live(*args, **kwargs)

    def _shares(self, values: Values) -> dict[str, Redistribution]:
        """How each linear layer shares its relevance, given what went through it."""
        return {
            node.name: self._share(node, values)
            for node in self.graph.nodes
            if node.name in self._rules
        }

    def _share(self, node: Node, values: Values) -> Redistribution:
        share = self._rules[node.name](self._linear_call(node, values))
        if not callable(share):
            raise TypeError(
                f"The LRP rule for {node.layer.class_name} must return a function share(passed), "
                f"which shares relevance of layer {node.layer.name!r} among what it read; it "
                f"returned {share!r}."
            )
        return share

    def _linear_call(self, node: Node, values: Values) -> LinearCall:
        layer = self._live[node.layer.name]
        return LinearCall(
            values[node.inputs[0]],
            layer.weights[0],
            self._biases.get(node.layer.name),
            partial(_with_kernel, node.layer, layer),
            values[TensorRef(node.name)],
            nonnegative=node.inputs[0] in self._nonnegative,
        )

    def _explained(self, values: Values, chosen: Tensor) -> Tensor:
        """The relevance of the chosen scores (one-hot, or how much each counts)."""
        scores = values[self.output]
        return (tf.nn.relu(scores) if self._taylor else scores) * chosen

    def _back(self, values: Values, shares: Mapping[str, Redistribution], start: Tensor) -> Values:
        """Relevance of every tensor, given that of the scores."""
        relevance = {self.output: start}
        for node in reversed(self.graph.nodes):
            passed = relevance.get(TensorRef(node.name))
            if node.is_input or passed is None:
                continue
            share = shares.get(node.name)
            parts: Sequence[Tensor | None]
            if share is None:
                parts = self._through(node, values, passed)
            else:
                parts = [share(passed)]
                _check_relevance(node, [values[node.inputs[0]]], parts)
            for ref, part in zip(node.inputs, parts, strict=True):
                if part is not None:
                    relevance[ref] = relevance[ref] + part if ref in relevance else part
        return relevance

    def _through(self, node: Node, values: Values, passed: Tensor) -> Sequence[Tensor | None]:
        """Relevance of what a layer without kernel read."""
        live = self._live[node.layer.name]
        inputs = [values[ref] for ref in node.inputs]
        visit = Visit(self.graph, node, live, partial(self.call, node), inputs, passed)
        if self._taylor and has(node.layer, Trait.ELEMENTWISE, Trait.ADDS):
            return along_gradient(visit)
        backward = backward_of(node.layer)
        assert backward is not None, f"{node.layer.class_name} passed the check of support"
        parts = backward(visit)
        if not isinstance(parts, Sequence) or len(parts) != len(inputs):
            raise TypeError(
                f"The LRP rule for {node.layer.class_name} must return the relevance of each of "
                f"the {len(inputs)} inputs of layer {node.layer.name!r}; it returned {parts!r}."
            )
        if has_own_function(node.layer):
            _check_relevance(node, inputs, parts)
        return parts

    def _by_class(self, channels: Tensor, y: Tensor) -> Tensor:
        """Sums over the samples of each class."""
        return tf.math.unsorted_segment_sum(channels, y, self._n_classes)

    def _channels(self, relevance: Values) -> Tensor:
        """Relevance of the layers of `widths` summed over space, float64 `(batch, channels)`."""
        sums: dict[str, Tensor] = {}
        n_samples = tf.shape(relevance[self.output])[0]
        for node in self.graph.nodes:
            name = node.layer.name
            if name in self._widths:
                values = relevance.get(TensorRef(node.name))
                if values is None:  # nothing that is explained depends on it
                    values = tf.zeros((n_samples, self._widths[name]))
                axes = list(range(1, len(values.shape) - 1))
                per_sample = tf.reduce_sum(values, axes) if axes else values
                sums[name] = sums[name] + per_sample if name in sums else per_sample
        return tf.cast(tf.concat([sums[name] for name in self._widths], -1), tf.float64)


def _with_kernel(layer: LayerSpec, live: Any, x: Tensor, kernel: Tensor) -> Tensor:
    """The call of a layer with another kernel, whether or not its own is trainable."""
    kernel = tf.convert_to_tensor(kernel)

    def called(x: Tensor) -> Tensor:
        with keras.StatelessScope([(live.weights[0], kernel)]):
            return live(x)

    if not is_turned(layer):
        return called(x)

    @tf.custom_gradient
    def way_back_as_convolution(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return called(x), lambda passed: turned(
            passed, kernel, layer.config.get("padding", "valid")
        )

    return way_back_as_convolution(x)


_ONE_GROUP = ("groups", 1)


def _without_biases(graph: ModelGraph) -> ModelGraph:
    """The graph with linear layers that have no bias: the rules treat it apart."""

    def bare(layer: LayerSpec) -> LayerSpec:
        if not has(layer, Trait.LINEAR):
            return layer
        # Configs of legacy Keras have one group for layers to which Keras 3 gives no groups.
        config = {key: value for key, value in layer.config.items() if (key, value) != _ONE_GROUP}
        kernel = {"kernel": layer.weights["kernel"]}
        return replace(layer, config={**config, "use_bias": False}, weights=kernel)

    specs = {name: bare(layer) for name, layer in graph.layers.items()}
    nodes = tuple(replace(node, layer=specs[node.layer.name]) for node in graph.nodes)
    return replace(graph, nodes=nodes)


def _mask_shapes(layer: LayerSpec, kernel: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes that masks of a layer's outputs and inputs need to multiply its kernel."""
    rows, columns = kernel.shape[-2:]
    if has(layer, Trait.DEPTHWISE):
        return (rows, columns), (rows, 1)
    if has(layer, Trait.TRANSPOSED):
        return (rows, 1), (1, columns)
    return (1, columns), (rows, 1)


def _check_relevance(node: Node, inputs: Sequence[Tensor], parts: Sequence[Any]) -> None:
    """Raises an error if what a user's LRP rule returned is no relevance of the inputs."""
    rule = f"The LRP rule for {node.layer.class_name} must return"
    if all(part is None for part in parts):
        raise TypeError(
            f"{rule} the relevance of an input of layer {node.layer.name!r}; it returned None."
        )
    for index, (value, part) in enumerate(zip(inputs, parts, strict=True)):
        if part is None:
            continue
        shape = getattr(part, "shape", None)
        if shape is None or not value.shape.is_compatible_with(shape):
            found = f"{part!r}" if shape is None else f"shape {tuple(shape)}"
            raise ValueError(
                f"{rule} a tensor of the shape of each input of layer {node.layer.name!r}, "
                f"{tuple(value.shape)} for input {index}; it returned {found}."
            )
