"""What the LRP engines share: the canonical graph, masks, and sums over filters and units."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from keras_lrp_prune.evaluation import probabilities
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.channels import ChannelStructure, selects
from keras_lrp_prune.graph.heads import read_head
from keras_lrp_prune.graph.layer_types import Trait, has
from keras_lrp_prune.graph.model_graph import ModelGraph, references
from keras_lrp_prune.prunables.masked_weights import made_units, masked_weights, read_units
from keras_lrp_prune.relevance.canonical import (
    canonize,
    depthwise_part,
    drop_identities,
    in_float32,
    next_linear,
    split_preprocessing,
    strip_softmax,
    two_class_logits,
)
from keras_lrp_prune.relevance.own_layers import as_keras_layers, has_own_function
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.kept import Kept


class LRPEngine(ABC):
    """One analyzer on one model, kept alive over many masks and batches.

    Use it as a context manager: it may own a process.

    Args:
        graph: The model, with one input and one `(batch, n)` output.
        two_class: Whether a single sigmoid or logit unit is read as two classes.
        batch_size: Samples per batch.
    """

    name: str

    def __init__(
        self,
        graph: ModelGraph,
        *,
        two_class: bool = False,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        import keras

        self._batch_size = batch_size
        self._two_class = two_class
        graph = _without_identities(graph)
        self._owners = _owners(graph)
        self._inputs = {node.name: node.inputs for node in graph.nodes}
        self._samples = graph.shape(next(references(graph.inputs)))[1:]
        self._front, graph = _canonical(graph, two_class)
        if self._front is not None:
            self._preprocessing = build(in_float32(self._front), Kept(), keras).model
        self._merged = next(references(graph.outputs)).node if two_class else ""
        self._graph = graph
        self._kind = read_head(graph).kind
        (output, *_) = references(graph.outputs)
        self.n_classes = int(graph.shape(output)[-1] or 0)
        self._widths = {
            node.layer.name: node.shapes[0][-1] or 0 for node in graph.nodes if node.layer.weights
        }
        self._next = next_linear(graph)
        self._masked: dict[str, np.ndarray] = {}

    @abstractmethod
    def _channel_sums(
        self, x: np.ndarray, y: np.ndarray, *, every_class: bool = False
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Relevance of the output channels of every layer with weights, `(classes, channels)`.

        The relevance for a class is summed over the samples of that class, or with `every_class`
        over all samples. Also returns the outputs of the canonical graph, `(samples, outputs)`.
        """

    @abstractmethod
    def _channel_magnitudes(
        self, x: np.ndarray, y: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Like `_channel_sums` for the own class, of magnitudes; relevance starts at 1."""

    @abstractmethod
    def _mask(self, news: Mapping[str, np.ndarray]) -> None:
        """Zeroes the channels that layers make, or read, and that are not kept.

        Args:
            news: `"made:LAYER"` or `"read:LAYER"` to what is kept, bool, shape `(channels,)`; for
                a layer with an LRP rule that was registered, `"WEIGHT:LAYER"` instead, an array
                that multiplies the weight. What is not mentioned stays as it is.
        """

    @abstractmethod
    def _set_weights(self, layer: str, weights: Mapping[str, np.ndarray]) -> None:
        """Gives a layer of the canonical graph other weights; masks on it stay."""

    @abstractmethod
    def _input_relevance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Relevance of what the canonical graph reads, for output `y` (-1: the highest)."""

    def set_mask(self, structure: ChannelStructure, removed: np.ndarray) -> None:
        """Analyses the model without these units from now on; costs a weight update.

        Args:
            structure: Of the model that the engine was made for.
            removed: bool, shape `(units,)`.
        """
        masks = {
            # A depth multiplier makes several output channels of one.
            f"made:{layer}": np.repeat(~selects(removed, units), self._widths[layer] // len(units))
            for layer, units in _made_units(structure).items()
            if layer in self._widths
        } | {
            f"read:{layer}": ~selects(removed, units)
            for layer, units in read_units(structure, "kernel").items()
            if layer in self._widths
        }
        masks |= {
            f"{weight.name}:{weight.layer}": weight.kept(removed, own.weights[weight.name].shape)
            for weight in masked_weights(structure)
            if (own := self._graph.layers.get(weight.layer)) and has_own_function(own)
        }
        news = {
            key: kept
            for key, kept in masks.items()
            if (kept != self._masked.get(key, np.ones_like(kept))).any()
        }
        if news:
            self._mask(news)
            self._masked |= news

    def refresh(self, graph: ModelGraph) -> None:
        """Analyses the model with the weights that it has now; masks stay.

        Costs what rewriting and setting the weights takes, and no retracing.

        Args:
            graph: The graph that the engine was made for, or another one read from the same model.
        """
        _, canonical = _canonical(_without_identities(graph), self._two_class)
        for layer in canonical.layers.values():
            if layer.weights:
                self._set_weights(layer.name, layer.arrays())

    def filter_relevance(
        self, x: np.ndarray, y: np.ndarray, *, every_class: bool = False
    ) -> dict[str, np.ndarray]:
        """Relevance of each filter for each class, summed over space and samples.

        Args:
            x: Samples as the model takes them, any number of them.
            y: Classes, int, shape `(samples,)`.
            every_class: Whether a sample counts for every class, not for its own only.

        Returns:
            Layer name to a float64 array `(classes, filters)`.
        """
        sums, _ = self._channel_sums(x, y, every_class=every_class)
        return {
            name: values for name, values in self._one_merged(sums).items() if name in self._owners
        }

    def unit_relevance(
        self, structure: ChannelStructure, x: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Relevance of each unit for the class of each sample, where the unit is read.

        A unit's channel can pass through layers with weights of their own (depthwise
        convolutions, batch norms) before other filters read it. What those layers' biases
        contribute goes with the unit too, so its relevance counts at the last of them.

        Args:
            structure: Of the model that the engine was made for.
            x: As in `filter_relevance`.
            y: As in `filter_relevance`.

        Returns:
            The relevance, float64, shape `(classes, units)`: summed over space, samples and the
            unit's channels. And the class probabilities of the same forward pass,
            `(samples, classes)`.
        """
        sums, outputs = self._channel_sums(x, y)
        return self._per_unit(structure, sums), self._probabilities(outputs)

    def unit_magnitudes(
        self, structure: ChannelStructure, x: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Magnitude of relevance of each unit, where every sample counts alike.

        Relevance is 1 for the class of each sample, and not its score. What each channel gets of it
        is summed over space; the magnitudes of these sums are added up over samples and over the
        unit's channels.

        Args:
            structure: Of the model that the engine was made for.
            x: As in `filter_relevance`.
            y: As in `filter_relevance`.

        Returns:
            As `unit_relevance`.
        """
        sums, outputs = self._channel_magnitudes(x, y)
        return self._per_unit(structure, sums), self._probabilities(outputs)

    def input_relevance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Relevance of the input, like `x`, for output `y` of each sample (-1: its highest)."""
        return self._unpad(self._input_relevance(x, y))

    @abstractmethod
    def close(self) -> None:
        """Frees what the engine holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _per_unit(self, structure: ChannelStructure, channels: dict[str, np.ndarray]) -> np.ndarray:
        """Relevance `(rows, units)` from that of the output channels of layers, `(rows, ...)`."""
        carried = _made_units(structure)
        n_rows = len(next(iter(channels.values())))
        relevance = np.zeros((structure.n_units, n_rows))
        for name, values in self._one_merged(channels).items():
            readers = self._next[name]
            if name not in carried or (readers and readers <= carried.keys() - self._owners):
                continue
            units = np.repeat(carried[name], values.shape[1] // len(carried[name]))
            inside = units >= 0
            np.add.at(relevance, units[inside], values.T[inside])
        return relevance.T

    def _one_merged(self, sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The sums; those of the two scores that stand for a single unit are added up."""
        if self._merged not in sums:
            return sums
        return {**sums, self._merged: sums[self._merged].sum(1, keepdims=True)}

    def _probabilities(self, outputs: np.ndarray) -> np.ndarray:
        # Of two scores that stand for a single unit, the second one is its logit.
        return probabilities(outputs[:, 1:] if self._merged else outputs, self._kind)

    def _preprocess(self, x: Any) -> Any:
        """What the canonical graph reads for samples as the model takes them."""
        return x if self._front is None else self._preprocessing(x)

    def _unpad(self, relevance: np.ndarray) -> np.ndarray:
        for node in reversed(self._front.nodes if self._front else ()):
            if has(node.layer, Trait.MOVES):  # among layers that prepare an input, only padding
                first = 2 if node.layer.config.get("data_format") == "channels_first" else 1
                sides = np.reshape(node.layer.config["padding"], (-1, 2)).tolist()
                inside = (slice(before, -behind or None) for before, behind in sides)
                relevance = relevance[(slice(None),) * first + tuple(inside)]
        return relevance


def _without_identities(graph: ModelGraph) -> ModelGraph:
    """A flat graph without layers that do nothing, and with Keras layers for registered ones."""
    return drop_identities(as_keras_layers(graph.flat()))


def _owners(graph: ModelGraph) -> set[str]:
    """Names of the layers that own filters."""
    owners = {name for name, layer in graph.layers.items() if has(layer, Trait.OWNS_FILTERS)}
    own = {name for name, layer in graph.layers.items() if has_own_function(layer)}
    return owners | (own & channel_structure(graph).filter_units.keys() if own else set())


def _canonical(graph: ModelGraph, two_class: bool) -> tuple[ModelGraph | None, ModelGraph]:
    """The layers that prepare the input, if there are any, and the canonical graph behind them."""
    front, graph = split_preprocessing(graph)
    graph = strip_softmax(canonize(graph))
    return front, two_class_logits(graph) if two_class else graph


def _made_units(structure: ChannelStructure) -> dict[str, np.ndarray]:
    """Layer of the canonical graph to the unit of each channel that it makes."""
    # Of a separable convolution, the depthwise part makes what its filters read.
    parts = read_units(structure, "depthwise_kernel").items()
    return made_units(structure) | {depthwise_part(layer): units for layer, units in parts}
