"""What is left, refitted on the reference set: after the last step, layers and then the head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from keras_lrp_prune.arguments import one_of
from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.pruning.steering import LinearHead
from keras_lrp_prune.recovery.least_squares import refit_layers
from keras_lrp_prune.recovery.weights import with_weights
from keras_lrp_prune.relevance.criteria import Problem
from keras_lrp_prune.runtime import CompiledForward
from keras_lrp_prune.surgery.building import build
from keras_lrp_prune.surgery.kept import kept_without

RECOVERIES: Mapping[str | None, tuple[str, ...]] = {
    None: (),
    "head": ("head",),
    "least_squares": ("least_squares",),
    "head+least_squares": ("head", "least_squares"),
}


def check_recovery(recovery: str | None) -> None:
    """Raises `ValueError` for an unknown recovery, listing those that there are."""
    one_of("recovery", recovery, RECOVERIES)


@dataclass(frozen=True)
class Recovered:
    """A model with other weights, to be rebuilt without what was removed.

    Args:
        graph: The model.
        skipped: Layers that could not be refitted, with the reason.
    """

    graph: ModelGraph
    skipped: Mapping[str, str] = field(default_factory=dict)


def recover(
    graph: ModelGraph,
    problem: Problem,
    removed: np.ndarray,
    recovery: str | None,
    keras: ModuleType,
    *,
    on_part: Callable[[float], None] = lambda part: None,
) -> Recovered:
    """Refits what is left of a model, in closed form but for the head's logistic regression.

    Args:
        graph: The whole model.
        problem: The same model, flat, and the reference set.
        removed: Units that are gone, bool, shape `(units,)`.
        recovery: One of `RECOVERIES`.
        keras: The Keras that the model is of.
        on_part: Called with the share of the layers that are refitted.

    Raises:
        UnsupportedModelError: If the head is to be refitted, and is no linear one.
        ValueError: If layers are to be refitted to a single image.
    """
    parts = RECOVERIES[recovery]
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
        graph, skipped = with_weights(graph, refit.weights), refit.skipped
        flat = with_weights(problem.graph, refit.weights)
    else:
        flat = problem.graph
    if "head" in parts:
        head = LinearHead(problem)
        built = build(flat, kept_without(problem.structure, removed), keras)
        features = keras.Model(built.model.inputs[0], built.tensors[head.tensor])
        rows = CompiledForward(features, problem.batch_size)(problem.reference.x)
        graph = with_weights(graph, {head.name: head.spread(head.fitted(rows), removed)})
        skipped = {name: reason for name, reason in skipped.items() if name != head.name}
    return Recovered(graph, skipped)
