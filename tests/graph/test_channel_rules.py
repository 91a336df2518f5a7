"""Models that people write, one per construct: what can be pruned, and that nothing else changes.

Each case gives a model and the filter layers that can be pruned in it.
"""

from functools import partial

import keras
import pytest
from layer_cases import CASES
from models import (
    analysed,
    difference,
    images,
    make_live,
    masked_copy,
    pruned,
    random_removal,
    run,
    same_weights,
)

from keras_lrp_prune import prune
from keras_lrp_prune.cost import CostModel


@pytest.mark.parametrize("name", CASES)
def test_masked_equals_rebuilt(name, float64):
    keras.utils.set_random_seed(0)
    build, prunable = CASES[name]
    forward = partial(run, compiled=name == "channels_first")
    model = make_live(build(), compiled=name == "channels_first")
    graph, structure = analysed(model)
    cost = CostModel(graph, structure)
    assert {layer for group in structure.groups for layer in group.filters} == prunable
    x = images(model)
    copy, mask = masked_copy(model)
    before, plain = copy.model.get_weights(), forward(copy.model, x)
    assert difference(plain, forward(model, x)) <= 1e-12
    removed = random_removal(structure, 0.6)
    mask.set(removed)
    masked = forward(copy.model, x)
    assert difference(plain, masked) >= 1e-3, "the mask must matter, or the test cannot fail"
    smaller = pruned(model, removed)
    assert smaller.count_params() < model.count_params()
    assert cost(removed).parameters == smaller.count_params()
    assert cost(removed) == CostModel(*analysed(smaller))()
    assert difference(forward(smaller, x), masked) <= 1e-9
    mask.clear()
    assert same_weights(before, copy.model.get_weights())


@pytest.mark.parametrize("criterion", ["l2", "activation", "taylor"])
@pytest.mark.parametrize(
    "name", ["recurrent", "bidirectional", "grouped_narrow", "slicing", "channel_shuffle", "states"]
)
def test_criteria_score_what_they_make(name, criterion):
    keras.utils.set_random_seed(0)
    build, prunable = CASES[name]
    model = make_live(build())
    reference = (images(model, 6), [0, 1, 2, 0, 1, 2])
    result = prune(model, reference, target_rate=0.3, criterion=criterion, verbose=0)
    assert abs(result.rate - 0.3) <= 0.2
    assert prunable <= result.kept.keys()
    assert result.model.count_params() == result.cost_after.parameters < model.count_params()
