"""What is left of a model after some units went: refitted, rebuilt and measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_lrp_prune.data import ReferenceSet
from keras_lrp_prune.evaluation import class_accuracies, harmonic_mean_accuracy
from keras_lrp_prune.examination.refit import Recovered, Refitted, Refitter
from keras_lrp_prune.examination.subject import Subject
from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.runtime import CompiledForward
from keras_lrp_prune.surgery.builder import rebuild
from keras_lrp_prune.surgery.kept import kept_without

if TYPE_CHECKING:
    import keras

# The largest share of the harmonic mean accuracy on the reference set that a refit may lose. It may
# lose some: filters were chosen by the accuracy there, which raised it, but not by as much as this.
_MOST_LOST = 0.25


class Remainder:
    """What is left of a model without some units, with its own weights or with others.

    Each version is rebuilt, traced and measured on the reference set once, and only if it is asked
    for.

    Args:
        subject: The model and the reference set.
        removed: Units that are gone, bool, shape `(units,)`.
        masked: Harmonic mean accuracy of the masked model on the reference set, if it is known; the
            rebuilt model has the same as long as it is not refitted.
    """

    def __init__(self, subject: Subject, removed: np.ndarray, masked: float | None = None) -> None:
        self._subject, self._removed, self._masked = subject, removed, masked
        self._versions: dict[int, _Version] = {}

    def recovered(
        self,
        refitter: Refitter,
        *,
        otherwise: Refitted | None = None,
        floor: float | None = None,
        on_part: Callable[[float], None] = lambda part: None,
    ) -> Recovered:
        """Refits what is left.

        Args:
            refitter: Of the same model. Where its recovery is `"auto"`, nothing is refitted if that
                would lose much of the accuracy on the reference set, or cross the floor.
            otherwise: Other weights for the same, taken where those found now cross the floor.
            floor: Harmonic mean accuracy below which `"auto"` does not refit.
            on_part: Called with the share of the layers that are refitted.
        """
        subject, recovery = self._subject, refitter.recovery
        found = refitter.refitted(self._removed, on_part=on_part)
        done = found.put_into(subject.graph, recovery)
        if found.on_reference is not None:
            self._version(done.graph).on_reference = found.on_reference
        if otherwise is not None and floor is not None and self.harmonic_mean(done.graph) < floor:
            done = otherwise.put_into(subject.graph, recovery)
        if not recovery.is_auto:
            return done
        before, after = self.harmonic_mean(subject.graph), self.harmonic_mean(done.graph)
        if stands(before, after, floor):
            return done
        lost = f"refitting would take the harmonic mean accuracy from {before:.1%} to {after:.1%}"
        return Recovered(subject.graph, refused=lost)

    def model(self, graph: ModelGraph) -> keras.Model:
        """What is left of a graph of the model, with the graph's weights."""
        return self._version(graph).model

    def probabilities(self, graph: ModelGraph, samples: ReferenceSet) -> np.ndarray:
        """Class probabilities `(samples, classes)` by that model."""
        version = self._version(graph)
        if samples is not self._subject.reference:
            return self._subject.probabilities(version.forward, samples)
        if version.on_reference is None:
            version.on_reference = self._subject.probabilities(version.forward, samples)
        return version.on_reference

    def class_accuracies(self, graph: ModelGraph, samples: ReferenceSet) -> np.ndarray:
        """Accuracy of each class by that model, float64, shape `(classes,)`."""
        return class_accuracies(samples.y, self.probabilities(graph, samples))

    def harmonic_mean(self, graph: ModelGraph) -> float:
        """The harmonic mean accuracy of that model on the reference set."""
        if graph is self._subject.graph and self._masked is not None:
            return self._masked
        return harmonic_mean_accuracy(self.class_accuracies(graph, self._subject.reference))

    def _version(self, graph: ModelGraph) -> _Version:
        subject = self._subject
        if id(graph) not in self._versions:
            kept = kept_without(subject.structure, self._removed)
            model = rebuild(graph, kept, subject.keras_module)
            self._versions[id(graph)] = _Version(graph, model, subject.forward(model))
        return self._versions[id(graph)]


@dataclass
class _Version:
    graph: ModelGraph  # kept, so that its id stays its own
    model: keras.Model
    forward: CompiledForward
    on_reference: np.ndarray | None = None


def stands(before: float, after: float, floor: float | None) -> bool:
    """Whether a refit that leads from one harmonic mean accuracy to another is kept."""
    crosses = floor is not None and after < floor <= before
    return after >= (1 - _MOST_LOST) * before and not crosses
