"""What methods are compared on: a model, taken apart once, and the samples that decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.comparison.methods import Method
from keras_lrp_prune.control.proposal import Limits
from keras_lrp_prune.data import DataError, ReferenceSet, reference_set
from keras_lrp_prune.evaluation import class_accuracies, probabilities
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.heads import Head, read_head
from keras_lrp_prune.graph.model_graph import ModelGraph, UnsupportedModelError, references
from keras_lrp_prune.pruning.recovering import recover
from keras_lrp_prune.relevance.criteria import Problem
from keras_lrp_prune.runtime import CompiledForward, chosen_batch_size, scope
from keras_lrp_prune.surgery.building import Built, build
from keras_lrp_prune.surgery.kept import Kept, kept_without
from keras_lrp_prune.surgery.sizing import sized

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Task:
    """A model to prune and the reference set to prune it by.

    Args:
        graph: The model, flat.
        structure: Its channel structure.
        keras: The Keras that it is of.
        head: What its outputs mean.
        reference: The samples that all decisions use.
        limits: What every group keeps.
        batch_size: Samples per batch and replica.
        strategy: `tf.distribute` strategy to run under.
    """

    graph: ModelGraph
    structure: ChannelStructure
    keras: ModuleType
    head: Head
    reference: ReferenceSet
    limits: Limits
    batch_size: int
    strategy: tf.distribute.Strategy | None

    @cached_property
    def unpruned(self) -> np.ndarray:
        """No unit removed, bool, shape `(units,)`."""
        return np.zeros(self.structure.n_units, bool)

    def unpruned_probabilities(self) -> np.ndarray:
        """Class probabilities of the reference samples by the unpruned model."""
        return probabilities(self.forward()(self.reference.x), self.head.kind)

    def forward(self) -> CompiledForward:
        """The unpruned model's forward pass, not yet traced; a new one at each call."""
        return CompiledForward(self.working_copy().model, self.batch_size, self.strategy)

    def working_copy(self) -> Built:
        """A copy of the model to mask; a new one at each call."""
        with scope(self.strategy):
            return build(self.graph, Kept(), self.keras)

    def problem(
        self,
        method: Method,
        seed: int,
        *,
        engine: str = "auto",
        worker_python: str | None = None,
    ) -> Problem:
        """What a method's criterion scores, on one working copy."""
        return Problem(
            graph=self.graph,
            structure=self.structure,
            working=cache(self.working_copy),
            head=self.head,
            reference=self.reference,
            batch_size=self.batch_size,
            seed=seed,
            analyzer_options=method.analyzer_options,
            engine=engine,
            worker_python=worker_python,
            strategy=self.strategy,
        )

    def samples(self, data: Any, name: str) -> ReferenceSet:
        """Other samples for the same classes, checked; `name` tells errors of theirs apart."""
        shape = self.reference.x.shape[1:]
        try:
            return reference_set(data, n_classes=self.head.n_classes, input_shape=shape)
        except DataError as error:
            raise DataError(f"The {name}: {error}") from error


def read_task(
    model: keras.Model,
    reference: Any,
    *,
    limits: Limits,
    protect: Sequence[str],
    batch_size: int | None,
    memory_budget: float,
    strategy: tf.distribute.Strategy | None,
) -> Task:
    """Takes a model apart and checks the reference set; arguments as those of `prune`.

    Raises:
        DataError: For unusable samples or labels.
        UnsupportedModelError: For a model that cannot be pruned.
        TypeError: If `protect` is no list of names.
    """
    from keras_lrp_prune.graph.reading import read_model

    if isinstance(protect, str) or not all(isinstance(name, str) for name in protect):
        raise TypeError(f"protect takes a list of layer names, not {protect!r}.")
    graph = read_model(model)
    inputs = list(references(graph.inputs))
    if len(inputs) != 1:
        raise UnsupportedModelError(
            f"Model {graph.name!r} has {len(inputs)} inputs; a comparison needs a model with one."
        )
    structure = channel_structure(graph, tuple(protect))
    if not structure.n_units:
        raise UnsupportedModelError(
            f"Model {graph.name!r} has no filters that can be pruned; explain() says why."
        )
    head = read_head(graph)
    shape = graph.shape(inputs[0])[1:]
    samples = reference_set(reference, n_classes=head.n_classes, input_shape=shape)
    keras = keras_of(model)
    flat = sized(graph, samples.x.shape[1:], keras)
    batch = chosen_batch_size(flat, batch_size, memory_budget)
    return Task(flat, structure, keras, head, samples, limits, batch, strategy)


class RebuiltModels:
    """The models that come out: what is left after some units went, rebuilt and measured.

    Rebuilt, because a masked model takes as long as a whole one. A measurement costs one forward
    pass of the smaller model and its trace, and what the recovery takes.

    Args:
        task: The model.
        problem: The model and its reference set, for the recovery; nothing is scored.
        recovery: How what is left is refitted, as in `prune`.
    """

    def __init__(self, task: Task, problem: Problem, recovery: str | None) -> None:
        self._task, self._problem, self._recovery = task, problem, recovery

    def class_accuracies(self, removed: np.ndarray, samples: ReferenceSet) -> np.ndarray:
        """Accuracy of each class.

        Args:
            removed: Units that are gone, bool, shape `(units,)`.
            samples: What to measure on.

        Returns:
            float64, shape `(classes,)`.
        """
        task = self._task
        refitted = recover(task.graph, self._problem, removed, self._recovery, task.keras).graph
        with scope(task.strategy):
            small = build(refitted, kept_without(task.structure, removed), task.keras).model
        outputs = CompiledForward(small, task.batch_size, task.strategy)(samples.x)
        return class_accuracies(samples.y, probabilities(outputs, task.head.kind))
