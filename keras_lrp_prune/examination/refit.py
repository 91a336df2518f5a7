"""Refitting what is left on the reference set: layers, and the head."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.examination.recovery_choice import Recovery
from keras_lrp_prune.examination.steering import LinearHead, has_linear_head
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
        on_reference: Where the head was corrected towards the labels, what to report for the
            reference samples: class probabilities, shape `(samples, classes)`, by heads that were
            corrected without them.
    """

    weights: Weights = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[TensorRef, np.ndarray] = field(default_factory=dict)
    on_reference: np.ndarray | None = None

    @property
    def n_bytes(self) -> int:
        """What it takes in memory."""
        weights = (array for layer in self.weights.values() for array in layer.values())
        reported = () if self.on_reference is None else (self.on_reference,)
        return sum(array.nbytes for array in (*weights, *self.rows.values(), *reported))

    def put_into(self, graph: ModelGraph, recovery: Recovery) -> Recovered:
        """The model with these weights.

        Args:
            graph: The whole model, nested or flat.
            recovery: What they were fitted by.
        """
        done = recovery.named(corrected=self.on_reference is not None)
        return Recovered(with_weights(graph, self.weights), self.skipped, done)


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
    """Refits what is left of a model: layers in closed form, a head by logistic regression.

    One serves a whole run: what the layers of the whole model compute is kept from refit to refit,
    and the weights that were found last, as many as memory allows, so that a mask that comes back
    costs nothing.

    Args:
        problem: The whole model, flat, and the reference set.
        recovery: What is refitted.
        keras: The Keras that the model is of.
        thorough: Whether the result is to last. Then layers are fitted to mirror images, too, and
            to more windows, which is twice the work, and the head is corrected where it is to be.

    Raises:
        UnsupportedModelError: If the head is to be refitted, and is no linear one. (`"auto"` leaves
            it as it is then.)
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
        corrects = recovery.corrects_head and has_linear_head(problem)
        self._head = LinearHead(problem, refit=True) if corrects or recovery.needs_head else None
        self._layers = self._least_squares() if recovery.refits_layers else None
        self._found: dict[bytes, Refitted] = {}
        self._passes = 0

    @property
    def passes(self) -> int:
        """Forward passes over the reference set that refitting has cost so far."""
        return self._passes + (0 if self._layers is None else self._layers.passes)

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
            thorough=self._thorough,
            seed=problem.seed,
        )

    def _refitted(self, removed: np.ndarray, on_part: Callable[[float], None]) -> Refitted:
        if self._layers is None:
            return Refitted() if self._head is None else self._head_alone(removed, self._head)
        if not removed.any():
            return Refitted()
        network = self._layers.pruned(removed)
        refit = self._layers.refit(removed, network, on_part=on_part)
        weights = _from_chief(refit.weights, self.problem.strategy)
        rows = self._rows(network, list(references(self.problem.graph.outputs)))
        reported = None
        if self._head is not None and self._thorough:
            corrected, reported = self._corrected(
                self._head, removed, rows[self._head.tensor], weights
            )
            weights = {**weights, **corrected}
        return Refitted(weights, refit.skipped, self._spread(rows, removed), reported)

    def _head_alone(self, removed: np.ndarray, head: LinearHead) -> Refitted:
        """The head fitted anew."""
        self._passes += 1
        problem = self.problem
        network = Replay(
            problem.graph,
            kept_without(problem.structure, removed),
            self._keras,
            problem.reference.x,
            batch_size=problem.batch_size,
            memory=problem.memory,
        )
        rows = self._rows(network, [])
        fitted = {head.name: head.spread(head.fitted(rows[head.tensor]), removed)}
        return Refitted(_from_chief(fitted, problem.strategy), {}, self._spread(rows, removed))

    def _corrected(
        self, head: LinearHead, removed: np.ndarray, features: np.ndarray, weights: Weights
    ) -> tuple[Weights, np.ndarray | None]:
        """New weights of the head, if there are any, and what they say of samples not seen."""
        own = {**self.problem.graph.layers[head.name].arrays(), **weights.get(head.name, {})}
        found = head.corrected(features, head.left(own, removed))
        sent: Weights = {}
        if found is not None:
            sent = {head.name: head.spread(found[0], removed), "": {"reported": found[1]}}
        # The chief says, too, whether there is a correction: others might round to another answer.
        corrected = dict(_from_chief(sent, self.problem.strategy))
        return corrected, corrected.pop("", {}).get("reported")

    def _rows(self, network: Replay, refs: list[TensorRef]) -> dict[TensorRef, np.ndarray]:
        """What accuracies and heads are computed from, without what is gone.

        Args:
            network: What is left.
            refs: What is wanted beside the features that a linear head reads.
        """
        graph = self.problem.graph
        if (name := linear_head(graph)) is not None:
            refs = [*refs, *(node.inputs[0] for node in graph.nodes if node.layer.name == name)]
        found = network.first(refs, len(self.problem.reference.x))
        arrays = {"": {str(number): rows for number, rows in enumerate(found)}}
        same = _from_chief(arrays, self.problem.strategy)[""]
        return dict(zip(refs, same.values(), strict=True))

    def _spread(
        self, rows: Mapping[TensorRef, np.ndarray], removed: np.ndarray
    ) -> dict[TensorRef, np.ndarray]:
        """The rows with zeros for the channels that are gone."""
        found = {}
        for ref, array in rows.items():
            left = ~selects(removed, self.problem.structure.tensor_units[ref])
            found[ref] = np.zeros((*array.shape[:-1], len(left)), array.dtype)
            found[ref][..., left] = array
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
