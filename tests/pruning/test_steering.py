"""Cross-fitted steering, and recovery."""

import keras
import numpy as np
import pytest
from keras import layers
from models import BUILDERS, CLASSES, images, make_live
from pruned import pruned_by
from sklearn.linear_model import LogisticRegression
from trained import trained

import keras_lrp_prune as klp
from keras_lrp_prune.comparison.bench import Bench, Conditions
from keras_lrp_prune.data import DataError
from keras_lrp_prune.demo import digits, train_classifier
from keras_lrp_prune.evaluation import class_accuracies
from keras_lrp_prune.examination.recovery_choice import Recovery
from keras_lrp_prune.graph.heads import linear_head
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.recovery.head import (
    best_strength,
    fit_head,
    fold_heads,
    held_out_probabilities,
)

AccuracyAware = klp.schedules.AccuracyAware
PER_CLASS = 6


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(12, 3, activation="relu", name="a")(inputs)
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="b")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


@pytest.fixture(scope="module")
def reference():
    """Noise with labels at random: nothing to learn, but a head can learn it by heart."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3 * PER_CLASS, 16, 16, 3)).astype("float32")
    return x, rng.permutation(np.arange(3 * PER_CLASS) % 3)


@pytest.fixture(scope="module")
def digits_task():
    train, reference, held_out = digits(seed=0)
    return trained(train_classifier, train, seed=0), reference, held_out


def by_heart(backbone, reference):
    """The backbone with a head that has every reference sample right."""
    x, y = reference
    features = np.asarray(backbone(x))
    kernel, bias = fit_head(features, y, 1e9)
    head = layers.Dense(3, name="head")
    model = keras.Model(backbone.input, head(backbone.output))
    head.set_weights([kernel, bias])
    assert (np.argmax(model(x), -1) == y).all()
    return model


def test_accuracy_of_a_head_is_blind_where_it_was_fitted_and_cross_fitting_is_not():
    rng = np.random.default_rng(1)
    features, y = rng.normal(size=(40, 200)), rng.permutation(np.arange(40) % 4)
    kernel, bias = fit_head(features, y, best_strength(features, y))
    assert ((features @ kernel + bias).argmax(1) == y).mean() > 0.95
    found = held_out_probabilities(features, fold_heads(features, y, 1.0))
    assert found.shape == (40, 4)
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found.argmax(1) == y).mean() < 0.6


def test_auto_cross_fits_where_the_head_knows_the_reference(backbone, reference):
    fitted = by_heart(backbone, reference)
    auto = {"engine": "native", "verbose": 0, "schedule": AccuracyAware(steering="auto")}
    result = klp.prune(fitted, reference, 0.3, **auto)
    assert result.settings["steering"] == "cross_fit"
    assert result.history[0].soft_harmonic_mean < 0.6
    seen = klp.prune(fitted, reference, 0.3, engine="native", verbose=0)
    assert seen.settings["steering"] == "as_is"
    assert seen.history[0].harmonic_mean == 1
    other = keras.models.clone_model(fitted)  # another head: far from right
    chance = klp.prune(other, reference, 0.3, **auto)
    assert chance.settings["steering"] == "as_is"


def test_fold_heads_do_not_enter_the_result(backbone, reference):
    model = by_heart(backbone, reference)
    schedule = AccuracyAware(steering="cross_fit")
    options = {"engine": "native", "schedule": schedule, "recovery": None, "verbose": 0}
    result = klp.prune(model, reference, 0.3, **options)
    kept = result.kept["b"]
    kernel, bias = model.get_layer("head").get_weights()
    small_kernel, small_bias = result.model.get_layer("head").get_weights()
    assert (small_kernel == kernel[kept]).all() and (small_bias == bias).all()


# What needs a head, and what each of them has instead.
NEEDING = [
    (
        lambda: {"recovery": "head"},
        "a recovery of the head needs. Choose recovery='least_squares', 'auto'",
    ),
    (
        lambda: {"schedule": AccuracyAware(steering="cross_fit")},
        r"steering='cross_fit' needs. Choose AccuracyAware\(steering='as_is'\)",
    ),
]


@pytest.mark.parametrize(("options", "advice"), NEEDING, ids=["recovery", "schedule"])
def test_without_a_linear_head_the_error_says_what_does_without(options, advice):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3)(inputs)
    x = layers.Conv2D(CLASSES, 1)(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    x, y = np.zeros((8, 8, 8, 3)), np.arange(8) % CLASSES
    words = f"does not end with a Dense layer on pooled features, as {advice}"
    with pytest.raises(UnsupportedModelError, match=words):
        klp.prune(model, (x, y), 0.3, engine="native", verbose=0, **options())


def test_a_comparison_without_a_linear_head_is_refused_before_any_work():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(CLASSES, 3)(layers.Conv2D(8, 3)(inputs))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    samples = np.zeros((8, 8, 8, 3)), np.arange(8) % CLASSES
    with pytest.raises(UnsupportedModelError, match="does not end with a Dense layer on pooled"):
        Bench(model, samples, samples, Conditions(recovery=Recovery("head")))


def test_a_sigmoid_for_each_class_is_no_head_to_refit(backbone, reference):
    x, y = reference
    scores = layers.Dense(3, activation="sigmoid")(backbone.output)
    model = keras.Model(backbone.input, scores)
    with pytest.raises(UnsupportedModelError, match="by a sigmoid of its own"):
        klp.prune(model, (x, y), 0.3, engine="native", recovery="head", verbose=0)
    schedule = AccuracyAware(steering="auto")
    result = klp.prune(model, (x, y), 0.3, engine="native", schedule=schedule, verbose=0)
    assert result.settings["steering"] == "as_is"


def test_a_class_with_a_single_sample_cannot_be_cross_fitted(backbone, reference):
    x, y = reference
    one = np.concatenate([np.flatnonzero(y != 1), np.flatnonzero(y == 1)[:1]])
    with pytest.raises(DataError, match=r"single sample.*choose recovery='least_squares'"):
        klp.prune(by_heart(backbone, reference), (x[one], y[one]), 0.3, recovery="head", verbose=0)


def test_a_head_without_bias_is_fitted_without_one(backbone, reference):
    keras.utils.set_random_seed(0)  # its own head says which filters go
    x, y = reference
    x = x + 3.0 * y[:, None, None, None]  # so that a bias would matter
    scores = layers.Dense(3, use_bias=False, name="head")(backbone.output)
    result = klp.prune(
        keras.Model(backbone.input, scores),
        (x, y),
        0.3,
        engine="native",
        recovery="head",
        verbose=0,
    )
    (kernel,) = result.model.get_layer("head").get_weights()
    pooled = keras.Model(result.model.input, result.model.get_layer("head").input)
    features = np.asarray(pooled(x), np.float64)
    scale = np.sqrt((features**2).mean())
    fits = [
        LogisticRegression(C=strength, fit_intercept=False, tol=1e-9, max_iter=20_000).fit(
            features / scale, y
        )
        for strength in 10.0 ** np.arange(-3, 4)
    ]
    nearest = min(np.abs(features @ kernel - features / scale @ fit.coef_.T).max() for fit in fits)
    assert nearest < 0.02


@pytest.mark.parametrize(
    ("name", "head"), [("resnet_v1", "logits"), ("vgg", None), ("mobilenet", "softmax")]
)
def test_linear_heads_are_recognised(name, head):
    found = linear_head(read_model(BUILDERS[name](head or "logits")).flat())
    assert (found is not None) == (head is not None)


def test_an_unknown_recovery_or_steering_is_refused(backbone, reference):
    with pytest.raises(ValueError, match=r"Unknown recovery 'magic'.*head\+least_squares"):
        klp.prune(by_heart(backbone, reference), reference, 0.3, recovery="magic")
    with pytest.raises(ValueError, match="Unknown steering 'magic'"):
        AccuracyAware(steering="magic")


@pytest.mark.parametrize("recovery", ["head", "least_squares", "head+least_squares"])
@pytest.mark.parametrize("criterion", ["lrp.sequential_preset_a", "taylor"])
def test_recovery_brings_held_out_accuracy_back(digits_task, recovery, criterion):
    model, reference, held_out = digits_task
    before = [weight.copy() for weight in model.get_weights()]
    options = {"criterion": criterion, "engine": "native", "verbose": 0}
    schedule = klp.schedules.EqualSteps(0.2)
    frozen, recovered = (
        klp.prune(
            model,
            reference,
            0.8,
            validation=held_out,
            schedule=schedule,
            recovery=recovery if which else None,
            **options,
        )
        for which in (False, True)
    )
    low, high = (result.validation["after"]["accuracy"] for result in (frozen, recovered))
    assert high > low + 0.1
    # The head is corrected only where that is better on samples that it did not see.
    assert recovered.settings["recovery"] in (recovery, recovery.removeprefix("head+"))
    head = linear_head(read_model(model).flat())
    assert head not in recovered.settings["not_recovered"]
    assert all((one == other).all() for one, other in zip(model.get_weights(), before, strict=True))


@pytest.mark.parametrize("recovery", ["head", "least_squares", "head+least_squares"])
@pytest.mark.parametrize(("name", "gain"), [("accuracy-aware", -0.02), ("l1", 0.05)])
def test_a_recovered_point_of_a_curve_is_the_model_that_prune_gives(
    digits_task, recovery, name, gain
):
    """Methods that no accuracy steers decide without it; all are measured with it."""
    model, reference, (x, y) = digits_task
    held_out = x[:300], y[:300]
    with_it, without = (
        klp.accuracy_curve(model, reference, held_out, name, [0.6], engine="native", recovery=how)
        for how in (recovery, None)
    )
    result = pruned_by(klp.METHODS[name], model, reference, 0.6, recovery=recovery)
    found = class_accuracies(held_out[1], np.asarray(result.model(held_out[0])))
    np.testing.assert_allclose(with_it.class_accuracy[0], found, atol=0.05)
    decides = name == "accuracy-aware"
    assert decides or with_it.decisions == without.decisions
    assert with_it.class_accuracy.mean() > without.class_accuracy.mean() + gain


@pytest.mark.parametrize("name", ["lrp-iterative", "taylor"])
def test_the_models_own_head_explains_though_another_will_be_fitted(digits_task, name):
    model, reference, held_out = digits_task
    options = {"rates": [0.3, 0.6], "engine": "native"}
    curves = [
        klp.accuracy_curve(model, reference, held_out, name, recovery=recovery, **options)
        for recovery in ("head", None)
    ]
    assert curves[0].decisions == curves[1].decisions
    assert not np.array_equal(curves[0].class_accuracy, curves[1].class_accuracy)


def test_head_alone_changes_no_other_weight(digits_task):
    model, reference, _ = digits_task
    options = {"engine": "native", "schedule": klp.schedules.EqualSteps(0.25), "verbose": 0}
    result = klp.prune(model, reference, 0.5, recovery="head", **options)
    frozen = klp.delete_channels(
        model,
        {
            name: np.setdiff1d(np.arange(model.get_layer(name).get_weights()[0].shape[-1]), kept)
            for name, kept in result.kept.items()
        },
    )
    head = linear_head(read_model(model).flat())
    for layer in frozen.layers:
        same = [
            np.array_equal(one, other)
            for one, other in zip(
                layer.get_weights(), result.model.get_layer(layer.name).get_weights(), strict=True
            )
        ]
        assert all(same) if layer.name != head else not any(same)


def test_one_unit_head_is_fitted_as_one_unit():
    rng = np.random.default_rng(0)
    model = make_live(BUILDERS["resnet_v1"]("sigmoid"))
    x = images(model, 16)
    result = klp.prune(
        model,
        (x, rng.permutation(np.arange(16) % 2)),
        0.3,
        engine="native",
        recovery="head",
        verbose=0,
    )
    assert result.model.output_shape == (None, 1)
