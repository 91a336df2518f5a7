"""Unique contributions: what each unit adds to the log odds that the others cannot make up for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_lrp_prune.criteria.criterion import Scorer
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.reading_layout import Layout, is_refitted
from keras_lrp_prune.criteria.scores import (
    Contributions,
    RevisableScores,
    Scores,
    relative_to_group,
)
from keras_lrp_prune.criteria.uniqueness import Reading, SharedReadings
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.model_graph import TensorRef
from keras_lrp_prune.recovery.second_moments import SecondMoments
from keras_lrp_prune.recovery.threads import one_thread

if TYPE_CHECKING:
    from keras_lrp_prune.relevance.native.engine import Reader
    from keras_lrp_prune.relevance.native.readings import Read

_DAMPING = 0.01
_FOLDS = 2


@dataclass(frozen=True)
class UniqueScores(RevisableScores):
    """Scores that follow when units go.

    Args:
        groups: What units add to samples, those together that a layer reads together.
        group_of: Which of them each unit is of, int, shape `(units,)`.
        y: Class of each sample.
    """

    groups: Sequence[SharedReadings] = ()
    group_of: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    y: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def of(cls, readings: Sequence[Reading], y: np.ndarray, shape: tuple[int, int]) -> Self:
        """Those of all units.

        Args:
            readings: What the units that each layer reads add to samples.
            y: Class of each sample.
            shape: Numbers of classes and of units.
        """
        groups = SharedReadings.grouped(readings)
        by_class, group_of = np.zeros(shape), np.full(shape[1], -1)
        for number, group in enumerate(groups):
            by_class[:, group.units] = Contributions(group.contributions, y).mean_squares(shape[0])
            group_of[group.units] = number
        return cls(by_class, groups=groups, group_of=group_of, y=y)

    @property
    def values(self) -> np.ndarray:
        """What each unit adds to each sample, float64, shape `(samples, units)`."""
        found = np.zeros((len(self.y), self.by_class.shape[1]))
        for group in self.groups:
            found[:, group.units] = group.contributions
        return found

    def revised(self, gone: np.ndarray) -> Self:
        """See `RevisableScores`; costs the products of those that share a layer with them."""
        groups, by_class = list(self.groups), self.by_class.copy()
        with one_thread():
            for number in set(self.group_of[gone].tolist()) - {-1}:
                groups[number] = groups[number].without(gone)
                values = Contributions(groups[number].contributions, self.y)
                by_class[:, groups[number].units] = values.mean_squares(len(by_class))
        by_class[:, gone] = 0
        return replace(self, by_class=by_class, groups=groups)

    def restored(self, removed: np.ndarray) -> np.ndarray:
        """See `RevisableScores`; costs the products of all units."""
        found = np.zeros((len(self.y), self.by_class.shape[1]))
        with one_thread():
            for group in self.groups:
                for reading in group.readings:
                    found[:, reading.units] += reading.restored(removed)
        return Contributions(found, self.y).mean_squares(len(self.by_class))


class UniqueScorer(Scorer[ChannelStructure]):
    """Unique contributions on one problem.

    A call costs a forward and a backward pass, and for each sample the products of second moments.
    What is kept of a sample takes up to `4 * channels^2` bytes for each layer that reads
    `channels`; where all samples would take more than the problem's memory,
    some are drawn, evenly over the classes, and the others tell of second moments alone.

    Args:
        problem: What is scored.
    """

    engine_name = "native"

    def __init__(self, problem: Problem[ChannelStructure]) -> None:
        # Not at the top: it brings TensorFlow.
        from keras_lrp_prune.relevance.native.engine import NativeEngine

        super().__init__(problem)
        graph, reference = problem.graph, problem.reference
        if len(reference) < _FOLDS:
            raise ValueError(
                f"Unique contributions take at least {_FOLDS} samples, not {len(reference)}: what "
                "some tell of second moments, others are scored by."
            )
        self._engine = NativeEngine(
            graph,
            "lrp.z",
            two_class=problem.head.one_unit,
            batch_size=problem.batch_size,
            strategy=problem.strategy,
        )
        groups: dict[tuple[TensorRef, bool], list[Reader]] = {}
        for one in self._engine.readers(problem.structure):
            key = one.tensor, is_refitted(graph, one.call)
            groups.setdefault(key, []).append(one)
        self._layouts = [
            Layout.of(one.units, one.shape, one.axis, refitted=refitted)
            for (_, refitted), (one, *_) in groups.items()
        ]
        self._over_readings = self._engine.over_readings(list(groups.values()), self._summary)
        turns = _turns(reference.y, problem.seed)
        self._folds = _folds(reference.y, turns)
        # Two of each class, at least: one for each fold.
        self._drawn = turns < max(2, self._most_samples() // reference.n_classes)

    def scores(self, removed: np.ndarray) -> UniqueScores:
        """See `Scorer`."""
        structure, reference = self.problem.structure, self.problem.reference
        self._engine.set_mask(structure, removed)
        x, y = reference.x, reference.y
        sums, rows, classes = [], [], []
        for fold in range(_FOLDS):
            mine = self._folds == fold
            kept, left = (np.flatnonzero(mine & which) for which in (self._drawn, ~self._drawn))
            found, of_samples = self._over_readings(x[kept], y[kept])
            sums.append(self._added(found, x[left], y[left]))
            rows.append(of_samples)
            classes.append(y[kept])
        with one_thread():
            readings = self._readings(sums, rows, removed)
        shape, y = (reference.n_classes, structure.n_units), np.concatenate(classes)
        plain = _plain(readings, y, structure, reference.n_classes)
        return replace(UniqueScores.of(readings, y, shape), plain=plain)

    def refresh(self) -> None:
        """See `Scorer`; costs no pass and no retracing."""
        self._engine.refresh(self.problem.graph)

    def close(self) -> None:
        """See `Scorer`."""
        self._engine.close()

    def _summary(self, readings: list[Read], y: Any) -> tuple[Any, Any]:
        """What is kept of a batch: sums for each layout, and everything of a sample in a row."""
        import tensorflow as tf

        counts = tf.cast(y >= 0, tf.float32)
        pairs = zip(self._layouts, readings, strict=True)
        found = [layout.summary(one.value, one.gradient, counts) for layout, one in pairs]
        rows = [part for _, parts in found for part in parts]
        return [sums for sums, _ in found], tf.concat(rows, -1)

    def _added(self, sums: Any, x: np.ndarray, y: np.ndarray) -> Any:
        """The sums with those of samples of which nothing else is kept, batch by batch."""
        import tensorflow as tf

        for start in range(0, len(x), self.problem.batch_size):
            batch = slice(start, start + self.problem.batch_size)
            more, _ = self._over_readings(x[batch], y[batch])
            sums = tf.nest.map_structure(np.add, sums, more)
        return sums

    def _readings(
        self, sums: Sequence[Any], rows: Sequence[np.ndarray], removed: np.ndarray
    ) -> list[Reading]:
        """What the units that are left add to samples; `sums` and `rows` are those of each fold."""
        ends = np.cumsum([layout.kept for layout in self._layouts])
        readings = []
        for number, (layout, end) in enumerate(zip(self._layouts, ends, strict=True)):
            alive = np.flatnonzero(~removed[layout.units])
            moments = [
                SecondMoments.of_sums(*of_fold[number]) if layout.refitted else None
                for of_fold in sums
            ]
            parts = [
                layout.part(
                    moments[1 - fold], rows[fold][:, end - layout.kept : end], alive, _DAMPING
                )
                for fold in range(_FOLDS)
            ]
            readings.append(Reading(layout.units[alive], parts))
        return readings

    def _most_samples(self) -> int:
        """Of how many samples the memory holds what is kept."""
        each = sum(layout.bytes_kept for layout in self._layouts)
        # That of the unpruned model stays, and of any other that of units that are left is copied.
        copies = 3
        return int(self.problem.memory // (copies * each))


def _plain(
    readings: Sequence[Reading], y: np.ndarray, structure: ChannelStructure, n_classes: int
) -> Scores:
    """Scores by contributions whatever others can make up for, as those of `LogOdds`."""
    values = np.zeros((len(y), structure.n_units))
    for reading in readings:
        values[:, reading.units] += reading.plain
    contributions = Contributions(values, y)
    squares = contributions.mean_squares(n_classes)
    return Scores(relative_to_group(structure, squares, order=2), contributions)


def _turns(y: np.ndarray, seed: int) -> np.ndarray:
    """When each sample is drawn among those of its class, from 0 on."""
    order = np.random.default_rng(seed).permutation(len(y))
    turns = np.empty(len(y), np.int64)
    for label in np.unique(y):
        mine = order[y[order] == label]
        turns[mine] = np.arange(len(mine))
    return turns


def _folds(y: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """The fold of each sample: in turn, class by class."""
    folds = np.empty(len(y), np.int64)
    folds[np.lexsort((turns, y))] = np.arange(len(y)) % _FOLDS
    return folds
