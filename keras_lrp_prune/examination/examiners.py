"""How good a candidate is, and which of its units matter: in one pass, or in two."""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.examination.steering import AsIs, CrossFit, LinearHead, Steering
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.relevance.criteria import LRP, Criterion, Problem
from keras_lrp_prune.relevance.scores import Scores
from keras_lrp_prune.runtime import CompiledForward, scope
from keras_lrp_prune.selection.examiner import Evaluation


class OnePass:
    """LRP's forward pass gives the accuracies too: nothing is computed twice.

    An evaluation costs one LRP pass over the reference set; the scores after it nothing.

    Args:
        problem: The model and the reference set.
        criterion: LRP on them.
    """

    def __init__(self, problem: Problem, criterion: LRP) -> None:
        self._y = problem.reference.y
        self._criterion = criterion
        self._removed = np.zeros(problem.structure.n_units, bool)
        self._scores: Scores | None = None

    def evaluate(self, removed: np.ndarray) -> Evaluation:
        """See `Examiner`."""
        self._scores, found = self._criterion.examine(removed)
        self._removed = removed
        return Evaluation.of(self._y, found)

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Examiner`."""
        if self._scores is None or not np.array_equal(removed, self._removed):
            self.evaluate(removed)
        assert self._scores is not None  # evaluate() has them
        return self._scores


class TwoPasses:
    """The masked working model gives the accuracies, and the criterion the scores.

    An evaluation costs a forward pass over the reference set, scores what the criterion costs.

    Args:
        problem: The model and the reference set.
        criterion: Scores the units of the masked working model.
        steering: Turns what the working model computes into class probabilities.
    """

    def __init__(self, problem: Problem, criterion: Criterion, steering: Steering) -> None:
        working = problem.working()
        self._mask = problem.mask()
        with scope(problem.strategy):
            reader = keras_of(working.model).Model(
                working.model.inputs[0], working.tensors[steering.tensor]
            )
            self._forward = CompiledForward(reader, problem.batch_size, problem.strategy)
        self._reference, self._criterion, self._steering = problem.reference, criterion, steering
        # Of what was evaluated since the last scores: one of them is what is scored next.
        self._rows: dict[bytes, np.ndarray] = {}
        steering.start(lambda: self._rows_of(np.zeros(problem.structure.n_units, bool)))

    def evaluate(self, removed: np.ndarray) -> Evaluation:
        """See `Examiner`."""
        found = self._steering.probabilities(self._rows_of(removed), removed)
        return Evaluation.of(self._reference.y, found)

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Examiner`."""
        self._steering.rebase(lambda: self._rows_of(removed), removed)
        self._rows.clear()
        self._mask.set(removed)
        return self._criterion.scores(removed)

    def _rows_of(self, removed: np.ndarray) -> np.ndarray:
        key = removed.tobytes()
        if key not in self._rows:
            self._mask.set(removed)
            self._rows[key] = self._forward(self._reference.x)
        return self._rows[key]


def make_examiner(
    problem: Problem,
    criterion: Criterion,
    steering: str,
    *,
    refit_head: bool,
    trials: bool = False,
) -> OnePass | TwoPasses:
    """The cheapest way to judge candidates that gives what is asked for.

    Args:
        problem: The model and the reference set.
        criterion: Scores units.
        steering: `"as_is"` or `"cross_fit"`.
        refit_head: Whether the heads of `"cross_fit"` are fitted anew for each candidate.
        trials: Whether candidates are evaluated that are not scored.

    Raises:
        UnsupportedModelError: If the model has no linear head where one is needed.
    """
    if steering == "cross_fit":
        return TwoPasses(problem, criterion, CrossFit(LinearHead(problem, refit_head)))
    if isinstance(criterion, LRP) and not trials:
        return OnePass(problem, criterion)
    return TwoPasses(problem, criterion, AsIs(problem))
