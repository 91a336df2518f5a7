"""Legacy Keras (`tf_keras`) models: accepted, and legacy models come back."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from legacy_models import IMAGE, backbone, classifier
from models import difference, random_removal, same_weights
from precision import TOLERANCE

import keras_lrp_prune as klp
from keras_lrp_prune.cost.measurements import file_size, latency
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.prunables.channel_mask import ChannelMask
from keras_lrp_prune.relevance.canonical import canonize
from keras_lrp_prune.surgery.builder import build, rebuild
from keras_lrp_prune.surgery.kept import Kept, kept_without


def with_operators(kit):
    """Operators on tensors and numbers."""
    layers = kit.layers
    inputs = layers.Input((7,), name="features")
    x = layers.Dense(8, activation="relu", name="a")(inputs)
    y = layers.Dense(8, activation="relu", name="b")(inputs)
    x = (x + y) * 0.5 - x / 3.0
    x = layers.Dense(6, name="c")(x * x)
    return kit.Model(inputs, layers.Dense(3, name="classes")(3.0 * x), name="operators")


def with_slices(kit):
    layers = kit.layers
    inputs = layers.Input(IMAGE, name="image")
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = layers.Flatten()(x[:, 1:5, ::2])
    return kit.Model(inputs, layers.Dense(3, name="classes")(x), name="slices")


BUILDERS = (classifier, with_operators, with_slices)


def randomise(model, seed=0):
    """Random weights everywhere, positive where they must be."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape) if "variance" in name else rng.normal(0, 0.5, w.shape)
            for name, w in zip(_names(model), model.get_weights(), strict=True)
        ]
    )
    return model


def _names(model):
    return [getattr(weight, "path", weight.name) for weight in model.weights]


def samples(model, count=4):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def pair(build):
    """A legacy model, and the same one in Keras 3."""
    legacy = randomise(build(tf_keras))
    new = build(keras)
    new.set_weights(legacy.get_weights())
    assert difference(legacy(samples(legacy)), new(samples(legacy))) <= TOLERANCE["float32"]
    return legacy, new


def test_keras_of_tells_the_generations_apart():
    assert keras_of(classifier(tf_keras)) is tf_keras
    assert keras_of(classifier(keras)) is keras
    for thing in (object(), keras.layers.Dense(2), tf_keras.layers.Dense(2), None):
        with pytest.raises(TypeError, match=r"Expected a Keras 3 model .* or a legacy"):
            keras_of(thing)


@pytest.mark.parametrize("build", BUILDERS)
def test_channel_structure_is_that_of_the_same_keras_3_model(build):
    legacy, new = (channel_structure(read_model(model)) for model in pair(build))
    assert legacy.groups or build is with_slices
    assert [group.name for group in legacy.groups] == [group.name for group in new.groups]
    for name, units in new.filter_units.items():
        assert (legacy.filter_units[name] == units).all()
    names = [group.name for group in klp.find_channel_groups(build(tf_keras))]
    assert names == [group.name for group in legacy.groups]


@pytest.mark.parametrize("build_model", BUILDERS)
def test_masked_equals_rebuilt(build_model):
    legacy = randomise(build_model(tf_keras))
    graph = read_model(legacy)
    structure = channel_structure(graph)
    flat = graph.flat()
    working = build(flat, Kept(), tf_keras)
    names = {layer.name: list(layer.weights) for layer in flat.layers.values()}
    mask = ChannelMask(structure, working.layers, names)
    x = samples(legacy)
    plain = working.model(x).numpy()
    assert difference(plain, legacy(x)) <= 1e-6
    removed = random_removal(structure, 0.5)
    mask.set(removed)
    smaller = rebuild(graph, kept_without(structure, removed), tf_keras)
    assert isinstance(smaller, tf_keras.Model) and smaller.name == legacy.name
    if removed.any():
        assert difference(plain, working.model(x)) > 1e-3
        assert smaller.count_params() < legacy.count_params()
    assert difference(smaller(x), working.model(x)) <= TOLERANCE["float32"]
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in legacy.layers]


class Pull(tf_keras.regularizers.Regularizer):
    """Not known to Keras."""

    def __init__(self, strength):
        self.strength = strength

    def __call__(self, x):
        return self.strength * tf.reduce_sum(tf.square(x))

    def get_config(self):
        return {"strength": self.strength}


def swell(x):
    return tf.nn.relu(x) * 1.5


class Scaled(tf_keras.layers.Layer):
    """A custom layer."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def with_settings():
    layers = tf_keras.layers
    inputs = layers.Input((6,), name="features")
    x = layers.Dense(
        8,
        activation="relu",
        kernel_regularizer=Pull(0.5),
        kernel_constraint="non_neg",
        kernel_initializer=tf_keras.initializers.HeNormal(seed=3),
        name="hidden",
    )(inputs)
    x = layers.Dense(5, activation=swell, name="swelling")(x)
    x = Scaled(3.0, name="scaled")(layers.LeakyReLU(0.25, name="leaky")(x))
    model = tf_keras.Model({"features": inputs}, [layers.Dense(3, name="classes")(x)], name="set")
    model.get_layer("swelling").trainable = False
    model.compile(
        tf_keras.optimizers.Adam(0.125, clipnorm=2.0),
        loss="mse",
        metrics=["mae", tf_keras.metrics.MeanSquaredError(name="squares")],
    )
    return model


def test_settings_survive(tmp_path):
    model = with_settings()
    smaller = klp.delete_channels(model, {"hidden": [1, 2]})
    hidden = smaller.get_layer("hidden")
    assert hidden.units == 6
    assert isinstance(hidden.kernel_regularizer, Pull) and hidden.kernel_regularizer.strength == 0.5
    assert isinstance(hidden.kernel_constraint, tf_keras.constraints.NonNeg)
    assert isinstance(hidden.kernel_initializer, tf_keras.initializers.HeNormal)
    assert smaller.get_layer("swelling").activation is swell
    assert not smaller.get_layer("swelling").trainable
    assert len(smaller.trainable_weights) == len(model.trainable_weights)
    assert type(smaller.optimizer) is tf_keras.optimizers.Adam
    assert smaller.optimizer.get_config() == model.optimizer.get_config()
    x, y = {"features": np.ones((4, 6))}, np.ones((4, 3))
    assert isinstance(smaller(x), list) is isinstance(model(x), list)
    smaller.fit(x, y, verbose=0)
    assert "squares" in smaller.evaluate(x, y, verbose=0, return_dict=True)
    smaller.save(tmp_path / "model.keras")
    known = {"Pull": Pull, "swell": swell, "Scaled": Scaled}
    loaded = tf_keras.models.load_model(tmp_path / "model.keras", custom_objects=known)
    assert difference(loaded(x)[0], smaller(x)[0]) <= 1e-6


def test_mixed_precision_survives():
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = classifier(tf_keras)
        model.compile("sgd", "mse")
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    copy = rebuild(read_model(model), Kept(), tf_keras)
    assert copy.dtype_policy.name == "mixed_float16"
    assert copy.get_layer("top").get_layer("conv").dtype_policy.name == "mixed_float16"
    assert type(copy.optimizer) is type(model.optimizer)


def test_training_the_copy_leaves_the_model_alone():
    model = randomise(classifier(tf_keras))
    model.compile("adam", "mse")
    before = model.get_weights()
    copy = rebuild(read_model(model), Kept(), tf_keras)
    copy.fit(samples(model, 8), np.ones((8, 4)), verbose=0)
    assert same_weights(model.get_weights(), before)
    assert not same_weights(copy.get_weights(), before)


class Subclassed(tf_keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Subclassed, "subclassed model"),
        (lambda: tf_keras.Sequential([tf_keras.layers.Dense(2)]), "no input shape yet"),
    ],
)
def test_models_that_are_no_graphs(model, message):
    with pytest.raises(UnsupportedModelError, match=message):
        read_model(model())


def test_unknown_operations_are_barriers_under_their_own_names():
    inputs = tf_keras.layers.Input((7,))
    x = tf_keras.layers.Dense(8, name="a")(inputs)
    x = tf.math.cumsum(x, axis=-1)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3)(x))
    barriers = channel_structure(read_model(model)).barriers
    assert any("math.cumsum" in reason for reason in barriers.values())
    x = samples(model)
    assert difference(rebuild(read_model(model), Kept(), tf_keras)(x), model(x)) <= 1e-6


def test_canonical_graph_is_that_of_the_same_keras_3_model():
    legacy, new = pair(classifier)
    x = samples(legacy)
    outputs = []
    for model in (legacy, new):
        graph = _apart(canonize(read_model(model)))
        outputs.append(build(graph, Kept(), tf_keras).model(x).numpy())
    for output in outputs:
        assert difference(output, new(x)) <= TOLERANCE["float32"]


def _apart(graph):
    """The graph as another process gets it."""
    from keras_lrp_prune.graph.plain import from_plain, to_plain

    return from_plain(*to_plain(graph))


@pytest.mark.parametrize("analyzer", ["lrp.z", "lrp.sequential_preset_a"])
def test_lrp_is_that_of_the_same_keras_3_model(analyzer):
    legacy, new = pair(classifier)
    x, y = samples(legacy, 8), np.arange(8) % 4
    relevances = [klp.filter_relevance(m, x, y, analyzer=analyzer) for m in (legacy, new)]
    assert relevances[0].keys() == relevances[1].keys() and len(relevances[0]) == 4
    for name, values in relevances[1].items():
        assert np.abs(values).max() > 0
        assert difference(relevances[0][name], values) <= 1e-4
    maps = [klp.input_relevance(m, x, y, analyzer=analyzer) for m in (legacy, new)]
    assert difference(*maps) <= 1e-4


@pytest.mark.parametrize("criterion", ["l2", "activation", "taylor", "lrp.sequential_preset_a"])
def test_prune_from_end_to_end(criterion, tmp_path):
    legacy, new = pair(classifier)
    reference = samples(legacy, 12), np.arange(12) % 4
    results = [
        klp.prune(model, reference, target_rate=0.3, criterion=criterion, verbose=0)
        for model in (legacy, new)
    ]
    assert isinstance(results[0].model, tf_keras.Model)
    assert not isinstance(results[0].model, keras.Model)
    for name, kept in results[1].kept.items():
        assert (results[0].kept[name] == kept).all()
    assert results[0].cost_after == results[1].cost_after
    assert results[0].model.count_params() == results[0].cost_after.parameters
    results[0].save(tmp_path / "out")
    loaded = klp.load_result(tmp_path / "out").model
    assert isinstance(loaded, tf_keras.Model)
    x = samples(legacy)
    assert difference(loaded(x), results[0].model(x)) <= 1e-6
    assert difference(results[0].model(x), results[1].model(x)) <= TOLERANCE["float32"]


def test_linear_head_and_measurements():
    inputs = tf_keras.layers.Input(IMAGE)
    features = tf_keras.layers.GlobalAveragePooling2D()(backbone(tf_keras)(inputs))
    bare = tf_keras.Model(inputs, features, name="features")
    x = samples(bare, 8)
    model = klp.with_linear_head(bare, (x, np.arange(8) % 2))
    assert isinstance(model, tf_keras.Model)
    assert model(x).shape == (8, 2)
    assert file_size(model) > 1000 and latency(model, x, repeats=2) > 0
