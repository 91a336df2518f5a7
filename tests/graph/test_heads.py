"""What a model's output means: read from the graph, or from what the outputs are."""

import warnings

import keras
import numpy as np
import pytest
import tf_keras
from keras import layers, ops

import keras_lrp_prune as klp
from keras_lrp_prune.finetuning.session import read_classifier
from keras_lrp_prune.graph.heads import linear_head, read_head
from keras_lrp_prune.graph.layer_registry import register_layer_rule
from keras_lrp_prune.graph.layer_types import LAYER_TYPES
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.canonical import canonize
from keras_lrp_prune.relevance.dialect import check_dialect

X = np.random.default_rng(0).normal(size=(24, 6, 6, 3)).astype("float32")


class SubDense(layers.Dense):
    pass


class SubSoftmax(layers.Softmax):
    pass


class Sigmoid(layers.Layer):
    def call(self, x):
        return ops.sigmoid(x)


class _Mirrored(layers.Layer):
    """Something else than any layer of Keras', whatever a sub-class is called."""

    def call(self, x):
        return -3 * ops.relu(-x)


class ReLU(_Mirrored):
    pass


class ELU(_Mirrored):
    pass


class Rescaling(_Mirrored):
    pass


class Activation(_Mirrored):
    def __init__(self, activation="linear", **options):
        super().__init__(**options)
        self.activation = activation

    def get_config(self):
        return {**super().get_config(), "activation": self.activation}


class BatchNormalization(layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")

    def call(self, x):
        return -3 * ops.relu(-x) * self.gamma


def _network(end):
    """A small network; `end(maps, pooled)` makes the outputs."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    maps = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    return keras.Model(inputs, end(maps, layers.GlobalAveragePooling2D()(maps)))


def _dense(units=1, activation="sigmoid"):
    return layers.Dense(units, activation=activation)


# --- The layer that scores the classes ---

SCORED_BY_OTHERS = {
    "einsum": lambda hidden: layers.EinsumDense("ab,bc->ac", 3, activation="softmax")(hidden),
    "sub-class": lambda hidden: SubDense(3, activation="softmax")(hidden),
    "convolution": lambda hidden: layers.Flatten()(
        layers.Conv2D(3, 1, activation="softmax")(layers.Reshape((1, 1, 8))(hidden))
    ),
}


@pytest.mark.parametrize("end", SCORED_BY_OTHERS.values(), ids=SCORED_BY_OTHERS)
def test_a_hidden_layer_is_not_taken_for_the_one_that_scores_the_classes(end):
    model = _network(lambda maps, pooled: end(layers.Dense(8, activation="relu")(pooled)))
    assert linear_head(read_model(model).flat()) is None


@pytest.mark.parametrize(
    "last", [lambda: layers.Softmax(), lambda: layers.Activation("softmax"), lambda: ops.softmax]
)
def test_a_softmax_by_itself_may_follow_the_layer_that_scores(last):
    model = _network(lambda maps, pooled: last()(layers.Dense(3, name="scores")(pooled)))
    assert linear_head(read_model(model).flat()) == "scores"


# --- Layers that are only called like Keras' ---

LOOKING_ALIKE = [ReLU, ELU, Rescaling, Activation, BatchNormalization]


@pytest.mark.parametrize("look_alike", LOOKING_ALIKE)
def test_a_layer_that_is_only_called_like_keras_is_of_no_known_type(look_alike):
    model = _network(lambda maps, pooled: _dense(3, "softmax")(look_alike(name="own")(pooled)))
    layer = read_model(model).layers["own"]
    assert layer.class_name == f"own.{look_alike.__name__}"
    assert layer.class_name not in LAYER_TYPES


@pytest.mark.parametrize("engine", ["auto", "native"])
@pytest.mark.parametrize("look_alike", LOOKING_ALIKE)
def test_lrp_refuses_a_layer_that_is_only_called_like_keras(look_alike, engine):
    model = _network(lambda maps, pooled: _dense(3, None)(look_alike(name="own")(pooled)))
    with pytest.raises(UnsupportedModelError, match=r"'own' \(own\."):
        klp.filter_relevance(model, X, np.arange(len(X)) % 3, engine=engine)


@pytest.mark.parametrize("look_alike", LOOKING_ALIKE)
def test_innvestigate_is_not_given_a_layer_that_is_only_called_like_keras(look_alike):
    model = _network(lambda maps, pooled: _dense(3, None)(look_alike(name="own")(pooled)))
    with pytest.raises(UnsupportedModelError, match=r"not exact on these layers.*'own' \(own\."):
        check_dialect(canonize(read_model(model)), "lrp.z")


def test_legacy_layers_that_are_only_called_like_keras_are_of_no_known_type():
    alike = type("ReLU", (tf_keras.layers.Layer,), {"call": lambda self, x: -x})
    model = tf_keras.Sequential(
        [tf_keras.layers.Dense(4, input_shape=(3,)), alike(), tf_keras.layers.ReLU()]
    )
    names = [layer.class_name for layer in read_model(model).layers.values()]
    assert names[-2:] == ["own.ReLU", "ReLU"]


# --- What the outputs mean ---

PROBABILITIES = {
    "average": lambda maps, pooled: layers.Average()([_dense()(pooled), _dense()(pooled)]),
    "clip": lambda maps, pooled: ops.clip(_dense()(pooled), 1e-6, 1 - 1e-6),
    "rescaling": lambda maps, pooled: layers.Rescaling(1.0)(_dense()(pooled)),
    "product": lambda maps, pooled: _dense()(pooled) * 1.0,
    "complement": lambda maps, pooled: 1 - _dense()(pooled),
    "pooling": lambda maps, pooled: layers.GlobalAveragePooling2D()(
        layers.Conv2D(1, 1, activation="sigmoid")(maps)
    ),
    "time": lambda maps, pooled: layers.Flatten()(
        layers.TimeDistributed(_dense())(layers.Reshape((1, 6))(pooled))
    ),
    "hard_sigmoid": lambda maps, pooled: _dense(1, "hard_sigmoid")(pooled),
    "ops.hard_sigmoid": lambda maps, pooled: ops.hard_sigmoid(_dense(1, None)(pooled)),
    "one of two": lambda maps, pooled: _dense(2, "softmax")(pooled)[:, 1:],
    "own": lambda maps, pooled: Sigmoid()(_dense(1, None)(pooled)),
}


@pytest.mark.parametrize("end", PROBABILITIES.values(), ids=PROBABILITIES)
def test_where_the_graph_does_not_tell_outputs_of_one_unit_do(end):
    model = _network(end)
    head = read_head(read_model(model))
    assert head.one_unit and head.unclear is not None
    assert head.judged_by(model.predict(X, verbose=0)).kind == "sigmoid"


CERTAIN = {
    "dense": ("logits", lambda maps, pooled: _dense(1, None)(pooled)),
    "temperature": ("logits", lambda maps, pooled: _dense(1, None)(pooled) / 2.0),
    "pooled": (
        "logits",
        lambda maps, pooled: layers.GlobalAveragePooling2D()(layers.Conv2D(1, 1)(maps)),
    ),
    "mean": (
        "logits",
        lambda maps, pooled: layers.Average()([_dense(1, None)(pooled), _dense(1, None)(pooled)]),
    ),
    "sigmoid": ("sigmoid", lambda maps, pooled: _dense()(pooled)),
    "sub-class": ("sigmoid", lambda maps, pooled: SubDense(1, activation="sigmoid")(pooled)),
    "softmax": ("softmax", lambda maps, pooled: layers.Softmax()(_dense(3, None)(pooled))),
}


@pytest.mark.parametrize(("kind", "end"), CERTAIN.values(), ids=CERTAIN)
def test_what_the_graph_tells_is_not_left_to_the_outputs(kind, end):
    head = read_head(read_model(_network(end)))
    assert (head.kind, head.unclear) == (kind, None)
    assert head.judged_by(np.full((4, 1), 0.5)) is head


@pytest.mark.parametrize(
    ("outputs", "kind"),
    [
        ([[0.2], [0.9]], "sigmoid"),
        ([[0.2], [1.1]], "logits"),
        ([[-0.2], [0.9]], "logits"),
        ([[np.nan], [0.5]], "logits"),
        ([[0.2, 0.8], [0.5, 0.5]], "softmax"),
        ([[0.2, 0.9], [0.5, 0.5]], "logits"),
        ([[-0.2, 1.2], [0.5, 0.5]], "logits"),
    ],
)
def test_probabilities_are_told_by_their_range_and_sum(outputs, kind):
    head = read_head(read_model(_network(PROBABILITIES["clip"])))
    assert head.judged_by(np.array(outputs)).kind == kind


def test_pruning_decides_as_the_outputs_do():
    model = _network(PROBABILITIES["average"])
    probabilities = model.predict(X, verbose=0)[:, 0]
    first, second = model.layers[-3:-1]
    threshold = np.median(probabilities)
    for layer in (first, second):  # half of the samples on each side of one half
        layer.bias.assign(layer.bias - np.log(threshold / (1 - threshold)))
    y = (model.predict(X, verbose=0)[:, 0] > 0.5).astype(int)
    assert set(y) == {0, 1}
    result = klp.prune(model, (X, y), 0.3, criterion="l1", recovery=None, verbose=0)
    assert list(result.reference["before"]["recall"]) == [1.0, 1.0]


def test_a_sub_class_registered_as_softmax_is_one(nothing_registered):
    model = _network(lambda maps, pooled: SubSoftmax()(_dense(3, None)(pooled)))
    assert read_head(read_model(model)).unclear is not None
    register_layer_rule(SubSoftmax, layers.Softmax)
    klp.register_layer_lrp(SubSoftmax, layers.Softmax)
    head = read_head(read_model(model))
    assert (head.kind, head.unclear) == ("softmax", None)
    alike = _network(lambda maps, pooled: layers.Softmax()(_dense(3, None)(pooled)))
    y = np.arange(len(X)) % 3
    found, expected = (
        klp.filter_relevance(each, X, y, engine="native")["conv"] for each in (model, alike)
    )
    np.testing.assert_array_equal(found, expected)


def test_fine_tuning_says_what_it_takes_unclear_outputs_for():
    with pytest.warns(UserWarning, match=r"'average.*' \(Average\): they are taken for logits"):
        read_classifier(_network(PROBABILITIES["average"]), "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_classifier(_network(lambda maps, pooled: _dense()(pooled)), "model")
