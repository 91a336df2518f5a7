"""Trials: several ways to choose what goes next, judged by the accuracy that they leave."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interrupted import whole_and_in_parts
from pruning_models import reference as few
from trained import trained

import keras_lrp_prune as klp
from keras_lrp_prune.control.pace import make_pace
from keras_lrp_prune.criteria.scores import Contributions, Scores
from keras_lrp_prune.demo import digits, train_classifier
from keras_lrp_prune.evaluation import harmonic_mean_accuracy
from keras_lrp_prune.examination.examiners import TwoPasses
from keras_lrp_prune.selection.examiner import Evaluation
from keras_lrp_prune.selection.trials import Trials, what_is_judged

AccuracyAware = klp.schedules.AccuracyAware


def scores(*values):
    """Of one class, with contributions of two samples."""
    by_class = np.array([values], float)
    return Scores(by_class, Contributions(np.tile(by_class, (2, 1)), np.zeros(2, int)))


class Table:
    """An examiner that knows the soft accuracies of some proposals by heart."""

    def __init__(self, accuracies=()):
        self.accuracies = {bytes(key): values for key, values in accuracies}
        self.evaluated, self.unpruned_calls = [], 0
        self.hard = {}

    def evaluate(self, removed):
        self.evaluated.append(removed)
        found = np.array(self.accuracies[removed.tobytes()])
        return Evaluation(np.full_like(found, self.hard.get(removed.tobytes(), 1.0)), found)

    def scores(self, removed):
        assert not removed.any()
        self.unpruned_calls += 1
        return scores(9, 8, 7)


# Ways to choose.


def test_ways_are_scores_now_before_their_mean_and_squares():
    examiner = Table()
    trials, now = Trials(examiner), scores(3, 2, 1)
    ways = trials.ways(now, np.array([True, False, False]), 0.2)
    assert [(each.by_class[0, 0], pool) for each, pool in ways] == [
        *((3, 0.2), (3, 0)),
        *((6, 0.2), (9, 0.2)),
        *((9, 0.2), (9, 0)),
    ]
    assert ways[-1][0].by_class.tolist() == [[9, 4, 1]], "squares of contributions of now"
    assert all(each.contributions is now.contributions for each, _ in ways), "those of now"
    assert [pool for _, pool in trials.ways(now, np.array([True, True, False]), 0.0)] == [0] * 4
    assert examiner.unpruned_calls == 1, "they never change"


def test_where_a_head_is_fitted_anew_ways_are_scores_now_before_and_their_mean():
    kind = what_is_judged(refits=False, refit_head=True)
    ways = Trials(Table(), judged=kind).ways(scores(3, 2, 1), np.array([True, False, False]), 0.2)
    assert [(each.by_class[0, 0], pool) for each, pool in ways] == [
        *((3, 0.2), (3, 0)),
        *((6, 0.2), (6, 0)),
        *((9, 0.2), (9, 0)),
    ]


@given(st.integers(1, 4), st.integers(0, 2**16))
def test_mean_squares_are_those_of_each_class(n_classes, seed):
    rng = np.random.default_rng(seed)
    y, values = rng.integers(0, 4, 9) % max(n_classes, 2), rng.normal(size=(9, 5))
    found = Contributions(values, y).mean_squares(n_classes)
    assert found.shape == (n_classes, 5)
    for number in range(n_classes):
        mine = values[y == number] if n_classes > 1 else values
        expected = (mine**2).mean(0) if len(mine) else np.zeros(5)
        np.testing.assert_allclose(found[number], expected)


def test_without_contributions_there_is_no_election():
    now = Scores(np.array([[1.0, 2, 3]]))
    ways = Trials(Table()).ways(now, np.array([True, False, False]), 0.2)
    assert {each.by_class[0, 0] for each, _ in ways} == {1, 5, 9}


def test_scores_of_the_unpruned_model_are_the_first_ones():
    examiner = Table()
    trials = Trials(examiner)
    first = trials.ways(scores(4, 5, 6), np.zeros(3, bool), 0.2)
    assert [pool for _, pool in first] == [0.2, 0] * 2, "scores are those of now yet"
    ways = trials.ways(scores(1, 2, 3), np.array([True, False, False]), 0.0)
    assert [each.by_class[0, 0] for each, _ in ways] == [1, 2.5, 4, 1]
    assert examiner.unpruned_calls == 0, "no pass is made twice"


# The best one.


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.lists(st.floats(0.01, 1), min_size=3, max_size=3)),
        min_size=1,
        max_size=8,
    )
)
def test_the_best_has_the_highest_harmonic_mean_and_is_evaluated_once(table):
    proposals = [np.array([number & 1, number & 2, number & 4], bool) for number, _ in table]
    known = {proposal.tobytes(): soft for proposal, (_, soft) in zip(proposals, table, strict=True)}
    examiner = Table(known.items())
    best, evaluation = Trials(examiner).best(proposals)
    if len(known) == 1:
        assert evaluation is None and not examiner.evaluated, "nothing to choose from"
        assert best == 0
        return
    assert len(examiner.evaluated) == len(known)
    highest = max(map(harmonic_mean_accuracy, known.values()))
    assert harmonic_mean_accuracy(evaluation.soft) == pytest.approx(highest, abs=1e-6)
    assert known[proposals[best].tobytes()] == evaluation.soft.tolist()


def test_of_equal_proposals_the_first_goes():
    first, second = np.array([True, False]), np.array([False, True])
    close = Table([(first.tobytes(), [0.5, 0.5]), (second.tobytes(), [0.5, 0.5 + 1e-9])])
    best, _ = Trials(close).best([first, second])
    assert best == 0, "float rounding decides nothing"


def test_what_stays_above_the_floor_goes_first():
    proposals = [np.array([True, False]), np.array([False, True])]
    known = zip(proposals, ([0.6, 0.6], [0.7, 0.7]), strict=True)
    examiner = Table((proposal.tobytes(), soft) for proposal, soft in known)
    examiner.hard = {proposals[0].tobytes(): 0.9, proposals[1].tobytes(): 0.8}
    for floor, best in ((None, 1), (0.75, 1), (0.85, 0), (0.95, 1)):
        assert Trials(examiner, floor).best(proposals)[0] == best, floor


# In prune().


@pytest.fixture(scope="module")
def task():
    train, reference, held_out = digits(seed=0)
    return trained(train_classifier, train, seed=0), reference, held_out


def pruned(task, rate=0.5, **options):
    model, reference, _ = task
    options = {"engine": "native", "recovery": None, "verbose": 0, **options}
    return klp.prune(model, reference, rate, **options)


def test_a_run_decides_what_the_schedule_leaves_open():
    for wanted, trials in ((None, True), (None, False), (True, False), (False, True)):
        settled = AccuracyAware(trials=wanted).settled(trials=trials)
        tried = trials if wanted is None else bool(wanted)
        assert settled.trials is tried
        assert settled.rate == ("equal" if tried else "adaptive") and settled.tolerance == 0.05
        careful = AccuracyAware(trials=wanted, tolerance=0.01).settled(trials=trials)
        assert careful.rate == "adaptive", "who gives a tolerance wants steps undone"
        for rate in ("equal", "adaptive"):
            given_rate = AccuracyAware(trials=wanted, rate=rate).settled(trials=trials).rate
            assert given_rate == rate
    assert not make_pace(klp.schedules.EqualSteps(), trials=True).selection.trials


def test_schedules_of_the_toolkit_have_trials_too(task):
    tfmot = pytest.importorskip("tensorflow_model_optimization").sparsity.keras
    theirs = tfmot.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=5, frequency=1)
    assert pruned(task, schedule=theirs).settings["trials"] is True


def noted(monkeypatch, kind):
    """For each state that was scored, the harmonic means of what was evaluated from there.

    Args:
        monkeypatch: The fixture.
        kind: Which accuracies: `"hard"` or `"soft"`.
    """
    log, evaluate, score = [], TwoPasses.evaluate, TwoPasses.scores

    def noted_evaluate(self, removed):
        found = evaluate(self, removed)
        log[-1].append(harmonic_mean_accuracy(getattr(found, kind))) if log else None
        return found

    def noted_scores(self, removed):
        log.append([])
        return score(self, removed)

    monkeypatch.setattr(TwoPasses, "evaluate", noted_evaluate)
    monkeypatch.setattr(TwoPasses, "scores", noted_scores)
    return log


@pytest.mark.parametrize("recovery", [None, "head"])
def test_each_step_is_as_good_as_any_way_alone(task, recovery, monkeypatch):
    """From each state that stood, what went is the best of what was evaluated."""
    log = noted(monkeypatch, "soft")
    schedule = AccuracyAware(initial_step=0.1)
    result = pruned(task, rate=0.3, schedule=schedule, recovery=recovery)
    assert result.settings["trials"] is True
    assert len(log) == len(result.history) - 1
    assert max(map(len, log)) > 2 and max(map(len, log[1:])) <= 6
    for tried, record in zip(log, result.history[1:], strict=True):
        assert record.soft_harmonic_mean == pytest.approx(max(tried), abs=1e-5)


def test_without_trials_one_way_alone_decides(task):
    results = [
        pruned(task, rate=0.4, schedule=AccuracyAware(trials=trials), recovery="head")
        for trials in (None, True, False)
    ]
    assert [result.settings["trials"] for result in results] == [True, True, False]
    assert results[0].history == results[1].history != results[2].history


@pytest.mark.parametrize("criterion", ["taylor", "l1"])
def test_criteria_without_contributions_have_trials_too(task, criterion):
    result = pruned(task, rate=0.2, criterion=criterion, recovery="head")
    assert result.settings["trials"] and result.rate == pytest.approx(0.2, abs=0.02)


def test_a_run_with_trials_resumes_to_the_same_result(task, tmp_path):
    prune = partial(pruned, task, rate=0.4, recovery="head")
    expected, resumed = whole_and_in_parts(prune, tmp_path)
    assert any(not record.accepted for record in expected.history), "undone steps resume too"
    head = expected.model.layers[-1].get_weights()
    for one, other in zip(resumed.model.layers[-1].get_weights(), head, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("recovery", "rates"), [(None, (0.5, 0.6, 0.7, 0.8)), ("head", (0.6, 0.7, 0.8))]
)
def test_trials_keep_more_of_the_accuracy(task, recovery, rates):
    """On held-out digits, the mean accuracy over high rates: what trials add."""
    model, reference, held_out = task
    steps = partial(AccuracyAware, initial_step=0.1, rate="equal")
    areas = {}
    for trials in (True, False):
        method = klp.Method("aware", None, lambda tried=trials: steps(trials=tried))
        curve = klp.accuracy_curve(
            model, reference, held_out, method, rates, recovery=recovery, engine="native"
        )
        areas[trials] = curve.class_accuracy.mean()
    assert areas[True] > areas[False]


def test_a_floor_stops_where_no_way_stays_above_it(task, monkeypatch):
    """Of all that was evaluated after the last step that stood, nothing is above the floor."""
    log = noted(monkeypatch, "hard")
    floors, best = set(), Trials.best
    monkeypatch.setattr(
        Trials, "best", lambda self, tried: floors.add(self._floor) or best(self, tried)
    )
    result = pruned(task, rate=0.9, min_accuracy=0.9)
    assert floors == {0.9}, "trials know the floor of the run"
    assert result.stopped.startswith("floor") and result.rate > 0.2
    assert len(log[-1]) > 1 and max(log[-1]) < 0.9


def test_training_has_no_trials():
    with pytest.raises(ValueError, match=r"trials=True is for klp\.prune"):
        klp.callbacks.FilterPruning(few(), AccuracyAware(trials=True))
