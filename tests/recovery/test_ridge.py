"""Least squares: windows of the inputs, and ridge regression on them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from tiers import examples

from keras_lrp_prune.graph.model_graph import LayerSpec
from keras_lrp_prune.recovery.patches import windows_of
from keras_lrp_prune.recovery.ridge import RIDGES, Products, Rows, best_correction
from keras_lrp_prune.recovery.second_moments import with_ones


class TestWindows:
    @given(
        axes=st.sampled_from([1, 2]),
        data=st.data(),
        padding=st.sampled_from(["valid", "same", "causal"]),
        size=st.integers(1, 4),
        stride=st.integers(1, 3),
        dilation=st.integers(1, 3),
    )
    @examples(30)
    def test_windows_times_kernel_is_the_convolution(
        self, axes, data, padding, size, stride, dilation
    ):
        if padding == "causal" and axes > 1:
            padding = "same"
        if dilation > 1:
            stride = 1  # Keras allows only one of them
        shape = data.draw(st.tuples(*[st.integers(10, 14)] * axes))
        cls = (layers.Conv1D, layers.Conv2D)[axes - 1]
        layer = cls(4, size, stride, padding, dilation_rate=dilation, dtype="float64")
        x = np.random.default_rng(0).normal(size=(3, *shape, 2))
        expected = layer(x).numpy()
        windows = windows_of(LayerSpec("c", cls.__name__, layer.get_config()), x.ndim)
        assert windows.counts(x.shape) == expected.shape[1:-1]
        total = expected.size // 4
        chosen = np.sort(np.random.default_rng(1).permutation(total)[: total // 2])
        rows = windows.rows(x, chosen)
        found = rows @ layer.kernel.numpy().reshape(-1, 4) + layer.bias.numpy()
        np.testing.assert_allclose(found, expected.reshape(-1, 4)[chosen], atol=1e-12)

    @pytest.mark.parametrize("shape", [(3, 5), (3, 4, 5), (3, 4, 2, 5)])
    def test_dense_layers_read_the_last_axis(self, shape):
        layer = layers.Dense(4, dtype="float64")
        x = np.random.default_rng(0).normal(size=shape)
        expected = layer(x).numpy().reshape(-1, 4)
        windows = windows_of(LayerSpec("d", "Dense", layer.get_config()), x.ndim)
        rows = windows.rows(x, np.arange(len(expected)))
        np.testing.assert_allclose(rows @ layer.kernel.numpy(), expected, atol=1e-12)


def both_kinds(n_inputs, n_outputs, bias=True):
    return Rows(bias=bias), Products(n_inputs, n_outputs, bias=bias)


def fitted(x, missing, ridge, bias):
    """What minimises the penalised error, by the general least squares of NumPy."""
    mean_x, mean_e = (array.mean(0) * bias for array in (x, missing))
    x, missing = x - mean_x, missing - mean_e
    strength = np.sqrt(ridge * (x**2).sum() / x.shape[1])
    rows = np.vstack([x, strength * np.eye(x.shape[1])])
    right = np.vstack([missing, np.zeros((x.shape[1], missing.shape[1]))])
    kernel = np.linalg.lstsq(rows, right)[0]
    return np.vstack([kernel, mean_e - mean_x @ kernel])


class TestRidge:
    @given(
        seed=st.integers(0, 1000),
        n_rows=st.integers(4, 30),
        n_inputs=st.integers(1, 20),
        bias=st.booleans(),
        ridge=st.sampled_from(RIDGES),
    )
    @examples(30)
    def test_both_ways_minimise_what_is_asked_for(self, seed, n_rows, n_inputs, bias, ridge):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n_rows, n_inputs)) + rng.normal(size=n_inputs)
        missing = rng.normal(size=(n_rows, 3))
        held_out = rng.permutation(n_rows) < rng.integers(1, n_rows - 1)
        of_others = fitted(x[~held_out], missing[~held_out], ridge, bias)
        left = missing[held_out] - with_ones(x[held_out]) @ of_others
        for samples in both_kinds(n_inputs, 3, bias):
            for part in np.array_split(np.arange(n_rows), 2):
                samples.add(x[part], missing[part], held_out[part])
            np.testing.assert_allclose(samples.error(), (missing[held_out] ** 2).sum())
            np.testing.assert_allclose(samples.trial(ridge), (left**2).sum(), rtol=1e-6)
            found = samples.correction(ridge)
            np.testing.assert_allclose(found, fitted(x, missing, ridge, bias), atol=1e-6)
            assert bias or not found[-1].any()

    @pytest.mark.parametrize("noise", [0, 0.3, 1, 3])
    def test_the_ridge_is_the_best_of_all(self, noise):
        """The search tries only some of them."""
        rng = np.random.default_rng(0)
        x, kernel = rng.normal(size=(200, 30)) * np.logspace(0, -2, 30), rng.normal(size=(30, 2))
        missing = x @ kernel + noise * rng.normal(size=(200, 2))
        for samples in both_kinds(30, 2):
            samples.add(x, missing, np.arange(200) >= 150)
            errors = [samples.trial(ridge) for ridge in RIDGES]
            correction, ridge = best_correction(samples)
            assert ridge == RIDGES[int(np.argmin(errors))]
            np.testing.assert_array_equal(correction, samples.correction(ridge))

    def test_noise_gets_a_strong_ridge_and_structure_a_weak_one(self):
        rng = np.random.default_rng(0)
        x, kernel = rng.normal(size=(200, 30)), rng.normal(size=(30, 2))
        for noise, ridges in ((0, RIDGES[:1]), (3, RIDGES[3:])):
            missing = x @ kernel + noise * rng.normal(size=(200, 2)) * 10
            for samples in both_kinds(30, 2):
                samples.add(x, missing, np.arange(200) >= 150)
                assert best_correction(samples)[1] in (*ridges, None)

    @pytest.mark.parametrize("constant", [0.0, 1e4])
    def test_inputs_that_do_not_vary_leave_the_bias(self, constant):
        for samples in both_kinds(4, 2):
            samples.add(np.full((10, 4), constant), np.full((10, 2), 3.0), np.arange(10) >= 7)
            for ridge in RIDGES:
                assert samples.trial(ridge) < 1e-6

    @given(
        seed=st.integers(0, 10**6),
        n_rows=st.integers(20, 300),
        n_inputs=st.integers(1, 40),
        spread=st.sampled_from([0.0, 1e-12, 1e-9, 1e-6]),
    )
    @examples(50)
    def test_inputs_that_hardly_vary_around_large_means_are_solved(
        self, seed, n_rows, n_inputs, spread
    ):
        rng = np.random.default_rng(seed)
        means = 1e3 * rng.normal(size=n_inputs)
        x = means + spread * rng.normal(size=(n_rows, n_inputs)) * (rng.random(n_inputs) < 0.5)
        missing, held_out = rng.normal(size=(n_rows, 2)), np.arange(n_rows) % 5 == 0
        for samples in both_kinds(n_inputs, 2):
            samples.add(x.copy(), missing, held_out)
            for ridge in RIDGES:
                assert np.isfinite(samples.trial(ridge))
                assert np.isfinite(samples.correction(ridge)).all()

    def test_nothing_missing_changes_nothing(self):
        x = np.random.default_rng(0).normal(size=(10, 4))
        for samples in both_kinds(4, 2):
            samples.add(x, np.zeros((10, 2)), np.arange(10) >= 7)
            assert best_correction(samples) == (None, None)
