"""A model that is cut as data, without being rebuilt, computes what the masked one does."""

import keras
import numpy as np
import pytest
from models import BUILDERS, analysed, difference, images, make_live, masked_copy, random_removal

from keras_lrp_prune.prunables.channel_mask import ChannelMask
from keras_lrp_prune.relevance.native.engine import NativeEngine
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.cut import cut
from keras_lrp_prune.surgery.kept import Kept


def removals(structure):
    """Units that are gone, and those that are masked, which holds them."""
    gone = random_removal(structure, 0.3)
    return gone, gone | random_removal(structure, 0.3, seed=1)


def left_something(structure, removed):
    """As any limits would have it: the first unit of each group stays."""
    removed = removed.copy()
    removed[[group.units[0] for group in structure.groups]] = False
    return removed


@pytest.mark.parametrize("name", BUILDERS)
def test_masks_are_those_of_the_whole_model(float64, name):
    model = make_live(BUILDERS[name]())
    graph, structure = analysed(model)
    gone, masked = (left_something(structure, one) for one in removals(structure))
    left = cut(graph.flat(), structure, gone)
    smaller = build(left.graph, Kept(), keras)
    names = {name: layer.weights for name, layer in left.graph.layers.items()}
    mask = ChannelMask(left.structure, smaller.layers, names)
    whole, whole_mask = masked_copy(model)
    x = images(model)
    for removed in (gone, masked, gone):
        mask.set(removed)
        whole_mask.set(removed)
        assert difference(smaller.model(x), whole.model(x)) <= 1e-9
    assert smaller.model.count_params() < whole.model.count_params()


@pytest.mark.parametrize("name", BUILDERS)
def test_shapes_are_those_of_what_is_built(name):
    graph, structure = analysed(BUILDERS[name]())
    gone = left_something(structure, random_removal(structure, 0.3))
    left = cut(graph.flat(), structure, gone)
    tensors = build(left.graph, Kept(), keras).tensors
    shapes = {ref: left.graph.shape(ref) for ref in tensors}
    assert shapes == {ref: tuple(tensor.shape) for ref, tensor in tensors.items()}
    for ref, units in left.structure.tensor_units.items():
        assert shapes[ref][left.structure.tensor_axes[ref]] == len(units)


@pytest.mark.parametrize("name", ["vgg", "resnet_v2", "mobilenet", "separable", "squeeze_excite"])
def test_relevance_is_that_of_the_masked_model(name):
    model = make_live(BUILDERS[name]())
    graph, structure = analysed(model)
    gone, masked = (left_something(structure, one) for one in removals(structure))
    left = cut(graph.flat(), structure, gone)
    x, y = images(model, 6), np.arange(6) % 4
    found = []
    for one, its in ((graph.flat(), structure), (left.graph, left.structure)):
        with NativeEngine(one, "lrp.z") as engine:
            engine.set_mask(its, masked)
            found.append(engine.log_odds_relevance(its, x, y))
    (expected, before), (relevance, after) = found
    assert relevance.shape == expected.shape
    assert difference(relevance, expected) <= 1e-3
    assert difference(after, before) <= 1e-5
