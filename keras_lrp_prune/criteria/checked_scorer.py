"""Checks the scores of every criterion before they are used."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np

from keras_lrp_prune.criteria.criterion import Criterion, ProbabilityScorer, Scorer
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.scores import Contributions, Scores
from keras_lrp_prune.prunables.prunable import Prunable


class ScorerInFront(Scorer[Prunable]):
    """Passes every call on to another scorer; sub-classes add something to some of them.

    Args:
        scorer: The other one.
    """

    def __init__(self, scorer: Scorer[Prunable]) -> None:
        super().__init__(scorer.problem)
        self.behind = scorer

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Scorer`."""
        return self.behind.scores(removed)

    def refresh(self) -> None:
        """See `Scorer`."""
        self.behind.refresh()

    def close(self) -> None:
        """See `Scorer`."""
        self.behind.close()


class CheckedScorer(ScorerInFront):
    """Raises an error for scores that units cannot be ranked by.

    The scorer is shown which units are gone, and cannot change that; what it scores them by is
    copied, so that it may use its array again.

    Args:
        criterion: The criterion, for messages.
        scorer: Its scorer.
    """

    def __init__(self, criterion: Criterion, scorer: Scorer[Prunable]) -> None:
        super().__init__(scorer)
        self.engine_name = scorer.engine_name
        self._who = f"Criterion {criterion.name!r}"

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Scorer`.

        Raises:
            TypeError: If the scores are no `Scores`, or no arrays of numbers.
            ValueError: If they are of the wrong shape, or not finite.
        """
        return self._checked(super().scores(_to_read(removed)))

    def _checked(self, scores: Scores) -> Scores:
        if not isinstance(scores, Scores):
            raise TypeError(
                f"{self._who} must return klp.criteria.Scores(by_class), an array of classes by "
                f"units in it; it returned {_told(scores)}."
            )
        reference, units = self.problem.reference, self.problem.structure.n_units
        allowed = [(1, units), (reference.n_classes, units)]
        self._check_array("scores", scores.by_class, allowed)
        if (found := scores.contributions) is not None:
            self._check_contributions(found, len(reference.y), units)
        kept = copy(scores)  # of its class: some can be revised
        object.__setattr__(kept, "by_class", scores.by_class.copy())
        return kept

    def _check_contributions(self, found: Contributions, samples: int, units: int) -> None:
        if not isinstance(found, Contributions):
            raise TypeError(
                f"{self._who} must give contributions as klp.criteria.Contributions(values, y), or "
                f"None; it gave {_told(found)}."
            )
        self._check_array("values of contributions", found.values, [(samples, units)])
        self._check_array("classes (y) of contributions", found.y, [(samples,)])
        classes = self.problem.reference.n_classes
        if found.y.dtype.kind == "f" or not ((found.y >= 0) & (found.y < classes)).all():
            raise ValueError(
                f"{self._who} gave classes (y) of contributions other than the whole numbers 0 to "
                f"{classes - 1}: the class of each sample whose values stand there."
            )

    def _check_array(self, what: str, values: object, shapes: Sequence[tuple[int, ...]]) -> None:
        expected = " or ".join(map(str, shapes))
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
            raise TypeError(
                f"{self._who} must give its {what} as a NumPy array of numbers of shape "
                f"{expected}, not as {_told(values)}."
            )
        if values.shape not in shapes:
            raise ValueError(
                f"{self._who} gave {what} of shape {values.shape}; expected is {expected}: one for "
                f"each of the {self.problem.structure.n_units} units of the model, and of its "
                f"{self.problem.reference.n_classes} classes or {len(self.problem.reference.y)} "
                "samples."
            )
        if not np.isfinite(values).all():
            raise ValueError(
                f"{self._who} gave {what} that are not finite numbers ({np.isnan(values).sum()} "
                f"NaN, {np.isinf(values).sum()} infinite): nothing can be ranked by them."
            )


class CheckedProbabilityScorer(CheckedScorer, ProbabilityScorer[Prunable]):
    """The same of a scorer that gives probabilities."""

    behind: ProbabilityScorer[Prunable]

    def examine(self, removed: np.ndarray) -> tuple[Scores, np.ndarray]:
        """See `ProbabilityScorer`; raises as `scores` does."""
        found = self.behind.examine(_to_read(removed))
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(
                f"{self._who}: examine(removed) must return two things, Scores and the class "
                f"probabilities of the reference samples; it returned {_told(found)}."
            )
        scores, probabilities = found
        reference = self.problem.reference
        shape = len(reference.y), reference.n_classes
        self._check_array("class probabilities", probabilities, [shape])
        return self._checked(scores), probabilities


def scorer_of(criterion: Criterion, problem: Problem[Prunable]) -> CheckedScorer:
    """Makes the scorer of a criterion, whose scores are checked; close it when it is not needed.

    Args:
        criterion: What scores.
        problem: The model and the samples.

    Raises:
        TypeError: If the criterion makes no scorer, or one that gives probabilities, but does not
            say how.
    """
    scorer = criterion.scorer(problem)
    if not isinstance(scorer, Scorer):
        raise TypeError(
            f"Criterion {criterion.name!r}: scorer(problem) must return a klp.criteria.Scorer; it "
            f"returned {_told(scorer)}."
        )
    if not hasattr(scorer, "problem"):
        raise TypeError(
            f"Criterion {criterion.name!r}: {type(scorer).__name__} does not know its problem. Its "
            "__init__ must call super().__init__(problem)."
        )
    if not scorer.gives_probabilities:
        return CheckedScorer(criterion, scorer)
    if not hasattr(scorer, "examine"):
        raise TypeError(
            f"Criterion {criterion.name!r}: {type(scorer).__name__} says that it gives "
            "probabilities, but has no method examine(removed). Derive it from "
            "klp.criteria.ProbabilityScorer."
        )
    return CheckedProbabilityScorer(criterion, scorer)


def _to_read(removed: np.ndarray) -> np.ndarray:
    """A copy that cannot be written to."""
    shown = removed.copy()
    shown.flags.writeable = False
    return shown


def _told(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
