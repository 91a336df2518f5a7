"""Units that go one bundle at a time, the scores of the others following."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from structures import LIMITS, structure_of
from tiers import examples

from keras_lrp_prune.criteria.scores import RevisableScores, Scores
from keras_lrp_prune.selection.choice import choose
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.order import HarmonicOrder
from keras_lrp_prune.selection.ranking import also_removed, lowest_one_by_one, lowest_scored
from keras_lrp_prune.selection.trials import Trials


@dataclass(frozen=True)
class Following(RevisableScores):
    """Scores that grow, by neighbour, with each unit that goes."""

    growth: float = 0.0

    def revised(self, gone):
        by_class = self.by_class.copy()
        for unit in gone:
            for neighbour in (unit - 1, unit + 1):
                if 0 <= neighbour < by_class.shape[1]:
                    by_class[:, neighbour] += self.growth
        return replace(self, by_class=by_class)


@st.composite
def steps(draw):
    sizes = draw(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 3)), min_size=1, max_size=5))
    structure, limits = structure_of(sizes), draw(LIMITS)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    by_class = rng.random((2, structure.n_units))
    removed = np.zeros(structure.n_units, bool)
    if draw(st.booleans()):
        bundles = lowest_scored(structure, removed, by_class[0], rng.random(), limits)
        removed = also_removed(removed, bundles)
    return structure, removed, by_class, draw(st.floats(0, 1)), limits


@examples(100)
@given(steps())
def test_scores_that_stay_take_the_same_units(step):
    structure, removed, by_class, rate, limits = step
    weights, sizes = np.array([0.5, 1.5]), structure.unit_sizes
    gains = sizes * (1.0 + np.arange(structure.n_units) % 3)
    found = lowest_one_by_one(structure, removed, Following(by_class), weights, gains, rate, limits)
    worth = sizes / gains
    wanted = lowest_scored(structure, removed, worth * (weights @ by_class), rate, limits)
    assert (also_removed(removed, found) == also_removed(removed, wanted)).all()
    assert [one.group for one in found] == [one.group for one in wanted]


@examples(100)
@given(steps(), st.floats(0, 2))
def test_each_one_is_the_lowest_of_its_time(step, growth):
    structure, removed, by_class, rate, limits = step
    scores, gone = Following(by_class, growth=growth), removed
    sizes = structure.unit_sizes
    found = lowest_one_by_one(structure, removed, scores, np.ones(2), sizes, rate, limits)
    assert bool(found) == bool(lowest_scored(structure, removed, by_class[0], rate, limits))
    for bundle in found:
        combined = scores.combined(np.ones(2))
        first, *_ = lowest_scored(structure, gone, combined, 0.0, limits)
        assert (bundle.units == first.units).all()
        gone = also_removed(gone, [bundle])
        scores = scores.revised(bundle.units)
    before, after = (structure.rate(one) for one in (removed, gone))
    sizes = [bundle.size for bundle in found]
    total = structure.unit_sizes.sum()
    if len(found) > 1:  # without the last, the rate was no nearer
        assert abs(after - rate) < abs(after - sizes[-1] / total - rate) + 1e-12
    assert after > before or not found


def test_what_follows_changes_what_goes():
    structure, nothing = structure_of([(6, 1)]), np.zeros(6, bool)
    by_class = np.array([[1.0, 2, 3, 4, 5, 6]])

    def gone(growth):
        bundles = choose(
            structure,
            nothing,
            Following(by_class, growth=growth),
            0.5,
            gains=structure.unit_sizes,
            limits=Limits(),
            order=HarmonicOrder(),
            pool=0.2,
            class_accuracies=np.ones(2),
        )
        return [int(unit) for bundle in bundles for unit in bundle.units]

    assert gone(0) == [0, 1, 2]
    assert gone(10) == [0, 2, 4]


def test_trials_take_them_one_by_one_or_elect_by_plain_contributions():
    trials, plain = Trials(examiner=None), Scores(np.ones((1, 3)))
    for gone in (np.zeros(3, bool), np.array([True, False, False])):
        alone = Following(np.ones((1, 3)), growth=1)
        assert trials.ways(alone, gone, 0.2) == [(alone, 0.0)]
        both = replace(alone, plain=plain)
        assert trials.ways(both, gone, 0.2) == [(both, 0.0), (plain, 0.2)]


def test_where_each_evaluation_refits_the_unpruned_model_is_not_scored_again():
    trials, scores = Trials(examiner=None, judged="refitted"), Scores(np.ones((1, 3)))
    for gone in (np.zeros(3, bool), np.array([True, False, False])):
        assert trials.ways(scores, gone, 0.2) == [(scores, 0.2), (scores, 0.0)]
        assert trials.ways(scores, gone, 0.0) == [(scores, 0.0)]
