"""Pruning by explaining (PXP): magnitudes of relevance, every sample counting alike."""

import keras
import lrp_by_hand
import numpy as np
import pytest
from lrp_checks import live
from models import BUILDERS, CLASSES, difference, images, random_removal

import keras_lrp_prune as klp
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.graph.model_graph import references
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.canonical import canonize, strip_softmax
from keras_lrp_prune.relevance.innvestigate_engine import InnvestigateEngine
from keras_lrp_prune.relevance.native.engine import NativeEngine

Y = np.arange(8) % CLASSES
EPSILON = {"epsilon": 1e-6}


def scores_of(model, x, y=Y, engine="native"):
    subject = read_subject(model, (x, y))
    scorer = klp.criteria.PXP(engine=engine).scorer(subject.problem())
    scores = scorer.scores(np.zeros(subject.structure.n_units, bool))
    scorer.close()
    return scores.by_class, subject.structure


@pytest.mark.parametrize("name", ["vgg", "resnet_v1"])
def test_scores_are_those_of_the_formula(name):
    """Relevance 1 at the score of the class, summed over space; magnitudes averaged over samples.

    A unit of several filters, where a residual sum couples them, has the sum of theirs.
    """
    model = live(BUILDERS[name])
    x = images(model, len(Y))
    found, structure = scores_of(model, x)
    graph = strip_softmax(canonize(read_model(model)))
    rules = dict.fromkeys(lrp_by_hand.LINEAR, ("epsilon", 1e-6))
    values = lrp_by_hand.relevances(graph, x, Y, rules)
    (output,) = references(graph.outputs)
    start = values[output.node].sum(-1)  # the score of the class, at which it starts by hand
    wanted = np.zeros_like(found)
    for node in graph.nodes:
        units = structure.filter_units.get(node.layer.name)
        if units is not None and (units >= 0).any():
            of_filter = values[node.name]
            of_filter = of_filter.sum(tuple(range(1, of_filter.ndim - 1))) / start[:, None]
            for label in range(CLASSES):
                means = np.abs(of_filter[label == Y]).mean(0)
                np.add.at(wanted[label], units[units >= 0], means[units >= 0])
    assert difference(found, wanted) < 1e-3


def test_the_size_of_the_scores_does_not_count():
    """Relevance starts at 1, whatever a network says: a head seven times as large is the same."""
    model = live(BUILDERS["resnet_v2"])
    x = images(model, len(Y))
    before, _ = scores_of(model, x)
    head = model.get_layer("classes")
    head.set_weights([7 * weight for weight in head.get_weights()])
    after, _ = scores_of(model, x)
    assert difference(after, before) < 1e-3


@pytest.mark.parametrize("engine", [NativeEngine, InnvestigateEngine])
@pytest.mark.parametrize("name", ["mobilenet", "separable"])
def test_magnitudes_are_taken_sample_by_sample(engine, name):
    """Both engines, masked, in uneven batches: each sample alone, over its score."""
    model = live(BUILDERS[name])
    x = images(model, len(Y))
    subject = read_subject(model, (x, Y))
    structure = subject.structure
    with engine(read_model(model).flat(), "lrp.epsilon", EPSILON, batch_size=3) as made:
        made.set_mask(structure, random_removal(structure, 0.3))
        found, probabilities = made._channel_magnitudes(x, Y)
        wanted = {key: np.zeros_like(one) for key, one in found.items()}
        for number, label in enumerate(Y):
            alone = slice(number, number + 1)
            sums, outputs = made._channel_sums(x[alone], Y[alone])
            for key, values in sums.items():
                wanted[key][label] += np.abs(values[label] / outputs[0, label])
        _, expected = made._channel_sums(x, Y)
    for key, values in wanted.items():
        assert np.abs(found[key] - values).max() <= 1e-4 * max(values.max(), 1e-6), key
    assert difference(probabilities, expected) < 1e-5


def test_one_sigmoid_unit_is_two_classes():
    keras.utils.set_random_seed(3)
    model = BUILDERS["sequential"]("sigmoid")
    x, y = images(model, 6), np.array([0, 1, 0, 1, 1, 0])
    found, _ = scores_of(model, x, y)
    both, _ = scores_of(model, x, y, engine="innvestigate")
    assert found.shape[0] == 2 and (found > 0).any(1).all()
    assert difference(both, found) < 1e-3


def test_a_network_that_says_nothing_has_no_relevance():
    """All scores are zero; iNNvestigate starts there and has nothing to share."""
    model = BUILDERS["vgg"]()
    for layer in model.layers:
        layer.set_weights([0 * weight for weight in layer.get_weights()])
    for engine in ("native", "innvestigate"):
        found, _ = scores_of(model, images(model, len(Y)), engine=engine)
        assert not found.any()
