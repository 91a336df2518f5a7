"""Whether what a proposal leaves is good enough for it to stand."""

from __future__ import annotations

from dataclasses import dataclass

from keras_lrp_prune.control.pace import Pace
from keras_lrp_prune.evaluation import harmonic_mean_accuracy
from keras_lrp_prune.selection.examiner import Evaluation


@dataclass(frozen=True)
class Verdict:
    """What becomes of a proposal.

    Args:
        objection: Why it does not stand; empty if it does.
        is_final: Whether a smaller one would not stand either.
    """

    objection: str = ""
    is_final: bool = False


@dataclass(frozen=True)
class Judge:
    """Says whether a proposal stands: first by the floor, if there is one, then by the schedule.

    Args:
        pace: Is told what a proposal leaves, and may object.
        min_accuracy: The floor: harmonic mean accuracy that no proposal may fall below.
        accuracy: What that accuracy is called in messages.
    """

    pace: Pace
    min_accuracy: float | None = None
    accuracy: str = "harmonic mean accuracy"

    def verdict(self, evaluation: Evaluation, rate: float) -> Verdict:
        """Judges a proposal of that pruning rate by what it leaves."""
        hard = harmonic_mean_accuracy(evaluation.hard)
        if self.min_accuracy is not None and hard < self.min_accuracy:
            objection = f"floor: the {self.accuracy} would fall to {hard:.4f}"
            return Verdict(objection, is_final=not self.pace.smaller_step(rate))
        if not self.pace.observe(evaluation.soft, rate):
            return Verdict(self.pace.objection)
        return Verdict()
