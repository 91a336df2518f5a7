"""Criteria: anything that scores channel groups. LRP, and the baselines it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from keras_lrp_prune.arguments import one_of
from keras_lrp_prune.data import ReferenceSet
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.generations import weights_of
from keras_lrp_prune.graph.heads import Head
from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.prunables.prunable import Mask
from keras_lrp_prune.relevance.activations import FilterStatistics
from keras_lrp_prune.relevance.analyzers import NATIVE_ANALYZERS
from keras_lrp_prune.relevance.engines import make_engine
from keras_lrp_prune.relevance.lrp_engine import LRPEngine
from keras_lrp_prune.relevance.scores import Contributions, Scores
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE
from keras_lrp_prune.surgery.building import Built

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_lrp_prune.relevance.native.composites import Composite
    from keras_lrp_prune.relevance.native.engine import NativeEngine

LOG_ODDS = "lrp.log_odds"


@dataclass(frozen=True)
class Problem:
    """What a criterion scores: a model that can be masked, and the samples to score it on.

    Args:
        graph: The model, flat.
        structure: Its channel structure.
        working: Gives the working copy of the model, which masks act on.
        mask: Gives the mask on it.
        head: What its outputs mean.
        reference: The reference set.
        batch_size: Samples per batch and replica.
        seed: For what is drawn at random.
        analyzer_options: Keyword arguments of the analyzer.
        engine: What computes LRP.
        worker_python: Interpreter that has iNNvestigate.
        strategy: `tf.distribute` strategy to run under.
    """

    graph: ModelGraph
    structure: ChannelStructure
    working: Callable[[], Built]
    mask: Callable[[], Mask]
    head: Head
    reference: ReferenceSet
    batch_size: int = DEFAULT_BATCH_SIZE
    seed: int = 0
    analyzer_options: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "auto"
    worker_python: str | None = None
    strategy: tf.distribute.Strategy | None = None


class Criterion(Protocol):
    """Scores units for each class; low scores go first."""

    def scores(self, removed: np.ndarray) -> Scores:
        """Scores of the units of the model without the removed ones.

        Args:
            removed: bool, shape `(units,)`; the working model is masked alike.
        """
        ...

    def refresh(self) -> None:
        """Takes over the weights that the live model behind the problem's graph has by now."""
        ...

    def close(self) -> None:
        """Frees what the criterion holds."""
        ...


class _WithoutCopy:
    """A criterion that holds no model of its own."""

    def close(self) -> None:
        """Does nothing."""


class LRP:
    """Each unit's share of the relevance of its group, for each class.

    Signed mean relevance (Bach et al. 2015), summed over the unit, over the sum of its magnitudes
    in the group: rules that ignore biases lose relevance on the way down, which must not count
    against lower layers. A call costs one LRP pass over the reference set.
    """

    def __init__(self, problem: Problem, analyzer: str | Composite) -> None:
        self._problem = problem
        self.engine: LRPEngine = make_engine(
            problem.engine,
            problem.graph,
            analyzer,
            problem.analyzer_options,
            two_class=problem.head.one_unit,
            batch_size=problem.batch_size,
            strategy=problem.strategy,
            worker_python=problem.worker_python,
        )

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Criterion`."""
        return self.examine(removed)[0]

    def examine(self, removed: np.ndarray) -> tuple[Scores, np.ndarray]:
        """Scores as `Criterion.scores` and, of the same pass, the samples' class probabilities."""
        structure, reference = self._problem.structure, self._problem.reference
        self.engine.set_mask(structure, removed)
        sums, probabilities = self.engine.unit_relevance(structure, reference.x, reference.y)
        means = self.ranked(sums / reference.class_counts[:, None])
        return Scores(relative_to_group(structure, means, order=1)), probabilities

    @staticmethod
    def ranked(relevance: np.ndarray) -> np.ndarray:
        """What units are ranked by, given the mean relevance for each class: itself."""
        return relevance

    def refresh(self) -> None:
        """See `Criterion`; costs no pass and no retracing."""
        self.engine.refresh(self._problem.graph)

    def close(self) -> None:
        """Frees what the engine holds."""
        self.engine.close()


class PXP(LRP):
    """The magnitude of each unit's share of the relevance of its group, for each class.

    Hatefi et al. 2024, arXiv:2408.12568, with the settings that come with their code: the epsilon
    rule for all layers (with 1e-6), and relevance near zero goes first, whatever its sign.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(replace(problem, analyzer_options={"epsilon": 1e-6}), "lrp.epsilon")

    @staticmethod
    def ranked(relevance: np.ndarray) -> np.ndarray:
        """The magnitudes."""
        return np.abs(relevance)


class LogOdds(LRP):
    """What each unit adds to the log odds of each sample's class, by the native engine.

    Relevance by the z-rule (for ReLU networks, activation times gradient: Ancona et al. 2018,
    arXiv:1711.06104), not of one class's score but of its log odds against the others. A unit's
    score is its mean square, relative to its group. A call costs one LRP pass over the reference
    set.
    """

    engine: NativeEngine

    def __init__(self, problem: Problem) -> None:
        if problem.engine == "innvestigate":
            raise ValueError(
                f"Criterion {LOG_ODDS!r} is for the engine 'native'; iNNvestigate explains the "
                "scores of single classes. Choose engine='auto', or an analyzer that it has."
            )
        # Not at the top: it brings TensorFlow.
        from keras_lrp_prune.relevance.native.composites import make_composite

        super().__init__(problem, make_composite("lrp.z", {}))

    def examine(self, removed: np.ndarray) -> tuple[Scores, np.ndarray]:
        """See `LRP`."""
        structure, reference = self._problem.structure, self._problem.reference
        self.engine.set_mask(structure, removed)
        values, probabilities = self.engine.log_odds_relevance(structure, reference.x, reference.y)
        squares = np.stack(
            [(values[reference.y == c] ** 2).mean(0) for c in range(len(reference.class_counts))]
        )
        scores = relative_to_group(structure, squares, order=2)
        return Scores(scores, Contributions(values, reference.y)), probabilities


class WeightNorm(_WithoutCopy):
    """Norm of each filter's kernel (Li et al. 2017), relative to its group; costs no pass."""

    def __init__(self, problem: Problem, order: int) -> None:
        self._problem, self._order = problem, order
        self.refresh()

    def refresh(self) -> None:
        """See `Criterion`."""
        problem, order = self._problem, self._order
        structure = problem.structure
        scores = np.zeros((1, structure.n_units))
        for entry in structure.weight_axes:
            # What makes a filter: not what reads it, nor what scales it behind.
            makes = entry.role == "zeroed" and "kernel" in entry.weight
            if makes and entry.layer in structure.filter_units:
                kernel = problem.graph.layers[entry.layer].arrays()[entry.weight]
                rows = np.moveaxis(np.asarray(kernel, np.float64), entry.axis, 0)
                norms = np.linalg.norm(rows.reshape(len(rows), -1), ord=order, axis=1)
                owned = entry.units >= 0
                np.add.at(scores[0], entry.units[owned], norms[owned])
        self._scores = Scores(relative_to_group(structure, scores, order=2))

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Criterion`."""
        return self._scores


class Random(_WithoutCopy):
    """A random order, drawn once."""

    def __init__(self, problem: Problem) -> None:
        draw = np.random.default_rng(problem.seed).random(problem.structure.n_units)
        self._scores = Scores((draw * problem.structure.unit_sizes)[None])

    def refresh(self) -> None:
        """Does nothing: the order stays."""

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Criterion`."""
        return self._scores


class Statistic(_WithoutCopy):
    """A statistic of each unit's activations, relative to its group.

    `activation`: mean magnitude of the activation (Molchanov et al. 2017). `apoz`: share of
    positive activations, one minus APoZ (Hu et al. 2016). `taylor`: squared first-order change of
    the loss without the unit (Molchanov et al. 2019). A call costs one forward pass over the
    reference set, for `taylor` a backward pass too.
    """

    def __init__(self, problem: Problem, name: str) -> None:
        self._problem = problem
        self._statistics = FilterStatistics(
            problem.graph,
            problem.structure,
            problem.working(),
            problem.head,
            name,
            batch_size=problem.batch_size,
            strategy=problem.strategy,
        )

    def refresh(self) -> None:
        """See `Criterion`; the working model gets the weights, as they are masked."""
        for name, layer in self._problem.graph.layers.items():
            copies = weights_of(self._problem.working().layers[name]) if layer.weights else ()
            for copy, value in zip(copies, layer.weights.values(), strict=True):
                copy.assign(value)

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Criterion`."""
        reference = self._problem.reference
        means = self._statistics(reference.x, reference.y) / reference.class_counts[:, None]
        return Scores(relative_to_group(self._problem.structure, means, order=2))


CRITERIA: Mapping[str, Callable[[Problem], Criterion]] = {
    **{name: partial(LRP, analyzer=name) for name in NATIVE_ANALYZERS},
    LOG_ODDS: LogOdds,
    "pxp": PXP,
    "l1": partial(WeightNorm, order=1),
    "l2": partial(WeightNorm, order=2),
    "random": Random,
    **{name: partial(Statistic, name=name) for name in ("activation", "apoz", "taylor")},
}


def make_criterion(name: str, problem: Problem) -> Criterion:
    """The criterion of that name; close it when it is no longer needed.

    Raises:
        ValueError: For an unknown name, or analyzer options that it does not take.
    """
    check_criterion(name)
    if problem.analyzer_options and name not in NATIVE_ANALYZERS:
        raise ValueError(f"analyzer_options are for LRP analyzers; criterion {name!r} has none.")
    return CRITERIA[name](problem)


def default_criterion(engine: str) -> str:
    """The criterion that is best known to keep accuracy, of those that the engine can compute."""
    return "lrp.sequential_preset_a" if engine == "innvestigate" else LOG_ODDS


def check_criterion(name: str) -> None:
    """Raises `ValueError` for an unknown criterion, listing those that there are."""
    one_of("criterion", name, CRITERIA)


def relative_to_group(structure: ChannelStructure, scores: np.ndarray, order: int) -> np.ndarray:
    """Divides each group's scores by their norm of that order, so that layers compare.

    The norm is that of the scores per filter, averaged over classes.
    """
    per_filter = np.abs(scores).mean(0) / structure.unit_sizes
    relative = np.empty_like(scores)
    for group in structure.groups:
        norm = np.linalg.norm(per_filter[group.units], ord=order)
        relative[:, group.units] = scores[:, group.units] / (norm if norm > 0 else 1.0)
    return relative
