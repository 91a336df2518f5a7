import keras
import numpy as np
import pytest
from keras import layers
from models import (
    IMAGE,
    analysed,
    difference,
    images,
    make_live,
    masked_copy,
    nested,
    pruned,
    random_removal,
    sequential,
    shared,
    squeeze_excite,
    vgg,
)

from keras_lrp_prune.display_names import meant
from keras_lrp_prune.graph.analysis import channel_structure, find_channel_groups
from keras_lrp_prune.graph.layer_registry import CHANNEL_RULES, register_layer_rule
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.surgery.deletion import delete_channels


def conv(x, filters, name=None, **options):
    return layers.Conv2D(filters, 3, padding="same", name=name, **options)(x)


def ended(inputs, x):
    """A model with class scores on top of `x`."""
    return keras.Model(inputs, layers.Dense(3, name="classes")(layers.Flatten()(x)))


def partners(model):
    """Group name to the filter layers in it."""
    return {group.name: sorted(group.filters) for group in find_channel_groups(model)}


def check_masked_equals_rebuilt(model, share=0.5, tolerance=1e-9):
    x = images(model)
    _, structure = analysed(model)
    removed = random_removal(structure, share)
    copy, mask = masked_copy(model)
    mask.set(removed)
    assert difference(pruned(model, removed)(x), copy.model(x)) <= tolerance


class TestGroups:
    def test_residual_sum_couples_its_inputs(self):
        inputs = layers.Input(IMAGE)
        a = conv(inputs, 4, "a")
        b = conv(conv(a, 5, "inner"), 4, "b")
        model = ended(inputs, layers.Add()([a, b]))
        assert partners(model) == {"a": ["a", "b"], "inner": ["inner"]}

    def test_concat_keeps_groups_apart_at_their_offsets(self):
        inputs = layers.Input(IMAGE)
        both = layers.Concatenate()([conv(inputs, 4, "a"), conv(inputs, 2, "b")])
        model = ended(inputs, conv(both, 3, "reader"))
        assert partners(model) == {"a": ["a"], "b": ["b"], "reader": ["reader"]}
        _, structure = analysed(model)
        removed = np.zeros(structure.n_units, bool)
        removed[structure.filter_units["b"][0]] = True
        kept = pruned(model, removed).get_layer("reader").kernel
        expected = np.delete(model.get_layer("reader").kernel, 4, axis=2)
        np.testing.assert_array_equal(kept, expected)

    def test_concat_then_sum_couples_by_position(self):
        inputs = layers.Input(IMAGE)
        both = layers.Concatenate()([conv(inputs, 4, "a"), conv(inputs, 2, "b")])
        groups = find_channel_groups(ended(inputs, layers.Add()([both, conv(inputs, 6, "c")])))
        by_size = {group.size: group for group in groups}
        assert sorted(by_size[4].filters) == ["a", "c"]
        assert sorted(by_size[2].filters) == ["b", "c"]
        assert by_size[2].filters["c"].ravel().tolist() == [4, 5]

    def test_a_row_holds_the_filters_that_go_with_a_channel(self):
        inputs = layers.Input(IMAGE)
        a = conv(inputs, 4, "a")
        twice = layers.Concatenate()([a, a])
        model = ended(inputs, layers.Add()([twice, conv(inputs, 8, "b")]))
        (group,) = find_channel_groups(model)
        assert group.units.tolist() == [0, 1, 2, 3]
        assert group.filters["a"].tolist() == [[0], [1], [2], [3]]
        assert group.filters["b"].tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]

    def test_depthwise_and_batch_norm_pass_channels_on(self):
        inputs = layers.Input(IMAGE)
        x = layers.BatchNormalization()(conv(inputs, 4, "a"))
        x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
        model = ended(inputs, conv(x, 5, "b"))
        assert partners(model) == {"a": ["a"], "b": ["b"]}
        smaller = pruned(model, np.arange(9) == 1)
        assert smaller.get_layer("depthwise").kernel.shape == (3, 3, 3, 2)
        assert smaller.get_layer("b").kernel.shape == (3, 3, 6, 5)

    def test_flatten_reads_a_channel_at_every_position(self):
        model = sequential()
        height, width, channels = model.layers[4].output.shape[1:]
        _, structure = analysed(model)
        removed = np.zeros(structure.n_units, bool)
        removed[structure.filter_units["second"][0]] = True
        read = pruned(model, removed).get_layer("hidden").kernel.shape[0]
        assert read == height * width * (channels - 1)

    def test_inputs_and_outputs_are_protected(self):
        inputs = layers.Input(IMAGE)
        x = layers.Add()([inputs, conv(inputs, 3, "like_input")])
        model = ended(inputs, conv(x, 4, "free"))
        _, structure = analysed(model)
        assert partners(model) == {"free": ["free"]}
        assert structure.protected == {
            "like_input": "input of the model",
            "classes": "output of the model",
        }

    @pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
    def test_activation_of_the_head_protects_nothing_below(self, activation):
        assert [group.size for group in find_channel_groups(vgg(activation))] == [6, 8, 10, 12]

    def test_separate_softmax_protects_nothing_below(self):
        inputs = layers.Input(IMAGE)
        x = layers.Dense(3)(layers.Flatten()(conv(inputs, 4, "a")))
        assert partners(keras.Model(inputs, layers.Softmax()(x))) == {"a": ["a"]}

    def test_protect_names_layers_and_nested_models(self):
        graph = read_model(nested())
        for names, left in ((("backbone",), {"top/hidden"}), (("top/hidden",), set())):
            structure = channel_structure(graph, protect=names)
            free = {group.name for group in structure.groups}
            assert free and not any(name.startswith(names) for name in free)
            assert left <= free
            assert all("protect=" in structure.protected[name] for name in names if "/" in name)

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("hidden", "Did you mean 'top/hidden'?"),
            ("backbon", "Did you mean 'backbone'"),
            ("nowhere", "There are: "),
        ],
    )
    def test_an_unknown_layer_is_answered_by_what_was_meant(self, name, said):
        with pytest.raises(UnsupportedModelError, match=f"protect names layer '{name}'") as error:
            channel_structure(read_model(nested()), protect=(name,))
        assert said in str(error.value)
        if name == "hidden":
            with pytest.raises(ValueError, match="Did you mean 'top/hidden'"):
                delete_channels(nested(), {name: [0]})

    def test_few_of_many_layers_are_listed(self):
        known = [f"base/conv_{number}" for number in range(90)]
        assert meant("elsewhere", known).endswith("base/conv_9 and 80 more.")
        assert meant("conv_44", known) == "Did you mean 'base/conv_44'?"
        assert meant("Conv_44", known).startswith("Did you mean 'base/conv_44'")

    def test_pruning_rate_counts_unprotected_filters(self):
        _, structure = analysed(vgg())
        assert structure.n_units == 6 + 8 + 10 + 12
        assert structure.rate(np.arange(36) < 9) == 0.25
        kept = structure.kept_filters(np.arange(36) < 2)
        first = kept.pop(structure.groups[0].name)
        assert first.tolist() == [2, 3, 4, 5]
        assert all(indices.tolist() == list(range(len(indices))) for indices in kept.values())


class TestConstantChannels:
    """A masked channel may be something else than zero: then what reads it is zeroed too."""

    @pytest.mark.parametrize(
        "constant",
        [
            lambda x: layers.Activation("sigmoid")(x),
            lambda x: x + 3.0,
            lambda x: layers.ReLU(negative_slope=0.5, threshold=1.0)(x),
            lambda x: layers.Maximum()([x, layers.Activation("softplus")(x)]),
        ],
        ids=["sigmoid", "plus constant", "shifted relu", "maximum"],
    )
    def test_constant_is_not_read(self, constant, float64):
        inputs = layers.Input(IMAGE)
        x = constant(conv(inputs, 4, "a"))
        model = ended(inputs, conv(x, 4, "b"))
        _, structure = analysed(model)
        assert partners(model) == {"a": ["a"], "b": ["b"]}
        roles = {(it.layer, it.axis): it.role for it in structure.weight_axes}
        assert (roles["b", 2], roles["b", 3]) == ("unread", "zeroed")
        check_masked_equals_rebuilt(make_live(model))

    @pytest.mark.parametrize(
        "zero",
        [
            lambda x: layers.BatchNormalization()(layers.Activation("sigmoid")(x)),
            lambda x: layers.DepthwiseConv2D(3)(layers.Activation("sigmoid")(x)),
            lambda x: x * 3.0,
            lambda x: layers.Multiply()([x, layers.Activation("sigmoid")(x)]),
            lambda x: layers.Activation(layers.ReLU(6.0))(x),
            lambda x: layers.Activation("gelu")(x),
        ],
        ids=["batch norm", "depthwise", "times constant", "gate", "layer", "gelu"],
    )
    def test_zero_does_not_protect(self, zero, float64):
        inputs = layers.Input(IMAGE)
        x = zero(conv(inputs, 4, "a"))
        model = ended(inputs, conv(x, 4, "b"))
        assert partners(model) == {"a": ["a"], "b": ["b"]}
        check_masked_equals_rebuilt(make_live(model))

    def test_squeeze_excite_is_one_group_with_what_it_scales(self):
        model = squeeze_excite()
        groups = find_channel_groups(model)
        assert sorted((len(group.filters), group.size) for group in groups) == [
            *((1, 4), (1, 6)),
            (2, 8),
        ]

    def test_layer_as_activation(self, float64):
        inputs = layers.Input(IMAGE)
        model = ended(inputs, conv(inputs, 4, "a", activation=layers.LeakyReLU()))
        assert partners(model) == {"a": ["a"]}
        check_masked_equals_rebuilt(make_live(model))


@keras.saving.register_keras_serializable("tests")
class Doubling(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


class TestBarriers:
    @pytest.mark.parametrize(
        ("layer", "reason"),
        [
            (Doubling(name="wall"), "Doubling: no channel rule for Doubling"),
            (layers.Lambda(lambda x: 2 * x, name="wall"), "Lambda: no channel rule for Lambda"),
            (layers.Masking(name="wall"), "Masking: no channel rule for Masking"),
            (layers.ConvLSTM1D(6, 3, name="wall"), "ConvLSTM1D: no channel rule"),
            (layers.Reshape((-1, 4), name="wall"), "mixes channels with other axes"),
        ],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    def test_barrier_protects_and_is_named(self, layer, reason):
        inputs = layers.Input((8, 8, 3))
        x = layer(conv(conv(inputs, 5, "free"), 6, "read"))
        model = ended(inputs, layers.Dense(5, name="behind")(layers.Flatten()(x)))
        _, structure = analysed(model)
        assert partners(model) == {"free": ["free"], "behind": ["behind"]}
        assert list(structure.barriers) == ["wall"] and reason in structure.barriers["wall"]
        assert "'wall'" in structure.protected["read"]
        if "filters" in layer.get_config():
            assert len(structure.filter_units["wall"]) == 6
            assert reason.split(": ")[1] in structure.protected["wall"]

    def test_rebuilds_around_barriers(self, float64):
        inputs = layers.Input((8, 8, 3))
        x = layers.Lambda(lambda x: 2 * x)(Doubling()(conv(inputs, 4)))
        x = layers.Conv2D(6, 3)(x) * np.arange(1.0, 7.0)
        model = ended(inputs, conv(conv(x, 5, "free"), 4, "too"))
        assert partners(model).keys() == {"free", "too"}
        check_masked_equals_rebuilt(make_live(model))

    def test_registered_rule_lets_channels_through(self, monkeypatch, float64):
        monkeypatch.setattr(CHANNEL_RULES, "own", {})
        inputs = layers.Input(IMAGE)
        model = ended(inputs, Doubling()(conv(inputs, 4, "a")))
        assert partners(model) == {}
        register_layer_rule(Doubling, lambda call, flow: call.inputs[0])
        assert partners(model) == {"a": ["a"]}
        check_masked_equals_rebuilt(make_live(model))

    def test_rules_are_for_classes(self):
        with pytest.raises(TypeError, match="takes a layer class, and a function"):
            register_layer_rule("Doubling", lambda call, flow: call.inputs[0])

    def test_custom_layer_with_the_name_of_a_keras_layer_is_a_barrier(self):
        impostor = type("ReLU", (Doubling,), {})(name="wall")
        inputs = layers.Input(IMAGE)
        _, structure = analysed(ended(inputs, impostor(conv(inputs, 4))))
        assert list(structure.barriers) == ["wall"]


class TestReading:
    def test_subclassed_model_is_refused(self):
        class Own(keras.Model):
            def call(self, inputs):
                return inputs

        with pytest.raises(UnsupportedModelError, match=r"'mine' \(.*Own\) is a subclassed model"):
            read_model(Own(name="mine"))

    def test_unbuilt_sequential_is_refused(self):
        with pytest.raises(UnsupportedModelError, match="'early' has no input shape"):
            read_model(keras.Sequential([layers.Dense(2)], name="early"))

    @pytest.mark.parametrize("thing", [3, layers.Dense(2), "model.keras"])
    def test_what_is_no_model_is_refused(self, thing):
        advice = r" Load it: keras\.models\.load_model\('model\.keras'\)\." * isinstance(thing, str)
        with pytest.raises(TypeError, match=rf"Expected a Keras 3 model.*{advice}$"):
            read_model(thing)

    def test_nested_layers_have_flat_names(self):
        graph = read_model(nested())
        flat = graph.flat()
        assert {"backbone", "top"} < set(graph.layers)
        assert {"top/hidden", "top/classes"} < set(flat.layers)
        assert all(node.inner is None for node in flat.nodes)
        assert {"top/hidden", "top/classes"} < set(channel_structure(graph).filter_units)
        assert flat.flat() == flat

    def test_nested_models_called_with_keywords_and_twice(self, float64):
        inside = layers.Input(IMAGE)
        inner = keras.Model(inside, layers.ReLU()(conv(inside, 4, "a")), name="inner")
        inputs = layers.Input(IMAGE)
        once, again = inner(inputs=inputs, training=False), inner(layers.ReLU()(inputs))
        model = make_live(ended(inputs, layers.Concatenate()([once, again])))
        assert partners(model) == {"inner/a": ["inner/a"]}
        check_masked_equals_rebuilt(model)

    def test_shared_layer_has_one_set_of_filters(self):
        model = shared()
        groups = find_channel_groups(model)
        # The two layers that it reads are coupled through its kernel.
        assert sorted((len(group.filters), group.size) for group in groups) == [(1, 6), (2, 5)]

    def test_reading_copies_nothing(self):
        model = vgg()
        (kernel, *_) = read_model(model).layers[model.layers[1].name].weights.values()
        assert kernel is model.layers[1].kernel
