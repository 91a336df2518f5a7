"""Refitting what is left on the reference set: layers and then the head."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.examination.recovery_choice import RECOVERIES, Recovery
from keras_lrp_prune.examination.steering import LinearHead
from keras_lrp_prune.graph.channels import ChannelStructure, selects
from keras_lrp_prune.graph.heads import linear_head
from keras_lrp_prune.graph.model_graph import ModelGraph, TensorRef, references
from keras_lrp_prune.recovery.least_squares import LeastSquares
from keras_lrp_prune.recovery.replay import Replay
from keras_lrp_prune.recovery.weights import Weights, with_weights
from keras_lrp_prune.runtime import from_chief
from keras_lrp_prune.surgery.kept import kept_without

if TYPE_CHECKING:
    import tensorflow as tf


# Of the memory for what is kept of the samples, what is for weights found before.
_SHARE = 1 / 4


@dataclass(frozen=True)
class Refitted:
    """New weights for what is left of a model.

    Args:
        weights: Layer of the flat graph to weight to its values, in the shapes of the whole layer.
        skipped: Layers that could not be refitted, with the reason.
        rows: What the refitted network computes for the reference samples, with zeros for channels
            that are gone: the features that a linear head reads, if there is one, and the model's
            outputs, unless the head is fitted anew.
    """

    weights: Weights = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[TensorRef, np.ndarray] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """What it takes in memory."""
        weights = (array for layer in self.weights.values() for array in layer.values())
        return sum(array.nbytes for array in (*weights, *self.rows.values()))

    def put_into(self, graph: ModelGraph, recovery: str | None) -> Recovered:
        """The model with these weights.

        Args:
            graph: The whole model, nested or flat.
            recovery: One of `RECOVERIES`: what they were fitted by.
        """
        return Recovered(with_weights(graph, self.weights), self.skipped, recovery)


@dataclass(frozen=True)
class Recovered:
    """A model with the weights that are to be kept.

    Args:
        graph: The whole model with these weights; it is still to be rebuilt without what goes.
        skipped: Layers that could not be refitted, with the reason.
        recovery: One of `RECOVERIES`: what was done.
        refused: Why `"auto"` left the weights as they are, if it did.
    """

    graph: ModelGraph
    skipped: Mapping[str, str] = field(default_factory=dict)
    recovery: str | None = None
    refused: str = ""


class Refitter:
    """Refits what is left of a model, in closed form but for the head's logistic regression.

    One serves a whole run: what the layers of the whole model compute is kept from refit to refit,
    and the weights that were found last, as many as memory allows, so that a mask that comes back
    costs nothing.

    Args:
        problem: The whole model, flat, and the reference set.
        recovery: What is refitted.
        keras: The Keras that the model is of.
        thorough: Whether layers are fitted to mirror images, too, and to more windows: twice the
            work, for a result that is to last.

    Raises:
        UnsupportedModelError: If the head is to be refitted, and is no linear one.
        ValueError: If layers are to be refitted to a single image.
    """

    def __init__(
        self,
        problem: Problem[ChannelStructure],
        recovery: Recovery,
        keras: ModuleType,
        *,
        thorough: bool = True,
    ) -> None:
        self.problem, self.recovery, self._keras = problem, recovery, keras
        self._thorough = thorough
        parts = RECOVERIES[recovery.chosen]
        self._head = LinearHead(problem, refit=True) if "head" in parts else None
        self._layers = self._least_squares() if "least_squares" in parts else None
        self._found: dict[bytes, Refitted] = {}
        self._passes_of_heads = 0

    @property
    def passes(self) -> int:
        """Forward passes over the reference set that refitting has cost so far."""
        return self._passes_of_heads + (0 if self._layers is None else self._layers.passes)

    def refitted(
        self, removed: np.ndarray, *, on_part: Callable[[float], None] = lambda part: None
    ) -> Refitted:
        """The weights that suit what is left, whatever was refitted before.

        Args:
            removed: Units that are gone, bool, shape `(units,)`.
            on_part: Called with the share of the layers that are refitted.
        """
        key = removed.tobytes()
        found = self._found.pop(key, None) or self._refitted(removed, on_part)
        self._found[key] = found
        while sum(one.n_bytes for one in self._found.values()) > _SHARE * self.problem.memory:
            oldest = next(iter(self._found))
            if oldest == key:
                break
            del self._found[oldest]
        return found

    def _least_squares(self) -> LeastSquares:
        problem = self.problem
        return LeastSquares(
            problem.graph,
            problem.structure,
            problem.reference.x,
            keras=self._keras,
            batch_size=problem.batch_size,
            memory=problem.memory,
            include_head=self._head is None,
            thorough=self._thorough,
            seed=problem.seed,
        )

    def _network(self, removed: np.ndarray) -> Replay:
        """What is left, to run over the reference samples."""
        if self._layers is not None:
            return self._layers.pruned(removed)
        problem = self.problem
        return Replay(
            problem.graph,
            kept_without(problem.structure, removed),
            self._keras,
            problem.reference.x,
            batch_size=problem.batch_size,
            memory=problem.memory,
        )

    def _refitted(self, removed: np.ndarray, on_part: Callable[[float], None]) -> Refitted:
        strategy = self.problem.strategy
        if self._head is None and (self._layers is None or not removed.any()):
            return Refitted()
        weights: Weights = {}
        skipped: Mapping[str, str] = {}
        network = self._network(removed)
        if self._layers is not None:
            refit = self._layers.refit(removed, network, on_part=on_part)
            weights, skipped = _from_chief(refit.weights, strategy), refit.skipped
        rows = self._rows(network)
        if (head := self._head) is not None:
            self._passes_of_heads += self._layers is None
            fitted = {head.name: head.spread(head.fitted(rows[head.tensor]), removed)}
            weights = {**weights, **_from_chief(fitted, strategy)}
            skipped = {name: reason for name, reason in skipped.items() if name != head.name}
        return Refitted(
            weights, skipped, {ref: self._spread(ref, rows[ref], removed) for ref in rows}
        )

    def _rows(self, network: Replay) -> dict[TensorRef, np.ndarray]:
        """What accuracies and heads are computed from, without what is gone."""
        graph = self.problem.graph
        refs = [] if self._head is not None else list(references(graph.outputs))
        if (name := linear_head(graph)) is not None:
            refs += [node.inputs[0] for node in graph.nodes if node.layer.name == name]
        found = network.first(refs, len(self.problem.reference.x))
        arrays = {"": {str(number): rows for number, rows in enumerate(found)}}
        same = _from_chief(arrays, self.problem.strategy)[""]
        return dict(zip(refs, same.values(), strict=True))

    def _spread(self, ref: TensorRef, rows: np.ndarray, removed: np.ndarray) -> np.ndarray:
        """Rows with zeros for the channels that are gone."""
        left = ~selects(removed, self.problem.structure.tensor_units[ref])
        found = np.zeros((*rows.shape[:-1], len(left)), rows.dtype)
        found[..., left] = rows
        return found


def _from_chief(weights: Weights, strategy: tf.distribute.Strategy | None) -> Weights:
    """The chief's weights, on every worker: those that workers compute differ in the last bits."""
    if strategy is None:
        return weights
    names = [(layer, weight) for layer, arrays in weights.items() for weight in arrays]
    buffer = BytesIO()
    arrays = [weights[layer][weight] for layer, weight in names]
    np.savez(buffer, *arrays, names=np.array(json.dumps(names)))
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(BytesIO(from_chief(buffer.getvalue(), strategy)), allow_pickle=False) as file:
        for number, (layer, weight) in enumerate(json.loads(str(file["names"]))):
            found.setdefault(layer, {})[weight] = file[f"arr_{number}"]
    return found
