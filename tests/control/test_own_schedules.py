"""Schedules that users write: what they get wrong is told, and nothing leaks from run to run."""

import threading
from dataclasses import dataclass
from inspect import getmembers

import numpy as np
import pytest
from structures import structure_of

from keras_lrp_prune.control import adaptive_schedule
from keras_lrp_prune.control.adaptive_schedule import is_adaptive
from keras_lrp_prune.control.checkpoint import Checkpoint
from keras_lrp_prune.control.goals import RateGoal
from keras_lrp_prune.control.loop import PruningLoop
from keras_lrp_prune.control.pace import make_pace
from keras_lrp_prune.control.schedules import AccuracyAware, AdaptiveSchedule, PruningSchedule
from keras_lrp_prune.criteria.scores import Scores
from keras_lrp_prune.selection.examiner import Evaluation
from keras_lrp_prune.selection.limits import Limits

UNITS = structure_of([(40, 1)])


@dataclass
class Slope:
    """An examiner of two classes whose accuracies fall with the number of units that are gone."""

    passes: int = 0

    def evaluate(self, removed):
        self.passes += 1
        left = np.full(2, 1 - 0.5 * removed.mean())
        return Evaluation(left, left)

    def scores(self, removed):
        return Scores(np.arange(1.0, len(removed) + 1)[None])


def run(schedule, rate=0.5, **options):
    return PruningLoop(
        prunable=UNITS,
        examiner=Slope(),
        pace=make_pace(schedule, trials=False),
        counts=lambda removed: {"filters": int((~removed).sum())},
        goal=RateGoal(UNITS, Limits(), rate),
        limits=Limits(),
        **options,
    ).run()


class Plain(PruningSchedule):
    """A tenth more at each step, counted by itself."""

    calls = 0

    def __call__(self, step):
        self.calls += 1
        return True, min(0.1 * self.calls, 1.0)

    def get_config(self):
        return {"class_name": type(self).__name__, "config": {}}


class Halving(PruningSchedule):
    """Steps of a fifth, that are halved if the mean accuracy falls below a floor."""

    final_sparsity = 0.9

    def __init__(self, floor=0.8):
        self.floor, self.at, self.step = floor, 0.0, 0.2

    def settled(self, *, trials):
        return type(self)(self.floor)

    def __call__(self, step):
        return True, min(self.at + self.step, self.final_sparsity)

    def observe(self, class_accuracies, sparsity=None):
        if np.mean(class_accuracies) < self.floor and self.smaller_step():
            return False
        self.at = sparsity or 0.0
        return True

    def rebase(self, class_accuracies):
        pass

    def smaller_step(self, tried=None):
        self.step /= 2
        return self.step > 0.01

    def go_on_at(self, sparsity):
        self.at = sparsity

    def get_state(self):
        return {"at": self.at, "step": self.step}

    def set_state(self, state):
        self.at, self.step = state["at"], state["step"]

    def get_config(self):
        return {"class_name": type(self).__name__, "config": {"floor": self.floor}}


def like(kind, **members):
    return type("Mine", (kind,), members)()


def test_the_members_are_those_of_the_protocol():
    named = {name for name, _ in getmembers(AdaptiveSchedule) if not name.startswith("_")}
    assert named | set(AdaptiveSchedule.__annotations__) == adaptive_schedule._MEMBERS
    assert is_adaptive(Halving()) and is_adaptive(AccuracyAware()) and not is_adaptive(Plain())


REFUSES = {
    "every step": {"observe": lambda self, found, sparsity=None: sparsity is None},
    "every step, and says that there is a smaller one": {
        "observe": lambda self, found, sparsity=None: sparsity is None,
        "smaller_step": lambda self, tried=None: True,
    },
    "any fall": {"observe": lambda self, found, sparsity=None: np.mean(found) == 1},
    "all, of one size after the other": {
        "__call__": lambda self, step: (True, 0.2 + 0.1 * (step % 2)),
        "observe": lambda self, found, sparsity=None: sparsity is None,
    },
}


@pytest.mark.parametrize("which", REFUSES)
def test_a_run_ends_where_a_schedule_refuses_all(which):
    members = {
        "__call__": lambda self, step: (True, 0.2),
        "smaller_step": lambda self, tried=None: 0 == 1,
    }
    state = run(like(Halving, **{**members, **REFUSES[which]}))
    assert state.stopped == "the schedule refuses its smallest step"
    assert not state.removed.any() and 3 <= len(state.history) <= 102
    assert {step.reason for step in state.history[1:]} == {"the schedule refuses it"}


def test_a_schedule_from_scratch_steers():
    state = run(Halving())
    assert state.stopped == "target rate reached"
    stands = [step.rate for step in state.history if step.accepted]
    undone = [step.rate for step in state.history if not step.accepted]
    assert stands[:3] == [0, 0.2, 0.4] and undone[0] == 0.5, "the accuracy falls below 0.8 there"
    assert undone == sorted(undone, reverse=True) and len(set(undone)) == len(undone) > 1


@pytest.mark.parametrize("method", ["observe", "smaller_step"])
def test_a_forgotten_return_is_told(method):
    members = {"observe": lambda self, found, sparsity=None: sparsity is None}
    schedule = like(Halving, **{**members, method: lambda self, *told: None})
    with pytest.raises(TypeError, match=rf"Mine\.{method}\(\) returns True or False, not None"):
        run(schedule)


@pytest.mark.parametrize("answer", [np.True_, np.array(True)])
def test_bools_of_numpy_are_bools(answer):
    assert run(like(Halving, observe=lambda self, *told: answer)).removed.any()


@pytest.mark.parametrize("missing", sorted(adaptive_schedule._MEMBERS))
def test_what_an_adaptive_schedule_lacks_is_named(missing):
    members = {name: value for name, value in vars(Halving).items() if name != missing}
    schedule = type("Mine", (PruningSchedule,), members)()
    with pytest.raises(TypeError, match=f"Mine has .*, but lacks {missing}: see klp.schedules"):
        make_pace(schedule, trials=True)


@pytest.mark.parametrize("members", [{"final_sparsity": 0.5}, {"get_state": lambda self: {}}])
def test_what_others_may_have_makes_no_schedule_adaptive(members):
    assert run(like(Plain, **members)).history == run(Plain()).history


@pytest.mark.parametrize("kind", [Plain, Halving])
def test_nothing_leaks_from_run_to_run(kind):
    schedule = kind()
    before = dict(vars(schedule))
    first, again = run(schedule), run(schedule)
    assert first.history == again.history and len(first.history) > 3
    assert vars(schedule) == before


WRONG = {
    "a lock": (Plain, {"lock": None}, r"Mine cannot be copied \(.*lock.*\), but each run works"),
    "itself": (Halving, {"settled": lambda self, *, trials: self}, r"settled\(\) .*, not itself"),
    "nothing": (Halving, {"settled": lambda self, *, trials: None}, "a schedule like it, not None"),
    "no config": (Plain, {"get_config": lambda self: None}, r"get_config\(\) returns a dict"),
    "no plain data": (Plain, {"get_config": lambda self: {"f": run}}, "is no plain data"),
    "no number": (
        Plain,
        {"get_config": lambda self: {"config": {"final_sparsity": "x"}}},
        r"Mine\.final_sparsity takes a number",
    ),
    "no step": (Plain, {"get_config": lambda self: {"end_step": 1.5}}, r"Mine\.end_step takes"),
    "no end": (Halving, {"final_sparsity": None}, r"Mine\.final_sparsity takes a number"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_run_is_told_before(wrong):
    kind, members, words = WRONG[wrong]
    schedule = like(kind, **members)
    if wrong == "a lock":
        schedule.lock = threading.Lock()
    with pytest.raises(TypeError, match=words):
        make_pace(schedule, trials=False)


def test_percent_is_no_share():
    with pytest.raises(ValueError, match=r"Mine\.final_sparsity must lie in \[0, 1\], not 50"):
        make_pace(like(Halving, final_sparsity=50), trials=False)


@pytest.mark.parametrize("state", [None, {"at": np.arange(3)}, {1: 0.5}])
def test_a_state_that_no_checkpoint_can_hold_is_told(state):
    with pytest.raises(TypeError, match=r"Mine\.get_state\(\) returns a dict of numbers"):
        run(like(Halving, get_state=lambda self: state))


def test_numbers_of_numpy_are_saved(tmp_path):
    whose = {"model": "m", "data": "d", "samples": "s", "settings": {}}
    schedule = like(Halving, get_state=lambda self: {"at": np.float32(0.5), "step": np.int64(1)})
    checkpoint = Checkpoint(tmp_path, whose, UNITS.n_units, ["filters"])
    run(schedule, checkpoint=checkpoint)
    assert checkpoint.load().schedule == {"at": 0.5, "step": 1}


REASONS = {
    "the soft harmonic mean accuracy fell too far": {},
    "the schedule refuses it": {
        "observe": lambda self, found, sparsity=None: AccuracyAware.observe(self, found, sparsity)
    },
    "too dear": {
        "observe": lambda self, *told: AccuracyAware.observe(self, *told),
        "objection": "too dear",
    },
}


@pytest.mark.parametrize("reason", REASONS)
def test_the_reason_is_that_of_the_schedule(reason):
    kind = type("Mine", (AccuracyAware,), REASONS[reason])
    schedule = kind(initial_step=0.1, tolerance=0.03)
    assert {step.reason for step in run(schedule).history if not step.accepted} == {reason}


def test_a_reason_that_says_nothing_is_told():
    schedule = like(Halving, objection="", observe=lambda self, found, sparsity=None: False)
    with pytest.raises(TypeError, match=r"Mine\.objection says why"):
        run(schedule)
