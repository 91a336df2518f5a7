"""What steers: the accuracies of the model as it is, or of heads that did not see the sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.data import DataError
from keras_lrp_prune.evaluation import class_accuracies, probabilities
from keras_lrp_prune.graph.channels import ChannelStructure, selects
from keras_lrp_prune.graph.heads import linear_head
from keras_lrp_prune.graph.model_graph import TensorRef, UnsupportedModelError, references
from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.recovery.head import (
    FoldHead,
    best_strength,
    fit_head,
    fold_heads,
    held_out_probabilities,
)
from keras_lrp_prune.recovery.head_correction import corrected_head

# From this mean accuracy on, a head was probably fitted on the reference set, so that its accuracy
# there says nothing.
_FITTED = 0.99

# For messages, by whether the head is refitted in the end: the argument that needs a linear head,
# and the one to give instead.
_ASKED = {
    True: ("a recovery of the head", "recovery='least_squares', 'auto' or None"),
    False: ("steering='cross_fit'", "AccuracyAware(steering='as_is')"),
}


@dataclass(frozen=True)
class Measured:
    """What was measured for the accuracies of a run's steps: the model itself, or other heads.

    Args:
        short: The name of the harmonic mean where there is little room.
        full: Its name in a sentence.
        of_model: Whether the accuracies are those of the model itself.
    """

    short: str
    full: str
    of_model: bool


def measured(steering: str, *, refits: bool = False) -> Measured:
    """What is measured for the accuracies of a run's steps.

    Args:
        steering: `"as_is"` or `"cross_fit"`.
        refits: Whether what is left is refitted in the end.
    """
    if steering == "as_is":
        full = "harmonic mean accuracy on the reference set"
        if refits:
            return Measured("harmonic mean before refitting", f"{full}, before refitting,", True)
        return Measured("harmonic mean", full, True)
    full = "harmonic mean accuracy of cross-fitted heads on the reference set"
    return Measured("cross-fitted mean", full, False)


class Steering(Protocol):
    """Turns what the masked model computes into class probabilities of the reference samples."""

    tensor: TensorRef

    def start(self, unpruned: Callable[[], np.ndarray]) -> None:
        """Prepares for a run; `unpruned()` gives the rows of the unpruned model."""
        ...

    def go_on_from(self, rows: Callable[[], np.ndarray], removed: np.ndarray) -> None:
        """Prepares for a step; `rows()` gives those of the model that the candidates start from."""
        ...

    def probabilities(self, rows: np.ndarray, removed: np.ndarray) -> np.ndarray:
        """Class probabilities `(samples, classes)` from the rows of `tensor`."""
        ...


class AsIs:
    """The model's own outputs."""

    def __init__(self, problem: Problem[Prunable]) -> None:
        (self.tensor,) = references(problem.graph.outputs)
        self._kind = problem.head.kind

    def start(self, unpruned: Callable[[], np.ndarray]) -> None:
        """Does nothing."""

    def go_on_from(self, rows: Callable[[], np.ndarray], removed: np.ndarray) -> None:
        """Does nothing."""

    def probabilities(self, rows: np.ndarray, removed: np.ndarray) -> np.ndarray:
        """See `Steering`."""
        return probabilities(rows, self._kind)


@dataclass
class LinearHead:
    """The dense layer that scores classes from pooled features, and new ones in its place.

    Args:
        problem: The model and the reference set.
        refit: Whether the model's own head is fitted anew in the end (`recovery="head"`); otherwise
            new ones only steer.

    Raises:
        UnsupportedModelError: If the model does not end with such a layer, or scores each of
            several classes by a sigmoid of its own.
    """

    problem: Problem[ChannelStructure]
    refit: bool

    def __post_init__(self) -> None:
        graph = self.problem.graph
        name = linear_head(graph)
        if not has_linear_head(self.problem):
            what = (
                "does not end with a Dense layer on pooled features"
                if name is None
                else "scores each class by a sigmoid of its own, not by a softmax of all"
            )
            asked, instead = _ASKED[self.refit]
            raise UnsupportedModelError(
                f"Model {graph.name!r} {what}, as {asked} needs. Choose {instead}."
            )
        assert name is not None
        self.name = name
        self.has_bias = "bias" in graph.layers[name].weights
        (node,) = [node for node in graph.nodes if node.layer.name == name]
        self.tensor = node.inputs[0]

    def visible(self, features: np.ndarray, removed: np.ndarray) -> np.ndarray:
        """The features without those that go with the removed units."""
        units = self.problem.structure.tensor_units.get(self.tensor)
        return features if units is None else features * ~selects(removed, units)

    def spread(
        self, weights: Mapping[str, np.ndarray], removed: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Weights for the whole layer from those for the features that are left."""
        units = self.problem.structure.tensor_units[self.tensor]
        kernel = np.zeros((len(units), weights["kernel"].shape[1]), weights["kernel"].dtype)
        kernel[~selects(removed, units)] = weights["kernel"]
        return {**weights, "kernel": kernel}

    def left(
        self, weights: Mapping[str, np.ndarray], removed: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Weights for the features that are left from those for the whole layer."""
        units = self.problem.structure.tensor_units[self.tensor]
        return {**weights, "kernel": weights["kernel"][~selects(removed, units)]}

    def strength(self, features: np.ndarray) -> float:
        """The penalty that suits these features."""
        return best_strength(features, self.problem.reference.y, bias=self.has_bias)

    def fitted(self, features: np.ndarray) -> Mapping[str, np.ndarray]:
        """Weights of the layer, fitted on features of the reference samples."""
        kernel, bias = fit_head(
            features, self.problem.reference.y, self.strength(features), bias=self.has_bias
        )
        return self._as_stored(kernel, bias)

    def corrected(
        self, features: np.ndarray, weights: Mapping[str, np.ndarray]
    ) -> tuple[Mapping[str, np.ndarray], np.ndarray] | None:
        """Weights of the layer, corrected towards the labels of the reference samples.

        Args:
            features: Of these samples.
            weights: Those to start from, by name.

        Returns:
            The weights, and class probabilities of each sample by a head that did not see it;
            `None` where no correction does better.
        """
        kernel, bias = weights["kernel"], weights.get("bias", np.zeros(1))
        bias = np.broadcast_to(bias, kernel.shape[1])
        if self.problem.head.one_unit:
            kernel, bias = np.hstack([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
        found = corrected_head(
            features, self.problem.reference.y, kernel, bias, shifts=self.has_bias
        )
        if found is None:
            return None
        return self._as_stored(found.kernel, found.bias), found.held_out

    def _as_stored(self, kernel: np.ndarray, bias: np.ndarray) -> Mapping[str, np.ndarray]:
        """The weights of the layer from those of class logits."""
        if self.problem.head.one_unit:
            kernel, bias = kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]
        arrays = {"kernel": kernel, "bias": bias}
        own = self.problem.graph.layers[self.name].arrays()
        return {name: arrays[name].astype(array.dtype) for name, array in own.items()}


class CrossFit:
    """Each reference sample is scored by a head that did not see it.

    Multinomial logistic regressions on pooled features, each fitted on four fifths of the samples.
    They only steer, and are no part of the result. Where the model's own head is fitted anew in the
    end, they are fitted anew for each masked model; otherwise once, on the unpruned model.

    Args:
        head: The model's own head.

    Raises:
        DataError: If a class has only one sample.
    """

    def __init__(self, head: LinearHead) -> None:
        self._head = head
        if _alone(self._y):
            asked, instead = _ASKED[head.refit]
            raise DataError(
                f"Class {_alone(self._y)[0]} has a single sample in the reference set; {asked} "
                f"takes at least two of each class. Give more, or choose {instead}."
            )
        self._folds: list[FoldHead] = []
        self._strength = 1.0
        self.tensor = head.tensor

    def start(self, unpruned: Callable[[], np.ndarray]) -> None:
        """See `Steering`."""
        rows = unpruned()
        self._strength = self._head.strength(rows)
        if not self._head.refit:
            self._folds = self._fitted(rows)

    def go_on_from(self, rows: Callable[[], np.ndarray], removed: np.ndarray) -> None:
        """See `Steering`; heads that are fitted anew get the penalty that suits what is left."""
        if self._head.refit and removed.any():
            self._strength = self._head.strength(self._head.visible(rows(), removed))

    def probabilities(self, rows: np.ndarray, removed: np.ndarray) -> np.ndarray:
        """See `Steering`."""
        features = self._head.visible(rows, removed)
        folds = self._fitted(features) if self._head.refit else self._folds
        return held_out_probabilities(features, folds)

    def _fitted(self, features: np.ndarray) -> list[FoldHead]:
        return fold_heads(features, self._y, self._strength, bias=self._head.has_bias)

    @property
    def _y(self) -> np.ndarray:
        return self._head.problem.reference.y


def has_linear_head(problem: Problem[Any]) -> bool:
    """Whether a model ends with a dense layer on pooled features that tells classes apart."""
    return linear_head(problem.graph) is not None and _is_multinomial(problem)


def _is_multinomial(problem: Problem[Prunable]) -> bool:
    """Whether the classes share one distribution."""
    return problem.head.kind != "sigmoid" or problem.head.one_unit


def _alone(y: np.ndarray) -> list[int]:
    """Classes with only one sample."""
    return np.flatnonzero(np.bincount(y) == 1).tolist()


def chosen_steering(
    wanted: str,
    problem: Problem[Prunable],
    unpruned: Callable[[], np.ndarray],
    *,
    refit_head: bool,
) -> str:
    """What steers.

    Cross-fitted heads always do where the model's own head is fitted anew on the reference set: its
    accuracy there would say nothing. `"auto"` takes them too where the model's own head was,
    judging by its accuracy, fitted on the reference set.

    Args:
        wanted: What is asked for: `"as_is"`, `"cross_fit"` or `"auto"`.
        problem: The model and the reference set.
        unpruned: Gives class probabilities of the reference samples by the unpruned model.
        refit_head: Whether the model's own head is fitted anew in the end.

    Returns:
        `"as_is"` or `"cross_fit"`.
    """
    if refit_head:
        return "cross_fit"
    if wanted != "auto":
        return wanted
    y = problem.reference.y
    if _alone(y) or not has_linear_head(problem):
        return "as_is"
    return "cross_fit" if class_accuracies(y, unpruned()).mean() >= _FITTED else "as_is"
