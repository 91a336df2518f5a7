"""Layer types of one's own: as the layers that compute the same, refused, or checked."""

import doctest
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from models import analysed, difference
from single_layers import CLASSES, IMAGE, counted, relevance, samples, scores, twins

import keras_lrp_prune as klp
from keras_lrp_prune.cost import CostModel
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.graph.channel_rules import Channels
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.canonical import canonize, strip_softmax
from keras_lrp_prune.relevance.dialect import check_dialect
from keras_lrp_prune.relevance.native.engine import NativeEngine
from keras_lrp_prune.relevance.native.layers import as_it_is, by_contribution
from keras_lrp_prune.relevance.own_layers import LAYER_LRP, as_keras_layers

pytestmark = pytest.mark.usefixtures("nothing_registered")


class Halve(layers.Layer):
    """Works on each element by itself."""

    def call(self, x):
        return x / 2


class Project(layers.Layer):
    """As a dense layer without bias."""

    def __init__(self, width, **options):
        super().__init__(**options)
        self.width = width

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.width), name="kernel")

    def call(self, x):
        return x @ self.kernel

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class Own(layers.Conv2D):
    """A convolution with a setting more, which changes nothing."""

    def __init__(self, *arguments, label="", **options):
        super().__init__(*arguments, **options)
        self.label = label

    def get_config(self):
        return {**super().get_config(), "label": self.label}


def project_rule(call, flow):
    read, role = call.read(flow)
    flow.weight(call.layer, "kernel", 0, read, role)
    made = flow.filters(call.layer, call.config["width"])
    flow.weight(call.layer, "kernel", 1, made, "zeroed")
    call.size(flow, "width", made)
    return Channels(made, vanishes=np.full(len(made), True))


def register_all():
    klp.register_layer_rule(Halve, lambda call, flow: call.inputs[0])
    klp.register_layer_rule(Project, project_rule)
    klp.register_layer_rule(Own, layers.Conv2D)
    klp.register_layer_flops(Halve, lambda call: [call.outputs[0].term])
    klp.register_layer_flops(
        Project, lambda call: [(2, (call.axis("kernel", 0), call.axis("kernel", 1)))]
    )
    klp.register_layer_flops(Own, layers.Conv2D)
    klp.register_layer_lrp(Halve, as_it_is)
    klp.register_layer_lrp(Project, by_contribution)
    klp.register_layer_lrp(Own, layers.Conv2D)


def own_and_twin():
    """A network of own layers, and the same of Keras' own."""

    def network(conv, project, halve):
        def middle(inputs):
            x = conv(12, 3, activation="relu", name="conv")(inputs)
            x = project(8, name="project")(layers.GlobalAveragePooling2D()(halve(x)))
            return layers.Dense(CLASSES, name="scores")(layers.ReLU()(x))

        return middle

    dense = partial(layers.Dense, use_bias=False)
    own, twin = twins(
        network(Own, Project, Halve(name="halve")), network(layers.Conv2D, dense, lambda x: x)
    )
    # What is halved in one is halved by its weights in the other.
    twin.set_weights(own.get_weights())
    twin.get_layer("project").kernel.assign(twin.get_layer("project").kernel / 2)
    return own, twin


def test_own_layers_are_as_the_layers_that_compute_the_same():
    own, twin = own_and_twin()
    x, y = samples(), np.array([0, 1, 2] * 2)
    assert difference(own(x), twin(x)) <= 1e-6
    with pytest.raises(UnsupportedModelError, match=r"no rule for .* 'conv' .Own.*register_layer"):
        klp.filter_relevance(own, x, y, engine="native")
    assert CostModel(*analysed(own)).uncounted == ("conv", "halve", "project")
    register_all()
    structures = [analysed(model)[1] for model in (own, twin)]
    costs = [CostModel(*analysed(model)) for model in (own, twin)]
    assert costs[0].uncounted == ()
    removed = np.random.default_rng(0).random(structures[0].n_units) < 0.4
    halves = 6 * 6
    left = int((~removed[structures[0].filter_units["conv"]]).sum())
    assert costs[0]().flops == costs[1]().flops + halves * 12
    assert costs[0](removed).flops == costs[1](removed).flops + halves * left
    found = []
    for model, structure in zip((own, twin), structures, strict=True):
        with NativeEngine(read_model(model), "lrp.epsilon") as engine:
            engine.set_mask(structure, removed)
            found.append((engine.filter_relevance(x, y), *engine.unit_relevance(structure, x, y)))
    assert found[0][0].keys() == found[1][0].keys() == {"conv", "project", "scores"}
    for name, values in found[0][0].items():
        assert np.abs(values).max() > 0
        assert difference(values, found[1][0][name]) <= 1e-4
    assert (found[0][1][:, removed] == 0).all()
    assert difference(found[0][1], found[1][1]) <= 1e-4
    assert difference(found[0][2], found[1][2]) <= 1e-5


def test_own_layers_are_pruned_by_lrp():
    own, _ = own_and_twin()
    register_all()
    reference = (samples(), [0, 1, 2] * 2)
    result = klp.prune(own, reference, budget={"flops": 0.6}, recovery=None, verbose=0)
    assert result.settings["criterion"] == "lrp.log_odds"
    assert result.cost_after.flops <= 0.6 * result.cost_before.flops
    assert len(result.kept["conv"]) < 12


def test_innvestigate_is_told_who_takes_registered_functions():
    own, _ = own_and_twin()
    register_all()
    graph = strip_softmax(canonize(as_keras_layers(read_model(own).flat())))
    with pytest.raises(UnsupportedModelError, match="engine 'native'") as error:
        check_dialect(graph, "lrp.z")
    assert "'halve' (Halve), whose LRP rule was registered" in str(error.value)
    assert "'conv'" not in str(error.value), "a Keras layer stands in its place"


def test_a_layer_is_not_known_by_its_name():
    """Of others than Keras, a layer that is called Dense is nobody's Dense."""
    impostor = type("Dense", (Project,), {})
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2)(impostor(4, name="impostor")(inputs)))
    graph, structure = analysed(model)
    assert list(structure.barriers) == list(CostModel(graph, structure).uncounted) == ["impostor"]
    with pytest.raises(UnsupportedModelError, match="'impostor'"):
        check_dialect(canonize(graph), "lrp.z")
    with pytest.raises(UnsupportedModelError, match="'impostor'"):
        relevance(model, samples((5,)))


REGISTER = {
    "register_layer_rule": "a channel rule",
    "register_layer_flops": "a count of FLOPs",
    "register_layer_lrp": "an LRP rule",
}


@pytest.mark.parametrize("name", REGISTER)
def test_what_is_registered_is_checked(name):
    register = getattr(klp, name)
    unknown = type("Other", (layers.Layer,), {})
    for bad in ((Halve(), as_it_is), (Halve, None), (Halve, "ReLU"), (Halve, unknown)):
        with pytest.raises(
            TypeError, match=f"{name} takes a layer class, and a .*{REGISTER[name]}"
        ):
            register(*bad)
    with pytest.raises(TypeError, match=REGISTER[name]):
        register(Halve, layers.MultiHeadAttention)


def test_a_softmax_within_a_model_can_be_given_an_lrp_rule(monkeypatch):
    monkeypatch.setattr(LAYER_LRP, "own", {})
    klp.register_layer_lrp(layers.Softmax, as_it_is)
    assert LAYER_LRP.own == {layers.Softmax: as_it_is}


@pytest.mark.parametrize("name", REGISTER)
def test_what_is_known_of_a_keras_layer_stays(name):
    with pytest.raises(TypeError, match=f"{name} .* of your own; .*Norm.*{REGISTER[name]}"):
        getattr(klp, name)(layers.BatchNormalization, as_it_is)


def test_a_keras_layer_without_an_lrp_rule_can_be_given_one():
    def middle(x):
        return scores(layers.UnitNormalization(axis=(1, 2))(layers.Conv2D(4, 3)(x)))

    model, _ = twins(middle, middle)
    with pytest.raises(UnsupportedModelError, match="UnitNormalization"):
        relevance(model, samples())
    klp.register_layer_lrp(layers.UnitNormalization, as_it_is)
    assert np.abs(relevance(model, samples())).max() > 0


def test_a_count_that_is_none_is_named():
    klp.register_layer_flops(Halve, lambda call: 3)
    with pytest.raises(TypeError, match=r"counts the FLOPs of layer 'halve' .*returned 3\."):
        counted(Halve(name="halve"))


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (lambda visit: visit.passed, TypeError, "of each of the 1 inputs of .*'halve'"),
        (lambda visit: [None], TypeError, "relevance of an input of layer 'halve'.* None"),
        (lambda visit: [visit.passed[:, 1:]], ValueError, r"layer 'halve', .* it returned shape"),
        (lambda visit: [0.0], ValueError, r"layer 'halve', .* it returned 0\.0"),
    ],
    ids=["no list", "none", "shape", "number"],
)
def test_an_lrp_rule_that_returns_no_relevance_is_named(rule, error, message):
    klp.register_layer_lrp(Halve, rule)
    inputs = keras.Input(IMAGE)
    model = keras.Model(inputs, scores(Halve(name="halve")(layers.Conv2D(4, 3)(inputs))))
    with pytest.raises(error, match=f"LRP rule for Halve must return .*{message}"):
        relevance(model, samples())


def test_a_layer_that_is_made_otherwise_than_the_one_it_is_registered_as_is_named():
    class Wide(layers.Conv2D):
        def __init__(self, width, **options):
            super().__init__(width, 3, **options)

        def get_config(self):
            found = super().get_config()
            width = found.pop("filters")
            return {
                **{key: it for key, it in found.items() if key != "kernel_size"},
                "width": width,
            }

    klp.register_layer_lrp(Wide, layers.Conv2D)
    inputs = keras.Input(IMAGE)
    model = keras.Model(inputs, scores(Wide(4, name="wide")(inputs)))
    with pytest.raises(TypeError, match=r"'wide' \(Wide\) .* as Conv2D .*filters, kernel_size"):
        relevance(model, samples())


@pytest.mark.parametrize("name", REGISTER)
def test_example_runs(name):
    examples = doctest.DocTestParser().get_examples(getattr(klp, name).__doc__)
    assert examples
    namespace = {"klp": klp, "keras": keras, "tf": tf}
    for example in examples:
        exec(compile(example.source, name, "exec"), namespace)


def scale_rule(call, flow):
    """A right one, of `Gain`: each case of the test below spoils something of it."""
    flow.weight(call.layer, "gain", 0, call.inputs[0].ids, "sliced")
    return call.inputs[0]


class Gain(layers.Layer):
    """A factor for each channel, and a shift where that is asked for."""

    shift = False

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), name="gain", initializer="ones")

    def call(self, x):
        return x + self.gain if self.shift else x * self.gain


class Shift(Gain):
    """What it makes of zero is not zero."""

    shift = True


def with_layer(layer):
    inputs = keras.Input(IMAGE)
    x = layer(layers.Conv2D(6, 3, name="conv")(inputs))
    return keras.Model(
        inputs, layers.Dense(CLASSES, name="scores")(layers.GlobalAveragePooling2D()(x))
    )


def says(name="gain", axis=0, role="sliced", take=6):
    def rule(call, flow):
        flow.weight(call.layer, name, axis, call.inputs[0].ids[:take], role)
        return call.inputs[0]

    return rule


def returns(vanishes):
    def rule(call, flow):
        scale_rule(call, flow)
        return Channels(call.inputs[0].ids, vanishes)

    return rule


def counts_width(call, flow):
    call.size(flow, "width", call.inputs[0].ids)
    return scale_rule(call, flow)


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (says(name="gains"), ValueError, "'own' .Gain. speaks of a weight 'gains'; it has gain"),
        (says(role="zero"), ValueError, "'own'.*weight 'gain' the role 'zero'.*zeroed, unread, sl"),
        (says(axis=5), ValueError, r"'own'.*axis 5 of weight 'gain', whose shape is \(6,\)"),
        (says(axis=-2), ValueError, r"'own'.*axis -2 of weight 'gain'.*or -1 to -1"),
        (says(take=3), ValueError, r"'own'.*channels of shape \(3,\).*shape \(6,\)"),
        (counts_width, ValueError, "'own' .Gain. speaks of an entry 'width' of its config"),
        (returns([True] * 6), TypeError, r"Gain .*vanishes are a NumPy array of bools.*'own'"),
        (returns(True), TypeError, r"Gain .*vanishes are a NumPy array of bools.*'own'"),
        (returns(np.ones(6)), TypeError, r"Gain .*vanishes are a NumPy array of bools.*'own'"),
        (returns(np.ones(5, bool)), TypeError, r"Gain .*vanishes .*shape \(6,\)"),
    ],
)
def test_what_a_channel_rule_says_is_checked_as_the_model_is_read(rule, error, message):
    klp.register_layer_rule(Gain, rule)
    with pytest.raises(error, match=message):
        klp.find_channel_groups(with_layer(Gain(name="own")))


def test_a_weight_that_a_channel_rule_forgets_is_named_before_any_work():
    klp.register_layer_rule(Gain, lambda call, flow: call.inputs[0])
    reference = (samples(), [0, 1, 2] * 2)
    with pytest.raises(UnsupportedModelError, match=r"rule for layer 'own' .Gain. .*gain is made"):
        read_subject(with_layer(Gain(name="own")), reference)


def test_a_channel_rule_that_is_wrong_of_what_vanishes_is_named_before_any_work():
    klp.register_layer_rule(Shift, scale_rule)  # x + 1 is not zero where x is
    klp.register_layer_rule(Gain, scale_rule)
    reference = (samples(), [0, 1, 2] * 2)
    read_subject(with_layer(Gain(name="own")), reference)
    with pytest.raises(UnsupportedModelError, match=r"half .*other outputs.*'own' .Shift."):
        klp.prune(with_layer(Shift(name="own")), reference, 0.3, verbose=0)
    klp.register_layer_rule(Shift, told_right)
    read_subject(with_layer(Shift(name="own")), reference)


def told_right(call, flow):
    return replace(scale_rule(call, flow), vanishes=np.zeros(6, bool))
