"""Channel OBS and ThiNet at work: what layers lose in their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.criteria.criterion import Scorer
from keras_lrp_prune.criteria.layer_losses import (
    Fixed,
    LayerLosses,
    LeftOut,
    Losses,
    LossScores,
    MadeUpFor,
)
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.reading_layout import Layout, is_refitted
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.recovery.mirror_images import with_mirror_images
from keras_lrp_prune.recovery.second_moments import SecondMoments

if TYPE_CHECKING:
    from keras_lrp_prune.relevance.native.engine import Reader
    from keras_lrp_prune.relevance.native.readings import Read


class _ReadersScorer(Scorer[ChannelStructure]):
    """Scores by what layers read, each by itself, over images and mirror images."""

    def __init__(self, problem: Problem[ChannelStructure]) -> None:
        # Not at the top: it brings TensorFlow.
        from keras_lrp_prune.relevance.native.engine import NativeEngine

        super().__init__(problem)
        self.engine = NativeEngine(
            problem.graph,
            "lrp.z",
            two_class=problem.head.one_unit,
            batch_size=problem.batch_size,
            strategy=problem.strategy,
        )
        self.readers = self.engine.readers(problem.structure)

    def refresh(self) -> None:
        """See `Scorer`; costs no pass and no retracing."""
        self.engine.refresh(self.problem.graph)

    def close(self) -> None:
        """See `Scorer`."""
        self.engine.close()

    def scored(self, losses: Sequence[tuple[np.ndarray, Losses]]) -> LossScores:
        """The scores, from units and their losses for each reader."""
        layers = [LayerLosses(units, each) for units, each in losses]
        return LossScores.of(layers, self.problem.structure.n_units)


class ChannelOBSScorer(_ReadersScorer):
    """Channel OBS on one problem.

    A call costs a forward and a backward pass over images and mirror images, and for each layer the
    inverse of its second moments.

    Args:
        problem: What is scored.
        damping: See `SecondMoments.inverse`.
    """

    def __init__(self, problem: Problem[ChannelStructure], damping: float) -> None:
        super().__init__(problem)
        self._damping = damping
        self._layouts = [
            Layout.of(one.units, one.shape, one.axis, refitted=is_refitted(problem.graph, one.call))
            for one in self.readers
        ]
        groups = [[one] for one in self.readers]
        self._over_readings = self.engine.over_readings(groups, self._summary)

    def scores(self, removed: np.ndarray) -> LossScores:
        """See `Scorer`."""
        reference = self.problem.reference
        self.engine.set_mask(self.problem.structure, removed)
        x = with_mirror_images(self.problem.graph, reference.x)
        sums, _ = self._over_readings(x, np.resize(reference.y, len(x)))
        found = []
        for reader, layout, parts in zip(self.readers, self._layouts, sums, strict=True):
            alive = np.flatnonzero(~removed[layout.units])
            losses = self._losses(reader, layout, [part / len(x) for part in parts], alive)
            found.append((layout.units[alive], losses))
        return self.scored(found)

    def _summary(self, readings: list[Read], y: Any) -> tuple[Any, Any]:
        """For each layer the second moments of what it reads, and the squares by its outputs."""
        import tensorflow as tf

        counts = tf.cast(y >= 0, tf.float32)
        sums = []
        for layout, read in zip(self._layouts, readings, strict=True):
            moments, added = layout.summary(read.value, read.gradient, counts)
            if not layout.refitted:
                sums.append([tf.einsum("b,bu->u", counts, added[0] ** 2)])
                continue
            (made,) = read.made
            squares = tf.reshape(made**2, (tf.shape(made)[0], -1, made.shape[-1]))
            sums.append([*moments, tf.einsum("b,bpo->o", counts, squares)])
        return sums, counts

    def _losses(
        self, reader: Reader, layout: Layout, means: list[np.ndarray], alive: np.ndarray
    ) -> Losses:
        """The losses of one layer with units that are left, in squares of the log odds."""
        if not layout.refitted:
            return Fixed(means[0][alive].astype(np.float64))
        products, by_place, count, squares = means
        left = np.concatenate([alive, np.arange(len(layout.units), layout.width)])
        moments = SecondMoments.of_sums(products, by_place, float(count)).only(left)
        rows = _kernel_rows(self.engine.kernel(reader.call), layout)[:, left].astype(np.float64)
        weights = np.einsum("tco,o,tdo->cd", rows, squares, rows, optimize=True)
        # The moments of an image are those of all its positions and places, each of which counts.
        return MadeUpFor(moments.inverse(self._damping), weights / layout.rows, len(alive))


def _kernel_rows(kernel: np.ndarray, layout: Layout) -> np.ndarray:
    """The weights by place, `(places, units and others, outputs)`; those of a window are places."""
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    padded = np.pad(kernel, ((0, 0), (0, 1), (0, 0)))  # for a unit with fewer channels
    rows = [
        padded[:, np.concatenate([channels, layout.others])]
        for channels in layout.channels.astype(np.int64)
    ]
    return np.concatenate(rows)


class ThiNetScorer(_ReadersScorer):
    """ThiNet on one problem.

    A call costs a forward pass over images and mirror images, and for each instance a transposed
    pass through each layer.

    Args:
        problem: What is scored.
        instances: How many outputs are drawn of an image and layer.
    """

    def __init__(self, problem: Problem[ChannelStructure], instances: int) -> None:
        super().__init__(problem)
        self._units = [np.unique(one.units[one.units >= 0]) for one in self.readers]
        self._x = with_mirror_images(problem.graph, problem.reference.x)
        shares = np.random.default_rng(problem.seed).random(
            (len(self.readers), len(self._x), instances)
        )
        self._over = self.engine.over_contributions(self.readers, shares, self._summary)

    def scores(self, removed: np.ndarray) -> LossScores:
        """See `Scorer`."""
        self.engine.set_mask(self.problem.structure, removed)
        sums, _ = self._over(self._x, np.arange(len(self._x)))
        found = []
        for units, (products, squares) in zip(self._units, sums, strict=True):
            alive = np.flatnonzero(~removed[units])
            relative = products[np.ix_(alive, alive)] / (squares or 1.0)
            found.append((units[alive], LeftOut.of(relative)))
        return self.scored(found)

    def _summary(self, found: list[Any], numbers: Any) -> tuple[Any, Any]:
        """For each layer the products of what units add to its outputs, and their squares."""
        import tensorflow as tf

        counts = tf.cast(numbers >= 0, tf.float32)
        sums = []
        for reader, units, added in zip(self.readers, self._units, found, strict=True):
            added = tf.reshape(added * counts[:, None], (-1, len(reader.units)))
            columns = np.where(reader.units >= 0, np.searchsorted(units, reader.units), -1)
            of_units = tf.math.unsorted_segment_sum(tf.transpose(added), columns, len(units))
            products = tf.matmul(of_units, of_units, transpose_b=True)
            squares = tf.reduce_sum(tf.reduce_sum(added, 1) ** 2)
            sums.append([tf.cast(one, tf.float64) for one in (products, squares)])
        return sums, counts
