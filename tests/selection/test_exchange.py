"""What went comes back where it would be missed more than what stayed."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structures import LIMITS, structure_of
from tiers import examples

from keras_lrp_prune.control.goals import RateGoal
from keras_lrp_prune.control.loop import PruningLoop
from keras_lrp_prune.control.pace import make_pace
from keras_lrp_prune.control.schedules import AccuracyAware
from keras_lrp_prune.criteria.scores import RevisableScores
from keras_lrp_prune.selection.examiner import Evaluation
from keras_lrp_prune.selection.exchange import with_some_back
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.ranking import propose
from keras_lrp_prune.selection.trials import Trials


@examples(100)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 3)), min_size=1, max_size=5),
    limits=LIMITS,
    rate=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_the_worthiest_come_back_and_the_limits_hold(sizes, limits, rate, seed):
    structure = structure_of(sizes)
    rng = np.random.default_rng(seed)
    worth, each = rng.random(structure.n_units), structure.unit_sizes
    nothing = np.zeros(structure.n_units, bool)
    removed = propose(structure, nothing, rng.random(structure.n_units), rate, limits)
    still = with_some_back(structure, removed, worth, limits)
    back = removed & ~still
    assert not (still & ~removed).any(), "nothing more goes"
    assert each[back].sum() <= min(0.1 * each[~removed].sum(), 0.5 * each[removed].sum())
    for group in structure.groups:
        its, left = back[group.units], int((~still[group.units]).sum())
        assert left % limits.round_to == 0 or left == group.size or not removed[group.units].any()
        worths = (worth / each)[group.units]
        gone = worths[still[group.units]]
        assert not its.any() or not gone.size or worths[its].min() >= gone.max()


def test_of_all_groups_the_worthiest_come_first():
    structure = structure_of([(20, 1), (20, 2)])
    removed = np.tile(np.arange(20) < 10, 2)
    worth = np.zeros(40)
    worth[[3, 24]] = 1.0, 1.9  # the second in two filters
    still = with_some_back(structure, removed, worth, Limits())
    assert np.flatnonzero(removed & ~still)[0] == 3
    worth[24] = 2.1
    still = with_some_back(structure, removed, worth, Limits())
    assert 24 in np.flatnonzero(removed & ~still)


# In the loop.


@dataclass(frozen=True)
class Told(RevisableScores):
    """Scores that do not follow; what is gone has a worth that was given."""

    worth: np.ndarray | None = None

    def revised(self, gone):
        return self

    def restored(self, removed):
        return self.worth


@dataclass
class Missed:
    """Accuracies that fall with every unit that goes, and with one of them by more or less."""

    scores_of_all: np.ndarray
    one: int
    missed: float
    worth: np.ndarray | None

    def evaluate(self, removed):
        left = 0.7 - 0.3 * removed.mean() - self.missed * bool(removed[self.one])
        return Evaluation(np.full(2, left), np.full(2, left))

    def scores(self, removed):
        found = self.scores_of_all.copy()
        if removed.any() and not removed[self.one]:
            found[self.one] = 99.0  # once it is back among fewer, it is seen to matter
        return Told(np.tile(found, (2, 1)), worth=self.worth)


def pruned(missed, worth, rate):
    structure = structure_of([(40, 1)])
    examiner = Missed(np.arange(1.0, 41), one=2, missed=missed, worth=worth)
    state = PruningLoop(
        prunable=structure,
        examiner=examiner,
        pace=make_pace(AccuracyAware(initial_step=0.1), trials=True),
        counts=lambda removed: {"filters": int((~removed).sum())},
        goal=RateGoal(structure, Limits(), rate),
        limits=Limits(),
        trials=Trials(examiner, judged="refitted"),
    ).run()
    return state


def worth_of(one):
    found = np.full((2, 40), 0.1)
    found[:, one] = 5.0
    return found


@pytest.mark.parametrize("rate", [0.6, 0.8])
def test_what_is_missed_comes_back_and_as_much_is_gone(rate):
    state = pruned(0.2, worth_of(2), rate)
    assert not state.removed[2] and state.removed.sum() == 40 * rate
    rates = [record.rate for record in state.history if record.accepted]
    assert rates == pytest.approx(np.arange(0, rate + 0.01, 0.1)), "steps are as they were"


@pytest.mark.parametrize(
    ("missed", "worth", "rate"),
    [
        (-0.2, worth_of(2), 0.7),  # worse with it than without
        (0.2, None, 0.7),  # scores that do not tell
        (0.2, worth_of(2), 0.5),  # too little is gone
    ],
)
def test_else_what_is_gone_stays_gone(missed, worth, rate):
    state = pruned(missed, worth, rate)
    assert state.removed[2] and state.removed.sum() == 40 * rate
