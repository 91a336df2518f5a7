"""What is scored: a model that can be masked, and the samples to score it on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from keras_lrp_prune.criteria.weight_gradients import WeightGradients
from keras_lrp_prune.data import ReferenceSet
from keras_lrp_prune.graph.generations import generation, weights_of
from keras_lrp_prune.graph.heads import Head
from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.prunables.prunable import Mask, Prunable
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE, DEFAULT_MEMORY
from keras_lrp_prune.surgery.builder import Built

if TYPE_CHECKING:
    import tensorflow as tf

P_co = TypeVar("P_co", bound=Prunable, covariant=True)


@dataclass(frozen=True)
class Problem(Generic[P_co]):
    """What a criterion scores: a model that can be masked, and the samples to score it on.

    Where types are checked, `Problem[Prunable]` is one of which no more is known than its units,
    their sizes and groups, and `Problem[ChannelStructure]` one of channels.

    Args:
        graph: The model, flat; `graph.layers[name].arrays()` are its weights as they are now.
        structure: What of it can go, a prunable: its units, and which weights are theirs; of
            channels, the channel structure.
        working: Gives the working copy of the model, which masks act on.
        mask: Gives the mask on it.
        head: What its outputs mean.
        reference: The reference set.
        batch_size: Samples per batch and replica.
        seed: For what is drawn at random.
        strategy: `tf.distribute` strategy to run under.
        memory: Bytes that what is kept of the samples may take.
    """

    graph: ModelGraph
    structure: P_co
    working: Callable[[], Built]
    mask: Callable[[], Mask]
    head: Head
    reference: ReferenceSet
    batch_size: int = DEFAULT_BATCH_SIZE
    seed: int = 0
    strategy: tf.distribute.Strategy | None = None
    memory: float = DEFAULT_MEMORY

    def variables(self) -> dict[str, dict[str, Any]]:
        """The weights of the working copy, by layer and by the graph's names.

        Returns:
            Variables as the model's Keras has them; of Keras 3, `.value` is TensorFlow's.
        """
        layers = self.working().layers
        return {
            name: dict(zip(layer.weights, weights_of(layers[name]), strict=True))
            for name, layer in self.graph.layers.items()
            if layer.weights
        }

    def refresh(self) -> None:
        """Gives the working copy the weights that the live model has by now."""
        self.mask().clear()  # what it would bring back is of before
        for name, variables in self.variables().items():
            weights = self.graph.layers[name].weights
            for weight, variable in variables.items():
                variable.assign(weights[weight])

    def weight_gradients(self) -> dict[str, dict[str, np.ndarray]]:
        """Gradients of the loss by the weights of the working copy, as it is masked.

        Costs a forward and a backward pass over the reference set.

        Returns:
            The gradients of the cross entropy, summed over the samples, by layer and by the graph's
            names, of the weights' shapes; of weights that hold real numbers alone.

        Example:
        >>> class Sensitivity(klp.criteria.Scorer):
        ...     def scores(self, removed):
        ...         gradients = self.problem.weight_gradients()
        ...         found = klp.criteria.over_kernels(
        ...             self.problem.structure,
        ...             kernel=lambda layer, weight: gradients[layer].get(weight),
        ...             figure=lambda rows: abs(rows).sum(1),
        ...         )
        ...         return klp.criteria.Scores(found[None])
        """
        return self._gradients(self.reference.x, self.reference.y)

    @cached_property
    def _gradients(self) -> WeightGradients:
        """Compiled once for all masks."""
        return WeightGradients(self)

    def cross_entropy(self, y: Any, outputs: Any) -> Any:
        """The loss of each sample, whatever the model's outputs mean.

        Args:
            y: Classes, int, shape `(samples,)`; below 0 for samples that only fill up a batch.
            outputs: What the working copy returns for the samples, a tensor.

        Returns:
            A tensor of shape `(samples,)`.
        """
        import tensorflow as tf

        # As `keras_of`, but without an import, which a traced function cannot have.
        keras, head = sys.modules[generation(self.working().model) or "keras"], self.head
        y = tf.maximum(y, 0)  # what does not count needs some class too
        from_logits = head.kind == "logits"
        if head.one_unit or head.kind == "sigmoid":
            target = y[:, None] if head.one_unit else tf.one_hot(y, outputs.shape[-1])
            target = tf.cast(target, outputs.dtype)
            return keras.losses.binary_crossentropy(target, outputs, from_logits=from_logits)
        return keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=from_logits)
