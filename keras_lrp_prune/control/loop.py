"""The loop: propose units, try them as a mask, keep them or undo, until the goal is reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from keras_lrp_prune.control.checkpoint import Checkpoint, CheckpointError, RunState
from keras_lrp_prune.control.goals import Goal
from keras_lrp_prune.control.history import Counts, Step
from keras_lrp_prune.control.judge import Judge
from keras_lrp_prune.control.next_step import NextStep
from keras_lrp_prune.control.pace import Pace
from keras_lrp_prune.criteria.scores import Scores
from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.selection.examiner import Evaluation, Examiner
from keras_lrp_prune.selection.exchange import is_worth_it, with_some_back
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.ranking import Bundle
from keras_lrp_prune.selection.trials import Trials

# A schedule that proposes nothing new for this many steps is taken for ended.
_PATIENCE = 10_000
# How often in a row a schedule may say that its next step is smaller, though the same units would
# go; and may refuse steps of which none is smaller than those before.
_SHRINKS, _REFUSALS = 1_000, 100
_REFUSED = "the schedule refuses its smallest step"
# A step after which less than this share of a step would be left to the end goes there at once: a
# round for a few units costs as much as any other.
_REMNANT = 0.25


@dataclass
class PruningLoop:
    """Prunes step by step.

    A step costs one evaluation by the examiner, or with trials one for each of them. Units are
    scored once for each step that stood; after one that was undone the scores are still known.

    Args:
        prunable: What can go.
        examiner: Measures the accuracies of what is proposed, and scores the units that are left.
        pace: Says how much goes, and whether a proposal is kept.
        counts: Counts what is left.
        goal: How far to go.
        limits: What every group keeps.
        trials: Several ways to choose what goes next, if there are any to choose from.
        min_accuracy: Harmonic mean accuracy never crossed.
        accuracy: What the examiner's harmonic mean is called in messages.
        checkpoint: Where to save each step, if anywhere.
        on_step: Called with each new record.
    """

    prunable: Prunable
    examiner: Examiner
    pace: Pace
    counts: Counts
    goal: Goal
    limits: Limits
    trials: Trials | None = None
    min_accuracy: float | None = None
    accuracy: str = "harmonic mean accuracy on the reference set"
    checkpoint: Checkpoint | None = None
    on_step: Callable[[Step], None] = lambda record: None

    def run(self, state: RunState | None = None) -> RunState:
        """Prunes until the goal is reached, or nothing more can go.

        Args:
            state: Where to go on from, such as the end of a run with a nearer goal; the pace must
                be the one of that run. By default the checkpoint, or the unpruned model.

        Returns:
            The final state.
        """
        if state is None:
            state = self._resumed() or self._started()
        else:
            reached = self.goal.reached(state.removed)
            stopped = self.goal.reason if reached else ""
            state = replace(state, history=list(state.history), stopped=stopped)
        if self.trials and not state.stopped:
            self.trials.go_on_from(state.removed)
        scores: Scores | None = None
        shrinks = 0
        while not state.stopped:
            rate = self._next_rate(state)
            if rate is None:
                state.stopped = f"the schedule ends at rate {self._rate(state.removed):.3f}"
                break
            if scores is None:
                scores = self.examiner.scores(state.removed)
            proposal, evaluation = self._proposal(scores, state, rate)
            again = bool((proposal == state.rejected).all())
            if again and shrinks < _SHRINKS and self.pace.smaller_step():
                shrinks += 1
                continue  # the same proposal was just undone; the next one is smaller
            shrinks = 0
            if self._try(state, proposal, evaluation):
                scores = None
            elif not state.stopped and (again or _refused_in_vain(state.history)):
                state.stopped = _REFUSED
            if not state.stopped and self.goal.reached(state.removed):
                state.stopped = self.goal.reason
            self._save(state)
        self._save(state)
        return state

    def _started(self) -> RunState:
        """The state before the first proposal: what the unpruned model achieves."""
        nothing = np.zeros(self.prunable.n_units, bool)
        state = RunState(nothing, nothing, 0, [], {})
        evaluation = self.examiner.evaluate(nothing)
        self.pace.observe(evaluation.soft)
        self._record(state, Step.of(0, self._rate(nothing), evaluation, self.counts(nothing)))
        hard = state.history[0].harmonic_mean
        if self.min_accuracy is not None and hard < self.min_accuracy:
            raise ValueError(
                f"min_accuracy is {self.min_accuracy}, but of the unpruned model the "
                f"{self.accuracy} is only {hard:.4f}."
            )
        if self.goal.reached(state.removed):
            state.stopped = self.goal.reason
        self._save(state)
        return state

    def _resumed(self) -> RunState | None:
        state = self.checkpoint.load() if self.checkpoint else None
        if state is not None:
            self._check(state)
            self.pace.set_state(state.schedule)
            for record in state.history:
                self.on_step(record)
        return state

    def _check(self, state: RunState) -> None:
        """Checks that the records of a checkpoint and its mask belong together.

        Raises:
            CheckpointError: If the last accepted record has another rate than the mask.
        """
        kept = [record.rate for record in state.history if record.accepted]
        if not kept or kept[-1] != self._rate(state.removed):
            raise CheckpointError(
                "The checkpoint is damaged: its last accepted step and its mask do not belong "
                "together. Delete it to start anew."
            )

    def _next_rate(self, state: RunState) -> float | None:
        """The next pruning rate that the schedule proposes above the present one, up to the goal's.

        Each answer counts as a step of the schedule, unless the goal's rate cuts it short: a run
        that goes on to a higher goal then takes the same step up again.
        """
        now, most = self._rate(state.removed), self.goal.rate
        highest = most + self.goal.tolerance
        end = self.pace.end(most)
        # Where the schedule ends before the goal, its end is met as closely as a goal.
        if now >= end or (end < most and now >= end - self.goal.tolerance):
            return None
        for _ in range(_PATIENCE):
            should_prune, sparsity = self.pace.asks(state.step)
            rate = min(sparsity, most)
            there = self.pace.is_there(self.prunable, state.removed, rate)
            proposes = should_prune and not there
            if not proposes or sparsity <= highest:
                state.step += 1
            if proposes:
                last = min(end, most)
                return last if last - rate < _REMNANT * (rate - now) else rate
        return None

    def _try(self, state: RunState, proposal: np.ndarray, known: Evaluation | None) -> bool:
        """Evaluates the proposal, and keeps or undoes it; returns whether it is kept."""
        if (proposal == state.removed).all():
            state.stopped = "every group is at its floor"
            return False
        evaluation = known or self.examiner.evaluate(proposal)
        judge = Judge(self.pace, self.min_accuracy, self.accuracy)
        verdict = judge.verdict(
            len(state.history), evaluation, self._rate(proposal), self.counts(proposal)
        )
        self._record(state, verdict.step)
        if verdict.step.accepted:
            state.removed = proposal
            state.rejected = np.zeros_like(proposal)
            return True
        state.rejected = proposal
        if verdict.is_final:
            state.stopped = verdict.step.reason
        return False

    def _proposal(
        self, scores: Scores, state: RunState, rate: float
    ) -> tuple[np.ndarray, Evaluation | None]:
        """The units that would be gone, no more than the goal needs.

        And what that leaves, if trials have evaluated exactly these units.

        Class weights follow the accuracies of the last step that stands. Those of an undone step
        would give a lost class all the weight, and the next, smaller proposal would ruin others.
        """
        selection, removed = self.pace.selection, state.removed
        accuracies = np.array(state.standing.soft_class_accuracies)
        step = NextStep(self.prunable, self.limits, self.goal, selection, removed, accuracies)
        if self.trials is None:
            return step.proposal(self._to_the_end(step, scores, rate, selection.pool)), None
        ways = self.trials.ways(scores, removed, selection.pool)
        choices = [self._to_the_end(step, ranked, rate, pool) for ranked, pool in ways]
        best, evaluation = self.trials.best([step.with_all(bundles) for bundles in choices])
        proposal = step.proposal(choices[best])
        if not (proposal == step.with_all(choices[best])).all():
            evaluation = None
        return self._exchanged(step, scores, rate, proposal, evaluation)

    def _exchanged(
        self,
        step: NextStep,
        scores: Scores,
        rate: float,
        proposal: np.ndarray,
        evaluation: Evaluation | None,
    ) -> tuple[np.ndarray, Evaluation | None]:
        """The proposal, or what is chosen anew once some of what went is back, if that is better.

        Where scores tell what would come back. Costs scores and two evaluations.
        """
        assert self.trials is not None
        if not is_worth_it(self.prunable, proposal):
            return proposal, evaluation
        if (worth := self.trials.worth_of_gone(scores, proposal)) is None:
            return proposal, evaluation
        wider = with_some_back(self.prunable, proposal, step.combined(worth), self.limits)
        if (wider == proposal).all():
            return proposal, evaluation
        anew = replace(step, removed=wider)
        found = anew.bundles(self.examiner.scores(wider), max(rate, self._rate(proposal)), pool=0.0)
        proposals = [proposal, anew.proposal(found)]
        best, of_best = self.trials.best(proposals)
        return proposals[best], of_best or evaluation

    def _to_the_end(self, step: NextStep, scores: Scores, rate: float, pool: float) -> list[Bundle]:
        """What would go to reach that rate; if too little were left to the goal, that as well."""
        bundles = step.bundles(scores, rate, pool)
        if self._leaves_a_remnant(step.removed, step.with_all(bundles)):
            size = rate - self._rate(step.removed)
            further = min(rate + 2 * _REMNANT * size, self.goal.rate)
            more = step.bundles(scores, further, pool)
            if self.goal.reached(step.with_all(more)):
                return more  # `_proposal` cuts them to what the goal needs
        return bundles

    def _leaves_a_remnant(self, removed: np.ndarray, proposal: np.ndarray) -> bool:
        """Whether a proposal ends so near to the goal that too little is left for another step.

        That happens with budgets only: rates are known before units are chosen.
        """
        now, then = (
            self.goal.progress(self._rate(gone), self.counts(gone)) for gone in (removed, proposal)
        )
        return 0 < 1 - then < _REMNANT * (then - now)

    def _record(self, state: RunState, step: Step) -> None:
        state.history.append(step)
        self.on_step(step)

    def _rate(self, removed: np.ndarray) -> float:
        return self.prunable.rate(removed)

    def _save(self, state: RunState) -> None:
        state.schedule = self.pace.get_state()
        if self.checkpoint:
            self.checkpoint.save(state)


def _refused_in_vain(history: Sequence[Step]) -> bool:
    """Whether the last steps were undone though none was smaller than those undone before."""
    undone = [step.rate for step in takewhile(lambda step: not step.accepted, reversed(history))]
    return len(undone) > _REFUSALS and min(undone[:_REFUSALS]) >= min(undone[_REFUSALS:])
