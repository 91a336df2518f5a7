"""Accuracy at rates: decisions of each method, and curves on held-out digits."""

import inspect
import json
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from pruned import pruned_by
from pruning_models import reference
from tiers import examples

import keras_lrp_prune as klp
from keras_lrp_prune.comparison.decisions import decide
from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.comparison.methods import METHODS, Method
from keras_lrp_prune.control.goals import RateGoal
from keras_lrp_prune.control.loop import PruningLoop
from keras_lrp_prune.control.pace import make_pace
from keras_lrp_prune.criteria.registry import LRP_METHODS
from keras_lrp_prune.criteria.scores import Scores
from keras_lrp_prune.evaluation import class_accuracies
from keras_lrp_prune.examination.channel_limits import ChannelLimits
from keras_lrp_prune.examination.criterion_choice import CriterionChoice
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.runtime import Execution
from keras_lrp_prune.selection.examiner import Evaluation
from keras_lrp_prune.selection.reach import rate_tolerance

EqualSteps = klp.schedules.EqualSteps
RATES = (0.0, 0.2, 0.5)
ONE_SHOT = [name for name, method in METHODS.items() if method.scored_once]
NATIVE = CriterionChoice(engine="native")


@pytest.fixture(scope="module")
def task(model):
    return make_task(model)


def make_task(model, limits=None, strategy=None):
    return read_subject(
        model, reference(), limits or ChannelLimits(), Execution(None, 2**30, strategy)
    )


def curve(model, test, method, rates=RATES, **options):
    return klp.accuracy_curve(model, reference(), test, method, rates, engine="native", **options)


# The schedule of the baselines, and the loop that goes on.


def test_equal_steps():
    schedule = EqualSteps(0.3)
    assert [float(schedule(step)[1]) for step in range(4)] == pytest.approx([0.3, 0.6, 0.9, 1.0])
    for form in (schedule.get_config(), schedule.get_config()["config"]):
        assert EqualSteps.from_config(form).size == 0.3
    for size in (0, -0.1, 1.1):
        with pytest.raises(ValueError, match="size must lie in"):
            EqualSteps(size)


class AllIsWell:
    """An examiner that scores units in their order, and finds every model perfect."""

    def evaluate(self, removed):
        return Evaluation(np.ones(2), np.ones(2))

    def scores(self, removed):
        return Scores(np.arange(len(removed), dtype=float)[None])


def run_through(task, schedule, targets):
    pace, state = make_pace(schedule, trials=False), None
    for target in targets:
        loop = PruningLoop(
            task.structure,
            AllIsWell(),
            pace,
            task.counts,
            goal=RateGoal(*limited(task), target),
            limits=task.limits,
        )
        state = loop.run(state)
    return [record.rate for record in state.history]


@pytest.mark.parametrize("targets", [(0.3,), (0.1, 0.2, 0.3), (0.0, 0.2, 0.2, 0.3)], ids=str)
def test_targets_on_the_way_change_nothing(task, targets):
    rates = run_through(task, EqualSteps(0.1), targets)
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3], atol=rate_tolerance(*limited(task)))


def test_step_that_a_target_cuts_short_is_taken_up_again(task):
    rates = run_through(task, EqualSteps(0.2), (0.3, 0.6))
    np.testing.assert_allclose(rates, [0, 0.2, 0.3, 0.4, 0.6], atol=rate_tolerance(*limited(task)))


def limited(task):
    return task.structure, task.limits


# Decisions.


@pytest.mark.parametrize("name", METHODS)
def test_each_rate_is_met_within_half_a_group(model, test_data, task, name):
    found = curve(model, test_data, name, [0.0, 0.17, 0.4, 0.6])
    assert np.abs(found.reached - found.rates).max() <= rate_tolerance(*limited(task)) + 1e-9
    assert found.class_accuracy.shape == (4, 10)
    assert found.mean()[0] > 0.9 > found.mean()[-1]
    by_relevance = name in (*LRP_METHODS, "lrp.unique", "pxp")
    assert (found.engine == "native") == by_relevance


@examples(5)
@given(
    st.sampled_from(ONE_SHOT),
    st.lists(st.integers(0, 19), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_one_shot_methods_take_prefixes_of_one_order(task, name, twentieths):
    rates = [number / 20 for number in twentieths]
    masks = decide(task, METHODS[name], rates, engine=NATIVE).masks
    assert (masks[1:] >= masks[:-1]).all(), "what is gone stays gone"
    alone = [decide(task, METHODS[name], [rate], engine=NATIVE).masks[0] for rate in rates]
    assert (masks == np.stack(alone)).all(), "no rate depends on those before it"


def test_one_shot_lrp_does_not_score_again(task):
    once = decide(task, METHODS["lrp-one-shot"], [0.3, 0.6], engine=NATIVE)
    again = decide(task, METHODS["lrp-iterative"], [0.3, 0.6], engine=NATIVE)
    assert len(once.scorings) == 1 and once.forward_passes == 3
    # Twelve steps of 5 %, and the unpruned model; its passes give the accuracies too.
    assert len(again.scorings) == 13 and again.forward_passes == 0
    assert (once.masks[1] != again.masks[1]).any()
    assert once.forward_equivalents(1.0) == pytest.approx(3 + min(once.scorings))


def test_pxp_scores_once_or_after_each_step(task):
    once, again = (
        decide(task, METHODS[name], [0.3, 0.6], engine=NATIVE) for name in ("pxp", "pxp-iterative")
    )
    assert (len(once.scorings), len(again.scorings)) == (1, 13)
    assert (once.masks[1] != again.masks[1]).any()


@pytest.mark.parametrize("name", ["lrp-iterative", "taylor", "l1", "accuracy-aware"])
def test_a_point_of_the_curve_is_the_model_that_prune_gives(model, test_data, name):
    found = curve(model, test_data, name, [0.3])
    result = pruned_by(METHODS[name], model, reference(), 0.3, recovery=None)
    x, y = test_data
    assert found.reached[0] == pytest.approx(result.rate)
    np.testing.assert_allclose(found.class_accuracy[0], class_accuracies(y, result.model(x)))


def test_the_default_is_what_prune_does():
    method, defaults = METHODS["accuracy-aware"], inspect.signature(klp.prune).parameters
    assert method.criterion == defaults["criterion"].default
    assert method.schedule is defaults["schedule"].default is None
    curve_defaults = inspect.signature(klp.accuracy_curve).parameters
    assert curve_defaults["method"].default == method.name
    # But for the recovery: what methods choose is compared with all weights frozen.
    assert (defaults["recovery"].default, curve_defaults["recovery"].default) == ("auto", None)


def test_random_draws_hang_on_the_seed(model, test_data):
    first, again, other = (curve(model, test_data, "random", seed=seed) for seed in (3, 3, 4))
    assert first.decisions == again.decisions != other.decisions
    np.testing.assert_array_equal(first.class_accuracy, again.class_accuracy)


@pytest.mark.parametrize("name", ["accuracy-aware", "taylor"])
def test_test_labels_steer_nothing(model, test_data, name):
    x, y = test_data
    found, shifted = (curve(model, (x, labels), name) for labels in (y, (y + 1) % 10))
    assert found.decisions == shifted.decisions
    assert found.mean()[0] > 0.9 and shifted.mean()[0] < 0.1


def test_beyond_the_largest_rate_the_last_point_is_held(model, test_data):
    found = curve(model, test_data, "l1", [0.0, 0.4, 0.6, 0.9], min_channels=0.5)
    assert found.reached.tolist() == pytest.approx([0, 0.4, 0.5, 0.5], abs=0.02)
    np.testing.assert_array_equal(found.class_accuracy[2], found.class_accuracy[3])
    assert found.rates.tolist() == [0.0, 0.4, 0.6, 0.9]


def test_limits_and_protected_layers(model, test_data):
    found = curve(model, test_data, "l1", [0.0, 0.8], protect=["second", "hidden"])
    one = curve(model, test_data, "l1", [0.0, 0.8], round_to=4)
    assert found.reached[1] == pytest.approx(6 / 8) and one.reached[1] % (4 / 36) < 1e-9


def test_method_of_ones_own(model, test_data):
    gentle = Method(
        "gentle",
        "lrp.epsilon",
        partial(klp.schedules.AccuracyAware, order="uniform"),
        analyzer_options={"epsilon": 0.5},
    )
    found = curve(model, test_data, gentle)
    assert found.method == "gentle" and found.reached[-1] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "criterion", [klp.criteria.CRITERIA["l1"], klp.criteria.PXP(engine="native")]
)
def test_objects_stand_beside_methods_whose_lrp_is_native(model, test_data, criterion):
    """Those that compute no LRP, and those that say the same."""
    steps = partial(EqualSteps, 0.1)
    by_name, by_object = (
        curve(model, test_data, Method("own", one, steps)) for one in (criterion.name, criterion)
    )
    assert by_object.decisions == by_name.decisions


def test_runs_share_no_schedule(model, test_data):
    """A schedule that a run has used would hold what that run has seen."""
    shared = klp.schedules.AccuracyAware()
    method = Method("shared", "l1", lambda: shared)
    found = klp.compare((model, reference(), test_data), method, (0, 1), RATES, verbose=0)
    first, second = found.runs["shared"]
    assert first.decisions == second.decisions and first.reached[-1] > 0.4


def test_under_a_strategy(model, test_data):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    found, plain = (curve(model, test_data, "taylor", strategy=s) for s in (strategy, None))
    assert found.decisions == plain.decisions
    np.testing.assert_allclose(found.class_accuracy, plain.class_accuracy)


def test_model_is_not_changed(model, test_data):
    before = [array.tobytes() for array in model.get_weights()]
    curve(model, test_data, "taylor")
    assert [array.tobytes() for array in model.get_weights()] == before


def test_curve_as_data(model, test_data):
    found = curve(model, test_data, "l2")
    again = MethodCurve.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()
    assert again.auc() == found.auc() and isinstance(again, klp.AccuracyCurve)
    with pytest.raises(ValueError, match="it lacks 'decisions'"):
        MethodCurve.from_dict({"rates": [0.0], "class_accuracy": [[1.0]]})
    with pytest.raises(ValueError, match="reached must have the shape"):
        MethodCurve.from_dict({**found.to_dict(), "reached": [0.0]})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "magic"}, "Unknown method 'magic'. There are: accuracy-aware, lrp-iterative"),
        ({"method": Method("own", "magic")}, "Unknown criterion 'magic'"),
        ({"recovery": "tail"}, "Unknown recovery 'tail'. There are: 'auto', None, 'head'"),
        ({"engine": "magic"}, "Unknown engine"),
        ({"rates": [0.5, 0.2]}, "strictly increasing"),
        ({"rates": [0.5, 1.0]}, r"lie in \[0, 1\)"),
        ({"rates": []}, "at least 1"),
        ({"min_channels": 0}, "min_channels"),
        ({"round_to": 0}, "round_to must be at least 1"),
        ({"method": Method("own", None, partial(EqualSteps, 0.0))}, "size"),
        ({"test": (np.zeros((3, 8, 8, 1)), [0, 1, 2])}, "The test data: .*classes have no sample"),
        ({"test": (np.zeros((10, 9, 8, 1)), range(10))}, "The test data: Each sample"),
    ],
    ids=str,
)
def test_bad_input(model, test_data, options, words):
    arguments = {"reference": reference(), "test": test_data, "method": "l1", **options}
    with pytest.raises(ValueError, match=words):
        klp.accuracy_curve(model, **arguments)


def test_bad_types(model, test_data):
    with pytest.raises(TypeError, match="by its name"):
        curve(model, test_data, 7)
    with pytest.raises(TypeError, match="list of layer names"):
        curve(model, test_data, "l1", protect="second")
    with pytest.raises(ValueError, match="a string without '/'"):
        Method("../l1", "l1")


def test_model_without_filters_to_prune(test_data):
    flat = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    with pytest.raises(klp.UnsupportedModelError, match="no filters that can be pruned"):
        curve(flat, test_data, "l1")
