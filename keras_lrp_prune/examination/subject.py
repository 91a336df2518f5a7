"""What is examined: a model and the samples that decide, read and checked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.cost import CostModel, LatencyShare, ModelCostShares
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.data import (
    DataError,
    ReferenceSet,
    check_fits,
    checked_names,
    reference_set,
)
from keras_lrp_prune.display_names import printable
from keras_lrp_prune.evaluation import USUAL_CAUSES, probabilities, warn_at_chance
from keras_lrp_prune.examination.channel_limits import DEFAULT_LIMITS, ChannelLimits
from keras_lrp_prune.examination.trial_rebuild import check_own_rules
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.finite import check_finite
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.heads import Head, read_head
from keras_lrp_prune.graph.model_graph import ModelGraph, UnsupportedModelError, references
from keras_lrp_prune.prunables.channel_mask import ChannelMask
from keras_lrp_prune.runtime import (
    DEFAULT_EXECUTION,
    DEFAULT_MEMORY,
    CompiledForward,
    Execution,
    check_same,
    chosen_batch_size,
    from_chief,
    scope,
)
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.surgery.builder import Built, build
from keras_lrp_prune.surgery.fidelity import check_copy
from keras_lrp_prune.surgery.input_sizes import sized
from keras_lrp_prune.surgery.kept import Kept, kept_without

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


_FEW = 4  # samples on which a working copy must compute what the model does

_AT_CHANCE = f"Which filters go would be decided by noise. {USUAL_CAUSES}"


@dataclass(frozen=True)
class Subject:
    """A model to prune, and the samples that decide.

    Args:
        model: The user's own; it is not changed.
        graph: The model as data.
        flat: The same without nested models, all sizes known.
        structure: Its channel structure.
        keras_module: The Keras module that the model belongs to.
        head: What its outputs mean.
        reference: The samples that all decisions use.
        limits: What every group keeps.
        batch_size: Samples per batch and replica.
        strategy: `tf.distribute` strategy to run under.
        class_names: What the classes are called, if it is known.
        memory: Bytes that the activations of a batch, or what is kept of the samples, may take.
    """

    model: keras.Model
    graph: ModelGraph
    flat: ModelGraph
    structure: ChannelStructure
    keras_module: ModuleType
    head: Head
    reference: ReferenceSet
    limits: Limits
    batch_size: int
    strategy: tf.distribute.Strategy | None
    class_names: tuple[str, ...] | None = None
    memory: float = DEFAULT_MEMORY

    def samples(self, data: Any, name: str) -> ReferenceSet:
        """Checks other samples of the same classes; errors call them `name`."""
        shape = self.reference.x.shape[1:]
        try:
            found = reference_set(data, n_classes=self.head.n_classes, input_shape=shape)
            check_fits(self.graph, found.x)
        except DataError as error:
            raise DataError(f"The {name}: {error}") from error
        named = self.reference.class_names, found.class_names
        if None not in named and named[0] != named[1]:
            raise DataError(
                f"The {name}: its classes are {', '.join(named[1] or ())}, but those of the "
                f"reference set are {', '.join(named[0] or ())}; give both the same, in one order."
            )
        return found

    def working_copy(self) -> Built:
        """A copy of the model to mask; a new one at each call.

        Raises:
            UnsupportedModelError: If it computes something else than the model.
        """
        with scope(self.strategy):
            copy = build(self.flat, Kept(), self.keras_module)
        check_copy(self.flat, copy, self.reference.x[:_FEW], self.keras_module)
        return copy

    def problem(self, seed: int = 0) -> Problem[ChannelStructure]:
        """What a criterion scores, on one working copy.

        Args:
            seed: For what is drawn at random.
        """
        working = cache(self.working_copy)
        names = {name: layer.weights for name, layer in self.flat.layers.items()}
        return Problem(
            graph=self.flat,
            structure=self.structure,
            working=working,
            mask=cache(lambda: ChannelMask(self.structure, working().layers, names)),
            head=self.head,
            reference=self.reference,
            batch_size=self.batch_size,
            seed=seed,
            strategy=self.strategy,
            memory=self.memory,
        )

    def forward(self, model: keras.Model) -> CompiledForward:
        """The compiled forward pass of this model, or of one that was rebuilt from it."""
        from keras_lrp_prune.graph.reader import read_model

        with scope(self.strategy):
            if self.strategy is not None:
                # Variables made outside the strategy's scope are not the strategy's.
                model = build(read_model(model), Kept(), self.keras_module).model
            return CompiledForward(model, self.batch_size, self.strategy)

    @cached_property
    def unpruned_forward(self) -> CompiledForward:
        """The forward pass of the model as it is."""
        return self.forward(self.model)

    def unpruned_probabilities(self, samples: ReferenceSet) -> np.ndarray:
        """Class probabilities by the model as it is; a pass over the samples, the first time."""
        if id(samples) not in self._unpruned:
            found = self.probabilities(self.unpruned_forward, samples)
            self._unpruned[id(samples)] = samples, found
        return self._unpruned[id(samples)][1]

    @cached_property
    def _unpruned(self) -> dict[int, tuple[ReferenceSet, np.ndarray]]:
        """Samples that the model has seen as it is, and their probabilities."""
        return {}

    def check_accuracy(self, held_out: ReferenceSet | None = None) -> None:
        """Warns (`AtChanceWarning`) if the model is no better than guesses.

        Args:
            held_out: Samples that it is to be measured on beside the reference set, if any.
        """
        answers = self.unpruned_probabilities(self.reference)
        warn_at_chance(self.reference.y, answers, _AT_CHANCE, self.class_names)
        if held_out is not None:
            answers, where = self.unpruned_probabilities(held_out), "the validation data"
            warn_at_chance(held_out.y, answers, USUAL_CAUSES, self.class_names, where=where)

    @cached_property
    def cost(self) -> CostModel:
        """Counts what is left without some units."""
        return CostModel(self.flat, self.structure)

    @cached_property
    def count_names(self) -> tuple[str, ...]:
        """The names by which steps count what is left."""
        return tuple(self.cost().counts())

    def counts(self, removed: np.ndarray) -> Mapping[str, int]:
        """What is left without some units, as steps count it."""
        return self.cost(removed).counts()

    def shares(self) -> ModelCostShares:
        """What remains of each cost without some units."""
        return ModelCostShares(self.cost, self._latency_share())

    def _latency_share(self) -> LatencyShare:
        """Measures models without some units; the chief's figures count for all workers."""

        def built(removed: np.ndarray) -> keras.Model:
            kept = kept_without(self.structure, removed)
            return build(self.flat, kept, self.keras_module).model

        def agreed(share: float) -> float:
            return float(from_chief(str(share).encode(), self.strategy))

        return LatencyShare(built, self.reference.x[:1], agreed)

    def probabilities(self, forward: CompiledForward, samples: ReferenceSet) -> np.ndarray:
        """Class probabilities `(samples, classes)` by a model."""
        return probabilities(forward(samples.x), self.head.kind)


def read_subject(
    model: keras.Model,
    reference: Any,
    limits: ChannelLimits = DEFAULT_LIMITS,
    execution: Execution = DEFAULT_EXECUTION,
    *,
    class_names: Iterable[str] | None = None,
) -> Subject:
    """Takes a model apart and checks the reference set.

    Args:
        model: As in `prune`.
        reference: As in `prune`.
        limits: What stays.
        execution: How it will be run.
        class_names: As in `prune`.

    Raises:
        DataError: For unusable samples, labels or class names.
        UnsupportedModelError: For a model that cannot be pruned, or a channel rule that was
            registered and is wrong.
        TypeError: If `class_names` is no list of names.
        ValueError: If the workers of a strategy were given different models or samples.
    """
    from keras_lrp_prune.graph.reader import read_model

    graph = read_model(model)
    inputs = list(references(graph.inputs))
    if len(inputs) != 1:
        raise UnsupportedModelError(
            f"Model {graph.name!r} has {len(inputs)} inputs; pruning needs a model with one."
        )
    check_finite(graph)
    head = read_head(graph)
    shape = graph.shape(inputs[0])[1:]
    samples = reference_set(reference, n_classes=head.n_classes, input_shape=shape)
    check_fits(graph, samples.x)
    names = _class_names(class_names, samples, head)
    check_same(graph, samples, execution.strategy)
    structure = channel_structure(graph, tuple(limits.protect))
    if not structure.n_units:
        reasons = [f"{layer}: {reason}" for layer, reason in structure.protected.items()]
        raise UnsupportedModelError(
            f"Model {graph.name!r} has no filters that can be pruned. "
            + ("; ".join(reasons) or "It has no layer with filters.")
        )
    keras = keras_of(model)
    flat = sized(graph, samples.x.shape[1:], keras)
    check_own_rules(flat, structure, samples.x[:_FEW], keras)
    subject = Subject(
        model=model,
        graph=graph,
        flat=flat,
        structure=structure,
        keras_module=keras,
        head=head,
        reference=samples,
        limits=limits.of_groups,
        batch_size=chosen_batch_size(flat, execution.batch_size, execution.memory_budget),
        strategy=execution.strategy,
        class_names=names,
        memory=execution.memory_budget,
    )
    if head.unclear is None:
        return subject
    return replace(subject, head=head.judged_by(subject.unpruned_forward(samples.x)))


def _class_names(
    given: Iterable[str] | None, samples: ReferenceSet, head: Head
) -> tuple[str, ...] | None:
    """The names of the classes: those given, else those that the samples have."""
    known = samples.class_names
    if given is None:
        return known
    names = checked_names(given, head.n_classes)
    if known is not None and names != known and set(names) == set(known):
        raise DataError(
            f"class_names are {printable(', '.join(names))}, but the reference set numbers its "
            f"classes in the order {printable(', '.join(known))}. Names do not change what "
            "samples are labelled as: load the samples with their classes in the order of the "
            "model's outputs."
        )
    return names
