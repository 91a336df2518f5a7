"""Trials: several ways to choose what goes next; the one goes that leaves the highest accuracy.

A score says how much one unit matters, in the network as it is, to its present head. But a step
takes many units, later steps take more, and another head may be fitted to what is left. So no
single score tells what will be missed. The accuracy that a proposal leaves does, at the cost of a
forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_lrp_prune.criteria.scores import RevisableScores, Scores
from keras_lrp_prune.evaluation import DECIMALS, harmonic_mean_accuracy
from keras_lrp_prune.selection.examiner import Evaluation, Examiner


class Trials:
    """Gives several ways to choose, and picks the best of the proposals that they lead to.

    The ways: units ranked by their scores in the model as it is, in the unpruned one, by the mean
    of both, and by the mean squares of their contributions, as they are in all groups; with an
    election, and by the scores and the squares of now without one, too. Where an evaluation refits
    what is left, by the scores of now alone. With scores that follow when units go, they go one by
    one, or by an election among their plain contributions. A step costs an evaluation for each way
    that proposes something else, at most six.

    Args:
        examiner: Evaluates proposals.
        min_accuracy: A floor for the harmonic mean accuracy: a proposal below it is picked only if
            all are below it.
        refits: Whether each evaluation refits what is left.
    """

    def __init__(
        self, examiner: Examiner, min_accuracy: float | None = None, *, refits: bool = False
    ) -> None:
        self._examiner, self._refits = examiner, refits
        self._floor = 0.0 if min_accuracy is None else min_accuracy
        self._unpruned: Scores | None = None

    def go_on_from(self, removed: np.ndarray) -> None:
        """Prepares for a run that goes on; a pass, where ways hang on the unpruned model's scores.

        What is scored last decides how what is evaluated next is rounded, so that the order has to
        be that of a run that was not interrupted.

        Args:
            removed: Units that are gone, bool, shape `(units,)`.
        """
        if removed.any() and not self._refits:
            self._of_unpruned(removed)

    def ways(
        self, scores: Scores, removed: np.ndarray, pool: float
    ) -> Sequence[tuple[Scores, float]]:
        """The ways to choose: scores, and the share of everything that stands for election.

        Args:
            scores: Of the model as it is.
            removed: Units that are gone, bool, shape `(units,)`.
            pool: Share that stands for election where there is one.
        """
        if not removed.any():
            self._unpruned = scores
        if isinstance(scores, RevisableScores):
            elected = [] if scores.plain is None else [(scores.plain, pool)]
            return [(scores, 0.0), *elected]
        known, with_and_without = scores.contributions, dict.fromkeys((pool, 0.0))
        ways = [(scores, share) for share in with_and_without]
        if self._refits:
            return ways
        if removed.any():
            before = self._of_unpruned(removed).by_class
            found = ((scores.by_class + before) / 2, before)
            ways += [(Scores(by_class, known), pool) for by_class in found]
        if known is not None:
            squares = Scores(known.mean_squares(len(scores.by_class)), known)
            ways += [(squares, share) for share in with_and_without]
        return ways

    def best(self, proposals: Sequence[np.ndarray]) -> tuple[int, Evaluation | None]:
        """The proposal with the highest harmonic mean of the soft class accuracies.

        Those whose hard accuracies stay above `min_accuracy` go before the others.

        Args:
            proposals: Units that would be gone, bool, each of shape `(units,)`.

        Returns:
            Its number, and its evaluation; none if all proposals are the same.
        """
        different: dict[bytes, int] = {}
        for number, proposal in enumerate(proposals):
            different.setdefault(proposal.tobytes(), number)
        if len(different) == 1:
            return 0, None
        tried = [
            (number, self._examiner.evaluate(proposals[number])) for number in different.values()
        ]
        return max(tried, key=lambda each: self._value(each[1]))

    def worth_of_gone(self, scores: Scores, proposal: np.ndarray) -> np.ndarray | None:
        """How much each unit that a proposal has gone would matter if it alone came back.

        Args:
            scores: Of the model as it is.
            proposal: Units that would be gone, bool, shape `(units,)`.

        Returns:
            Float, shape `(classes, units)`; `None` if scores do not tell, so that what is gone
            stays gone.
        """
        if not isinstance(scores, RevisableScores):
            return None
        unpruned = self._of_unpruned(proposal)
        assert isinstance(unpruned, RevisableScores)  # as all of one scorer
        return unpruned.restored(proposal)

    def _of_unpruned(self, removed: np.ndarray) -> Scores:
        """Scores of the unpruned model."""
        if self._unpruned is None:
            self._unpruned = self._examiner.scores(np.zeros_like(removed))
        return self._unpruned

    def _value(self, evaluation: Evaluation) -> tuple[bool, float]:
        stays = harmonic_mean_accuracy(evaluation.hard) >= self._floor
        # Of equal proposals the first one goes.
        return stays, round(harmonic_mean_accuracy(evaluation.soft), DECIMALS)
