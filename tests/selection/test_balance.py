"""The log odds, what each unit adds to them, and units whose contributions cancel out."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from models import BUILDERS, analysed, difference, images, make_live, masked_copy, random_removal
from pruning_models import digits, digits_model, reference
from structures import LIMITS, structure_of
from tiers import examples

import keras_lrp_prune as klp
from keras_lrp_prune.criteria.scores import Contributions
from keras_lrp_prune.relevance.native.engine import NativeEngine
from keras_lrp_prune.selection.election import balanced
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.ranking import also_removed, propose
from keras_lrp_prune.selection.reach import largest_rate, rate_tolerance


@pytest.fixture(scope="module")
def model():
    return digits_model(epochs=3)


# The contributions.


def chain(n_outputs=3, activation=None):
    """Convolutions and dense layers with biases; every activation is a tensor of the model."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu", bias_initializer="normal", name="a")(inputs)
    x = layers.Conv2D(5, 3, activation="relu", bias_initializer="normal", name="b")(x)
    x = layers.Dense(7, activation="relu", bias_initializer="normal", name="c")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(n_outputs, activation=activation, name="d")(x))


def log_odds(scores, y):
    """Of each sample's class, from logits; one logit is that of class 1."""
    if scores.shape[-1] == 1:
        return scores[:, 0] * tf.cast(2 * y - 1, scores.dtype)
    own = tf.one_hot(y, scores.shape[-1])
    rivals = tf.where(own > 0, -np.inf, scores)
    return tf.reduce_sum(own * scores, -1) - tf.reduce_logsumexp(rivals, -1)


@pytest.mark.parametrize(("outputs", "activation"), [(3, None), (3, "softmax"), (1, "sigmoid")])
def test_contributions_are_activation_times_gradient_of_the_log_odds(outputs, activation):
    model = chain(outputs, activation)
    bare = keras.models.clone_model(model)
    bare.set_weights(model.get_weights())
    bare.layers[-1].activation = keras.activations.linear
    x, y = images(model, 7), np.array([0, 1, 1, 0, 1, 0, 1])
    probe = keras.Model(bare.inputs, [bare.get_layer(name).output for name in "abcd"])
    with tf.GradientTape() as tape:
        tape.watch(source := tf.constant(x))
        *activations, scores = probe(source)
        explained = tf.reduce_sum(log_odds(scores, y))
    gradients = tape.gradient(explained, activations)
    graph, structure = analysed(model)
    with NativeEngine(graph, "lrp.z", two_class=outputs == 1, batch_size=4) as engine:
        found, probabilities = engine.log_odds_relevance(structure, x, y)
    for name, a, g in zip("abc", activations, gradients, strict=True):
        product = np.asarray(a * g)
        expected = product.sum(axis=tuple(range(1, product.ndim - 1)))
        assert difference(found[:, structure.filter_units[name]], expected) <= 1e-4
    answers = np.asarray(model(x))
    answers = answers if activation else np.asarray(keras.ops.softmax(answers))
    assert difference(probabilities[:, -1:], answers[:, -1:]) <= 1e-5


def test_contribution_of_a_last_unit_is_what_the_log_odds_lose_without_it():
    """Of two classes: there the log odds are linear in the last features."""
    model = chain(2)
    x, y = images(model, 5), np.array([0, 1, 1, 0, 1])
    graph, structure = analysed(model)
    with NativeEngine(graph, "lrp.z") as engine:
        found, _ = engine.log_odds_relevance(structure, x, y)
    copy, mask = masked_copy(model)
    before = log_odds(copy.model(x), y)
    lost = []
    for unit in structure.filter_units["c"]:
        removed = np.zeros(structure.n_units, bool)
        removed[unit] = True
        mask.set(removed)
        lost.append(np.asarray(before - log_odds(copy.model(x), y)))
    assert np.abs(lost).max() > 1e-3
    assert difference(found[:, structure.filter_units["c"]].T, np.array(lost)) <= 1e-4


@pytest.mark.parametrize("name", ["resnet_v2", "separable", "mobilenet_v2"])
def test_contributions_follow_a_mask(name):
    """As those of the model in which the units are masked for good; removed ones add nothing."""
    keras.utils.set_random_seed(0)
    model = make_live(BUILDERS[name]())
    graph, structure = analysed(model)
    removed = random_removal(structure, 0.4)
    x, y = images(model, 4), np.array([0, 1, 2, 1])
    copy, mask = masked_copy(model)
    mask.set(removed)
    masked_graph, _ = analysed(copy.model)
    with NativeEngine(graph, "lrp.z") as engine, NativeEngine(masked_graph, "lrp.z") as fresh:
        unmasked, _ = engine.log_odds_relevance(structure, x, y)
        engine.set_mask(structure, removed)
        found, _ = engine.log_odds_relevance(structure, x, y)
        expected, _ = fresh.log_odds_relevance(structure, x, y)
        assert engine.traces == 1
    assert difference(found, expected) <= 1e-4
    assert difference(found, unmasked) > 1e-2
    assert np.abs(found[:, removed]).max() <= 1e-6 * np.abs(found).max()


def test_weighted_contributions_give_every_class_its_weight():
    values = np.array([[1.0, 2.0], [3.0, 0.0], [0.0, 4.0]])
    contributions = Contributions(values, np.array([0, 0, 1]))
    squares = (contributions.weighted(np.array([0.5, 1.5])) ** 2).sum(0)
    by_class = np.array([(values[:2] ** 2).mean(0), values[2] ** 2])
    np.testing.assert_allclose(squares, np.array([0.25, 0.75]) @ by_class)


# The choice.


def gains_of(structure, rng):
    """As a budget has them: the same for all units of a group, nothing for some."""
    gains = np.zeros(structure.n_units)
    for group in structure.groups:
        gains[group.units] = max(rng.normal(), 0)
    return gains


@st.composite
def elections(draw):
    sizes = draw(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 4)), min_size=1, max_size=5))
    structure, limits = structure_of(sizes), draw(LIMITS)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    removed = np.zeros(structure.n_units, bool)
    if draw(st.booleans()):
        removed = propose(structure, removed, rng.random(structure.n_units), rng.random(), limits)
    return (
        *(structure, removed, rng.random(structure.n_units)),
        *(rng.normal(size=(6, structure.n_units)), gains_of(structure, rng)),
        *(draw(st.floats(0, 1)), limits, draw(st.floats(0, 1))),
    )


@examples(150)
@given(elections())
def test_elections_keep_the_limits(election):
    structure, removed, *_, goal, limits, _ = election
    proposal = also_removed(election[1], balanced(*election))
    assert (proposal | removed == proposal).all(), "what is gone stays gone"
    for group in structure.groups:
        left, before = (~proposal[group.units]).sum(), (~removed[group.units]).sum()
        if left < before:
            assert left >= limits.kept(group.size) and left % limits.round_to == 0
    rate, most = structure.rate(proposal), largest_rate(structure, limits)
    now = structure.rate(removed)
    assert rate <= most + 1e-12
    assert (rate > now) == (most > now + 1e-12), "at least one goes, if any may"
    tolerance = rate_tolerance(structure, limits)
    if limits.round_to == 1 and now + tolerance <= goal <= most:
        assert abs(rate - goal) <= tolerance + 1e-9


def test_those_go_that_cancel_out():
    structure = structure_of([(9, 1)])
    scores = np.array([0, 1, 2, 3, 4, 5, 100, 101, 102.0])
    contributions = np.array([[9, 5, 2, -2, 3, -5, 0, 0, 0], [9, 1, 1, -1, 3, -1, 0, 0, 0]])
    nothing, limits = np.zeros(9, bool), Limits()

    def gone(pool):
        bundles = balanced(
            structure,
            nothing,
            scores,
            contributions.astype(float),
            structure.unit_sizes,
            4 / 9,
            limits=limits,
            pool=pool,
        )
        return np.flatnonzero(also_removed(nothing, bundles)).tolist()

    assert gone(6 / 9) == [2, 3, 4, 5]
    assert gone(4 / 9) == [0, 1, 2, 3]
    assert gone(1.0) == [2, 3, 6, 7]


def test_what_gains_more_may_cost_more():
    structure, nothing = structure_of([(2, 1), (2, 1)]), np.zeros(4, bool)
    contributions = np.array([[1.0, 9, 1.2, 9], [0, 9, 0, 9]])
    scores = np.array([1.0, 9, 1.2, 9])

    def elected(*gains):
        bundles = balanced(
            structure, nothing, scores, contributions, np.array(gains), 0.25, Limits(), 0.5
        )
        return np.flatnonzero(also_removed(nothing, bundles)).tolist()

    assert elected(1, 1, 1, 1) == [0]
    assert elected(1, 1, 2, 2) == [2]
    assert elected(0, 0, 0, 0) == [0], "nothing gains anything"
    assert elected(0, 0, 1e-9, 1e-9) == [2]


# In prune().


@pytest.mark.parametrize(("recovery", "name"), [("auto", "lrp.unique"), (None, "lrp.log_odds")])
def test_the_default_hangs_on_whether_layers_are_refitted(model, recovery, name):
    result, by_name = (
        klp.prune(model, reference(), 0.3, recovery=recovery, criterion=criterion, verbose=0)
        for criterion in (None, name)
    )
    assert (result.settings["criterion"], result.settings["engine"]) == (name, "native")
    assert [record.rate for record in by_name.history] == [record.rate for record in result.history]


def test_innvestigate_has_a_default_of_its_own(model):
    result = klp.prune(model, reference(), 0.2, engine="innvestigate", verbose=0)
    assert result.settings["criterion"] == "lrp.sequential_preset_a"


def test_innvestigate_has_no_log_odds(model):
    with pytest.raises(ValueError, match=r"'lrp.log_odds' is for the engine 'native'"):
        klp.prune(model, reference(), criterion="lrp.log_odds", engine="innvestigate", verbose=0)


def test_log_odds_take_no_analyzer_options(model):
    with pytest.raises(ValueError, match="has none"):
        klp.prune(model, reference(), criterion="lrp.log_odds", analyzer_options={"epsilon": 1})


def test_parts_can_be_switched_off(model):
    """Each changes what is kept; equal steps are equal, and none is undone."""
    make = klp.schedules.AccuracyAware
    parts = [{"trials": False}, {"pool": 0}, {"order": "uniform"}, {}]
    results = [
        klp.prune(model, reference(), 0.6, schedule=make(**part), recovery=None, verbose=0)
        for part in parts
    ]
    kept = {str({k: v.tolist() for k, v in result.kept.items()}) for result in results}
    assert len(kept) == len(parts)
    equal = results[-1].history
    assert all(record.accepted for record in equal)
    steps = np.diff([record.rate for record in equal])[:-1]
    np.testing.assert_allclose(steps, 0.05, atol=0.03)


def test_schedules_of_tfmot_get_the_same_election(model):
    from tensorflow_model_optimization.sparsity.keras import ConstantSparsity, PolynomialDecay

    def kept(rate, schedule):
        result = klp.prune(model, reference(), rate, schedule=schedule, recovery=None, verbose=0)
        return {layer: filters.tolist() for layer, filters in result.kept.items()}

    one_step = klp.schedules.AccuracyAware(initial_step=0.1, rate="equal")
    assert kept(0.1, ConstantSparsity(0.1, begin_step=0, frequency=1)) == kept(0.1, one_step)
    # The same rates as those of the baselines' schedule, which lets the lowest-scored go.
    linear = PolynomialDecay(0.1, 0.6, begin_step=0, end_step=5, power=1, frequency=1)
    assert kept(0.6, linear) != kept(0.6, klp.schedules.EqualSteps(0.1))


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"pool": 1.5}, ValueError),
        ({"rate": "fast"}, ValueError),
        ({"trials": "some"}, TypeError),
    ],
    ids=str,
)
def test_bad_parts(bad, error):
    with pytest.raises(error, match=next(iter(bad))):
        klp.schedules.AccuracyAware(**bad)


def test_more_accurate_than_single_relevances():
    """On held-out digits, at equal steps: what the log odds add, and what balance adds."""
    model = digits_model(width=24)
    _, held_out = digits()
    areas = {}
    for name, criterion, pool in (
        ("balanced", "lrp.log_odds", 0.2),
        ("cheapest", "lrp.log_odds", 0.0),
        ("relevance", "lrp.sequential_preset_a", 0.0),
    ):
        schedule = klp.schedules.AccuracyAware(rate="equal", pool=pool)
        method = klp.Method(name, criterion, lambda made=schedule: made)
        curve = klp.accuracy_curve(model, reference(), held_out, method, engine="native")
        areas[name] = curve.auc()
    assert areas["balanced"] > areas["cheapest"] > areas["relevance"]
