"""What survives rebuilding beside weights: everything that the user has set."""

import keras
import numpy as np
import pytest
from copies import copied, small
from keras import layers
from models import difference, images, make_live, nested, same_weights

from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.surgery.builder import build, rebuild
from keras_lrp_prune.surgery.deletion import delete_channels
from keras_lrp_prune.surgery.kept import Kept


def flags(model):
    """Every layer's trainable flag by path, those of nested models before their layers."""
    found = {}
    for layer in model.layers:
        found[layer.name] = layer.trainable
        if isinstance(layer, keras.Model):
            found |= {f"{layer.name}/{name}": flag for name, flag in flags(layer).items()}
    return found


# --- trainable flags ---------------------------------------------------------------------


def freeze_backbone(model):
    model.get_layer("backbone").trainable = False


def freeze_all(model):
    model.trainable = False


def freeze_all_but_one(model):
    model.trainable = False
    model.get_layer("backbone").layers[1].trainable = True


def freeze_one(model):
    model.get_layer("top").get_layer("hidden").trainable = False


def freeze_one_weight(model):
    model.get_layer("top").get_layer("hidden").bias.trainable = False


@pytest.mark.parametrize(
    "freeze", [freeze_backbone, freeze_all, freeze_all_but_one, freeze_one, freeze_one_weight]
)
def test_trainable_flags(freeze):
    model = nested()
    freeze(model)
    for copy in (copied(model), delete_channels(model, {"top/hidden": [1]})):
        assert copy.trainable == model.trainable
        assert flags(copy) == flags(model)
        assert [w.path for w in copy.trainable_weights] == [w.path for w in model.trainable_weights]


def test_trainable_flags_inside_a_wrapper():
    recurrent = layers.Bidirectional(layers.LSTM(4), name="both")
    model = keras.Sequential([layers.Input((5, 3)), recurrent, layers.Dense(2)])
    recurrent.forward_layer.trainable = False
    copy = copied(model).get_layer("both")
    assert not copy.forward_layer.trainable and copy.backward_layer.trainable


# --- dtype policies ----------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_dtype_policies(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = small(layers.Dense(5, name="precise", dtype="float32"))
        model.compile("sgd", "mse")
    finally:
        keras.config.set_dtype_policy(before)
    copy = delete_channels(model, {"hidden": [0]})
    assert copy.dtype_policy.name == policy
    assert copy.get_layer("hidden").dtype_policy.name == policy
    assert copy.get_layer("precise").dtype_policy.name == "float32"
    assert type(copy.optimizer) is type(model.optimizer)  # scales the loss in float16
    copy.fit(np.zeros((4, 6)), np.zeros((4, 3)), verbose=0)


# --- state beside weights ------------------------------------------------------------------


def test_adapted_normalisation():
    normalise = layers.Normalization()
    normalise.adapt(np.random.default_rng(0).normal(3, 2, (50, 6)))
    inputs = layers.Input((6,))
    model = keras.Model(inputs, layers.Dense(3)(normalise(inputs)))
    x = images(model)
    assert difference(copied(model)(x), model(x)) <= 1e-6


def test_random_generators_go_on_where_they_were():
    model = small(layers.Dropout(0.5, seed=3))
    x = images(model)
    model(x, training=True)
    copy = copied(model)
    assert difference(copy(x, training=True), model(x, training=True)) <= 1e-6


def test_training_the_copy_leaves_the_model_alone():
    model = make_live(nested())
    model.compile("adam", "mse")
    before = model.get_weights()
    copy = copied(model)
    assert same_weights(copy.get_weights(), before)
    copy.fit(images(model, 8), np.ones((8, 4)), verbose=0)
    assert same_weights(model.get_weights(), before)
    assert not same_weights(copy.get_weights(), before)
    trained = copy.get_weights()
    model.fit(images(model, 8), np.zeros((8, 4)), verbose=0)
    assert same_weights(copy.get_weights(), trained)


def test_initialisers_are_the_users():
    model = small(kernel_initializer=keras.initializers.HeNormal(seed=4))
    for which in (copied(model), build(read_model(model).flat(), Kept(), keras).model):
        initializer = which.get_layer("hidden").kernel_initializer
        assert isinstance(initializer, keras.initializers.HeNormal)
        assert isinstance(which.get_layer("hidden").bias_initializer, keras.initializers.Zeros)


# --- inputs and outputs ----------------------------------------------------------------


def structured(structure):
    left, right = layers.Input((4,), name="left"), layers.Input((4,), name="right")
    shared = layers.Dense(5, name="shared")
    a, b = shared(left), shared(right)
    return {
        "tensor": lambda: keras.Model(left, a),
        "list of one": lambda: keras.Model([left], [a]),
        "dict of one": lambda: keras.Model({"left": left}, {"a": a}),
        "list": lambda: keras.Model([left, right], [b, a]),
        "dict": lambda: keras.Model({"right": right, "left": left}, {"z": a, "b": b}),
        "nested": lambda: keras.Model(
            {"pair": [left, right]}, {"first": {"x": a}, "rest": [b, {"sum": a + b}]}
        ),
        "input as output": lambda: keras.Model(left, [left, a]),
    }[structure]()


@pytest.mark.parametrize(
    "structure",
    ["tensor", "list of one", "dict of one", "list", "dict", "nested", "input as output"],
)
def test_structure_of_inputs_and_outputs(structure):
    model = structured(structure)
    copy = copied(model)
    assert copy.output_names == model.output_names
    assert keras.tree.map_structure(lambda tensor: tensor.name, copy._inputs_struct) == (
        keras.tree.map_structure(lambda tensor: tensor.name, model._inputs_struct)
    )
    rng = np.random.default_rng(0)
    x = keras.tree.map_structure(
        lambda tensor: rng.normal(size=(3, *tensor.shape[1:])), model._inputs_struct
    )
    before, after = model(x), copy(x)
    keras.tree.assert_same_structure(before, after)
    for first, second in zip(keras.tree.flatten(before), keras.tree.flatten(after), strict=True):
        assert difference(second, first) <= 1e-6


# --- one layer in several places ---------------------------------------------------------


def shared_inside_and_outside():
    """A convolution, and a model around it, that is called by itself too."""
    convolution = layers.Conv2D(6, 3, padding="same", activation="relu", name="convolution")
    inside = layers.Input((8, 8, 3))
    backbone = keras.Model(inside, layers.MaxPooling2D()(convolution(inside)), name="backbone")
    within = layers.Input((8, 8, 3))
    wrapper = keras.Model(within, layers.Conv2D(4, 1, name="last")(backbone(within)), name="outer")
    left, right = layers.Input((8, 8, 3)), layers.Input((8, 8, 3))
    x = layers.Concatenate()(
        [
            layers.GlobalAveragePooling2D()(tensor)
            for tensor in (wrapper(left), wrapper(right), backbone(right), convolution(left))
        ]
    )
    return keras.Model([left, right], layers.Dense(3, name="classes")(x))


def test_layer_inside_and_outside_a_nested_model_stays_one():
    model = shared_inside_and_outside()
    graph = read_model(model)
    names = [name for name in graph.flat().layers if name.endswith("convolution")]
    assert names == ["convolution"]
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(2, 8, 8, 3)).astype("float32") for _ in range(2)]
    for copy in (copied(model), rebuild(graph.flat(), Kept(), keras)):
        assert copy.count_params() == model.count_params()
        assert difference(copy(x), model(x)) <= 1e-6
    smaller = delete_channels(model, {"convolution": [2]})
    assert smaller.get_layer("convolution").filters == 5
    assert smaller.get_layer("backbone").get_layer("convolution") is smaller.get_layer(
        "convolution"
    )
    assert smaller.get_layer("outer").get_layer("backbone") is smaller.get_layer("backbone")
    kernel, bias = model.get_layer("convolution").weights
    kernel.assign(np.where(np.arange(6) == 2, 0, kernel))
    bias.assign(np.where(np.arange(6) == 2, 0, bias))
    assert difference(smaller(x), model(x)) <= 1e-6


def test_nested_model_on_the_outer_input():
    inputs = layers.Input((6,))
    hidden = layers.Dense(8, name="hidden")(inputs)
    part = keras.Model(inputs, hidden, name="part")
    model = keras.Model(inputs, layers.Dense(2)(part(inputs) + hidden))
    copy = delete_channels(model, {"part/hidden": [1]})
    assert copy.get_layer("hidden") is copy.get_layer("part").get_layer("hidden")
    assert copy.get_layer("hidden").units == 7
    assert copied(model).count_params() == model.count_params()


# --- saving --------------------------------------------------------------------------------


def test_rebuilt_compiled_model_saves_and_loads(tmp_path):
    model = nested()
    model.compile(keras.optimizers.Adam(0.125), "mse", metrics=["mae"])
    model.get_layer("backbone").trainable = False
    copy = delete_channels(model, {"top/hidden": [0]})
    copy.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [w.shape for w in loaded.trainable_weights] == [w.shape for w in copy.trainable_weights]
    assert float(loaded.optimizer.learning_rate) == 0.125
    x = images(model)
    assert difference(loaded(x), copy(x)) <= 1e-6


def nested_with(inside, outside, called):
    """A nested model with these keys of inputs and outputs, called with its keys in an order."""
    tensors = {key: layers.Input((4,), name=key) for key in inside}
    made = {
        key: layers.Dense(4, activation="relu", name=f"make_{key}")(tensors[inside[number]])
        for number, key in enumerate(outside)
    }
    part = keras.Model(tensors, made, name="part")
    given = {key: layers.Input((4,), name=f"outer_{key}") for key in sorted(inside)}
    results = part({key: given[key] for key in called})
    # Each is used in another way, so that a mix-up shows.
    x = results[outside[0]] * 2 + results[outside[1]]
    return keras.Model(given, layers.Dense(2)(x))


def test_nested_model_with_a_list_of_inputs_called_with_a_dict_is_refused():
    left, right = layers.Input((4,), name="left"), layers.Input((4,), name="right")
    part = keras.Model([right, left], left * 2 - right, name="part")
    inputs = {"one": layers.Input((4,), name="one"), "two": layers.Input((4,), name="two")}
    named = {"left": inputs["one"], "right": inputs["two"]}
    model = keras.Model(inputs, layers.Dense(2)(part(named)))
    with pytest.raises(UnsupportedModelError, match="'part' has a list of inputs"):
        read_model(model).flat()


@pytest.mark.parametrize("called", ["ab", "ba"])
@pytest.mark.parametrize("inside", ["ab", "ba"])
@pytest.mark.parametrize("outside", ["yz", "zy"])
def test_nested_model_with_dicts_in_any_order(inside, outside, called):
    model = nested_with(inside, outside, called)
    rng = np.random.default_rng(0)
    x = {key: rng.normal(size=(5, 4)).astype("float32") for key in "ab"}
    graph = read_model(model)
    for source in (graph, graph.flat()):
        assert difference(rebuild(source, Kept(), keras)(x), model(x)) <= 1e-6
