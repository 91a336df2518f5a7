"""Trials: several ways to choose what goes next; the one goes that leaves the highest accuracy.

A score says how much one unit matters, in the network as it is, to its present head. But a step
takes many units, later steps take more, and another head may be fitted to what is left. So no
single score tells what will be missed. The accuracy that a proposal leaves does, at the cost of a
forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from keras_lrp_prune.criteria.scores import RevisableScores, Scores
from keras_lrp_prune.evaluation import DECIMALS, harmonic_mean_accuracy
from keras_lrp_prune.selection.examiner import Evaluation, Examiner

# By what is judged, what a step tries: how units are ranked, and whether there is an election.
# docs/control.md has what was measured for the model as it is.
_WAYS = {
    "as_is": (
        *(("now", True), ("now", False), ("mean", True), ("before", True)),
        *(("squares", True), ("squares", False)),
    ),
    "new_head": tuple(product(("now", "mean", "before"), (True, False))),
    "refitted": (("now", True), ("now", False)),
}


def what_is_judged(*, refits: bool, refit_head: bool) -> str:
    """What trials judge: the model `"as_is"`, with a `"new_head"`, or `"refitted"`.

    Args:
        refits: Whether each evaluation refits what is left.
        refit_head: Whether it fits the head anew, and nothing else.
    """
    return "refitted" if refits else "new_head" if refit_head else "as_is"


class Trials:
    """Gives several ways to choose, and picks the best of the proposals that they lead to.

    The ways: units ranked by their scores in the model as it is, in the unpruned one, by the mean
    of both, or by the mean squares of their contributions, as they are in all groups; with an
    election or without. Where an evaluation refits what is left, by the scores of now alone. With
    scores that follow when units go, they go one by one, or by an election among their plain
    contributions. A step costs an evaluation for each way that proposes something else, at most
    six.

    Args:
        examiner: Evaluates proposals.
        min_accuracy: A floor for the harmonic mean accuracy: a proposal below it is picked only if
            all are below it.
        judged: What an evaluation is of: see `what_is_judged`.
    """

    def __init__(
        self, examiner: Examiner, min_accuracy: float | None = None, *, judged: str = "as_is"
    ) -> None:
        self._examiner, self._ways = examiner, _WAYS[judged]
        self._floor = 0.0 if min_accuracy is None else min_accuracy
        self._unpruned: Scores | None = None

    def go_on_from(self, removed: np.ndarray) -> None:
        """Prepares for a run that goes on; a pass, where ways hang on the unpruned model's scores.

        What is scored last decides how what is evaluated next is rounded, so that the order has to
        be that of a run that was not interrupted.

        Args:
            removed: Units that are gone, bool, shape `(units,)`.
        """
        if removed.any() and any(ranked == "before" for ranked, _ in self._ways):
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
        ranked = self._ranked(scores, removed)
        ways = dict.fromkeys((name, pool * elects) for name, elects in self._ways if name in ranked)
        return [(ranked[name], share) for name, share in ways]

    def _ranked(self, scores: Scores, removed: np.ndarray) -> dict[str, Scores]:
        """By name, the scores that units can be ranked by."""
        known, asked = scores.contributions, {name for name, _ in self._ways}
        found = {"now": scores}
        if removed.any() and "before" in asked:
            before = self._of_unpruned(removed).by_class
            found["mean"] = Scores((scores.by_class + before) / 2, known)
            found["before"] = Scores(before, known)
        if known is not None and "squares" in asked:
            found["squares"] = Scores(known.mean_squares(len(scores.by_class)), known)
        return found

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
