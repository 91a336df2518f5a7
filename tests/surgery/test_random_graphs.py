"""Masked equals rebuilt, on random graphs; a longer run: `--hypothesis-profile=long`."""

import keras
import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from models import (
    BUILDERS,
    analysed,
    difference,
    images,
    make_live,
    masked_copy,
    pruned,
    random_removal,
    same_weights,
)
from random_graphs import PROGRAMS, model_of
from tiers import FULL, examples


def check_cover(model):
    """Every unprotected filter is in exactly one place of one group."""
    _, structure = analysed(model)
    found = {name: [] for name in structure.filter_units}
    for group in structure.groups:
        for name, filters in group.filters.items():
            assert filters.shape[0] == group.size
            found[name] += filters.ravel().tolist()
    for name, units in structure.filter_units.items():
        assert sorted(found[name]) == np.flatnonzero(units >= 0).tolist()
    together = np.concatenate([group.units for group in structure.groups] or [[]])
    assert sorted(together) == list(range(structure.n_units))


def check_masked_equals_rebuilt(model, share):
    """Masked equals rebuilt, and undone, every bit is back; returns what the mask changes."""
    x = images(model)
    _, structure = analysed(model)
    removed = random_removal(structure, share)
    copy, mask = masked_copy(model)
    before, plain = copy.model.get_weights(), copy.model(x).numpy()
    assume(np.isfinite(plain).all() and np.abs(plain).max() < 1e12)
    assert difference(plain, model(x)) <= 1e-12
    mask.set(removed)
    masked = copy.model(x).numpy()
    smaller = pruned(model, removed)
    assert difference(smaller(x), masked) <= 1e-9
    mask.set(~removed & random_removal(structure, share, seed=1))
    mask.clear()
    assert same_weights(before, copy.model.get_weights())
    assert (copy.model(x).numpy() == plain).all()
    return difference(masked, plain)


@pytest.mark.parametrize("name", BUILDERS)
def test_groups_cover_every_filter_once(name):
    check_cover(BUILDERS[name]())


@examples(FULL, quick=10)
@given(program=PROGRAMS, share=st.sampled_from([0.3, 0.5, 0.7]))
def test_random_graphs(float64, program, share):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = make_live(model_of(program))
    check_cover(model)
    effect = check_masked_equals_rebuilt(model, share)
    event("the mask matters" if effect > 1e-6 else "the mask changes nothing")
