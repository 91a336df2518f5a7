"""Short ways to call `prune`, and what its result has to be."""

import numpy as np
import pytest
from models import analysed, difference, masked_copy
from pruning_models import reference

import keras_lrp_prune as klp


def prune(model, target=0.4, data=None, **options):
    """All weights frozen, unless told otherwise, so that the result is the masked model."""
    options = {"criterion": "taylor", "recovery": None, "verbose": 0, **options}
    return klp.prune(model, data or reference(), target, **options)


def pruned_by(method, model, data, target, **options):
    """The result of `prune` with what a method of the comparison stands for."""
    return klp.prune(
        model,
        data,
        target,
        criterion=method.criterion,
        schedule=method.schedule and method.schedule(),
        engine="native",
        verbose=0,
        **options,
    )


def same(first, second):
    """Whether two results are the same to the last step."""
    assert first.history == second.history and first.stopped == second.stopped
    assert first.kept.keys() == second.kept.keys()
    return all((first.kept[layer] == second.kept[layer]).all() for layer in first.kept)


def removed_units(structure, kept):
    """The units of a structure that a result did not keep."""
    removed = np.zeros(structure.n_units, bool)
    for layer, units in structure.filter_units.items():
        gone = np.delete(units, kept[layer])
        removed[gone[gone >= 0]] = True
    return removed


def check_result(model, result, x, target, tolerance=1e-3):
    """The target is met, and the small model is the masked one."""
    _, structure = analysed(model)
    removed = removed_units(structure, result.kept)
    half = structure.unit_sizes.max() / structure.unit_sizes.sum() / 2
    assert abs(result.rate - target) <= half + 1e-9
    assert structure.rate(removed) == pytest.approx(result.rate)
    copy, mask = masked_copy(model)
    mask.set(removed)
    assert difference(model(x), copy.model(x)) > 1e-2, "pruning must matter"
    assert difference(result.model(x), copy.model(x)) <= tolerance
    assert result.model.count_params() == result.cost_after.parameters
    assert model.count_params() == result.cost_before.parameters
    assert sum(map(len, result.kept.values())) == result.cost_after.filters
