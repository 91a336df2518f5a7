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


class TestWindows:
    @given(
        axes=st.sampled_from([1, 2]),
        data=st.data(),
        padding=st.sampled_from(["valid", "same", "causal"]),
        size=st.integers(1, 4),
        stride=st.integers(1, 3),
        dilation=st.integers(1, 3),
    )
    @examples(60)
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


class TestRidge:
    @given(
        seed=st.integers(0, 1000),
        n_rows=st.integers(2, 30),
        n_inputs=st.integers(1, 20),
        bias=st.booleans(),
        ridge=st.sampled_from(RIDGES),
    )
    @examples(60)
    def test_both_ways_minimise_the_same(self, seed, n_rows, n_inputs, bias, ridge):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n_rows, n_inputs)) + rng.normal(size=n_inputs)
        missing = rng.normal(size=(n_rows, 3))
        found = []
        for samples in (Rows(), Products(n_inputs, 3)):
            for part in np.array_split(np.arange(n_rows), 2):
                samples.add(x[part], missing[part])
            found.append(samples.solver(bias)(ridge))
            left = missing - x @ found[-1][:-1] - found[-1][-1]
            np.testing.assert_allclose(samples.error(found[-1]), (left**2).sum(), atol=1e-9)
            np.testing.assert_allclose(samples.error(), (missing**2).sum())
            assert bias or not found[-1][-1].any()
        np.testing.assert_allclose(*found, atol=1e-7)
        # The gradient of the penalised error vanishes.
        centred = x - x.mean(0) * bias
        strength = ridge * (centred**2).sum() / n_inputs
        np.testing.assert_allclose(x.T @ left, strength * found[1][:-1], atol=1e-7)
        np.testing.assert_allclose(left.sum(0) * bias, 0, atol=1e-7)

    def test_noise_gets_a_strong_ridge_and_structure_a_weak_one(self):
        rng = np.random.default_rng(0)
        x, kernel = rng.normal(size=(200, 30)), rng.normal(size=(30, 2))
        for noise, ridges in ((0, RIDGES[:1]), (3, RIDGES[3:])):
            missing = x @ kernel + noise * rng.normal(size=(200, 2)) * 10
            parts = Rows(), Rows()
            for part, rows in zip(parts, (slice(150), slice(150, None)), strict=True):
                part.add(x[rows], missing[rows])
            assert best_correction(*parts, bias=True)[1] in (*ridges, None)

    @pytest.mark.parametrize("constant", [0.0, 1e4])
    @pytest.mark.parametrize("kind", [Rows, lambda: Products(4, 2)])
    def test_inputs_that_do_not_vary_leave_the_bias(self, constant, kind):
        samples = kind()
        samples.add(np.full((10, 4), constant), np.full((10, 2), 3.0))
        for ridge in RIDGES:
            assert samples.error(samples.solver(True)(ridge)) < 1e-6

    def test_nothing_missing_changes_nothing(self):
        x = np.random.default_rng(0).normal(size=(10, 4))
        parts = Rows(), Rows()
        for part in parts:
            part.add(x, np.zeros((10, 2)))
        assert best_correction(*parts, bias=True) == (None, None)
