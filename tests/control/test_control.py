"""What goes next, and how much: schedule, order, proposals, history, checkpoints."""

import json
import resource

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given
from hypothesis import strategies as st
from structures import LIMITS, structure_of
from tiers import examples

import keras_lrp_prune as klp
from keras_lrp_prune.control.checkpoint import Checkpoint, CheckpointError, RunState
from keras_lrp_prune.control.pace import make_pace
from keras_lrp_prune.control.schedules import AccuracyAware, EqualSteps
from keras_lrp_prune.control.tfmot import PruningSchedule
from keras_lrp_prune.evaluation import harmonic_mean_accuracy
from keras_lrp_prune.report.step_record import StepRecord
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.order import HarmonicOrder, UniformOrder, make_order, order_config
from keras_lrp_prune.selection.ranking import propose
from keras_lrp_prune.selection.reach import largest_rate, rate_tolerance

ACCURACIES = st.lists(st.floats(0.06, 0.99), min_size=2, max_size=6).map(np.array)


# The schedule.


def test_is_a_tfmot_schedule():
    assert klp.schedules.AccuracyAware is AccuracyAware
    schedule = AccuracyAware(initial_step=0.1)
    assert isinstance(schedule, PruningSchedule)
    should_prune, sparsity = schedule(0)
    assert should_prune.dtype == tf.bool and sparsity.dtype == tf.float32
    assert bool(should_prune) and float(sparsity) == pytest.approx(0.1)


def test_grows_while_the_classes_hold():
    schedule = AccuracyAware(initial_step=0.1, max_step=0.2, grow=1.5)
    assert schedule.observe([0.9, 0.8])
    assert float(schedule(0)[1]) == pytest.approx(0.1)
    assert schedule.observe([0.9, 0.8])
    assert float(schedule(1)[1]) == pytest.approx(0.1 + 0.15)
    assert schedule.observe([0.9, 0.9])
    assert float(schedule(2)[1]) == pytest.approx(0.25 + 0.2), "no more than max_step"


def test_undoes_and_shrinks_when_a_class_falls():
    schedule = AccuracyAware(initial_step=0.1, min_step=0.04, shrink=0.5, tolerance=0.02)
    schedule.observe([0.9, 0.8])
    assert not schedule.observe([0.99, 0.3])
    assert float(schedule(1)[1]) == pytest.approx(0.05)
    assert not schedule.observe([0.99, 0.3])
    assert float(schedule(2)[1]) == pytest.approx(0.04)
    assert schedule.observe([0.99, 0.3]), "the smallest step always stands"
    assert float(schedule(3)[1]) == pytest.approx(0.08)
    assert schedule.observe([0.99, 0.3]), "later proposals are compared with what stands"


def test_reached_sparsity_counts():
    schedule = AccuracyAware(initial_step=0.1)
    schedule.observe([1.0, 1.0])
    schedule.observe([1.0, 1.0], sparsity=0.07)
    assert float(schedule(1)[1]) == pytest.approx(0.07 + 0.1)


def test_ends_at_the_final_sparsity():
    schedule = AccuracyAware(initial_step=0.1, max_step=0.5, final_sparsity=0.15)
    schedule.observe([1.0, 1.0])
    for step in range(3):
        schedule.observe([1.0, 1.0])
        assert float(schedule(step)[1]) == pytest.approx(0.15)
    assert not bool(schedule(3)[0])


def test_without_a_tolerance_it_is_five_percent():
    for fallen, stands in ((0.96, True), (0.94, False)):
        schedule = AccuracyAware()
        schedule.observe([1.0, 1.0])
        assert schedule.observe([fallen, fallen]) is stands


def test_answers_inside_a_traced_step_without_retracing():
    schedule = AccuracyAware(initial_step=0.1, max_step=0.1)
    traces = []

    @tf.function
    def step(number):
        traces.append(number)
        return schedule(number)

    schedule.observe([0.9, 0.9])
    answers = []
    for number in range(4):
        answers.append(float(step(tf.constant(number))[1]))
        schedule.observe([0.9, 0.9])
    assert answers == pytest.approx([0.1, 0.2, 0.3, 0.4]) and len(traces) == 1


def test_config_round_trip_in_both_forms():
    arguments = {
        **{"initial_step": 0.03, "min_step": 0.01, "max_step": 0.2, "tolerance": 0.1},
        **{"grow": 2.0, "shrink": 0.25, "final_sparsity": 0.7},
    }
    schedule = AccuracyAware(**arguments, order=HarmonicOrder(floor=0.2))
    config = json.loads(json.dumps(schedule.get_config()))
    assert config["class_name"] == "AccuracyAware"
    for form in (config, config["config"]):
        again = AccuracyAware.from_config(form)
        assert again.get_config() == schedule.get_config()
        assert again.order.floor == 0.2
        assert all(getattr(again, key) == value for key, value in arguments.items())
    other = AccuracyAware(order="uniform")
    assert isinstance(AccuracyAware.from_config(other.get_config()).order, UniformOrder)


def test_state_round_trip():
    first, second = AccuracyAware(), AccuracyAware()
    for accuracies in ([0.9, 0.9], [0.9, 0.88], [0.9, 0.1]):
        first.observe(accuracies)
    second.set_state(json.loads(json.dumps(first.get_state())))
    for accuracies in ([0.9, 0.86], [0.9, 0.2], [0.5, 0.8]):
        assert first.observe(accuracies) == second.observe(accuracies)
        assert float(first(0)[1]) == float(second(0)[1])


@pytest.mark.parametrize(
    "bad",
    [
        {"initial_step": 0.0},
        {"min_step": 0.1, "initial_step": 0.05},
        {"max_step": 1.0},
        {"grow": 0.9},
        {"shrink": 1.0},
        {"tolerance": -0.1},
        {"final_sparsity": 1.0},
        {"order": "alphabetic"},
        {"order": {"class_name": "Nobody", "config": {}}},
    ],
    ids=str,
)
def test_bad_arguments(bad):
    with pytest.raises(ValueError):
        AccuracyAware(**bad)


# The order.


@given(ACCURACIES)
def test_harmonic_order_is_the_derivative_of_the_harmonic_mean(accuracies):
    step = 1e-6
    slopes = [
        (
            harmonic_mean_accuracy(accuracies + step * unit)
            - harmonic_mean_accuracy(accuracies - step * unit)
        )
        / (2 * step)
        for unit in np.eye(len(accuracies))
    ]
    weights = HarmonicOrder().class_weights(accuracies)
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(weights / weights.sum(), slopes / np.sum(slopes), rtol=1e-4)


def test_lost_class_does_not_take_all_the_weight():
    weights = HarmonicOrder(floor=0.1).class_weights(np.array([0.0, 0.4]))
    assert weights[0] / weights[1] == pytest.approx(16)
    with pytest.raises(ValueError):
        HarmonicOrder(floor=0)


def test_orders_by_name_config_and_themselves():
    own = HarmonicOrder(0.3)
    assert make_order(own) is own
    assert make_order(order_config(own)).floor == 0.3
    assert (UniformOrder().class_weights(np.array([0.1, 0.9])) == 1).all()
    for wrong in ("nothing", HarmonicOrder, object()):
        with pytest.raises(ValueError, match=r"harmonic, uniform; or .*get_config"):
            make_order(wrong)


def test_who_says_which_filters_go():
    from tensorflow_model_optimization.sparsity.keras import ConstantSparsity

    accuracies = np.array([0.2, 0.8])

    def said(schedule):
        selection = make_pace(schedule, trials=True).selection
        weights = selection.order.class_weights(accuracies)
        return round(weights[0] / weights[1], 6), selection.pool

    assert said(ConstantSparsity(0.5, 0)) == said(AccuracyAware()) == (16, 0.2)
    assert said(AccuracyAware(order="uniform", pool=0.1)) == (1, 0.1)
    assert said(EqualSteps()) == (1, 0)


# Proposals.


SIZES = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 4)), min_size=1, max_size=5)


@st.composite
def problems(draw):
    """A structure, units that are gone as earlier proposals left them, and scores."""
    structure, limits = structure_of(draw(SIZES)), draw(LIMITS)
    # Few different values, so that there are ties.
    values = st.sampled_from([-1.0, 0.0, 0.1, 0.2, 0.3, 0.7, 5.0])
    scores = st.lists(values, min_size=structure.n_units, max_size=structure.n_units).map(np.array)
    removed = np.zeros(structure.n_units, bool)
    if draw(st.booleans()):
        removed = propose(structure, removed, draw(scores), draw(st.floats(0, 1)), limits)
    return structure, removed, draw(scores), draw(st.floats(0, 1)), limits


@examples(150)
@given(problems())
def test_proposals(problem):
    structure, removed, scores, goal, limits = problem
    proposal = propose(structure, removed, scores, goal, limits)
    assert (proposal | removed == proposal).all(), "what is gone stays gone"
    assert proposal is not removed
    for group in structure.groups:
        left, before = (~proposal[group.units]).sum(), (~removed[group.units]).sum()
        assert left >= 1
        if left < before:
            assert left >= limits.kept(group.size) and left % limits.round_to == 0
            gone = group.units[proposal[group.units] & ~removed[group.units]]
            stays = group.units[~proposal[group.units]]
            assert scores[gone].max() <= scores[stays].min()
    tolerance = rate_tolerance(structure, limits)
    rate, most = structure.rate(proposal), largest_rate(structure, limits)
    now = structure.rate(removed)
    assert rate <= most + 1e-12
    assert (rate > now) == (most > now + 1e-12), "at least one goes, if any may"
    if now + tolerance <= goal <= most:
        assert abs(rate - goal) <= tolerance + 1e-9


@given(SIZES, st.floats(0, 1))
def test_nearest_to_the_goal(sizes, goal):
    structure = structure_of(sizes)
    assume(largest_rate(structure, Limits()) > 0)
    filters = structure.unit_sizes
    scores = np.random.default_rng(0).random(structure.n_units) * filters
    nothing = np.zeros(structure.n_units, bool)
    proposal = propose(structure, nothing, scores, goal, Limits())
    # All that may go, from the cheapest per filter on: every group keeps its dearest channel.
    dearest = [group.units[(scores / filters)[group.units].argmax()] for group in structure.groups]
    order = [unit for unit in np.argsort(scores / filters) if unit not in dearest]
    rates = np.cumsum(filters[order]) / filters.sum()
    assert abs(structure.rate(proposal) - goal) == pytest.approx(abs(rates - goal).min())


def test_equal_scores_keep_a_round_width():
    structure = structure_of([(11, 1)])
    nothing, scores = np.zeros(11, bool), np.full(11, 0.1)
    assert np.mean(scores[:3]) > np.mean(scores[:4]), "float rounding, or this proves nothing"
    for goal in (0.1, 0.3, 0.5):
        proposal = propose(structure, nothing, scores, goal, Limits(round_to=4))
        assert (~proposal).sum() in (4, 8)


def test_dearest_of_the_whole_network_go_last():
    structure = structure_of([(4, 1), (2, 3)])
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.45, 9.0])  # 0.15 and 3 per filter in the second group
    nothing = np.zeros(6, bool)
    assert np.flatnonzero(propose(structure, nothing, scores, 0.4, Limits())).tolist() == [0, 4]


def test_share_of_each_group_stays():
    assert [Limits(min_units=0.1).kept(size) for size in (1, 9, 10, 11, 30)] == [1, 1, 1, 2, 3]
    structure = structure_of([(4, 1), (10, 1)])
    nothing, scores = np.zeros(14, bool), np.arange(14.0)
    proposal = propose(structure, nothing, scores, 1.0, Limits(min_units=0.3))
    assert [(~proposal[group.units]).sum() for group in structure.groups] == [2, 3]


# History and checkpoints.


def record(step=0, **changes):
    values = {
        **{"step": step, "rate": 0.25, "harmonic_mean": 0.8, "class_accuracies": (0.9, 0.72)},
        **{"soft_harmonic_mean": 0.7, "soft_class_accuracies": (0.8, 0.6), "filters": 12},
        **{"params": 340, "flops": 5600, "accepted": True, "reason": ""},
    }
    return StepRecord(**{**values, **changes})


def test_record_round_trip():
    one = record(3, accepted=False, reason="falls")
    again = StepRecord.from_dict(json.loads(json.dumps(one.to_dict())))
    assert again == one and isinstance(again.class_accuracies, tuple)
    assert one.worst_class == 1
    assert record(class_accuracies=(0.5, 0.5), soft_class_accuracies=(0.4, 0.5)).worst_class == 0


def state(units=7, stopped=""):
    removed = np.arange(units) % 3 == 0
    return RunState(
        removed,
        ~removed,
        5,
        [record(0).as_step(), record(1).as_step()],
        {"step": 0.05, "accepted": 0.1},
        stopped,
    )


COUNTS = ("filters", "params", "flops")
RUN = {"model": "m", "data": "d", "samples": "s", "settings": {"seed": "0"}}


def test_checkpoint_round_trip(tmp_path):
    checkpoint = Checkpoint(tmp_path / "deep" / "er", RUN, 7, COUNTS)
    assert checkpoint.load() is None
    checkpoint.save(state())
    checkpoint.save(state(stopped="done"))
    loaded = Checkpoint(tmp_path / "deep" / "er", RUN, 7, COUNTS).load()
    assert (loaded.removed == state().removed).all() and loaded.removed.dtype == bool
    assert (loaded.step, loaded.history, loaded.schedule, loaded.stopped) == (
        *(5, [record(0).as_step(), record(1).as_step()], {"step": 0.05, "accepted": 0.1}),
        "done",
    )
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["pruning.npz"]


def test_checkpoint_of_another_run(tmp_path):
    Checkpoint(tmp_path, RUN, 7, COUNTS).save(state())
    for parts, differs in {
        "another model": {"model": "n"},
        "other data": {"data": "e", "samples": "t"},
        r"the same samples in another order: .*even if it has a seed.*": {"data": "e"},
        r"other settings \(seed, rate\)": {"settings": {"seed": "1", "rate": "2"}},
        r"another model and other settings \(seed\)": {"model": "n", "settings": {}},
    }.items():
        with pytest.raises(CheckpointError, match=rf"belongs to a run with {parts}\. Delete it"):
            Checkpoint(tmp_path, {**RUN, **differs}, 7, COUNTS).load()


def test_foreign_files_are_reported(tmp_path):
    checkpoint = Checkpoint(tmp_path, RUN, 7, COUNTS)
    with checkpoint.path.open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(CheckpointError):
        checkpoint.load()
    np.savez(checkpoint.path, x=np.arange(3))
    with pytest.raises(CheckpointError):
        checkpoint.load()
    for described in ("[]", "{}", '{"fingerprint": "run 1"}', "no json"):
        np.savez(checkpoint.path, removed=np.zeros(3, bool), described=np.array(described))
        with pytest.raises(CheckpointError):
            checkpoint.load()
    np.savez(checkpoint.path, described=np.array([{}], object), removed=np.zeros(3, bool))
    with pytest.raises(CheckpointError):
        checkpoint.load()
    checkpoint.path.unlink()
    checkpoint.path.mkdir()
    with pytest.raises(CheckpointError):
        checkpoint.load()


def test_failed_write_leaves_the_checkpoint_before_it(tmp_path):
    checkpoint = Checkpoint(tmp_path, RUN, 7, COUNTS)
    checkpoint.save(state())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError):
            checkpoint.save(state(units=100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["pruning.npz"]
    assert len(checkpoint.load().removed) == 7
