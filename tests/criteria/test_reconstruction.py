"""Channel OBS and ThiNet: losses of layers, by brute force, and what they read of networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from models import BUILDERS, CLASSES, analysed, difference, images, make_live, random_removal
from problems import labels, no_units, problem_of
from tiers import examples

import keras_lrp_prune as klp
from keras_lrp_prune.criteria.layer_losses import Fixed, LayerLosses, LeftOut, LossScores, MadeUpFor
from keras_lrp_prune.criteria.reconstruction_scorers import ChannelOBSScorer, ThiNetScorer
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.graph.channels import selects
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.recovery.mirror_images import with_mirror_images
from keras_lrp_prune.recovery.second_moments import Inverse

SCORERS = {
    "obs": lambda problem: ChannelOBSScorer(problem, 0.1),
    "thinet": lambda problem: ThiNetScorer(problem, 10),
}
either = pytest.mark.parametrize("name", SCORERS)


@pytest.fixture(autouse=True)
def same_models():
    keras.utils.set_random_seed(0)


def scores_of(model, name, n=16, removed=None, **execution):
    problem = problem_of(model, n, **execution)
    gone = no_units(problem) if removed is None else removed
    return SCORERS[name](problem).scores(gone)


# One layer: arrays alone.


def regressed(x, weights, gone, strength):
    """Weights of what is left that give the outputs best, and the damped squared error."""
    left = np.setdiff1d(np.arange(x.shape[1]), gone)
    square = x.T @ x + strength * np.eye(x.shape[1])
    new = np.linalg.solve(square[np.ix_(left, left)], square[left] @ weights)
    change = weights.copy()
    change[left] -= new
    return new, np.einsum("co,cd,do->o", change, square, change)


@given(seed=st.integers(0, 1000), channels=st.integers(3, 8), gone=st.integers(1, 5))
@examples(10)
def test_what_others_make_up_for_is_the_error_of_the_regression(seed, channels, gone):
    """One after the other, losses add up to the error of the best weights of those left."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(50, channels)) @ rng.normal(size=(channels, channels))
    weights, counts = rng.normal(size=(channels, 3)), rng.random(3)
    strength, order = 0.5, rng.permutation(channels)[: min(gone, channels - 1)]
    square = x.T @ x + strength * np.eye(channels)
    losses = MadeUpFor(Inverse.of(np.linalg.inv(square)), (weights * counts) @ weights.T, channels)
    total = 0.0
    for number, column in enumerate(order):
        total += losses.each[column]
        losses = losses.without(column)
        new, errors = regressed(x, weights, order[: number + 1], strength)
        assert total == pytest.approx((counts * errors).sum(), rel=1e-6)
        left = np.setdiff1d(np.arange(channels), order[: number + 1])
        wanted = (counts * new**2).sum(1) / np.diag(np.linalg.inv(square[np.ix_(left, left)]))
        assert losses.each[left] == pytest.approx(wanted, rel=1e-6)
        assert not losses.each[order[: number + 1]].any()


@given(seed=st.integers(0, 1000), units=st.integers(2, 8), gone=st.integers(1, 6))
@examples(10)
def test_what_is_left_out_adds_up_to_the_squared_change(seed, units, gone):
    rng = np.random.default_rng(seed)
    added = rng.normal(size=(30, units))
    losses, total = LeftOut.of(added.T @ added), 0.0
    order = rng.permutation(units)[:gone]
    for number, column in enumerate(order):
        total += losses.each[column]
        losses = losses.without(column)
        wanted = (added[:, order[: number + 1]].sum(1) ** 2).sum()
        assert total == pytest.approx(wanted, rel=1e-9)
    assert not losses.each[order].any()


def test_scores_follow_in_every_layer_that_reads_a_unit():
    rng = np.random.default_rng(0)
    products = np.cov(rng.normal(size=(4, 9)))
    found = [
        LayerLosses(np.array([0, 2, 4, 5]), LeftOut.of(products)),
        LayerLosses(np.array([1, 2]), Fixed(np.array([3.0, 4.0]))),
    ]
    scores = LossScores.of(found, 6)
    assert scores.by_class[0, 2] == pytest.approx(products[1, 1] + 4)
    gone = np.array([2, 5])
    anew = LossScores.of([one.without(gone) for one in found], 6)
    assert scores.revised(gone).by_class == pytest.approx(anew.by_class)
    assert scores.revised(np.array([3])).layers == scores.layers


# What layers read.


def small(head="classes"):
    inputs = layers.Input((6, 6, 3))
    x = layers.Conv2D(5, 3, activation="relu", name="first")(inputs)
    x = layers.Conv2D(4, 3, name="second")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return make_live(keras.Model(inputs, layers.Dense(CLASSES, name=head)(x)))


def parts_of(model, layer, x):
    """What a layer reads, its outputs, and the rest of the network as a function of these."""
    at = [one.name for one in model.layers].index(layer)
    front = keras.Model(model.inputs[0], model.layers[at].input)
    read = front(x)
    made = model.layers[at](read)

    def rest(values):
        for one in model.layers[at + 1 :]:
            values = one(values)
        return values

    return read.numpy(), made, rest


def squared_gradients(made, rest, y):
    with tf.GradientTape() as tape:
        tape.watch(made)
        scores = rest(made)
        own = tf.one_hot(y, CLASSES)
        rivals = tf.where(own > 0, -np.inf, scores)
        log_odds = tf.reduce_sum(own * scores, -1) - tf.reduce_logsumexp(rivals, -1)
    squares = tape.gradient(log_odds, made).numpy() ** 2
    return squares.reshape(len(squares), -1, squares.shape[-1]).sum(1).mean(0)


def test_channel_obs_is_that_of_the_formula():
    """Residual variances by regressions, channel by channel, times the weights' squares."""
    model = small()
    problem = problem_of(model, 24)
    scorer = ChannelOBSScorer(problem, 1e-6)
    found = scorer.scores(np.zeros(problem.structure.n_units, bool)).by_class[0]
    x = with_mirror_images(problem.graph, problem.reference.x)
    y = np.resize(problem.reference.y, len(x))
    for reader, layer in (("second", "first"), ("classes", "second")):
        read, made, rest = parts_of(model, reader, x)
        squares = squared_gradients(made, rest, y)
        rows = read.reshape(-1, read.shape[-1])
        rows = (rows - rows.mean(0)).astype(np.float64)
        kernel = model.get_layer(reader).kernel.numpy().reshape(-1, rows.shape[1], len(squares))
        wanted = []
        for channel in range(rows.shape[1]):
            others = np.delete(rows, channel, 1)
            taken = np.linalg.lstsq(others, rows[:, channel], rcond=None)[0]
            residual = ((rows[:, channel] - others @ taken) ** 2).mean()
            wanted.append(residual * (squares * kernel[:, channel] ** 2).sum())
        units = problem.structure.filter_units[layer]
        assert found[units] == pytest.approx(wanted, rel=0.02, abs=1e-5 * max(wanted))


def test_channel_obs_behind_a_flatten_counts_every_position():
    """As where the same layer is a convolution over all of them."""
    inputs = layers.Input((6, 6, 3))
    first = layers.Conv2D(5, 4, activation="relu", name="first")

    def network(flat):
        x = first(inputs)
        if flat:
            x = layers.Dense(CLASSES, name="classes")(layers.Flatten()(x))
        else:
            x = layers.Reshape((CLASSES,))(layers.Conv2D(CLASSES, 3, name="classes")(x))
        return keras.Model(inputs, x)

    flat, whole = network(True), network(False)
    make_live(flat)
    kernel, bias = flat.get_layer("classes").get_weights()
    whole.get_layer("classes").set_weights([kernel.reshape(3, 3, 5, CLASSES), bias])
    found = [scores_of(model, "obs", 40).by_class for model in (flat, whole)]
    # Behind the Flatten each position has a mean of its own.
    assert difference(*found) < 0.3 and (found[0] > 0).all()


def test_thinet_takes_what_units_add_to_outputs():
    """Of a dense layer, over many outputs drawn: the mean over all outputs."""
    model = small()
    problem = problem_of(model, 24)
    scores = ThiNetScorer(problem, 2000).scores(np.zeros(problem.structure.n_units, bool))
    x = with_mirror_images(problem.graph, problem.reference.x)
    read, _, _ = parts_of(model, "classes", x)
    added = read[..., None] * model.get_layer("classes").kernel.numpy()
    wanted = (added**2).sum((0, 2)) / (added.sum(1) ** 2).sum()
    units = problem.structure.filter_units["second"]
    assert scores.by_class[0, units] == pytest.approx(wanted, rel=0.03)
    gone = units[np.argmax(wanted)]
    both = added[:, np.argmax(wanted)][:, None] + added
    change = ((both**2).sum((0, 2)) - (added[:, np.argmax(wanted)] ** 2).sum()) / (
        added.sum(1) ** 2
    ).sum()
    left = scores.revised(np.array([gone])).by_class[0, units]
    others = units != gone
    assert left[others] == pytest.approx(change[others], rel=0.05, abs=0.02)


def test_thinet_of_a_convolution_at_each_place():
    """Windows at the border and inside, with strides: what units add makes up the outputs."""
    inputs = layers.Input((7, 7, 3))
    x = layers.Conv2D(5, 3, activation="relu", padding="same", name="first")(inputs)
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="second")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    model = make_live(keras.Model(inputs, layers.Dense(CLASSES, name="classes")(x)))
    problem = problem_of(model, 24)
    scorer = ThiNetScorer(problem, 600)
    x = with_mirror_images(problem.graph, problem.reference.x)
    read, _, _ = parts_of(model, "second", x)
    kernel = model.get_layer("second").kernel.numpy()
    added = np.stack(
        [
            tf.nn.conv2d(read[..., c : c + 1], kernel[:, :, c : c + 1], 2, "SAME").numpy()
            for c in range(5)
        ]
    ).reshape(5, -1)
    found = scorer.scores(np.zeros(problem.structure.n_units, bool))
    units = problem.structure.filter_units["first"]
    wanted = (added**2).sum(1) / (added.sum(0) ** 2).sum()
    assert found.by_class[0, units] == pytest.approx(wanted, rel=0.1)


@either
@pytest.mark.parametrize("kind", BUILDERS)
def test_every_unit_is_scored_where_it_is_read(kind, name):
    model = make_live(BUILDERS[kind]())
    _, structure = analysed(model)
    removed = random_removal(structure, 0.3)
    scores = scores_of(model, name, removed=removed)
    assert np.isfinite(scores.by_class).all() and not scores.by_class[:, removed].any()
    assert (scores.by_class[0] > 0).sum() > 0.6 * (~removed).sum()
    gone = np.flatnonzero(~removed)[:2]
    left = scores.revised(gone[:1]).revised(gone[1:])
    anew = LossScores.of([one.without(gone) for one in scores.layers], structure.n_units)
    assert np.allclose(left.by_class, anew.by_class, rtol=1e-6, atol=1e-9 * scores.by_class.max())


@either
def test_a_twin_can_go_and_then_the_other_stays(name):
    """Made up for by the other; ThiNet, which changes no weights, sees nothing of it."""
    model = small()
    for weight in model.get_layer("first").weights:
        array = weight.numpy()
        array[..., 3] = array[..., 1]
        weight.assign(array)
    problem = problem_of(model, 40)
    twins = problem.structure.filter_units["first"][[1, 3]]
    scorer = ChannelOBSScorer(problem, 1e-3) if name == "obs" else ThiNetScorer(problem, 10)
    scores = scorer.scores(np.zeros(problem.structure.n_units, bool))
    before, after = (one.by_class[0] for one in (scores, scores.revised(twins[:1])))
    if name == "obs":
        others = np.setdiff1d(problem.structure.filter_units["first"], twins)
        assert before[twins].max() < 0.05 * before[others].min()
        assert after[twins[1]] > 50 * before[twins[1]] and after[twins[0]] == 0
    else:
        assert after[twins[1]] > before[twins[1]] > 0 == after[twins[0]]


@either
def test_batches_and_grouped_layers(name):
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="first")(inputs)
    x = layers.Conv2D(8, 3, groups=2, activation="relu", name="grouped")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = make_live(keras.Model(inputs, layers.Dense(CLASSES, name="classes")(x)))
    found = [scores_of(model, name, batch_size=size).by_class for size in (3, 64)]
    assert difference(*found) <= 1e-3 and (found[0] > 0).mean() > 0.8


def test_what_is_masked_counts_as_rebuilt():
    model = make_live(BUILDERS["mobilenet"]())
    _, structure = analysed(model)
    removed = random_removal(structure, 0.4)
    kept = structure.kept_filters(removed)
    small = klp.delete_channels(
        model,
        {
            layer: np.flatnonzero(selects(removed, units)).tolist()
            for layer, units in structure.filter_units.items()
            if len(kept[layer]) < len(units)
        },
    )
    x = images(model, 16)
    found = []
    for network, gone in ((model, removed), (small, None)):
        problem = read_subject(network, (x, labels(16))).problem()
        gone = np.zeros(problem.structure.n_units, bool) if gone is None else gone
        found.append(ChannelOBSScorer(problem, 0.1).scores(gone).by_class[:, ~gone])
    assert difference(*found) <= 2e-3


@either
def test_it_refits_at_each_step_as_a_method(name):
    method = klp.METHODS[name]
    assert klp.criteria.CRITERIA[name].refits_each_step and not method.scored_once
    assert method.schedule is klp.METHODS["lrp.unique"].schedule is None


def test_what_they_refuse():
    for make in (lambda: klp.criteria.ChannelOBS(0.0), lambda: klp.criteria.ThiNet(0)):
        with pytest.raises(ValueError, match=r"damping|instances"):
            make()
    inputs = layers.Input((6, 3))
    x = layers.GRU(5, return_sequences=True)(inputs)
    x = layers.GlobalAveragePooling1D()(layers.Dense(4, activation="relu")(x))
    recurrent = keras.Model(inputs, layers.Dense(CLASSES)(x))
    with pytest.raises(UnsupportedModelError, match="GRU"):
        scores_of(make_live(recurrent), "obs")
