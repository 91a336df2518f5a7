"""What survives rebuilding beside weights: everything that the user has set."""

import keras
import numpy as np
import pytest
from keras import layers
from models import difference, images, make_live, nested, same_weights

from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reading import read_model
from keras_lrp_prune.surgery.building import build, rebuild
from keras_lrp_prune.surgery.deletion import delete_channels
from keras_lrp_prune.surgery.kept import Kept


def copied(model):
    """Whole, rebuilt."""
    return rebuild(read_model(model), Kept(), keras)


def small(*extra, **options):
    """A tiny classifier whose layer "hidden" can be pruned."""
    inputs = layers.Input((6,), name="features")
    x = layers.Dense(8, name="hidden", **{"activation": "relu", **options})(inputs)
    for layer in extra:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(3, name="classes")(x), name="small")


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


# --- custom functions and classes that Keras does not know ---------------------------------


def swell(x):
    return keras.ops.relu(x) * 1.5


class Pull(keras.Regularizer):
    def __init__(self, strength):
        self.strength = strength

    def __call__(self, x):
        return self.strength * keras.ops.sum(keras.ops.square(x))

    def get_config(self):
        return {"strength": self.strength}


class AtMost(keras.constraints.Constraint):
    def __init__(self, limit=1.0):
        self.limit = limit

    def __call__(self, w):
        return keras.ops.clip(w, -self.limit, self.limit)

    def get_config(self):
        return {"limit": self.limit}


class Sevenths(keras.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.full(shape, 1 / 7, dtype)


CUSTOM = {
    "activation": swell,
    "kernel_regularizer": Pull(0.5),
    "bias_regularizer": keras.regularizers.L1(0.25),
    "activity_regularizer": Pull(0.125),
    "kernel_constraint": AtMost(2.0),
    "bias_constraint": keras.constraints.NonNeg(),
    "kernel_initializer": Sevenths(),
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.75),
}


@pytest.mark.parametrize("name", CUSTOM)
def test_custom_settings_of_a_layer(name):
    model = small(**{name: CUSTOM[name]})
    before, after = (getattr(which.get_layer("hidden"), name) for which in (model, copied(model)))
    if name == "activation":
        assert after is swell
    else:
        assert type(after) is type(before) and after is not before
        assert after.get_config() == before.get_config()


def test_losses_of_regularisers():
    model = small(kernel_regularizer=Pull(0.5))
    (before,), (after,) = model.losses, copied(model).losses
    assert float(after) == float(before) > 0


def test_lambdas_and_custom_settings_deep_inside():
    shift = 0.5
    inputs = layers.Input((5, 3))
    with keras.saving.custom_object_scope({"swell": swell, "Pull": Pull}):  # Bidirectional asks
        recurrent = layers.LSTM(4, activation=swell, kernel_regularizer=Pull(0.5))
        x = layers.Bidirectional(recurrent)(inputs)
    x = layers.Dense(6, activation=lambda x: x + shift)(x)
    x = layers.Lambda(lambda x: x * shift)(x)
    model = keras.Model(inputs, x)
    x = np.random.default_rng(0).normal(size=(4, 5, 3))
    assert difference(copied(model)(x), model(x)) <= 1e-6


# --- custom layers -----------------------------------------------------------------------


class Scaled(layers.Layer):
    """A custom layer as users write it; Keras finds its config by itself."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale", initializer="ones")

    def call(self, x):
        return x * self.scale * self.factor


class WithoutConfig(Scaled):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function


class IncompleteConfig(Scaled):
    def __init__(self, power, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def get_config(self):
        return {**layers.Layer.get_config(self), "factor": self.factor}


class ForgetfulConfig(Scaled):
    def get_config(self):
        return layers.Layer.get_config(self)


class OtherWeights(Scaled):
    def build(self, shape):
        width = getattr(self, "width", shape[-1])
        self.scale = self.add_weight(shape=(width,), name="scale", initializer="ones")


def test_custom_layer():
    model = small(Scaled(3.0, name="scaled"))
    model.get_layer("scaled").scale.assign(np.arange(8))
    copy = copied(model)
    assert type(copy.get_layer("scaled")) is Scaled
    x = images(model)
    assert difference(copy(x), model(x)) <= 1e-6


def other_weights():
    layer = OtherWeights(name="odd")
    layer.width = 1
    return layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            lambda: WithoutConfig(len, name="odd"),
            r"'odd' .*has no config.*WithoutConfig.get_config",
        ),
        (lambda: IncompleteConfig(2, name="odd"), r"'odd'.*IncompleteConfig.get_config.*power"),
        (lambda: ForgetfulConfig(2.0, name="odd"), r"'odd'.*loses factor=2.0.*Add 'factor'"),
        (other_weights, r"'odd'.*shapes \[\(8,\)\], not \[\(1,\)\]"),
    ],
)
def test_custom_layer_that_cannot_be_copied(layer, message):
    with pytest.raises(UnsupportedModelError, match=message):
        copied(small(layer()))


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


# --- compilation -------------------------------------------------------------------------


def log_cosh(y, p):
    return keras.losses.log_cosh(y, p)


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """Not known to Keras."""

    def __init__(self, start):
        self.start = start

    def __call__(self, step):
        return self.start * 0.5 ** keras.ops.cast(step, "float32")

    def get_config(self):
        return {"start": self.start}


class Bias(keras.metrics.Mean):
    """Not known to Keras."""

    def update_state(self, y, p, sample_weight=None):
        return super().update_state(p - y, sample_weight)


class Plain(keras.optimizers.SGD):
    """Not known to Keras."""


COMPILED = {
    "names": {"optimizer": "rmsprop", "loss": "mse", "metrics": ["mae"]},
    "objects": {
        "optimizer": lambda: keras.optimizers.AdamW(3e-4, weight_decay=0.02, clipnorm=2.0),
        "loss": keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.25),
        "metrics": [keras.metrics.TopKCategoricalAccuracy(2, name="top")],
        "weighted_metrics": ["mae"],
    },
    "schedule": {
        "optimizer": lambda: keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.75), momentum=0.5
        ),
        "loss": log_cosh,
    },
    "custom": {
        "optimizer": lambda: Plain(Halving(0.25)),
        "loss": log_cosh,
        "metrics": [Bias(name="bias")],
    },
    "options": {
        "optimizer": "adam",
        "loss": "mse",
        "run_eagerly": True,
        "steps_per_execution": 2,
        "jit_compile": False,
    },
}


@pytest.mark.parametrize("name", COMPILED)
def test_compilation(name):
    options = dict(COMPILED[name])
    if callable(options["optimizer"]):
        options["optimizer"] = options["optimizer"]()
    model = small()
    model.compile(**options)
    x, y = np.ones((8, 6)), np.eye(3)[np.arange(8) % 3]
    model.fit(x, y, batch_size=4, verbose=0)
    copy = delete_channels(model, {"hidden": [1, 5]})
    assert type(copy.optimizer) is type(model.optimizer)
    assert copy.optimizer is not model.optimizer
    assert copy.optimizer.get_config() == model.optimizer.get_config()
    assert copy.optimizer.iterations == 0
    for key in ("loss", "run_eagerly", "steps_per_execution", "jit_compile"):
        assert getattr(copy, key) == getattr(model, key)
    assert copy.evaluate(x, y, verbose=0, return_dict=True).keys() == (
        model.evaluate(x, y, verbose=0, return_dict=True).keys()
    )
    copy.fit(x, y, batch_size=4, verbose=0)


def test_learning_rate_of_now():
    model = small()
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = 0.0625
    assert float(copied(model).optimizer.learning_rate) == 0.0625


def two_outputs():
    inputs = layers.Input((6,))
    x = layers.Dense(8, activation="relu", name="hidden")(inputs)
    outputs = {"kind": layers.Dense(3, name="kind")(x), "size": layers.Dense(1, name="size")(x)}
    return keras.Model(inputs, outputs)


def test_compilation_of_several_outputs():
    model = two_outputs()
    model.compile(
        "adam",
        loss={"kind": keras.losses.CategoricalCrossentropy(from_logits=True), "size": "mse"},
        loss_weights={"kind": 2.0, "size": 0.5},
        metrics={"kind": ["accuracy"], "size": ["mae", "mse"]},
    )
    x, y = np.ones((8, 6)), {"kind": np.eye(3)[np.arange(8) % 3], "size": np.ones((8, 1))}
    copy = copied(model)
    assert copy.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(
        model.evaluate(x, y, verbose=0, return_dict=True)
    )
    delete_channels(model, {"hidden": [0]}).fit(x, y, verbose=0)


def test_what_cannot_be_compiled_again_is_said(recwarn):
    class Closed(keras.optimizers.SGD):
        def get_config(self):
            raise NotImplementedError("no config here")

    model = small()
    model.compile(Closed(), "mse")
    with pytest.warns(UserWarning, match=r"'small' is compiled with .* no config here"):
        copy = delete_channels(model, {"hidden": [0]})
    assert not copy.compiled and copy.get_layer("hidden").units == 7


def test_a_model_that_is_not_compiled_stays_so():
    assert not copied(small()).compiled
    compiled = small()
    compiled.compile("sgd", "mse")
    assert not build(read_model(compiled), Kept(), keras).model.compiled


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
