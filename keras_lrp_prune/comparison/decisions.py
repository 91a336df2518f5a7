"""What a method decides: which units go at each rate, from the reference set alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from keras_lrp_prune.comparison.methods import Method, scored_by
from keras_lrp_prune.comparison.scorers import ScoredOnce, TimedScorer
from keras_lrp_prune.control.checkpoint import RunState
from keras_lrp_prune.control.goals import RateGoal
from keras_lrp_prune.control.history import Step
from keras_lrp_prune.control.loop import PruningLoop
from keras_lrp_prune.control.pace import make_pace
from keras_lrp_prune.control.schedules import default_schedule
from keras_lrp_prune.cost.shrinking import only_new_garbage
from keras_lrp_prune.criteria.checked_scorer import scorer_of
from keras_lrp_prune.criteria.criterion import ProbabilityScorer, Scorer
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.examination.criterion_choice import DEFAULT_CRITERION, CriterionChoice
from keras_lrp_prune.examination.examiners import make_examiner
from keras_lrp_prune.examination.recovery_choice import FROZEN
from keras_lrp_prune.examination.refit import Refitter
from keras_lrp_prune.examination.refitted_mask import (
    RefittedMask,
    refits_each_step,
    with_weights_apart,
)
from keras_lrp_prune.examination.steering import chosen_steering
from keras_lrp_prune.examination.subject import Subject
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.selection.examiner import Evaluation
from keras_lrp_prune.selection.reach import largest_rate
from keras_lrp_prune.selection.trials import Trials, what_is_judged


@dataclass(frozen=True)
class Decisions:
    """Which units a method removes, and what it cost to decide that.

    Args:
        masks: Units removed at each rate, bool, shape `(rates, units)`.
        forward_passes: Number of plain forward passes over the reference set.
        scorings: Seconds of each pass of the criterion over it, such as LRP's.
        seconds: Seconds in all, without start-up.
        engine: What computed LRP, if anything did.
    """

    masks: np.ndarray
    forward_passes: int
    scorings: Sequence[float]
    seconds: float
    engine: str | None

    def forward_equivalents(self, forward_seconds: float) -> float:
        """Forward passes, and those of the criterion by how much longer one takes.

        Args:
            forward_seconds: What a forward pass of the unpruned model takes.
        """
        # Other work on the machine only adds to a time, so that the shortest is the most exact.
        each = min(self.scorings, default=0.0) / forward_seconds
        return self.forward_passes + len(self.scorings) * each


@only_new_garbage()
def decide(
    subject: Subject,
    method: Method,
    rates: Sequence[float],
    *,
    engine: CriterionChoice = DEFAULT_CRITERION,
    refitter: Refitter | None = None,
    seed: int = 0,
    on_steering: Callable[[str], None] = lambda steering: None,
    on_step: Callable[[Step], None] = lambda record: None,
) -> Decisions:
    """Prunes from rate to rate; each one is met to within half the largest unit.

    Beyond the largest rate that the limits allow, nothing more goes.

    Args:
        subject: The model and its reference set.
        method: How to prune.
        rates: Pruning rates, increasing.
        engine: What computes LRP, and where; the criterion is that of the method.
        refitter: Refits what is left, if anything will. Where it is the linear head, accuracies
            that steer are those of heads fitted to what is left; and the criterion may have all of
            it refitted at each step.
        seed: For the criterion `"random"`.
        on_steering: Called, before the first step, with what steers.
        on_step: Called with the record of each step.
    """
    recovery = FROZEN if refitter is None else refitter.recovery
    criterion = scored_by(method, engine, recovery)
    refits = refits_each_step(criterion, recovery)
    schedule = method.schedule() if method.schedule else default_schedule(refits=refits)
    problem, pace = subject.problem(seed), make_pace(schedule, trials=True)
    scored = with_weights_apart(problem) if refits else problem
    # Heads are fitted to know accuracies; where nothing reads those, none are needed.
    refit_head = recovery.refits_head and pace.reads_accuracies
    with closing(scorer_of(criterion, scored)) as scorer:
        steering = chosen_steering(
            pace.selection.steering,
            problem,
            lambda: subject.unpruned_probabilities(subject.reference),
            refit_head=refit_head,
        )
        on_steering(steering)
        trials = pace.selection.trials
        kind = what_is_judged(refits=refits, refit_head=refit_head)
        mask = RefittedMask(refitter, scored, scorer) if refitter and refits else None
        timed = _TimedExaminer(scored, scorer, method, steering, refit_head, trials, mask)
        start = time.perf_counter()
        loop = PruningLoop(
            prunable=subject.structure,
            examiner=timed,
            pace=pace,
            counts=subject.counts,
            goal=RateGoal(subject.structure, subject.limits, 0.0),
            limits=subject.limits,
            trials=Trials(timed, judged=kind) if trials else None,
            on_step=on_step,
        )
        masks = _from_rate_to_rate(loop, rates)
        seconds = time.perf_counter() - start
    return Decisions(
        masks=masks,
        forward_passes=timed.forward_passes,
        scorings=timed.scorings,
        seconds=seconds,
        engine=scorer.engine_name,
    )


def _from_rate_to_rate(loop: PruningLoop, rates: Sequence[float]) -> np.ndarray:
    """The units that are gone at each rate."""
    largest = largest_rate(loop.prunable, loop.limits)
    state: RunState | None = None
    masks = []
    for rate in rates:
        goal = RateGoal(loop.prunable, loop.limits, min(rate, largest))
        state = replace(loop, goal=goal).run(state)
        masks.append(state.removed)
    return np.stack(masks)


class _TimedExaminer:
    """An examiner whose passes are timed, except the first ones.

    The first ones trace functions and wait for processes to start, which is no cost of the method.
    """

    def __init__(
        self,
        problem: Problem[ChannelStructure],
        scorer: Scorer,
        method: Method,
        steering: str,
        refit_head: bool,
        trials: bool,
        mask: RefittedMask | None,
    ) -> None:
        judged = steering != "as_is" or trials or mask is not None
        self._in_one_pass = (
            isinstance(scorer, ProbabilityScorer) and not method.scored_once and not judged
        )
        timed = TimedScorer(scorer)
        used = scorer if self._in_one_pass else timed
        examined = make_examiner(
            problem,
            ScoredOnce(used) if method.scored_once else used,
            steering,
            refit_head=refit_head,
            trials=trials,
            refitted=mask,
        )
        self._mask = mask
        unpruned = np.zeros(problem.structure.n_units, bool)
        scorer.scores(unpruned)
        examined.evaluate(unpruned)
        self._examined = examined
        self._evaluations: list[float] = []
        self._evaluation_passes = 0
        self.scores = examined.scores
        self.scorings = self._evaluations if self._in_one_pass else timed.seconds

    def evaluate(self, removed: np.ndarray) -> Evaluation:
        """See `Examiner`."""
        start = time.perf_counter()
        found = self._examined.evaluate(removed)
        self._evaluations.append(time.perf_counter() - start)
        # Where what is left is refitted, that gives its accuracies too.
        self._evaluation_passes += self._mask is None or not removed.any()
        return found

    @property
    def forward_passes(self) -> int:
        """Number of forward passes, those of the criterion not included."""
        refits = 0 if self._mask is None else self._mask.passes
        return refits + (0 if self._in_one_pass else self._evaluation_passes)
