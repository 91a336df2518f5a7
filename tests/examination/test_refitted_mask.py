"""A network refitted to each mask: masked, it is what is rebuilt; what was there before is gone."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from models import BUILDERS, CLASSES, difference, images, make_live, random_removal, same_weights

import keras_lrp_prune as klp
from keras_lrp_prune.criteria.checked_scorer import scorer_of
from keras_lrp_prune.criteria.registry import chosen_criterion
from keras_lrp_prune.examination.recovery_choice import Recovery
from keras_lrp_prune.examination.refit import Refitter
from keras_lrp_prune.examination.refitted_mask import (
    RefittedMask,
    refits_each_step,
    with_weights_apart,
)
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.surgery.builder import rebuild
from keras_lrp_prune.surgery.kept import kept_without


class Refitting:
    """A network, its working copy, and a mask that refits it."""

    def __init__(self, name, recovery="least_squares", criterion="lrp.unique"):
        keras.utils.set_random_seed(0)
        self.model = make_live(BUILDERS[name]())
        self.x = images(self.model, 16)
        self.recovery = recovery
        self.subject = read_subject(self.model, (self.x, np.arange(16) % CLASSES))
        self.problem = self.subject.problem()
        self.apart = with_weights_apart(self.problem)
        self.scorer = scorer_of(chosen_criterion(criterion, engine="native"), self.apart)
        self.mask = RefittedMask(self.refitter(), self.apart, self.scorer)

    def refitter(self):
        return Refitter(self.problem, Recovery(self.recovery), keras, thorough=False)

    def outputs(self):
        return np.asarray(self.problem.working().model(self.x, training=False))

    def rebuilt(self, removed):
        found = self.refitter().refitted(removed)
        graph = found.put_into(self.subject.graph, Recovery(self.recovery)).graph
        return rebuild(graph, kept_without(self.subject.structure, removed), keras)


@pytest.mark.parametrize(
    ("name", "recovery"),
    [
        ("resnet_v1", "least_squares"),
        ("squeeze_excite", "least_squares"),
        ("mobilenet", "head+least_squares"),
        ("densenet", "head"),
        ("separable", "least_squares"),
    ],
)
def test_masked_it_is_what_is_rebuilt(name, recovery):
    network = Refitting(name, recovery)
    weights, before = network.model.get_weights(), network.outputs()
    removed = random_removal(network.subject.structure, 0.4)
    network.mask.set(removed)
    found, small = network.outputs(), network.rebuilt(removed)
    assert difference(found, small(network.x)) <= 1e-4
    assert difference(found, before) > 1e-2
    # What it is judged by is what refitting gives along with the weights.
    working, (tensor, *_) = network.problem.working(), network.refitter().refitted(removed).rows
    inside = keras.Model(working.model.inputs[0], working.tensors[tensor])
    assert difference(network.mask.rows(removed, tensor), inside(network.x)) <= 1e-4
    # What is scored is the network that is refitted.
    subject = read_subject(small, (network.x, np.arange(16) % CLASSES))
    fresh = klp.criteria.UniqueContribution().scorer(subject.problem())
    nothing = np.zeros(subject.structure.n_units, bool)
    scores = network.scorer.scores(removed).by_class[:, ~removed]
    assert np.abs(scores - fresh.scores(nothing).by_class).max() <= 2e-3 * scores.max()
    network.mask.clear()
    assert np.array_equal(network.outputs(), before)
    assert same_weights(network.model.get_weights(), weights)


def test_the_way_does_not_matter():
    network, other = Refitting("squeeze_excite"), Refitting("squeeze_excite")
    structure = network.subject.structure
    removed, detour = (random_removal(structure, share) for share in (0.4, 0.2))
    network.mask.set(removed)
    for one in (detour, np.zeros_like(removed), detour, removed):
        other.mask.set(one)
    assert np.array_equal(network.outputs(), other.outputs())
    scores = [each.scorer.scores(removed).by_class for each in (network, other)]
    assert np.array_equal(*scores)


def test_a_mask_that_comes_back_is_not_refitted_again_unless_memory_is_short():
    network = Refitting("sequential")
    structure = network.subject.structure
    masks = [random_removal(structure, share) for share in (0.2, 0.4, 0.6)]
    for memory, kept in ((2**30, [True, True, True]), (1, [False, False, True])):
        refitter = Refitter(
            replace(network.problem, memory=memory), Recovery("least_squares"), keras
        )
        found = [refitter.refitted(mask) for mask in masks]
        same = [refitter.refitted(masks[number]) is found[number] for number in (2, 1, 0)]
        assert same == kept[::-1]


@pytest.mark.parametrize("criterion", ["taylor", "l1", "lrp.log_odds"])
def test_other_criteria_score_it_too(criterion):
    """Those that read the working copy, the graph, or a copy of their own."""
    network = Refitting("vgg", criterion=criterion)
    removed = random_removal(network.subject.structure, 0.4)
    before = network.scorer.scores(np.zeros_like(removed)).by_class
    network.mask.set(removed)
    found = network.scorer.scores(removed).by_class
    masked = network.outputs()
    subject = read_subject(network.rebuilt(removed), (network.x, np.arange(16) % CLASSES))
    fresh = chosen_criterion(criterion, engine="native").scorer(subject.problem())
    wanted = fresh.scores(np.zeros(subject.structure.n_units, bool)).by_class
    assert difference(found, before) > 1e-3
    if criterion != "l1":  # whose norms see the rows of removed channels, too
        assert difference(found[:, ~removed], wanted) <= 1e-3
    assert np.array_equal(network.outputs(), masked), "scoring leaves the mask"


def test_who_refits_each_step():
    unique, plain = (klp.criteria.CRITERIA[name] for name in ("lrp.unique", "lrp.log_odds"))
    assert refits_each_step(unique, Recovery("auto"))
    assert refits_each_step(unique, Recovery("head"))
    assert not refits_each_step(unique, Recovery(None))
    assert not refits_each_step(plain, Recovery("least_squares"))
