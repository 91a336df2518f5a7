"""Sentences about a result: what was measured, and what would keep more of the accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.evaluation import FEW_POINTS
from keras_lrp_prune.examination.recovery_choice import AUTO
from keras_lrp_prune.examination.steering import Measured, measured
from keras_lrp_prune.report import reason_lines
from keras_lrp_prune.report.step_record import StepRecord

if TYPE_CHECKING:
    from keras_lrp_prune.pruning.result import PruningResult

# More samples are not advised where every class has this many.
_MANY_SAMPLES = 100
_CORRECTED = (
    "Reference set, after: by heads that did not see the sample, corrected as the model's is"
)
# The most layers that the summary names for one reason.
_MOST_SKIPPED = 2


def measured_by(settings: Mapping[str, Any]) -> Measured:
    """What was measured for the accuracies of a run's steps, by the settings of its result."""
    steering = settings.get("steering", "as_is")
    in_the_end = settings.get("recovery") and not settings.get("refits_each_step")
    return measured(steering, refits=bool(in_the_end))


def ends(history: Sequence[StepRecord]) -> tuple[StepRecord, StepRecord]:
    """The unpruned model, and the last step that stands."""
    return history[0], next(record for record in reversed(history) if record.accepted)


def fall(result: PruningResult) -> tuple[float, float, str]:
    """The harmonic mean accuracy before and after, and on what: held out, if there is such data.

    A head that was fitted on the reference set says nothing there; cross-fitted ones do.
    """
    if result.validation is not None:
        reports, where = result.validation, "held out"
    elif measured_by(result.settings).of_model:
        reports, where = result.reference, "reference set"
    else:
        first, last = ends(result.history)
        return first.harmonic_mean, last.harmonic_mean, "reference set, cross-fitted heads"
    before, after = (reports[when]["harmonic_mean"] for when in ("before", "after"))
    return before, after, where


def advice(result: PruningResult) -> str | None:
    """One line on what would keep more of the accuracy, if more than a few points are lost."""
    before, after, where = fall(result)
    if before - after <= FEW_POINTS:
        return None
    remedies = [remedy for applies, remedy in _remedies(result) if applies]
    return (
        f"The harmonic mean accuracy fell by {_points(before - after)} ({where}). "
        f"What may help: {', '.join(remedies)}."
    )


def fallen_class(result: PruningResult, names: Sequence[str]) -> str | None:
    """One line on the class that lost most, if it is more than the number of samples explains.

    Args:
        result: What `prune` found.
        names: What the classes are called.
    """
    if result.validation is not None:
        reports, where = result.validation, "held out"
    elif measured_by(result.settings).of_model:
        reports, where = result.reference, "reference set"
    else:
        return None
    before, after = (np.array(reports[when]["recall"]) for when in ("before", "after"))
    samples = np.array(reports["after"]["support"])
    # The variance of a share of n samples is p (1 - p) / n.
    errors = np.sqrt((before * (1 - before) + after * (1 - after)) / samples)
    falls = before - after
    worst = int(np.argmax(falls))
    if falls[worst] <= max(FEW_POINTS, 2 * errors[worst]):
        return None
    return (
        f"Class {names[worst]} lost most: {_points(falls[worst])} "
        f"({where}, {int(samples[worst])} samples)."
    )


def recovery_lines(settings: Mapping[str, Any]) -> list[str]:
    """The lines of a summary on the recovery of a run.

    Returns:
        What `"auto"` chose, if that was asked for, whose figures those of a corrected head are, and
        the layers that could not be refitted.
    """
    chosen = []
    if settings.get("asked_recovery") == AUTO:
        recovery = settings["recovery"]
        kept = "; the head as it is" if recovery == "least_squares" else ""
        why = settings.get("refit_refused") or f"chosen by 'auto'{kept}"
        chosen = [f"Recovery: {recovery or 'none'} ({why})"]
    if settings.get("recovery") == "head+least_squares":
        chosen.append(_CORRECTED)
    skipped = settings.get("not_recovered", {})
    return chosen + reason_lines("Not refitted", skipped, _MOST_SKIPPED)


def _lost_by_refitting(result: PruningResult) -> float:
    """How far the harmonic mean accuracy on the reference set fell after the last step."""
    if result.settings.get("recovery") is None or not measured_by(result.settings).of_model:
        return 0.0
    return ends(result.history)[1].harmonic_mean - result.reference["after"]["harmonic_mean"]


def _points(fall: float) -> str:
    return f"{100 * fall:.1f} points"


def _remedies(result: PruningResult) -> Sequence[tuple[bool, str]]:
    """What may keep more of the accuracy, each with whether it applies to this run."""
    settings, support = result.settings, result.reference["before"]["support"]
    frozen, floored = settings.get("recovery") is None, result.stopped.startswith("floor")
    refused, lost = bool(settings.get("refit_refused")), _lost_by_refitting(result)
    goal = "a lower target_rate" if settings.get("budget") is None else "a larger budget"
    return (
        (frozen and not refused, 'refitting what is left (recovery="least_squares")'),
        (lost > FEW_POINTS, f"leaving weights as they are (recovery=None): {_points(lost)} less"),
        (settings["min_accuracy"] is None, "a floor to stop at (min_accuracy=)"),
        (floored, "a higher min_accuracy"),
        (not floored, goal),
        (min(support) < _MANY_SAMPLES, f"more than {min(support)} reference samples of a class"),
    )
