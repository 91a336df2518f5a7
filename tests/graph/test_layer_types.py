"""One table knows the layer types: what can be done with each, and that all that ask agree."""

import re

import keras
import layer_matrix
import numpy as np
import pytest
from keras import layers, ops
from models import difference
from single_layers import CLASSES, IMAGE, counted, relevance, samples, scores, twins

import keras_lrp_prune as klp
from keras_lrp_prune.cost.flops import FLOPS
from keras_lrp_prune.finetuning.logits import with_logits
from keras_lrp_prune.graph.heads import linear_head, read_head
from keras_lrp_prune.graph.layer_registry import CHANNEL_RULES
from keras_lrp_prune.graph.layer_types import LAYER_TYPES, Trait, types_with
from keras_lrp_prune.graph.model_graph import references
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.canonical import split_preprocessing
from keras_lrp_prune.relevance.dialect import DIALECT
from keras_lrp_prune.relevance.native.layers import BACKWARD
from keras_lrp_prune.relevance.own_layers import LAYER_LRP

pytestmark = pytest.mark.usefixtures("nothing_registered")


# --- The matrix ---


@pytest.fixture(scope="module")
def rows():
    return layer_matrix.matrix(LAYER_TYPES)


def one_of_each_row():
    return layer_matrix.matrix({id(known): name for name, known in LAYER_TYPES.items()}.values())


@pytest.mark.parametrize("which", ["one of each row", pytest.param("all", marks=pytest.mark.slow)])
def test_every_gap_is_stated_and_every_stated_gap_is_one(which, request):
    rows = request.getfixturevalue("rows") if which == "all" else one_of_each_row()
    print(layer_matrix.text(rows))
    assert len(rows) > (130 if which == "all" else 45), "no type may be missed"
    stated = {
        name: {it: layer_matrix.stated_reason(name, it) for it in rows[name]} for name in rows
    }
    wrong = {
        (name, column): f"{value!r}, stated: {stated[name][column]}"
        for name, row in rows.items()
        for column, value in row.items()
        if (value == "no") != (stated[name][column] is not None)
    }
    assert not wrong


def test_no_table_knows_more_layer_types():
    for table in (CHANNEL_RULES.table, FLOPS.table, BACKWARD, LAYER_LRP.table, DIALECT):
        assert table.keys() - {"InputLayer"} <= LAYER_TYPES.keys()


@pytest.mark.slow
def test_the_page_shows_the_matrix(rows):
    if LAYER_TYPES.keys() - rows.keys() != set(layer_matrix.NO_OPERATION):
        pytest.skip("another version of Keras has other layers")
    page = layer_matrix.PAGE.read_text()
    assert page == layer_matrix.written(page, rows), "run: python tests/support/layer_matrix.py"


def test_a_layer_that_the_matrix_cannot_make_is_named():
    with pytest.raises(TypeError, match=r"EinsumDense cannot be made .* _ARGUMENTS in tests/"):
        layer_matrix.matrix(["EinsumDense"])


def test_the_page_names_every_keras_layer_without_a_rule():
    page = layer_matrix.PAGE.read_text()
    start = page.index("| kind | layers without a channel rule |")
    listed = set(re.findall(r"`(\w+)`", page[start:].split("\n\n")[0]))
    found = {
        it.__name__
        for it in vars(layers).values()
        if isinstance(it, type) and issubclass(it, layers.Layer)
    }
    found -= {"Layer", "InputLayer"}  # what all are made of, and where a model begins
    assert not listed & LAYER_TYPES.keys()
    assert found - LAYER_TYPES.keys() - listed == set(), "a rule, or the list on the page"


@pytest.mark.parametrize("trait", Trait, ids=lambda trait: trait.name)
def test_a_trait_is_told_by_types_that_have_it(trait):
    told = set(re.findall(r"`([\w.]+)`", trait.value)) - {"pool_size"}
    assert told and told <= set(types_with(trait))


def test_a_keras_layer_without_a_rule_can_be_given_one():
    inputs = keras.Input((12, 3))
    x = layers.Masking(name="masking")(layers.Conv1D(4, 3, name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(x)))
    assert klp.find_channel_groups(model) == []
    klp.register_layer_rule(layers.Masking, lambda call, flow: call.inputs[0])
    assert [group.size for group in klp.find_channel_groups(model)] == [4]


# --- All that ask agree: one trait where each had a list of its own ---

PASSING = {
    "noise": lambda: layers.GaussianNoise(0.1),
    "regularisation": lambda: layers.ActivityRegularization(),
    "float32": lambda: layers.Activation("linear", dtype="float32"),
    "alpha dropout": lambda: layers.AlphaDropout(0.5),
}


@pytest.mark.parametrize("kind", PASSING)
def test_a_softmax_behind_which_nothing_happens_is_one(kind):
    inputs = keras.Input(IMAGE)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs))
    x = layers.LeakyReLU()(PASSING[kind]()(x))
    scores = layers.Dense(CLASSES, activation="softmax", name="scores")(x)
    model = keras.Model(inputs, PASSING[kind]()(scores))
    graph = read_model(model)
    assert read_head(graph).kind == "softmax"
    assert linear_head(graph.flat()) == "scores"
    assert read_head(with_logits(graph)).kind == "logits"


def test_a_relu_behind_the_scores_is_no_linear_head():
    inputs = keras.Input(IMAGE)
    x = layers.Dense(CLASSES, name="scores")(layers.GlobalAveragePooling2D()(inputs))
    assert linear_head(read_model(keras.Model(inputs, x)).flat()) == "scores"
    assert linear_head(read_model(keras.Model(inputs, layers.ReLU()(x))).flat()) is None


def test_ids_are_checked_behind_all_that_hands_them_on():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 4)(layers.Reshape((6,))(ops.reshape(inputs, (-1, 2, 3))))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    with pytest.raises(klp.DataError, match="ids from 0 to 9"):
        klp.input_relevance(model, np.full((2, 6), 10))


def test_a_filter_is_measured_behind_its_activation_whatever_stands_between():
    """Filters whose outputs are large but negative pass nothing on."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(IMAGE)
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    x = ops.relu(layers.GaussianNoise(0.1)(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    model.get_layer("conv").bias.assign([-99.0, 0.5, -99.0, 0.5])
    reference = (samples(n=4), [0, 1, 0, 1])
    options = {"criterion": "activation", "recovery": None, "verbose": 0}
    result = klp.prune(model, reference, 0.5, schedule=klp.schedules.EqualSteps(0.5), **options)
    assert result.kept["conv"].tolist() == [1, 3]


CASES = {
    "softmax operation": (
        lambda x: ops.softmax(scores(layers.Conv2D(4, 3)(x))),
        lambda x: scores(layers.Conv2D(4, 3)(x)),
    ),
    "gradients stopped": (
        lambda x: scores(ops.stop_gradient(layers.Conv2D(4, 3)(x))),
        lambda x: scores(layers.Conv2D(4, 3)(x)),
    ),
    "largest of an axis": (
        lambda x: scores(ops.amax(layers.Conv2D(4, 3)(x), (1, 2))),
        lambda x: scores(layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3)(x))),
    ),
    "to a power": (
        lambda x: scores(layers.Conv2D(4, 3)(x) ** 2),
        lambda x: scores(ops.square(layers.Conv2D(4, 3)(x))),
    ),
    "plus an array": (
        lambda x: scores(layers.Conv2D(4, 3, activation="relu")(x) + np.float32([1, 2, 3, 4])),
        lambda x: scores(
            layers.Rescaling(1.0, [1.0, 2.0, 3.0, 4.0])(layers.Conv2D(4, 3, activation="relu")(x))
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_lrp_through_an_operation_is_that_through_the_layer(name):
    model, twin = twins(*CASES[name])
    x = samples()
    found = relevance(model, x, analyzer="lrp.alpha_1_beta_0")
    assert np.abs(found).max() > 0
    assert difference(found, relevance(twin, x, analyzer="lrp.alpha_1_beta_0")) <= 1e-4


def test_a_padding_of_the_input_is_preprocessing_in_any_dimension():
    def signal(x):
        return scores(layers.Conv1D(4, 3, name="conv")(x))

    model, _ = twins(lambda x: signal(layers.ZeroPadding1D((1, 2))(x)), signal, (9, 2))
    graph = read_model(model).flat()
    front, rest = split_preprocessing(graph)
    assert front is not None
    assert next(references(rest.inputs)).node == next(references(graph.inputs)).node
    inputs = keras.Input((12, 2))
    padded = keras.Model(inputs, signal(inputs))
    padded.set_weights(model.get_weights())
    x = samples((9, 2))
    found = relevance(model, x, analyzer="lrp.sequential_preset_a_flat")
    expected = relevance(
        padded, np.pad(x, ((0, 0), (1, 2), (0, 0))), analyzer="lrp.sequential_preset_a_flat"
    )
    assert found.shape == x.shape
    assert difference(found, expected[:, 1:-2]) <= 1e-5


def test_a_sigmoid_operation_makes_two_classes():
    model, twin = twins(
        lambda x: ops.sigmoid(scores(layers.Conv2D(4, 3, name="conv")(x), units=1)),
        lambda x: scores(layers.Conv2D(4, 3, name="conv")(x), "sigmoid", 1),
    )
    x, y = samples(), np.array([0, 1] * 3)
    found, expected = (klp.filter_relevance(it, x, y, engine="native") for it in (model, twin))
    assert difference(found["conv"], expected["conv"]) <= 1e-5


@pytest.mark.parametrize(
    ("function", "flops"),
    [(lambda x: x**2, 48), (ops.square, 48), (lambda x: ops.amax(x, (1, 2)), 48)],
    ids=["power", "square", "amax"],
)
def test_flops_of_operations(function, flops):
    cost = counted(function)
    assert cost.uncounted == ()
    assert cost().flops == flops
