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
from keras_lrp_prune.examination.recovery_choice import RECOVERIES
from keras_lrp_prune.examination.steering import LinearHead
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.recovery.least_squares import refit_layers
from keras_lrp_prune.recovery.weights import Weights, with_weights
from keras_lrp_prune.runtime import CompiledForward, from_chief
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.kept import kept_without

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Refitted:
    """New weights for what is left of a model.

    Args:
        weights: Layer of the flat graph to weight to its values, in the shapes of the whole layer.
        skipped: Layers that could not be refitted, with the reason.
    """

    weights: Weights = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

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


def refitted(
    problem: Problem[ChannelStructure],
    removed: np.ndarray,
    recovery: str | None,
    keras: ModuleType,
    *,
    on_part: Callable[[float], None] = lambda part: None,
) -> Refitted:
    """Refits what is left of a model, in closed form but for the head's logistic regression.

    Args:
        problem: The whole model, flat, and the reference set.
        removed: Units that are gone, bool, shape `(units,)`.
        recovery: One of `RECOVERIES`.
        keras: The Keras that the model is of.
        on_part: Called with the share of the layers that are refitted.

    Raises:
        UnsupportedModelError: If the head is to be refitted, and is no linear one.
        ValueError: If layers are to be refitted to a single image.
    """
    parts = RECOVERIES[recovery]
    weights: Weights = {}
    skipped: Mapping[str, str] = {}
    if "least_squares" in parts:
        refit = refit_layers(
            problem.graph,
            problem.structure,
            removed,
            problem.reference.x,
            keras=keras,
            batch_size=problem.batch_size,
            include_head="head" not in parts,
            seed=problem.seed,
            on_part=on_part,
        )
        weights, skipped = _from_chief(refit.weights, problem.strategy), refit.skipped
    if "head" in parts:
        head = LinearHead(problem, refit=True)
        flat = with_weights(problem.graph, weights)
        built = build(flat, kept_without(problem.structure, removed), keras)
        features = keras.Model(built.model.inputs[0], built.tensors[head.tensor])
        rows = CompiledForward(features, problem.batch_size)(problem.reference.x)
        fitted = {head.name: head.spread(head.fitted(rows), removed)}
        weights = {**weights, **_from_chief(fitted, problem.strategy)}
        skipped = {name: reason for name, reason in skipped.items() if name != head.name}
    return Refitted(weights, skipped)


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
