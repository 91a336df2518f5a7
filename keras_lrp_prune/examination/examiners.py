"""How good a candidate is, and which of its units matter: in one pass, or in two."""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.criteria.criterion import ProbabilityScorer, Scorer
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.scores import Scores
from keras_lrp_prune.examination.masked_forward import (
    FixedForward,
    MaskedForward,
    make_masked_forward,
)
from keras_lrp_prune.examination.refitted_mask import RefittedMask
from keras_lrp_prune.examination.steering import AsIs, CrossFit, LinearHead, Steering
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.prunables.prunable import Mask, Prunable
from keras_lrp_prune.selection.examiner import Evaluation


class OnePass:
    """The pass that scores gives the accuracies too: nothing is computed twice.

    An evaluation costs what scores cost; the scores after it nothing.

    Args:
        problem: The model and the reference set.
        scorer: Scores units, and gives the class probabilities that its pass knows.
    """

    def __init__(self, problem: Problem[Prunable], scorer: ProbabilityScorer[Prunable]) -> None:
        self._y = problem.reference.y
        self._scorer = scorer
        self._removed = np.zeros(problem.structure.n_units, bool)
        self._scores: Scores | None = None

    def evaluate(self, removed: np.ndarray) -> Evaluation:
        """See `Examiner`."""
        self._scores, found = self._scorer.examine(removed)
        self._removed = removed
        return Evaluation.of(self._y, found)

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Examiner`."""
        if self._scores is None or not np.array_equal(removed, self._removed):
            self.evaluate(removed)
        assert self._scores is not None  # evaluate() has them
        return self._scores


class TwoPasses:
    """The masked working model gives the accuracies, and the scorer the scores.

    An evaluation costs a forward pass over the reference set, scores what they cost; that of a
    network that is refitted costs the refit.

    Args:
        problem: The model and the reference set.
        scorer: Scores the units of the masked working model.
        steering: Turns what the working model computes into class probabilities.
        refitted: Masks and refits the working model, if that is what is judged.
    """

    def __init__(
        self,
        problem: Problem[Prunable],
        scorer: Scorer[Prunable],
        steering: Steering,
        refitted: RefittedMask | None = None,
    ) -> None:
        self._refitted = refitted
        self._mask: Mask = refitted or problem.mask()
        # Where what is left is refitted, nothing but the whole network is run here.
        make = make_masked_forward if refitted is None else FixedForward
        self._forward: MaskedForward = make(problem, steering.tensor)
        self._reference, self._scorer, self._steering = problem.reference, scorer, steering
        # Of what was evaluated since the last scores: one of them is what is scored next.
        self._rows: dict[bytes, np.ndarray] = {}
        steering.start(lambda: self._rows_of(np.zeros(problem.structure.n_units, bool)))

    def evaluate(self, removed: np.ndarray) -> Evaluation:
        """See `Examiner`."""
        found = self._steering.probabilities(self._rows_of(removed), removed)
        return Evaluation.of(self._reference.y, found)

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Examiner`."""
        if self._forward.settle(removed):
            self._rows.clear()
        self._steering.go_on_from(lambda: self._rows_of(removed), removed)
        self._rows.clear()
        self._mask.set(removed)
        return self._scorer.scores(removed)

    def _rows_of(self, removed: np.ndarray) -> np.ndarray:
        key = removed.tobytes()
        if key not in self._rows:
            self._rows[key] = self._computed(removed)
        return self._rows[key]

    def _computed(self, removed: np.ndarray) -> np.ndarray:
        if self._refitted is not None and removed.any():
            return self._refitted.rows(removed, self._steering.tensor)
        return self._forward(removed)


def make_examiner(
    problem: Problem[ChannelStructure],
    scorer: Scorer[Prunable],
    steering: str,
    *,
    refit_head: bool,
    trials: bool = False,
    refitted: RefittedMask | None = None,
) -> OnePass | TwoPasses:
    """The cheapest way to judge candidates that gives what is asked for.

    Args:
        problem: The model and the reference set.
        scorer: Scores units.
        steering: `"as_is"` or `"cross_fit"`.
        refit_head: Whether the heads of `"cross_fit"` are fitted anew for each candidate.
        trials: Whether candidates are evaluated that are not scored.
        refitted: Masks and refits the working model, if what is judged is refitted.

    Raises:
        UnsupportedModelError: If the model has no linear head where one is needed.
    """
    if steering == "cross_fit":
        return TwoPasses(problem, scorer, CrossFit(LinearHead(problem, refit_head)), refitted)
    if isinstance(scorer, ProbabilityScorer) and not trials and refitted is None:
        return OnePass(problem, scorer)
    return TwoPasses(problem, scorer, AsIs(problem), refitted)
