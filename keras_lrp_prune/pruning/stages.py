"""The stages of a run of `prune`: prepare, search, report.

The settings that tell a run from others are fixed when it is prepared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.arguments import Checked
from keras_lrp_prune.control.checkpoint import Checkpoint, RunState, claimed
from keras_lrp_prune.control.goals import BudgetGoal, CostShares, RateGoal
from keras_lrp_prune.control.loop import PruningLoop
from keras_lrp_prune.control.pace import Pace, make_pace, own_selection
from keras_lrp_prune.control.schedules import FINAL_SPARSITY, default_schedule
from keras_lrp_prune.cost.shrinking import only_new_garbage
from keras_lrp_prune.criteria.checked_scorer import scorer_of
from keras_lrp_prune.data import ReferenceSet
from keras_lrp_prune.evaluation import classification_report
from keras_lrp_prune.examination.channel_limits import ChannelLimits
from keras_lrp_prune.examination.criterion_choice import CriterionChoice
from keras_lrp_prune.examination.examiners import make_examiner
from keras_lrp_prune.examination.recovery_choice import Recovery
from keras_lrp_prune.examination.refit import Recovered, Refitted, Refitter
from keras_lrp_prune.examination.refitted_mask import (
    RefittedMask,
    refits_each_step,
    with_weights_apart,
)
from keras_lrp_prune.examination.remainder import Remainder
from keras_lrp_prune.examination.steering import Measured, chosen_steering, measured
from keras_lrp_prune.examination.subject import Subject, read_subject
from keras_lrp_prune.examination.target import Target
from keras_lrp_prune.pruning.result import PruningResult
from keras_lrp_prune.report.progress import PruningProgress
from keras_lrp_prune.report.step_record import StepRecord
from keras_lrp_prune.runtime import Execution, fingerprint
from keras_lrp_prune.selection.examiner import Examiner
from keras_lrp_prune.selection.trials import Trials, what_is_judged

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class PruneOptions(Checked):
    """What `prune` is asked for, beside a model and samples.

    Args:
        target: How far to go.
        criterion: What scores units.
        recovery: What is refitted in the end.
        limits: What stays.
        execution: How it is computed.
        schedule: How much goes at each step; `None`: the default.
        checkpoint_dir: Folder where each step is saved, if anywhere.
    """

    target: Target
    criterion: CriterionChoice
    recovery: Recovery
    limits: ChannelLimits
    execution: Execution
    schedule: Any = None
    checkpoint_dir: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class Prepared:
    """A run that can begin.

    Args:
        options: What is asked for.
        subject: The model and the reference set.
        held_out: Samples that steer nothing, if there are any.
        pace: How much goes at each step.
        shares: What remains of each cost.
        goal: What ends the run.
        progress: Shows its stages.
    """

    options: PruneOptions
    subject: Subject
    held_out: ReferenceSet | None
    pace: Pace
    shares: CostShares
    goal: RateGoal | BudgetGoal
    progress: PruningProgress

    @property
    def refits(self) -> bool:
        """Whether what is left is refitted at each step, and not in the end alone."""
        return refits_each_step(self.options.criterion.chosen, self.options.recovery)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The settings that tell the run from others; the result states them as asked for."""
        asked = self.options
        return {
            "target_rate": self.goal.rate if asked.target.budget is None else None,
            "budget": asked.target.budget,
            "min_accuracy": asked.target.min_accuracy,
            "schedule": self.pace.schedule.get_config(),
            **own_selection(self.pace.schedule),
            **asked.criterion.settings,
            "recovery": asked.recovery.chosen,
            "protect": list(asked.limits.protect),
            "min_channels": asked.limits.min_channels,
            "round_to": asked.limits.round_to,
            "batch_size": self.subject.batch_size,
            "seed": asked.execution.seed,
        }


@dataclass(frozen=True)
class Examined:
    """What judges the candidates of a run, and scores their units.

    Args:
        examiner: Measures accuracies and scores units.
        refitter: Refits what candidates leave, not thoroughly: that is twice the work, and makes no
            choice better.
        steering: What steers: `"as_is"` or `"cross_fit"`.
        engine: What computes LRP, if anything does.
    """

    examiner: Examiner
    refitter: Refitter
    steering: str
    engine: str | None


@dataclass(frozen=True)
class SearchResult:
    """Which units go, and how that was found out.

    Args:
        state: Where the loop ended.
        steering: What steered: `"as_is"` or `"cross_fit"`.
        engine: What computed LRP, if anything did.
        judged: The weights with which what is left was judged last, where a floor hangs on them.
    """

    state: RunState
    steering: str
    engine: str | None
    judged: Refitted | None


def prepare(
    model: keras.Model,
    reference: Any,
    options: PruneOptions,
    *,
    validation: Any,
    class_names: Iterable[str] | None,
) -> Prepared:
    """Reads and checks everything that a run needs; arguments and errors are those of `prune`."""
    refits = refits_each_step(options.criterion.chosen, options.recovery)
    pace = None if options.schedule is None else make_pace(options.schedule, trials=True)
    subject = read_subject(
        model, reference, options.limits, options.execution, class_names=class_names
    )
    held_out = None if validation is None else subject.samples(validation, "validation data")
    shares = subject.shares()
    goal = options.target.goal(subject.structure, subject.limits, shares)
    if pace is None:
        end = max(FINAL_SPARSITY, goal.rate)
        schedule = default_schedule(refits=refits, final_sparsity=end)
        pace = make_pace(schedule, trials=True)
    progress = PruningProgress(
        lambda step: goal.progress(step.rate, step.left),
        class_names=subject.class_names,
        enabled=options.execution.shows_progress,
    )
    return Prepared(options, subject, held_out, pace, shares, goal, progress)


@only_new_garbage()
def search(run: Prepared) -> SearchResult:
    """Finds the units that go, going on from the checkpoint if there is one.

    Raises:
        CheckpointError: Before any work, if the folder or what is in it does not fit the run.
    """
    subject, selection = run.subject, run.pace.selection
    with _held_checkpoint(run) as checkpoint:
        subject.check_accuracy(run.held_out)
        with examined(run, refits=run.refits) as found, run.progress.stage("pruning"):
            accuracy, floor = _measured(run, found.steering), run.options.target.min_accuracy
            run.progress.name_mean(accuracy.short)
            kind = what_is_judged(refits=run.refits, refit_head=run.options.recovery.refits_head)
            trials = Trials(found.examiner, floor, judged=kind)
            state = PruningLoop(
                prunable=subject.structure,
                examiner=found.examiner,
                pace=run.pace,
                counts=subject.counts,
                goal=run.goal,
                limits=subject.limits,
                trials=trials if selection.trials else None,
                min_accuracy=floor,
                accuracy=accuracy.full,
                checkpoint=checkpoint,
                on_step=run.progress.show,
            ).run()
            hangs = run.refits and floor is not None
            judged = found.refitter.refitted(state.removed) if hangs else None
    return SearchResult(state, found.steering, found.engine, judged)


@contextmanager
def examined(run: Prepared, *, refits: bool) -> Iterator[Examined]:
    """What judges the candidates of a run; inside, it holds what it was compiled to.

    Args:
        run: The run.
        refits: Whether the layers of each candidate are refitted.
    """
    subject, options, selection = run.subject, run.options, run.pace.selection
    problem = subject.problem(options.execution.seed)
    refits_head = options.recovery.refits_head
    steering = chosen_steering(
        selection.steering,
        problem,
        lambda: subject.unpruned_probabilities(subject.reference),
        refit_head=refits_head,
    )
    refitter = Refitter(problem, options.recovery, subject.keras_module, thorough=False)
    scored = with_weights_apart(problem) if refits else problem
    scorer = scorer_of(options.criterion.chosen, scored)
    with closing(scorer):
        examiner = make_examiner(
            scored,
            scorer,
            steering,
            refit_head=refits_head,
            trials=selection.trials,
            refitted=RefittedMask(refitter, scored, scorer) if refits else None,
        )
        yield Examined(examiner, refitter, steering, scorer.engine_name)


def report(run: Prepared, found: SearchResult) -> PruningResult:
    """Refits what is left, rebuilds and measures it, and makes the result."""
    subject, recovery, progress = run.subject, run.options.recovery, run.progress
    state, structure = found.state, run.subject.structure
    with progress.stage("refitting", shown=recovery.chosen is not None):
        frozen = _measured(run, found.steering).of_model and not run.refits
        last = state.standing.harmonic_mean if frozen else None
        left = Remainder(subject, state.removed, masked=last)
        floor = run.options.target.min_accuracy
        problem = subject.problem(run.options.execution.seed)
        recovered = left.recovered(
            Refitter(problem, recovery, subject.keras_module),
            otherwise=found.judged,
            floor=floor,
            on_part=progress.advance,
        )

    def reports(samples: ReferenceSet) -> dict[str, dict[str, Any]]:
        before = subject.unpruned_probabilities(samples)
        after = left.probabilities(recovered.graph, samples)
        return {
            when: classification_report(samples.y, probabilities).as_dict()
            for when, probabilities in (("before", before), ("after", after))
        }

    with progress.stage("measuring"):
        on_reference = reports(subject.reference)
        progress.advance(0.5)
        on_held_out = None if run.held_out is None else reports(run.held_out)
        progress.advance(1.0)
    return PruningResult(
        model=left.model(recovered.graph),
        kept=structure.kept_filters(state.removed),
        history=tuple(map(StepRecord.of, state.history)),
        cost_before=subject.cost(np.zeros_like(state.removed)),
        cost_after=subject.cost(state.removed),
        reference=on_reference,
        validation=on_held_out,
        settings=_settings(run, found, recovered),
        stopped=state.stopped,
        rate=structure.rate(state.removed),
        protected=structure.protected,
        barriers=structure.barriers,
        uncounted=subject.cost.uncounted,
        class_names=subject.class_names,
    )


def _settings(run: Prepared, found: SearchResult, recovered: Recovered) -> dict[str, Any]:
    """The settings of the result: what was asked for, and what was chosen."""
    chosen: dict[str, Any] = {
        "steering": found.steering,
        "engine": found.engine,
        "trials": run.pace.selection.trials,
        "asked_recovery": run.options.recovery.asked,
        "recovery": recovered.recovery,
        "refit_refused": recovered.refused,
        "refits_each_step": run.refits,
        "not_recovered": dict(recovered.skipped),
    }
    if (budget := run.options.target.budget) is not None:
        removed = found.state.removed
        chosen["remaining"] = {name: run.shares(name, removed) for name in budget}
    return {**run.identity, **chosen}


def _measured(run: Prepared, steering: str) -> Measured:
    """What is measured for the accuracies of the steps."""
    in_the_end = run.options.recovery.chosen is not None and not run.refits
    return measured(steering, refits=in_the_end)


@contextmanager
def _held_checkpoint(run: Prepared) -> Iterator[Checkpoint | None]:
    """The checkpoint of a run, in a folder that is locked for it; `None` without a folder.

    Raises:
        CheckpointError: Before any work, if it does not fit the run.
    """
    folder, subject = run.options.checkpoint_dir, run.subject
    if folder is None:
        yield None
        return
    with claimed(folder, subject.strategy) or nullcontext():
        identity = fingerprint(subject.graph, subject.reference, run.identity)
        checkpoint = Checkpoint(
            folder, identity, subject.structure.n_units, subject.count_names, subject.strategy
        )
        checkpoint.load()
        yield checkpoint
