"""Whether what a proposal leaves is good enough for it to stand."""

from __future__ import annotations

from dataclasses import dataclass

from keras_lrp_prune.control.pace import Pace
from keras_lrp_prune.evaluation import harmonic_mean_accuracy
from keras_lrp_prune.selection.examiner import Evaluation


@dataclass(frozen=True)
class Judge:
    """Says whether a proposal stands: before a floor, then by what the schedule makes of it.

    Args:
        pace: Is told what becomes of proposals, and may object.
        min_accuracy: Harmonic mean accuracy that is never crossed, if there is such a floor.
        accuracy: What it is the accuracy of, for messages.
    """

    pace: Pace
    min_accuracy: float | None = None
    accuracy: str = "harmonic mean accuracy"

    def objection(self, evaluation: Evaluation, rate: float) -> tuple[str, bool]:
        """Why a proposal does not stand, and whether a smaller one might.

        Args:
            evaluation: Of what it leaves.
            rate: Its pruning rate.

        Returns:
            The reason, empty if it stands; whether the next proposal will be smaller.
        """
        hard = harmonic_mean_accuracy(evaluation.hard)
        if self.min_accuracy is not None and hard < self.min_accuracy:
            reason = f"floor: the {self.accuracy} would fall to {hard:.4f}"
            return reason, self.pace.smaller_step(rate)
        if not self.pace.observe(evaluation.soft, rate):
            return "the soft harmonic mean accuracy fell too far", True
        return "", True
