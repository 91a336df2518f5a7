"""Whether what a proposal leaves is good enough for it to stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keras_lrp_prune.control.history import Step
from keras_lrp_prune.control.pace import Pace
from keras_lrp_prune.evaluation import harmonic_mean_accuracy
from keras_lrp_prune.selection.examiner import Evaluation


@dataclass(frozen=True)
class Verdict:
    """What becomes of a proposal.

    Args:
        step: Its record; with a reason if it does not stand.
        is_final: Whether a smaller one would not stand either.
    """

    step: Step
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

    def verdict(
        self, number: int, found: Evaluation, rate: float, left: Mapping[str, int]
    ) -> Verdict:
        """Judges a proposal by what it leaves.

        Args:
            number: Of the step.
            found: The accuracies that it leaves.
            rate: Its pruning rate.
            left: Counts of what is left, by name.
        """
        reason, is_final = "", False
        hard = harmonic_mean_accuracy(found.hard)
        if self.min_accuracy is not None and hard < self.min_accuracy:
            reason = f"floor: the {self.accuracy} would fall to {hard:.4f}"
            is_final = not self.pace.smaller_step(rate)
        elif not self.pace.observe(found.soft, rate):
            reason = self.pace.objection
        return Verdict(Step.of(number, rate, found, left, reason=reason), is_final)
