"""Functions over many samples, and how many samples go at once."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from models import BUILDERS, CLASSES, images, make_live
from tiers import examples

import keras_lrp_prune as klp
from keras_lrp_prune import runtime
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.runtime import CompiledForward, OverSamples, chosen_batch_size


def by_class(x, y):
    return {"sums": tf.math.unsorted_segment_sum(tf.cast(x, tf.float64), y, 3)}, 2 * x


@examples(15)
@given(st.integers(1, 40), st.integers(1, 50))
def test_batches_add_up(n, batch_size):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 2)).astype("float32"), rng.integers(-1, 3, n)
    run = OverSamples(by_class, tf.TensorSpec([None, 2], tf.float32), batch_size=batch_size)
    sums, rows = run(x, y)
    expected = np.stack([x[y == label].astype(float).sum(0) for label in range(3)])
    np.testing.assert_allclose(sums["sums"], expected, atol=1e-12)
    assert (rows == 2 * x).all()
    assert run.traces == 1


def test_forward_pass_in_batches_of_any_size():
    model = make_live(BUILDERS["resnet_v1"]())
    x = images(model, 7)
    forward = CompiledForward(model, 3)
    np.testing.assert_allclose(forward(x), model(x), atol=1e-5)
    np.testing.assert_allclose(forward(x[:1]), model(x[:1]), atol=1e-5)


def test_batch_size_follows_from_memory():
    graph = read_model(BUILDERS["vgg"]()).flat()
    sizes = [chosen_batch_size(graph, None, memory) for memory in (1, 1e5, 1e6, 1e7, 1e12)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1 and sizes[1] < sizes[2] < sizes[3]
    assert sizes[-1] == 256, "larger batches bring nothing"
    assert chosen_batch_size(graph, 1000, 1) == 1000, "what is asked for counts"


@pytest.mark.parametrize(("side", "expected"), [(128, 16), (512, 8)])
def test_where_there_is_no_gpu_tensors_stay_small(monkeypatch, side, expected):
    inputs = keras.Input((side, side, 3))
    graph = read_model(keras.Model(inputs, keras.layers.Conv2D(32, 3, padding="same")(inputs)))
    assert chosen_batch_size(graph, None, 1e12) == expected
    monkeypatch.setattr(runtime, "_has_gpu", lambda: True)
    assert chosen_batch_size(graph, None, 1e12) == 256


def test_pruning_within_a_memory_budget():
    model = make_live(BUILDERS["vgg"]())
    x, y = images(model, 24), np.arange(24) % CLASSES
    results = [
        klp.prune(model, (x, y), 0.3, engine="native", memory_budget=memory, verbose=0)
        for memory in (5e5, 1e12)
    ]
    few, many = (result.settings["batch_size"] for result in results)
    assert 1 <= few < 24 < many
    one, other = (result.kept for result in results)
    assert all((one[name] == other[name]).all() for name in one)


@pytest.mark.parametrize("memory", [0, -1, float("nan"), float("inf")])
def test_impossible_budgets_are_refused(memory):
    model = BUILDERS["vgg"]()
    x, y = np.zeros((CLASSES, *model.input_shape[1:])), np.arange(CLASSES)
    with pytest.raises(ValueError, match=r"memory_budget must lie in \(0, inf\)"):
        klp.filter_relevance(model, x, y, memory_budget=memory)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        klp.input_relevance(model, x, batch_size=0)
