"""Unique contributions: what others make up for, what follows when a unit goes, what is read."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from models import BUILDERS, CLASSES, IMAGE, analysed, difference, images, make_live, random_removal
from problems import labels, no_units, problem_of
from tiers import examples

import keras_lrp_prune as klp
from keras_lrp_prune.criteria.reading_layout import Layout
from keras_lrp_prune.criteria.unique_scorer import UniqueScorer
from keras_lrp_prune.criteria.uniqueness import Reading
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.recovery.second_moments import SecondMoments
from keras_lrp_prune.relevance.analyzers import make_composite
from keras_lrp_prune.relevance.native.engine import NativeEngine

Unique = klp.criteria.UniqueContribution


@pytest.fixture(autouse=True)
def same_models():
    keras.utils.set_random_seed(0)


def scores_of(model, n=16, removed=None, **execution):
    problem = problem_of(model, n, **execution)
    gone = no_units(problem) if removed is None else removed
    return Unique().scorer(problem).scores(gone)


# One layer: arrays alone.


def unit_square(x):
    """Channels of the same mean square, so that the damping is the same without some."""
    return x / np.sqrt((x**2).mean(tuple(range(x.ndim - 1)), keepdims=True))


def reading(values, gradients, units, refitted=True, damping=0.01, alive=None):
    """One layer that reads `values`; the second moments are those of the same samples."""
    n, positions, channels = values.shape
    layout = Layout.of(units, (positions, channels), -1, refitted=refitted)
    values, gradients = (tf.constant(one, tf.float32) for one in (values, gradients))
    sums, rows = layout.summary(values, gradients, tf.ones(n))
    moments = SecondMoments.of_sums(*(one.numpy() for one in sums)) if sums else None
    alive = np.arange(len(layout.units)) if alive is None else alive
    part = layout.part(moments, np.concatenate(rows, 1), alive, damping)
    return layout, Reading(layout.units[alive], [part])


def arrays(seed, n, positions, channels):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, positions, channels)) @ rng.normal(size=(channels, channels))
    return unit_square(mixed + rng.normal(size=channels)), rng.normal(size=mixed.shape)


@given(
    seed=st.integers(0, 1000),
    channels=st.integers(2, 8),
    positions=st.sampled_from([1, 3, 30]),
    gone=st.integers(1, 6),
)
@examples(10)
def test_revised_contributions_are_those_computed_anew(seed, channels, positions, gone):
    values, gradients = arrays(seed, 20, positions, channels)
    rng = np.random.default_rng(seed)
    units = rng.permutation(channels + 5)[:channels]
    units[units >= channels + 3] = -1  # some that stay
    if (units < 0).all():
        units[0] = 0
    layout, before = reading(values, gradients, units)
    going = rng.permutation(len(layout.units))[: min(gone, len(layout.units) - 1)]
    after = before.without(layout.units[going])
    alive = np.setdiff1d(np.arange(len(layout.units)), going)
    # The damping is a share of the mean square, which is 1 of every channel.
    _, anew = reading(values, gradients, units, alive=alive)
    scale = np.abs(before.contributions).max()
    assert difference(after.contributions[:, alive], anew.contributions) <= 1e-3 * scale
    assert not after.contributions[:, going].any()
    assert before.without(np.array([99])) is before


@given(seed=st.integers(0, 1000), positions=st.sampled_from([1, 3, 30]), gone=st.integers(1, 6))
@examples(10)
def test_what_comes_back_adds_what_it_did_as_the_last_one_left(seed, positions, gone):
    values, gradients = arrays(seed, 20, positions, 7)
    rng = np.random.default_rng(seed)
    units = np.array([4, 2, -1, 0, 5, 1, 3])
    for refitted in (True, False):
        _, found = reading(values, gradients, units, refitted=refitted)
        removed = np.isin(np.arange(6), rng.permutation(6)[:gone])
        restored = found.restored(removed)
        scale = np.abs(found.contributions).max()
        for unit in np.flatnonzero(removed):
            others = np.setdiff1d(np.flatnonzero(removed), unit)
            alone = found.without(others).contributions[:, unit]
            assert difference(restored[:, unit], alone) <= 1e-3 * scale
        assert not restored[:, ~removed].any()


@pytest.mark.parametrize("positions", [1, 50])
def test_a_twin_adds_nothing_and_all_once_the_other_is_gone(positions):
    values, gradients = arrays(0, 30, positions, 4)
    values[..., 3] = values[..., 2]
    _, both = reading(values, gradients, np.arange(4), damping=1e-4)
    _, plain = reading(values, gradients, np.arange(4), refitted=False)
    _, alone = reading(values[..., :3], gradients[..., :3], np.arange(3), damping=1e-4)
    largest = np.abs(plain.contributions).max()
    assert np.abs(both.contributions[:, 2:]).max() < 1e-2 * largest
    left = both.without(np.array([3]))
    assert difference(left.contributions[:, :3], alone.contributions) < 1e-3 * largest
    assert np.abs(left.contributions[:, 2]).max() > 0.1 * largest


@pytest.mark.parametrize("positions", [1, 50])
def test_uncorrelated_channels_add_their_deviations_from_the_mean(positions):
    rng = np.random.default_rng(0)
    values = np.linalg.qr(rng.normal(size=(20 * positions, 5)))[0]
    ones = np.ones((len(values), 1))
    values = np.linalg.qr(np.concatenate([ones, values], 1))[0][:, 1:].reshape(20, positions, 5)
    values = 10 * values + rng.normal(size=5)
    gradients = rng.normal(size=values.shape)
    for damping in (0.01, 1.0):
        _, found = reading(values, gradients, np.arange(5), damping=damping)
        wanted = ((values - values.mean((0, 1))) * gradients).sum(1)
        assert found.contributions == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_places_of_a_unit_have_means_of_their_own():
    """Behind a Flatten, a unit has a channel at each position, which is never the same there."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 1, 6)) + 10 * np.arange(6)
    gradients = rng.normal(size=values.shape)
    layout, flat = reading(values, gradients, np.array([7, 3, 7, 3, 7, 3]))
    assert layout.units.tolist() == [3, 7] and layout.channels.tolist() == [[1, 0], [3, 2], [5, 4]]
    centred = values - values.mean(0)
    _, map_ = reading(centred.reshape(20, 3, 2), gradients.reshape(20, 3, 2), np.array([7, 3]))
    # But for the damping, which is a share of the mean square.
    assert difference(flat.contributions, map_.contributions) < 2


def test_a_unit_with_fewer_channels_than_others_is_no_trouble():
    values, gradients = arrays(0, 20, 3, 5)
    layout, found = reading(values, gradients, np.array([0, 1, 0, 1, 0]), refitted=False)
    assert layout.channels.tolist() == [[0, 1], [2, 3], [4, 5]]
    by_channel = (values * gradients).sum(1)
    wanted = np.stack([by_channel[:, [0, 2, 4]].sum(1), by_channel[:, [1, 3]].sum(1)], 1)
    assert found.contributions == pytest.approx(wanted, rel=1e-3, abs=1e-3)
    _, residual = reading(values, gradients, np.array([0, 1, 0, 1, 0]))
    assert np.isfinite(residual.contributions).all()


# What layers read.


def plain_contributions(model, x, y):
    """Value times gradient, summed over positions and readers, `(samples, units)`."""
    graph, structure = analysed(model)
    engine = NativeEngine(graph, make_composite("lrp.z", {}), batch_size=8)
    readers = engine.readers(structure)
    layouts = [Layout.of(one.units, one.shape, one.axis, refitted=False) for one in readers]

    def summary(readings, y):
        pairs = zip(layouts, readings, strict=True)
        parts = [
            layout.summary(*one[:2], tf.ones_like(y, tf.float32))[1][0] for layout, one in pairs
        ]
        return (), tf.concat(parts, -1)

    rows = engine.over_readings([[one] for one in readers], summary)(x, y)[1]
    found = np.zeros((len(x), structure.n_units))
    ends = np.cumsum([len(layout.units) for layout in layouts])
    for layout, part in zip(layouts, np.split(rows, ends[:-1], 1), strict=True):
        found[:, layout.units] += part
    return found, engine.log_odds_relevance(structure, x, y)[0]


@pytest.mark.parametrize("name", ["vgg", "squeezenet", "densenet", "separable", "shared", "nested"])
def test_in_relu_networks_without_sums_it_is_the_relevance(name):
    model = make_live(BUILDERS[name]())
    found, relevance = plain_contributions(model, images(model, 6), labels(6))
    assert np.abs(found).max() > 1e-3
    assert difference(found, relevance) <= 1e-3 * np.abs(relevance).max()


@pytest.mark.parametrize(("name", "number"), [("resnet_v1", 0), ("squeeze_excite", 0), ("vgg", 2)])
def test_the_gradient_is_that_through_the_reader_alone(name, number):
    """What a reader's kernel makes of a channel, scaled: the log odds change by as much."""
    model = make_live(BUILDERS[name]())
    x, y = images(model, 6), labels(6)
    graph, structure = analysed(model)
    engine = NativeEngine(graph, make_composite("lrp.z", {}), batch_size=8)
    one = engine.readers(structure)[number]
    kernel = model.get_layer(one.call).kernel
    before = kernel.numpy()

    def log_odds():
        scores = np.asarray(model(x, training=False), np.float64)
        own = np.eye(CLASSES)[y] > 0
        return scores[own] - np.log(np.exp(np.where(own, -np.inf, scores)).sum(1))

    layout = Layout.of(one.units, one.shape, one.axis, refitted=False)
    over = engine.over_readings(
        [[one]], lambda readings, y: ((), layout.summary(*readings[0][:2], tf.ones(6))[1][0])
    )
    found = over(x, y)[1]
    for column, channels in enumerate(layout.channels.T[:3].tolist()):
        changed = []
        for factor in (1.01, 0.99):
            values = before.copy()
            values[..., channels, :] *= factor
            kernel.assign(values)
            changed.append(log_odds())
        kernel.assign(before)
        wanted = (changed[0] - changed[1]) / 0.02
        assert np.abs(found[:, column] - wanted).max() <= 0.03 * np.abs(found).max()


@pytest.mark.parametrize("name", BUILDERS)
def test_every_unit_is_scored_where_it_is_read(name):
    model = make_live(BUILDERS[name]())
    scorer = UniqueScorer(problem_of(model))
    read = np.concatenate([layout.units for layout in scorer._layouts])
    n_units = scorer.problem.structure.n_units
    assert set(read.tolist()) == set(range(n_units))
    removed = random_removal(scorer.problem.structure, 0.3)
    scores = scorer.scores(removed)
    assert np.isfinite(scores.by_class).all() and not scores.by_class[:, removed].any()
    assert (scores.by_class.sum(0) > 0).sum() > 0.6 * (~removed).sum()


def grouped(groups):
    inputs = layers.Input(IMAGE)
    x = layers.Conv2D(8, 3, activation="relu", name="first")(inputs)
    x = layers.Conv2D(8, 3, groups=groups, activation="relu", name="grouped")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return make_live(keras.Model(inputs, layers.Dense(CLASSES, name="classes")(x)))


def test_what_cannot_be_refitted_is_not_made_up_for():
    # Groups of four lose the same positions, and the layer keeps its kernel.
    found = {one.refitted for one in UniqueScorer(problem_of(grouped(2)))._layouts}
    assert found == {True, False}
    scorer = UniqueScorer(problem_of(make_live(BUILDERS["shared"]())))
    assert not scorer._layouts[0].refitted  # called in two places


def test_groups_that_go_whole_are_passed_on():
    layouts = UniqueScorer(problem_of(grouped(4)))._layouts
    assert [len(layout.channels) for layout in layouts] == [2]  # read by the classes alone


def test_readers_of_one_tensor_share_what_is_kept():
    model = make_live(BUILDERS["squeezenet"]())
    engine = UniqueScorer(problem_of(model))._engine
    readers = engine.readers(analysed(model)[1])
    assert len({one.tensor for one in readers}) == len(readers) - 2


# The criterion.


def test_twins_in_a_network_go_first_and_one_of_them_stays():
    inputs = layers.Input(IMAGE)
    x = layers.Conv2D(6, 3, name="first")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(5, 3, activation="relu", name="second")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = make_live(keras.Model(inputs, layers.Dense(CLASSES, name="classes")(x)))
    for name in ("first", "norm"):
        for weight in model.get_layer(name).weights:
            array = weight.numpy()
            array[..., 4] = array[..., 1]
            weight.assign(array)
    _, structure = analysed(model)
    twins = structure.filter_units["first"][[1, 4]]
    others = np.setdiff1d(structure.filter_units["first"], twins)
    scores = scores_of(model, 40)
    weights = np.ones(CLASSES)
    found = scores.combined(weights)
    assert found[twins].max() < 0.1 * found[others].min()
    left = scores.revised(twins[:1]).combined(weights)
    assert left[twins[1]] > 100 * found[twins[1]] and left[twins[0]] == 0
    assert left[others] == pytest.approx(found[others], rel=0.02)


@pytest.mark.parametrize("name", ["densenet", "resnet_v1"])
def test_revised_scores_follow_in_every_layer(name):
    """As from the sums over all readers anew."""
    scores = scores_of(make_live(BUILDERS[name]()))
    gone = np.array([0, 3, 9])
    revised = scores.revised(gone[:1]).revised(gone[1:])
    shape = scores.by_class.shape
    readings = [one.without(gone) for group in scores.groups for one in group.readings]
    anew = type(scores).of(readings, scores.y, shape)
    assert np.allclose(revised.by_class, anew.by_class, rtol=1e-6, atol=1e-12)
    assert (revised.by_class != scores.by_class).any()
    assert scores.values[:, gone].any()  # as they were


def test_a_single_unit_that_comes_back_matters_as_much_as_it_did():
    scores = scores_of(make_live(BUILDERS["resnet_v1"]()))
    for unit in (0, 3, scores.by_class.shape[1] - 1):
        removed = np.arange(scores.by_class.shape[1]) == unit
        restored = scores.restored(removed)
        assert restored[:, unit] == pytest.approx(scores.by_class[:, unit], rel=1e-4, abs=1e-12)


def test_samples_tell_nothing_of_themselves():
    """With as many channels as images, second moments of the same ones would leave nothing."""
    model = make_live(BUILDERS["vgg"]())
    scorer = UniqueScorer(problem_of(model, 8))
    folds = scorer._folds
    assert sorted(np.bincount(folds).tolist()) == [4, 4]
    for label in range(CLASSES):
        assert set(folds[labels(8) == label].tolist()) == {0, 1}
    groups = scorer.scores(np.zeros(36, bool)).groups
    (last,) = [one for group in groups for one in group.readings if len(one.units) == 12]
    assert np.abs(last.contributions).max() > 1e-3


def test_as_many_samples_as_memory_holds():
    model = make_live(BUILDERS["vgg"]())
    whole, few = (UniqueScorer(problem_of(model, 24, memory_budget=m)) for m in (2**31, 1))
    nothing = np.zeros(whole.problem.structure.n_units, bool)
    all_of, some = whole.scores(nothing), few.scores(nothing)
    assert len(all_of.values) == 24 and len(some.values) == 2 * CLASSES
    # Second moments are those of all samples, so that what is scored is scored alike.
    found = [np.abs(all_of.values - row).max(1).min() for row in some.values]
    assert max(found) <= 1e-4 * np.abs(all_of.values).max()


def test_batches_do_not_matter():
    model = make_live(BUILDERS["squeeze_excite"]())
    found = [scores_of(model, 16, batch_size=size).by_class for size in (3, 64)]
    assert difference(*found) <= 1e-4 * found[0].max()


def test_what_is_masked_counts_as_rebuilt():
    """Scores of a masked network are those of the smaller one."""
    model = make_live(BUILDERS["mobilenet"]())
    _, structure = analysed(model)
    removed = random_removal(structure, 0.4)
    kept = structure.kept_filters(removed)
    small = klp.delete_channels(
        model,
        {
            layer: np.setdiff1d(np.arange(len(units)), kept[layer]).tolist()
            for layer, units in structure.filter_units.items()
        },
    )
    x = images(model, 16)
    found = []
    for network, gone in ((model, removed), (small, None)):
        subject = read_subject(network, (x, labels(16)))
        gone = np.zeros(subject.structure.n_units, bool) if gone is None else gone
        found.append(UniqueScorer(subject.problem()).scores(gone).by_class[:, ~gone])
    assert difference(*found) <= 1e-3 * found[0].max()


def test_what_it_refuses():
    model = make_live(BUILDERS["vgg"]())
    with pytest.raises(ValueError, match="engine 'native'"):
        Unique(engine="innvestigate")
    problem = problem_of(model, 4)
    alone = replace(problem.reference, x=problem.reference.x[:1], y=problem.reference.y[:1])
    with pytest.raises(ValueError, match="at least 2 samples, not 1"):
        UniqueScorer(replace(problem, reference=alone))
    inputs = layers.Input((6, 3))
    x = layers.GRU(5, return_sequences=True)(inputs)
    x = layers.GlobalAveragePooling1D()(layers.Dense(4, activation="relu")(x))
    recurrent = keras.Model(inputs, layers.Dense(CLASSES)(x))
    with pytest.raises(UnsupportedModelError, match="GRU"):
        scores_of(make_live(recurrent))


@pytest.mark.parametrize("positions", [1, 50])
def test_plain_contributions_are_deviations_from_the_mean_whatever_others_tell(positions):
    values, gradients = arrays(0, 20, positions, 5)
    _, found = reading(values, gradients, np.array([4, 0, -1, 2, 7]))
    columns = [1, 3, 0, 4]  # in the order of the units
    wanted = ((values - values.mean((0, 1))) * gradients).sum(1)[:, columns]
    assert found.plain == pytest.approx(wanted, rel=1e-3, abs=1e-3)
    _, fixed = reading(values, gradients, np.arange(5), refitted=False)
    assert fixed.plain == pytest.approx((values * gradients).sum(1), rel=1e-3, abs=1e-3)


def test_plain_scores_compare_within_groups_and_those_that_are_gone_have_none():
    model = make_live(BUILDERS["resnet_v1"]())
    _, structure = analysed(model)
    removed = random_removal(structure, 0.3)
    plain = scores_of(model, removed=removed).plain
    assert not plain.contributions.values[:, removed].any()
    for group in structure.groups:
        per_filter = plain.by_class[:, group.units].mean(0) / structure.unit_sizes[group.units]
        assert np.linalg.norm(per_filter) == pytest.approx(1)
