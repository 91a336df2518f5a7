"""Taylor over writing and reading kernels, and the gradients by weights that it takes."""

from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from lrp_checks import live
from models import BUILDERS, CLASSES, analysed, difference, images, random_removal
from problems import labels, no_units, problem_of

import keras_lrp_prune as klp
from keras_lrp_prune.criteria.group_taylor import GroupTaylor
from keras_lrp_prune.graph.channels import Channels
from keras_lrp_prune.graph.model_graph import UnsupportedModelError

N = 8
Y = labels(N)
KERNELS = (layers.Conv2D, layers.Dense)


def scores_of(model, removed=None, **execution):
    problem = problem_of(model, N, **execution)
    gone = no_units(problem) if removed is None else removed
    problem.mask().set(gone)
    (scores,) = GroupTaylor().scorer(problem).scores(gone).by_class
    return scores, problem.structure


def changes(model):
    """Magnitude of weight times gradient of every kernel, by a tape on the user's model."""
    x = images(model, len(Y))
    with tf.GradientTape() as tape:
        outputs = model(x, training=False)
        loss = keras.losses.sparse_categorical_crossentropy(Y, outputs, from_logits=True)
        loss = tf.reduce_sum(loss)
    kernels = {layer.name: layer.kernel for layer in model.layers if isinstance(layer, KERNELS)}
    found = tape.gradient(loss, {name: kernel.value for name, kernel in kernels.items()})
    return {name: np.abs(found[name] * kernels[name].numpy()) for name in kernels}


def test_gradients_are_those_of_finite_differences():
    model = live(BUILDERS["vgg"])
    problem = problem_of(model, N)
    gradients = problem.weight_gradients()
    x = images(model, len(Y))

    def loss():
        outputs = tf.cast(model(x, training=False), tf.float64)
        return keras.losses.sparse_categorical_crossentropy(Y, outputs, from_logits=True)

    rng = np.random.default_rng(0)
    for layer in model.layers:
        for variable in layer.weights:
            before = variable.numpy()
            direction = rng.normal(size=before.shape) * np.abs(before).mean()
            sums = []
            for step in (1e-3, -1e-3):
                variable.assign(before + step * direction)
                sums.append(float(tf.reduce_sum(loss())))
            variable.assign(before)
            slope = (sums[0] - sums[1]) / 2e-3
            found = (gradients[layer.name][variable.name] * direction).sum()
            assert found == pytest.approx(slope, rel=0.05, abs=1e-3), variable.path


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_are_the_same_in_batches_and_on_replicas(frozen):
    model = live(BUILDERS["resnet_v2"])
    model.trainable = not frozen
    whole = problem_of(model, N).weight_gradients()
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    for execution in ({"batch_size": 3}, {"batch_size": 5, "strategy": strategy}):
        parts = problem_of(model, N, **execution).weight_gradients()
        for layer, weights in whole.items():
            for name, values in weights.items():
                scale = np.abs(values).max() + 1e-6
                assert np.abs(parts[layer][name] - values).max() <= 1e-4 * scale, (layer, name)


def test_a_plain_network_kernel_by_kernel():
    """VGG: behind the Flatten a unit is read at nine places, of which all count."""
    model = live(BUILDERS["vgg"])
    scores, structure = scores_of(model)
    found = changes(model)
    for writer, reader in pairwise(found):
        written = found[writer].reshape(-1, found[writer].shape[-1]).sum(0)
        read = found[reader].reshape(-1, len(written), found[reader].shape[-1]).sum((0, 2))
        wanted = (written + read) / 2
        assert difference(scores[structure.filter_units[writer]], wanted) < 1e-4, writer


def residual():
    """A sum of two convolutions that two others read, one of them after a concatenation."""
    inputs = layers.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    second = layers.Conv2D(4, 3, padding="same", name="second")(first)
    summed = layers.ReLU()(layers.Add()([first, second]))
    third = layers.Conv2D(5, 1, name="third", activation="relu")(summed)
    joined = layers.Concatenate()([third, summed])
    deep = layers.DepthwiseConv2D(3, padding="same", name="deep")(joined)
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(deep))
    return keras.Model(inputs, layers.Dense(CLASSES, name="classes")(x))


def test_a_residual_sum_kernel_by_kernel():
    """The mean over five kernels, times the two filters that go with a unit; no depthwise one."""
    model = live(residual)
    scores, structure = scores_of(model)
    found = changes(model)
    coupled = structure.filter_units["first"]
    assert (structure.filter_units["second"] == coupled).all()
    parts = [
        found["first"].sum((0, 1, 2)),
        found["second"].sum((0, 1, 2)),
        found["second"].sum((0, 1, 3)),
        found["third"].sum((0, 1, 3)),
        found["classes"][5:].sum(1),
    ]
    assert difference(scores[coupled], 2 * np.mean(parts, 0)) < 1e-4
    third = found["third"].sum((0, 1, 2)) + found["classes"][:5].sum(1)
    assert difference(scores[structure.filter_units["third"]], third / 2) < 1e-4


@pytest.mark.parametrize("name", ["mobilenet", "separable", "squeeze_excite", "shared", "densenet"])
def test_masked_units_score_nothing_and_others_do(name):
    model = live(BUILDERS[name])
    _, structure = analysed(model)
    removed = random_removal(structure, 0.3)
    scores, _ = scores_of(model, removed)
    whole, _ = scores_of(model)
    assert np.isfinite(scores).all() and (scores >= 0).all()
    # Dead channels of these small networks have no gradient.
    assert ((whole > 0).mean() > 0.8) and difference(scores, whole) > 1e-3
    assert np.median(scores[removed]) <= 1e-3 * np.median(scores[~removed])


class Project(layers.Layer):
    """As a dense layer, with a weight that is not called a kernel."""

    def __init__(self, width, **options):
        super().__init__(**options)
        self.width = width

    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], self.width), name="matrix")

    def call(self, x):
        return x @ self.matrix

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def project_rule(call, flow):
    read, role = call.read(flow)
    flow.weight(call.layer, "matrix", 0, read, role)
    made = flow.filters(call.layer, call.config["width"])
    flow.weight(call.layer, "matrix", 1, made, "zeroed")
    call.size(flow, "width", made)
    return Channels(made, vanishes=np.full(len(made), True))


@pytest.mark.usefixtures("nothing_registered")
def test_a_group_without_kernels_is_refused():
    klp.register_layer_rule(Project, project_rule)
    inputs = layers.Input((6,))
    x = Project(CLASSES)(layers.ReLU()(Project(5, name="alone")(inputs)))
    problem = problem_of(keras.Model(inputs, x), N)
    with pytest.raises(UnsupportedModelError, match="group 'alone' has none"):
        GroupTaylor().scorer(problem)


def test_it_is_a_method_that_scores_after_each_step():
    method = klp.METHODS["taylor.group"]
    assert not method.scored_once and method.criterion == "taylor.group"
