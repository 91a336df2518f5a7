"""The bundles in which units of a group go."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from structures import LIMITS, structure_of
from tiers import examples

from keras_lrp_prune.selection.ranking import cheapest_first


def one_after_another(structure, number, removed, scores, limits):
    """The bundles of a group, taken from what is left until the group is at its limit."""
    group, sizes = structure.groups[number], structure.unit_sizes
    left = sorted(group.units[~removed[group.units]], key=lambda unit: scores[unit] / sizes[unit])
    found = []
    while True:
        count = len(left) % limits.round_to or limits.round_to
        if len(left) - count < limits.kept(group.size):
            return found
        found.append(left[:count])
        left = left[count:]


@examples(150)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 4)), min_size=1, max_size=4),
    LIMITS,
    st.integers(0, 2**16),
)
def test_they_are_those_that_go_one_after_another(sizes, limits, seed):
    structure, rng = structure_of(sizes), np.random.default_rng(seed)
    removed, scores = rng.random((2, structure.n_units)) * [[1], [10]]
    removed = removed < rng.random()
    bundles = cheapest_first(structure, removed, scores, limits)
    assert [bundle.score for bundle in bundles] == sorted(bundle.score for bundle in bundles)
    for number in range(len(structure.groups)):
        expected = one_after_another(structure, number, removed, scores, limits)
        mine = [bundle for bundle in bundles if bundle.group == number]
        assert [bundle.units.tolist() for bundle in mine] == expected
        for bundle in mine:
            size = structure.unit_sizes[bundle.units].sum()
            assert bundle.size == size and bundle.odd == (len(bundle.units) != limits.round_to)
            assert np.isclose(bundle.score, scores[bundle.units].sum() / size)
