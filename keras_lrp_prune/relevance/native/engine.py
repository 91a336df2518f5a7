"""The native engine: one forward and one backward sweep give the relevance of every layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.model_graph import LayerSpec, ModelGraph, TensorRef
from keras_lrp_prune.relevance.analyzers import make_composite
from keras_lrp_prune.relevance.lrp_engine import LRPEngine
from keras_lrp_prune.relevance.native.composites import Composite
from keras_lrp_prune.relevance.native.readings import Read, called, contributions
from keras_lrp_prune.relevance.native.support import check_supported
from keras_lrp_prune.relevance.native.sweep import Sweep
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE, OverSamples, scope

Summary = Callable[[list[Any], Any], tuple[Any, Any]]
_COMPILED = ("_own_class", "_magnitudes", "_every_class", "_log_odds", "_input")


@dataclass(frozen=True)
class Reader:
    """A tensor as a layer with filters reads it.

    Args:
        call: Name of the call, as in the model's flat graph.
        index: Which of its inputs.
        tensor: Its name in the canonical graph; several can read the same.
        units: Unit of each channel, -1 for those that stay, int, shape `(channels,)`.
        axis: The axis of the channels, counted from the end.
        shape: Of what is read, without the batch axis.
    """

    call: str
    index: int
    tensor: TensorRef
    units: np.ndarray
    axis: int
    shape: tuple[int | None, ...]


class NativeEngine(LRPEngine):
    """LRP in TensorFlow operations, in this process, on one device or all of a strategy.

    A call costs a forward pass and a backward sweep of one or two transposed passes per linear
    layer. It is traced once; masks are variable updates.

    Args:
        graph: The model.
        analyzer: An analyzer's name, such as `"lrp.sequential_preset_a"`, or a `Composite`.
        options: Keyword arguments of the analyzer.
        two_class: Whether a single sigmoid or logit unit is read as two classes.
        batch_size: Samples per batch and replica.
        strategy: `tf.distribute` strategy to run under.

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
        batch_size: int = DEFAULT_BATCH_SIZE,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        composite = make_composite(analyzer, options or {})
        self._strategy = strategy
        with scope(strategy):
            super().__init__(graph, two_class=two_class, batch_size=batch_size)
            check_supported(self._graph, taylor=composite.taylor)
            self._sweep = Sweep(self._graph, composite, self._widths)

        def compiled(function: Callable[[Any, Any], tuple[Any, Any]]) -> OverSamples:
            return OverSamples(
                lambda x, y: function(self._preprocess(x), y),
                tf.TensorSpec((None, *self._samples), tf.float32),
                batch_size=batch_size,
                strategy=strategy,
            )

        self._own_class = compiled(self._sweep.own_class)
        self._magnitudes = compiled(self._sweep.own_class_magnitudes)
        self._every_class = compiled(self._sweep.every_class)
        self._log_odds = compiled(self._sweep.log_odds)
        self._input = compiled(self._sweep.of_input)

    @property
    def traces(self) -> int:
        """How often a sweep was traced: once for each kind of result that was asked for."""
        return sum(vars(self)[name].traces for name in _COMPILED)

    def log_odds_relevance(
        self, structure: ChannelStructure, x: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Relevance of each unit for the log odds of each sample's class.

        Read where `unit_relevance` reads it. Costs what that costs.

        Args:
            structure: Of the model that the engine was made for.
            x: Samples as the model takes them.
            y: Classes, int, shape `(samples,)`.

        Returns:
            The relevance, float64, shape `(samples, units)`, and class probabilities,
            `(samples, classes)`.
        """
        rows = self._log_odds(x, y)[1]
        channels, outputs = np.split(rows, [rows.shape[1] - self.n_classes], axis=1)
        relevance = self._per_unit(structure, self._by_layer(channels))
        # One unit stands for the scores z and -z, whose log odds are 2 z instead of z.
        return relevance / (2 if self._merged else 1), self._probabilities(outputs)

    def readers(self, structure: ChannelStructure) -> tuple[Reader, ...]:
        """Where layers with filters read channels of units, in the order of the calls.

        Without layers that only pass a unit on: depthwise convolutions and batch norms, which own
        no filters, and grouped convolutions of which a group goes whole.

        Args:
            structure: Of the model that the engine was made for.
        """
        found = []
        for node in self._graph.nodes:
            if node.layer.name not in self._owners:
                continue
            made = structure.filter_units.get(node.layer.name, np.zeros(0, np.int64))
            refs = zip(node.inputs, self._inputs[node.name], strict=True)
            for index, (ref, known_as) in enumerate(refs):
                units = structure.tensor_units[known_as]
                if (units < 0).all() or _passes_on(node.layer, units, made):
                    continue
                axis, shape = structure.tensor_axes[known_as], self._graph.shape(ref)[1:]
                # A depth multiplier makes several channels of one.
                units = np.repeat(units, (shape[axis] or 0) // len(units))
                found.append(Reader(node.name, index, ref, units, axis, shape))
        return tuple(found)

    def over_readings(self, groups: Sequence[Sequence[Reader]], summary: Summary) -> OverSamples:
        """Compiles what is to be known of what layers read, and how the log odds hang on it.

        A call costs a forward and a backward pass, and the summary. It sees the masks and the
        weights of now, without retracing.

        Args:
            groups: Some of `readers`, those of the same tensor together.
            summary: `summary(readings, y) -> (sums, rows)`, as `OverSamples` takes them, of a
                `Read` for each group. Samples of class -1 must not count.
        """
        calls = {reader.call for group in groups for reader in group}
        half = 2 if self._merged else 1  # one unit stands for z and -z: the log odds are 2 z

        def function(x: Any, y: Any) -> tuple[Any, Any]:
            found = called(self._sweep, self._preprocess(x), y, calls)
            readings = []
            for group in groups:
                value = found[group[0].call].values[group[0].index]
                gradients = [found[reader.call].gradients[reader.index] for reader in group]
                made = [found[reader.call].made / half for reader in group]
                readings.append(Read(value, tf.add_n(gradients) / half, made))
            return summary(readings, y)

        return OverSamples(
            function,
            tf.TensorSpec((None, *self._samples), tf.float32),
            batch_size=self._batch_size,
            strategy=self._strategy,
        )

    def over_contributions(
        self, readers: Sequence[Reader], shares: np.ndarray, summary: Summary
    ) -> OverSamples:
        """Compiles what is to be known of what channels add to outputs of layers that read them.

        A call costs a forward pass and, for each instance, a transposed pass through each layer. It
        sees the masks and the weights of now, without retracing. It takes the samples' own numbers
        in the place of their classes.

        Args:
            readers: Some of `readers`.
            shares: Which outputs, for each sample and reader: see `readings.contributions`, float,
                shape `(readers, samples, instances)`.
            summary: `summary(found, numbers) -> (sums, rows)`, as `OverSamples` takes them; found
                is for each reader what its channels add, float32, shape
                `(instances, batch, channels)`. Samples of a number below 0 must not count.
        """
        drawn = tf.constant(shares, tf.float32)

        def function(x: Any, numbers: Any) -> tuple[Any, Any]:
            values = self._sweep.forward(self._preprocess(x))
            mine = tf.gather(drawn, tf.maximum(numbers, 0), axis=1)
            found = []
            for number, reader in enumerate(readers):
                node = self._graph.by_name[reader.call]
                inputs = [values[ref] for ref in node.inputs]
                found.append(
                    contributions(
                        self._sweep, node, inputs, reader.index, reader.axis, mine[number]
                    )
                )
            return summary(found, numbers)

        return OverSamples(
            function,
            tf.TensorSpec((None, *self._samples), tf.float32),
            batch_size=self._batch_size,
            strategy=self._strategy,
        )

    def kernel(self, call: str) -> np.ndarray:
        """The kernel of the layer of a call, as it is now, with zeros where it is masked."""
        return self._sweep.kernel(self._graph.by_name[call].layer.name)

    def close(self) -> None:
        """Frees the working copy of the model."""
        for name in ("_sweep", *_COMPILED):
            vars(self).pop(name, None)

    def _channel_sums(
        self, x: np.ndarray, y: np.ndarray, *, every_class: bool = False
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        sums, outputs = (self._every_class if every_class else self._own_class)(x, y)
        return self._by_layer(sums), outputs

    def _channel_magnitudes(
        self, x: np.ndarray, y: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        sums, outputs = self._magnitudes(x, y)
        return self._by_layer(sums), outputs

    def _by_layer(self, channels: np.ndarray) -> dict[str, np.ndarray]:
        ends = np.cumsum(list(self._widths.values()))[:-1]
        return dict(zip(self._widths, np.split(channels, ends, axis=-1), strict=True))

    def _mask(self, news: Mapping[str, np.ndarray]) -> None:
        self._sweep.mask(news)

    def _set_weights(self, layer: str, weights: Mapping[str, np.ndarray]) -> None:
        self._sweep.set_weights(layer, weights)

    def _input_relevance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._input(x, y)[1]


def _passes_on(layer: LayerSpec, read: np.ndarray, made: np.ndarray) -> bool:
    """Whether a layer has groups of channels of which each makes channels of its own unit alone."""
    groups = layer.config.get("groups") or 1
    if groups == 1:
        return False
    rows = read.reshape(groups, -1)
    return bool((rows == rows[:, :1]).all() and (made.reshape(groups, -1) == rows[:, :1]).all())
