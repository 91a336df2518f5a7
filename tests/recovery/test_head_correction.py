"""A head corrected towards labels: what it learns, what it keeps, and when it is left alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiers import examples

from keras_lrp_prune.evaluation import class_accuracies, harmonic_mean_accuracy
from keras_lrp_prune.recovery.head import fit_head
from keras_lrp_prune.recovery.head_correction import _Regression, corrected_head


def task(n, n_features, n_classes=4, spread=1.0, seed=0):
    """Features of classes that lie around centres of their own, and the best head for them."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(n_features, n_classes))
    y = np.arange(n) % n_classes
    features = centres[:, y].T + spread * rng.normal(size=(n, n_features))
    kernel = centres / spread**2
    return features, y, kernel, -(centres**2).sum(0) / spread**2 / 2


def accuracy(features, y, kernel, bias):
    return ((features @ kernel + bias).argmax(1) == y).mean()


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(12, 60),
    n_features=st.integers(2, 80),
    strength=st.sampled_from([1e-3, 0.1, 1.0]),
)
@examples(20)
def test_from_zero_it_is_scikit_learns_regression(seed, n, n_features, strength):
    features, y, *_ = task(n, n_features, spread=2.0, seed=seed)
    start = np.zeros((n, 4))
    change, shift = _Regression(features, y, start, shifts=True).correction(strength)
    kernel, bias = fit_head(features, y, strength)
    ours, theirs = features @ change + shift, features @ kernel + bias
    ours, theirs = (logits - logits.mean(1, keepdims=True) for logits in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, atol=0.02 * np.abs(theirs).max() + 1e-3)


def test_it_mends_what_changed_and_keeps_what_it_knew():
    features, y, kernel, bias = task(80, 30, spread=2.0)
    fresh, labels, *_ = task(2000, 30, spread=2.0, seed=1)
    wrong = bias + np.array([6.0, 0, 0, -6.0])
    found = corrected_head(features, y, kernel, wrong, shifts=True)
    mended = accuracy(fresh, labels, found.kernel, found.bias)
    assert mended > accuracy(fresh, labels, kernel, wrong) + 0.05
    assert mended > accuracy(fresh, labels, *fit_head(features, y, 1.0)) - 0.01
    assert (found.held_out.argmax(1) == y).mean() > 0.6


def test_a_head_that_is_as_good_as_any_is_left_alone():
    features, y, kernel, bias = task(60, 40, spread=3.0)
    assert corrected_head(features, y, kernel, bias, shifts=True) is None


def test_labels_that_features_do_not_tell_change_nothing():
    stand = 0
    for seed in range(20):
        features, y = np.random.default_rng(seed).normal(size=(60, 20)), np.arange(60) % 3
        start = np.zeros((20, 3)), np.zeros(3)
        stand += corrected_head(features, y, *start, shifts=True) is not None
    assert stand <= 4


def test_without_a_bias_none_is_made():
    features, y, kernel, _ = task(80, 30, spread=2.0)
    found = corrected_head(features, y, 0 * kernel, np.zeros(4), shifts=False)
    assert not found.bias.any() and found.kernel.any()


def test_one_sample_of_a_class_is_too_few_to_judge_by():
    features, y, kernel, bias = task(9, 5, n_classes=4)
    y[y == 3] = 2
    y[0] = 3
    assert corrected_head(features, y, 0 * kernel, bias, shifts=True) is None


def test_no_rare_class_pays_for_a_frequent_one():
    rng = np.random.RandomState(1)
    y = np.repeat(np.arange(3), [170, 6, 6])
    features = np.abs(rng.randn(len(y), 20))
    features[:, 0] += (y == 1) * 0.8
    features[:, 1] += (y == 2) * 0.8
    kernel = np.zeros((20, 3))
    kernel[0, 1] = kernel[1, 2] = 2
    bias = np.array([2.0, 0, 0])
    before = harmonic_mean_accuracy(class_accuracies(y, features @ kernel + bias))
    found = corrected_head(features, y, kernel, bias, shifts=True)
    assert (
        found is None or harmonic_mean_accuracy(class_accuracies(y, found.held_out)) >= before > 0
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_left_alone(value):
    features, y, kernel, bias = task(20, 5)
    features[3, 2] = value
    assert corrected_head(features, y, kernel, bias, shifts=True) is None
