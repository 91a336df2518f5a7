"""Second moments: what others tell of a number, and what is left of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiers import examples

from keras_lrp_prune.recovery.second_moments import SecondMoments

SIZES = {"seed": st.integers(0, 1000), "width": st.integers(2, 9), "places": st.integers(1, 4)}


def drawn(seed, width, places, n=40):
    """Numbers that have much in common, read `n` times at each place: `(n, places, width)`."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, places, width)) @ rng.normal(size=(width, width))
    return mixed + rng.normal(size=(places, width))


def moments_of(x):
    rows = x.reshape(-1, x.shape[-1])
    return SecondMoments.of_sums(rows.T @ rows, x.sum(0), len(x))


@given(**SIZES)
@examples(10)
def test_what_is_left_is_the_residual_of_the_regression_on_the_others(seed, width, places):
    x = drawn(seed, width, places)
    moments = moments_of(x)
    inverse = moments.inverse(0.01).whole
    strength = 0.01 * np.diag(moments.products).mean()
    centred = (x - x.mean(0)).reshape(-1, width)
    assert np.allclose(moments.means, x.mean(0))
    assert np.allclose(moments.centred, centred.T @ centred)
    for number in range(width):
        others = np.delete(centred, number, axis=1)
        square = others.T @ others + strength * np.eye(width - 1)
        weights = np.linalg.solve(square, others.T @ centred[:, number])
        left = centred @ inverse[:, number] / inverse[number, number]
        assert np.allclose(left, centred[:, number] - others @ weights)


@given(**SIZES)
@examples(10)
def test_without_a_number_it_is_the_inverse_for_the_others(seed, width, places):
    x = drawn(seed, width, places)
    x /= np.sqrt((x**2).mean((0, 1)))  # so that the damping is the same without it
    found = moments_of(x).inverse(0.01)
    left = np.arange(width)
    for number in np.random.default_rng(seed).permutation(width)[: width - 1].tolist():
        found = found.without(number)
        left = left[left != number]
        anew = moments_of(x).only(left).inverse(0.01)
        columns = np.stack([found.column(other) for other in left], 1)
        assert np.allclose(columns[left], anew.whole)
        assert np.allclose(found.diagonal[left], np.diag(anew.whole))
        assert np.allclose(np.delete(columns, left, 0), 0)
        assert not np.delete(found.diagonal, left).any()


def test_two_halves_make_a_whole():
    x = drawn(0, 5, 3)
    both = moments_of(x[:15]) + moments_of(x[15:])
    assert np.allclose(both.matrix, moments_of(x).matrix) and both.places == 3


def test_numbers_that_are_always_zero_are_no_trouble():
    x = drawn(0, 4, 1)
    x[..., 2] = 0
    inverse = moments_of(x).inverse(0.01).whole
    assert np.isfinite(inverse).all() and not np.delete(inverse[2], 2).any()
    assert np.isfinite(moments_of(np.zeros((3, 1, 4))).inverse(0.01).whole).all()


def test_damping_is_relative():
    x = drawn(0, 4, 2)
    large, small = (moments_of(scale * x).inverse(0.1).whole for scale in (1e3, 1))
    assert large == pytest.approx(small / 1e6)
