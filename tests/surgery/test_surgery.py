import keras
import numpy as np
import pytest
from keras import layers
from models import (
    BUILDERS,
    analysed,
    difference,
    images,
    make_live,
    masked_copy,
    pruned,
    random_removal,
    resnet_v1,
    same_weights,
    squeezenet,
    vgg,
)

from keras_lrp_prune.surgery.builder import rebuild
from keras_lrp_prune.surgery.deletion import delete_channels
from keras_lrp_prune.surgery.kept import Kept, kept_without


def check_masked_equals_rebuilt(model, tolerance):
    """Masked equals rebuilt at 30 % and 70 % of every group; undone, every bit is back."""
    x = images(model)
    _, structure = analysed(model)
    copy, mask = masked_copy(model)
    before, plain = copy.model.get_weights(), copy.model(x).numpy()
    assert difference(plain, model(x)) <= tolerance
    for share in (0.3, 0.7):
        removed = random_removal(structure, share)
        mask.set(removed)
        masked = copy.model(x)
        assert difference(plain, masked) >= 1e-3, "the mask must matter, or the test cannot fail"
        assert difference(pruned(model, removed)(x), masked) <= tolerance
    mask.clear()
    assert same_weights(before, copy.model.get_weights())
    assert (copy.model(x).numpy() == plain).all()


@pytest.mark.parametrize("name", BUILDERS)
def test_masked_equals_rebuilt(name, precision):
    check_masked_equals_rebuilt(make_live(BUILDERS[name]()), precision)


def test_random_masks_in_any_order_undo_exactly(float64):
    model = make_live(resnet_v1())
    _, structure = analysed(model)
    copy, mask = masked_copy(model)
    before = copy.model.get_weights()
    for seed in range(20):
        removed = random_removal(structure, seed / 20, seed)
        mask.set(removed)
        assert (mask.removed == removed).all()
        fresh, other = masked_copy(model)
        other.set(removed)
        assert same_weights(copy.model.get_weights(), fresh.model.get_weights())
    mask.clear()
    assert same_weights(before, copy.model.get_weights())


@pytest.mark.parametrize("name", ["nested", "sequential", "mobilenet_v2", "squeeze_excite"])
def test_rebuilt_model_needs_nothing_of_this_package(name, plain_keras):
    model = make_live(BUILDERS[name]())
    _, structure = analysed(model)
    smaller = pruned(model, random_removal(structure, 0.5))
    assert type(smaller) is type(model)
    assert smaller.name == model.name
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in model.layers]
    assert smaller.count_params() < model.count_params()
    x = images(model)
    assert difference(plain_keras(smaller, x, train=True), smaller(x)) <= 1e-5


def test_training_settings_survive():
    model = vgg()
    model.layers[1].trainable = False
    _, structure = analysed(model)
    smaller = pruned(model, random_removal(structure, 0.5))
    assert not smaller.layers[1].trainable and smaller.layers[3].trainable


@pytest.mark.parametrize("name", ["vgg", "squeezenet", "mobilenet", "densenet"])
def test_legacy_twin_computes_the_same(name):
    import tf_keras

    model = make_live(BUILDERS[name]())
    graph, structure = analysed(model)
    kept = kept_without(structure, random_removal(structure, 0.5))
    x = images(model)
    twin = rebuild(graph.flat(), kept, tf_keras)
    assert isinstance(twin, tf_keras.Model)
    assert difference(twin(x), rebuild(graph, kept, keras)(x)) <= 1e-5


class TestDeleteChannels:
    def test_coupled_channels_follow(self, float64):
        model = make_live(resnet_v1())
        _, structure = analysed(model)
        group = max(structure.groups, key=lambda group: len(group.filters))
        assert len(group.filters) == 2
        first, second = group.filters
        smaller = delete_channels(model, {first: [0, 3]})
        for name in (first, second):
            assert smaller.get_layer(name).filters == group.size - 2
        removed = np.zeros(structure.n_units, bool)
        removed[structure.filter_units[first][[0, 3]]] = True
        copy, mask = masked_copy(model)
        mask.set(removed)
        x = images(model)
        assert difference(smaller(x), copy.model(x)) <= 1e-9

    def test_kept_filters_are_the_others(self):
        model = vgg()
        name = model.layers[1].name
        smaller = delete_channels(model, {name: range(1, 4)})
        np.testing.assert_array_equal(
            smaller.get_layer(name).kernel, np.asarray(model.layers[1].kernel)[..., [0, 4, 5]]
        )

    def test_nothing_to_delete_is_a_copy(self):
        model = make_live(squeezenet())
        copy = delete_channels(model, {})
        assert copy is not model and same_weights(copy.get_weights(), model.get_weights())

    def test_model_is_untouched(self):
        model = make_live(resnet_v1())
        x = images(model)
        config, before, outputs = model.get_config(), model.get_weights(), model(x).numpy()
        _, structure = analysed(model)
        for name, units in structure.filter_units.items():
            if (units >= 0).all():
                smaller = delete_channels(model, {name: [0]})
                smaller.set_weights([np.ones_like(array) for array in smaller.get_weights()])
        _, mask = masked_copy(model)
        mask.set(random_removal(structure, 0.5))
        assert same_weights(before, model.get_weights())
        assert model.get_config() == config
        assert (model(x).numpy() == outputs).all()

    @pytest.mark.parametrize(
        ("channels", "message"),
        [
            ({"nowhere": [0]}, "'nowhere' is not a layer with filters.*first, second"),
            ({"first": [6]}, r"'first' has filters 0 to 5, not \[6\]"),
            ({"first": [-1, 7]}, r"not \[-1, 7\]"),
            ({"classes": [0, 1]}, r"Filters \[0, 1\] of layer 'classes' are protected: output"),
            ({"first": range(6)}, "no filter in layer first"),
        ],
    )
    def test_errors(self, channels, message):
        with pytest.raises(ValueError, match=message):
            delete_channels(BUILDERS["sequential"](), channels)

    def test_a_whole_branch_is_refused(self):
        inputs = layers.Input((8, 8, 3))
        x = layers.Conv2D(6, 3, name="split")(inputs)
        both = [layers.Conv2D(4, 3)(x[..., :2]), layers.Conv2D(4, 3)(x[..., 2:])]
        model = keras.Model(inputs, layers.Flatten()(layers.Add()(both)))
        with pytest.raises(ValueError, match=r"no filter in layer get_item.*whole branch"):
            delete_channels(model, {"split": [0, 1]})


class TestWhole:
    """`Kept()` keeps everything."""

    @pytest.mark.parametrize("name", BUILDERS)
    def test_rebuilt_whole_model_is_the_model(self, name):
        model = make_live(BUILDERS[name]())
        graph, _ = analysed(model)
        for source in (graph, graph.flat()):
            copy = rebuild(source, Kept(), keras)
            x = images(model)
            assert copy.count_params() == model.count_params()
            assert difference(copy(x), model(x)) <= 1e-5

    def test_operations_and_dict_inputs(self):
        left, right = layers.Input((4,), name="left"), layers.Input((4,), name="right")
        hidden = layers.Dense(6, activation="relu", name="hidden")(left + right) * 0.5
        model = keras.Model({"left": left, "right": right}, layers.Dense(3)(hidden))
        smaller = delete_channels(model, {"hidden": [2]})
        assert smaller.get_layer("hidden").units == 5
        kernel = model.get_layer("hidden").kernel
        kernel.assign(np.where(np.arange(6) == 2, 0, kernel))
        rng = np.random.default_rng(0)
        x = {name: rng.normal(size=(5, 4)).astype("float32") for name in ("left", "right")}
        assert difference(smaller(x), model(x)) <= 1e-5
