"""Where a run ends: at its goal, or the schedule's; without a round for a few filters."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from pruning_models import digits_model, reference
from structures import structure_of
from tensorflow_model_optimization.sparsity.keras import ConstantSparsity, PolynomialDecay

import keras_lrp_prune as klp
from keras_lrp_prune.control.goals import RateGoal
from keras_lrp_prune.control.loop import PruningLoop
from keras_lrp_prune.control.pace import Pace, make_pace
from keras_lrp_prune.control.schedules import AccuracyAware, EqualSteps
from keras_lrp_prune.criteria.scores import Scores
from keras_lrp_prune.selection.examiner import Evaluation
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.reach import check_rate, comes_nearer, is_nearest, rate_tolerance


@pytest.fixture(scope="module")
def model():
    return digits_model(4, 4)


@dataclass
class Slope:
    """Accuracies that fall with the number of units that are gone, in both classes."""

    units: int

    def evaluate(self, removed):
        left = 1 - 0.5 * removed.sum() / self.units
        return Evaluation(np.full(2, left), np.full(2, left))

    def scores(self, removed):
        return Scores(np.tile(np.arange(1.0, self.units + 1), (2, 1)))


def run(sizes, rate, schedule, *, limits=None, min_accuracy=None, state=None):
    structure = structure_of(sizes)
    loop = PruningLoop(
        prunable=structure,
        examiner=Slope(structure.n_units),
        pace=schedule if isinstance(schedule, Pace) else make_pace(schedule, trials=False),
        counts=lambda removed: {"filters": int(structure.unit_sizes[~removed].sum())},
        goal=RateGoal(structure, limits or Limits(), rate),
        limits=limits or Limits(),
        min_accuracy=min_accuracy,
    )
    return structure, loop.run(state)


def rates(state):
    return [record.rate for record in state.history if record.accepted]


def equal_steps():
    return AccuracyAware().settled(trials=True)


@pytest.mark.parametrize("schedule", [equal_steps, EqualSteps, lambda: AccuracyAware(tolerance=0)])
@pytest.mark.parametrize("filters", [997, 1003, 371, 123])
@pytest.mark.parametrize("target", [0.2, 0.5, 0.701])
def test_no_round_for_a_few_filters(schedule, filters, target):
    structure, state = run([(filters, 1)], target, schedule())
    assert state.stopped == "target rate reached"
    assert abs(rates(state)[-1] - target) <= rate_tolerance(structure, Limits()) + 1e-12
    steps = np.diff(rates(state))
    assert steps[-1] > 0.2 * steps[-2], "the last step is one"
    assert steps.max() <= 1.25 * 0.1 + 1 / filters


def test_the_last_step_of_a_default_run_is_merged():
    # Each step falls short of 5 % by up to half a filter; eleven rounds were spent, not ten.
    _, state = run([(1003, 1)], 0.5, equal_steps())
    assert len(state.history) == 11


@pytest.mark.parametrize("end", [0.2, 0.3])
@pytest.mark.parametrize("filters", [16, 20, 36, 997])
@pytest.mark.parametrize("tolerance", [None, 0.05])
def test_an_adaptive_schedule_ends_where_it_says(filters, end, tolerance):
    schedule = AccuracyAware(final_sparsity=end, tolerance=tolerance).settled(trials=True)
    _, state = run([(filters, 1)], 0.5, schedule)
    assert abs(rates(state)[-1] - end) <= 0.5 / filters + 1e-9
    assert state.stopped.startswith("the schedule ends at rate")
    assert len(state.history) <= 1 + round(end / 0.025)


@pytest.mark.parametrize(
    "schedule",
    [
        ConstantSparsity(0.2, 0, frequency=1),
        PolynomialDecay(0.0, 0.2, 0, 8, frequency=1),
    ],
    ids=["constant", "decay"],
)
def test_a_plain_schedule_ends_where_it_says(schedule):
    _, state = run([(16, 1)], 0.5, schedule)
    assert rates(state)[-1] == 3 / 16, "a fourth filter is further from 0.2"


def test_a_nearer_goal_is_gone_on_from():
    pace = make_pace(equal_steps(), trials=False)
    _, first = run([(997, 1)], 0.26, pace)
    _, second = run([(997, 1)], 0.5, pace, state=first)
    assert second.stopped == "target rate reached" and rates(second)[: len(rates(first))] == rates(
        first
    )
    assert all(a < b for a, b in pairwise(rates(second)))


def test_a_floor_between_the_last_steps_is_kept():
    _, state = run([(100, 1)], 0.5, equal_steps(), min_accuracy=0.76)
    assert state.stopped.startswith("floor") and 0.45 <= rates(state)[-1] <= 0.48
    assert state.history[-1].harmonic_mean < 0.76


def test_widths_that_cannot_be_rounded_are_an_error(model):
    with pytest.raises(ValueError, match=r"target_rate 0.5 .* largest pruning rate is 0.0000, as"):
        klp.prune(model, reference(), 0.5, round_to=64)
    structure = structure_of([(8, 1), (16, 1)])
    assert rate_tolerance(structure, Limits(round_to=32)) == 0
    with pytest.raises(ValueError, match="no group has more than 16 channels"):
        check_rate("The rate", 0.1, structure, Limits(round_to=32))
    # Of the widths 8 and 16 the second alone can become 10.
    assert rate_tolerance(structure, Limits(round_to=10)) == 6 / 24 / 2


def test_a_target_below_half_a_bundle_is_said_so():
    _, state = run([(16, 1)], 0.2, equal_steps(), limits=Limits(round_to=8))
    assert rates(state) == [0.0]
    assert state.stopped.startswith("target rate 0.2 is nearest to none at all: up to 0.5000")


@pytest.mark.filterwarnings("ignore::keras_lrp_prune.AtChanceWarning")
def test_budgets_have_no_last_step_of_a_few_filters():
    model = digits_model(20, 0)
    for share, steps in ((0.75, 3), (0.85, 2)):
        result = klp.prune(
            model,
            reference(2),
            budget={"params": share},
            schedule=EqualSteps(0.05),
            criterion="l1",
            verbose=0,
        )
        params = [record.params for record in result.history]
        assert params[-1] <= share * params[0] and len(params) == 1 + steps
        gone = -np.diff(params)
        assert gone[-2] < gone[-1] <= 1.5 * gone[-2]


# Units of 1, 2 and 6 are gone or not: does that come no further from the rate than it began?
@pytest.mark.parametrize(
    ("removed", "proposal", "rate", "nearer"),
    [
        ((0, 0, 0), (1, 0, 0), 1 / 9, True),
        ((0, 0, 0), (0, 1, 0), 1 / 9, True),  # as far as before, on the other side
        ((0, 0, 0), (0, 0, 1), 2 / 9, False),
        ((1, 0, 0), (1, 1, 0), 3 / 9, True),
        ((1, 0, 0), (1, 0, 0), 9 / 9, False),
        ((1, 1, 0), (1, 1, 1), 5 / 9, False),
    ],
)
def test_what_comes_nearer_to_a_rate(removed, proposal, rate, nearer):
    structure = structure_of([(1, 1), (1, 2), (1, 6)])
    removed, proposal = np.array(removed, bool), np.array(proposal, bool)
    assert comes_nearer(structure, removed, proposal, rate) is nearer
    assert not (nearer and is_nearest(structure, removed, rate))
