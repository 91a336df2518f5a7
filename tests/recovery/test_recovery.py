"""Refitted layers and heads: closer to the unpruned model, and what they leave alone."""

import warnings

import keras
import numpy as np
import pytest
import tf_keras
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from models import (
    BUILDERS,
    IMAGE,
    analysed,
    difference,
    images,
    make_live,
    pruned,
    random_removal,
    same_weights,
    sequential,
    vgg,
)
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from tiers import examples

from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.prunables.channel_mask import ChannelMask
from keras_lrp_prune.recovery.head import fit_head
from keras_lrp_prune.recovery.least_squares import LeastSquares
from keras_lrp_prune.recovery.mirror_images import with_mirror_images
from keras_lrp_prune.recovery.weights import with_weights
from keras_lrp_prune.surgery.builder import build, rebuild
from keras_lrp_prune.surgery.kept import Kept, kept_without


def refit(model, removed, x, **options):
    graph, structure = analysed(model)
    options = {"keras": keras, "batch_size": 16, **options}
    return LeastSquares(graph, structure, x, **options).refit(removed)


def recovered(model, removed, weights):
    graph, structure = analysed(model)
    return rebuild(with_weights(graph, weights), kept_without(structure, removed), keras)


def masked(model, removed, weights):
    graph, structure = analysed(model)
    flat = with_weights(graph.flat(), weights)
    copy = build(flat, Kept(), keras)
    names = {layer.name: layer.weights for layer in flat.layers.values()}
    ChannelMask(structure, copy.layers, names).set(removed)
    return copy.model


def removal(model, **channels):
    """Removes the channels of these layers."""
    _, structure = analysed(model)
    removed = np.zeros(structure.n_units, bool)
    for name, indices in channels.items():
        removed[structure.filter_units[name][indices]] = True
    return removed


def squared_error(outputs, wanted):
    return float(((np.asarray(outputs) - np.asarray(wanted)) ** 2).sum())


def largest_change(first, second):
    """Between two sets of new weights."""
    assert {k: set(v) for k, v in first.items()} == {k: set(v) for k, v in second.items()}
    return max(
        np.abs(array - second[layer][name]).max()
        for layer, arrays in first.items()
        for name, array in arrays.items()
    )


class TestRefit:
    @pytest.mark.parametrize("name", BUILDERS)
    def test_closer_to_the_whole_model_masked_or_rebuilt(self, name):
        model = make_live(BUILDERS[name]())
        before = model.get_weights()
        x = images(model, 24)
        _, structure = analysed(model)
        removed = random_removal(structure, 0.4)
        found = refit(model, removed, x)
        small = recovered(model, removed, found.weights)
        wanted, plain = model(x), pruned(model, removed)(x)
        assert squared_error(small(x), wanted) < 0.7 * squared_error(plain, wanted)
        assert difference(masked(model, removed, found.weights)(x), small(x)) <= 1e-4
        assert same_weights(model.get_weights(), before)
        for layer, arrays in found.weights.items():
            originals = read_model(model).flat().layers[layer].arrays()
            for weight, array in arrays.items():
                assert array.shape == originals[weight].shape
                assert array.dtype == originals[weight].dtype

    def test_nothing_removed_changes_nothing(self):
        model = make_live(vgg())
        _, structure = analysed(model)
        found = refit(model, np.zeros(structure.n_units, bool), images(model))
        assert not found.weights and not found.skipped

    @pytest.mark.parametrize("module", [keras, tf_keras])
    @pytest.mark.parametrize("memory", [0, 1e9])
    def test_layers_that_augment_images_do_nothing(self, module, memory):
        def network(*augmenting):
            x = inputs = module.layers.Input(IMAGE)
            for layer in augmenting:
                x = layer(x)
            for name in ("first", "second"):
                x = module.layers.Conv2D(6, 3, activation="relu", name=name)(x)
            x = module.layers.GlobalAveragePooling2D()(x)
            return module.Model(inputs, module.layers.Dense(4, name="classes")(x))

        plain = network()
        augmented = network(module.layers.RandomRotation(0.5), module.layers.RandomFlip())
        for name in ("first", "second", "classes"):
            augmented.get_layer(name).set_weights(plain.get_layer(name).get_weights())
        x = np.random.default_rng(0).normal(size=(24, *IMAGE)).astype("float32")
        changes = []
        for model in (plain, augmented):
            removed = removal(model, first=[0, 1], second=[2])
            found = refit(model, removed, x, keras=module, memory=memory)
            changes.append(found.weights)
        assert largest_change(*changes) == 0

    @pytest.mark.parametrize("activation", ["relu", "sigmoid"])
    def test_copies_are_not_missed(self, activation):
        inputs = x = layers.Input(IMAGE)
        for number in range(3):
            x = layers.Conv2D(8, 3, strides=1 + number % 2, name=f"conv{number}")(x)
            x = layers.Activation(activation)(layers.BatchNormalization(name=f"norm{number}")(x))
        x = layers.SeparableConv2D(8, 3, activation=activation, name="separable")(x)
        x = layers.Dense(8, activation=activation, name="dense")(layers.Flatten()(x))
        model = make_live(keras.Model(inputs, layers.Dense(4, name="classes")(x)))
        for layer in model.layers:
            if layer.name[:4] in ("conv", "norm", "sepa", "dens"):
                for weight in layer.weights:
                    axis = -2 if weight.name == "depthwise_kernel" else -1
                    array = weight.numpy()
                    filters = np.moveaxis(array, axis, 0)
                    filters[:3] = filters[3:6]
                    weight.assign(array)
        names = ("conv0", "conv1", "conv2", "separable", "dense")
        removed = removal(model, **dict.fromkeys(names, range(3)))
        x = images(model, 100)
        found = refit(model, removed, x)
        assert not found.skipped and list(found.ridges) == [*names[1:], "classes"]
        wanted = model(x)
        assert difference(pruned(model, removed)(x), wanted) > 0.1
        assert difference(recovered(model, removed, found.weights)(x), wanted) < 1e-3

    @given(seed=st.integers(0, 1000), share=st.floats(0.1, 0.9), count=st.integers(2, 40))
    @examples(4)
    def test_a_single_layer_is_never_worse(self, seed, share, count):
        model = make_live(sequential(), seed)
        gone = np.random.default_rng(seed).permutation(10)[: round(share * 10)]
        removed = removal(model, hidden=gone)
        x = images(model, count)
        both = np.concatenate([x, x[:, :, ::-1]])
        found = refit(model, removed, x, seed=seed)
        wanted, plain = model(both), pruned(model, removed)(both)
        small = recovered(model, removed, found.weights)
        assert squared_error(small(both), wanted) <= squared_error(plain, wanted) * (1 + 1e-5)

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("resnet_v1", {"batch_size": 5}),
            ("densenet", {"memory": 0}),
            ("separable", {"memory": 3e5}),
        ],
    )
    def test_batches_and_memory_do_not_matter(self, name, options, float64):
        model = make_live(BUILDERS[name]())
        x = images(model, 12)
        _, structure = analysed(model)
        removed = random_removal(structure, 0.3)
        first, second = (refit(model, removed, x, **more) for more in ({}, options))
        assert first.ridges == second.ridges
        assert largest_change(first.weights, second.weights) < 1e-7

    @pytest.mark.parametrize(("memory", "runs"), [(1e9, 2), (0, 4)])
    def test_what_was_refitted_before_does_not_matter(self, monkeypatch, memory, runs):
        """With what the whole network computes kept, and without memory for it: bit for bit."""
        monkeypatch.setattr("keras_lrp_prune.recovery.targets._MOST_ROWS", 100)
        model = make_live(sequential())
        x = images(model, 12)
        graph, structure = analysed(model)
        options = {"keras": keras, "batch_size": 16}
        layers = LeastSquares(graph, structure, x, **options, memory=memory)
        assert set(layers.refit(removal(model, first=[0])).ridges) == {"second"}
        for share in (0.2, 0.6, 0.3):
            removed = random_removal(structure, share)
            found = layers.refit(removed)
            fresh = LeastSquares(graph, structure, x, **options).refit(removed)
            assert (
                set(found.ridges) == {"second", "hidden", "classes"}
                and found.ridges == fresh.ridges
            )
            assert largest_change(found.weights, fresh.weights) == 0
        # Images and mirror images: of what was left four times, and of the whole network.
        assert layers.passes == 2 * (4 + runs)

    def test_the_seed_decides(self, monkeypatch):
        monkeypatch.setattr("keras_lrp_prune.recovery.targets._MOST_ROWS", 400)
        model = make_live(vgg())
        x = images(model, 12)
        _, structure = analysed(model)
        removed = random_removal(structure, 0.5)
        first, again, other = (refit(model, removed, x, seed=seed).weights for seed in (0, 0, 1))
        assert largest_change(first, again) == 0 < largest_change(first, other)

    @pytest.mark.parametrize(
        ("name", "reasons"),
        [
            (
                "mobilenet",
                {"depthwise_conv2d": "depthwise or grouped, so that no filter reads all channels"},
            ),
            ("shared", {"conv2d": "called in several places"}),
        ],
    )
    def test_skipped_layers_are_named(self, name, reasons):
        keras.utils.clear_session()
        model = make_live(BUILDERS[name]())
        _, structure = analysed(model)
        found = refit(model, random_removal(structure, 0.4), images(model))
        assert found.skipped.items() >= reasons.items()
        assert not found.skipped.keys() & (found.weights.keys() | found.ridges.keys())

    def test_layers_of_other_kinds_keep_their_weights(self):
        inputs = layers.Input((16, 8))
        x = layers.Conv1D(6, 3, activation="relu", name="first")(inputs)
        x = layers.Conv1DTranspose(6, 3, name="transposed")(x)
        x = layers.Conv1D(6, 3, padding="causal", name="last")(x)
        outputs = layers.Dense(3)(layers.GlobalAveragePooling1D()(x))
        model = make_live(keras.Model(inputs, outputs))
        found = refit(model, removal(model, first=[0, 1], transposed=[2]), images(model, 20))
        assert found.skipped == {
            "transposed": "Conv1DTranspose is not a layer that can be refitted"
        }
        assert set(found.weights) == {"last"}

    def test_open_sizes(self):
        inputs = layers.Input((None, None, 3))
        x = layers.Conv2D(6, 3, activation="relu", name="first")(inputs)
        x = layers.Conv2D(6, 3, activation="relu", name="second")(x)
        outputs = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
        model = make_live(keras.Model(inputs, outputs))
        found = refit(model, removal(model, first=[0, 1]), images(model, 20))
        assert set(found.weights) == {"second"}

    def test_wide_layers_get_fewer_windows(self, monkeypatch):
        monkeypatch.setattr("keras_lrp_prune.recovery.targets._WIDEST", 40)
        model = make_live(vgg())
        x = images(model, 24)
        _, structure = analysed(model)
        removed = random_removal(structure, 0.4)
        small = recovered(model, removed, refit(model, removed, x).weights)
        plain = pruned(model, removed)
        assert squared_error(small(x), model(x)) < squared_error(plain(x), model(x))

    def test_choices_go_by_fewer_windows_and_no_mirror_images(self, monkeypatch):
        monkeypatch.setattr("keras_lrp_prune.recovery.least_squares._FEW", 2e5)
        model = make_live(vgg())
        x = images(model, 24)
        graph, structure = analysed(model)
        removed = random_removal(structure, 0.4)
        layers = [
            LeastSquares(graph, structure, x, keras=keras, thorough=thorough)
            for thorough in (True, False)
        ]
        thorough, quick = (one.refit(removed) for one in layers)
        assert quick.weights.keys() == thorough.weights.keys()
        assert layers[0].passes == 2 * layers[1].passes > 0
        plain = squared_error(pruned(model, removed)(x), model(x))
        errors = [
            squared_error(recovered(model, removed, one.weights)(x), model(x))
            for one in (thorough, quick)
        ]
        assert max(errors) < plain and errors[0] != errors[1]

    def test_legacy_models(self):
        import tf_keras

        model = make_live(BUILDERS["separable"]())
        graph, structure = analysed(model)
        legacy = rebuild(graph, Kept(), tf_keras)
        removed = random_removal(structure, 0.4)
        x = images(model, 24)
        found, same = (
            LeastSquares(graph, structure, x, keras=module, batch_size=16).refit(removed)
            for graph, module in ((read_model(legacy), tf_keras), (graph, keras))
        )
        assert found.ridges == same.ridges
        assert largest_change(found.weights, same.weights) < 1e-2

    def test_what_is_not_finite_is_skipped(self):
        model = make_live(sequential())
        model.get_layer("first").bias.assign(np.full(6, np.inf))
        found = refit(model, removal(model, first=[0]), images(model))
        assert found.skipped == {"second": "outputs on the reference images are not finite"}

    def test_one_image_is_too_few(self):
        model = sequential()
        with pytest.raises(ValueError, match="at least two images, not 1"):
            refit(model, removal(model, first=[0]), images(model, 1))


class TestWithWeights:
    @pytest.mark.parametrize("name", ["nested", "shared", "sequential"])
    def test_builds_with_the_new_weights(self, name):
        model = make_live(BUILDERS[name]())
        graph = read_model(model)
        before = model.get_weights()
        news = {
            layer.name: {weight: array + 1 for weight, array in layer.arrays().items()}
            for layer in graph.flat().layers.values()
        }
        changed = rebuild(with_weights(graph, news), Kept(), keras)
        assert same_weights(changed.get_weights(), [array + 1 for array in before])
        assert same_weights(model.get_weights(), before)

    def test_errors(self):
        graph = read_model(sequential())
        with pytest.raises(ValueError, match="has no layers nowhere"):
            with_weights(graph, {"nowhere": {}})
        with pytest.raises(
            ValueError, match=r"'hidden': 'bias' of shape \(3,\).*kernel \(32, 10\)"
        ):
            with_weights(graph, {"hidden": {"bias": np.zeros(3)}})


def test_few_samples_of_many_features_lose_nothing():
    """The head is fitted in the span of the samples; scikit-learn's own answer is the same."""
    rng = np.random.default_rng(0)
    features, y = rng.normal(size=(30, 200)), np.arange(30) % 3
    features += 2 * np.eye(3)[y] @ rng.normal(size=(3, 200)) / 10
    kernel, bias = fit_head(features, y, 0.3)
    scale = np.sqrt((features**2).mean())
    expected = LogisticRegression(C=0.3, max_iter=2000, tol=1e-8).fit(features / scale, y)
    np.testing.assert_allclose(features @ kernel, features / scale @ expected.coef_.T, atol=1e-2)
    np.testing.assert_allclose(bias - bias.mean(), expected.intercept_, atol=1e-2)


@pytest.mark.parametrize("strength", [1e-3, 1.0, 1e3])
def test_heads_converge_on_features_of_very_different_sizes(strength):
    """The penalised loss has a zero gradient, and no solver gave up on the way there."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 10
    features = np.maximum(rng.normal(size=(200, 100)) + 0.5 * rng.normal(size=(10, 100))[y], 0)
    features *= np.exp(3 * rng.normal(size=100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel, bias = fit_head(features, y, strength)
    scale = np.sqrt((features**2).mean())
    surplus = softmax(features @ kernel + bias, axis=1) - np.eye(10)[y]
    gradient = features.T @ surplus / scale + kernel * scale / strength
    assert np.abs(gradient).max() < 1e-3 * np.abs(features.T @ np.eye(10)[y] / scale).max()


@pytest.mark.parametrize(("data_format", "width"), [("channels_last", 2), ("channels_first", 3)])
def test_images_are_mirrored_left_to_right(data_format, width):
    model = keras.Sequential([keras.Input((4, 5, 6)), layers.Flatten(data_format=data_format)])
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 6))
    mirrored = with_mirror_images(read_model(model).flat(), x)
    np.testing.assert_array_equal(mirrored, np.concatenate([x, np.flip(x, width)]))
