"""A disk that is full: an `OSError` that names the path, and what was there stays."""

import keras
import numpy as np
import pytest
import tf_keras
from full_disk import full_disk

import keras_lrp_prune as klp
from keras_lrp_prune.comparison.run_folder import write_json

X, Y = np.random.default_rng(0).random((12, 4), np.float32), np.arange(12) % 3


@pytest.fixture(scope="module", params=[keras, tf_keras], ids=["keras", "tf_keras"])
def result(request):
    layers = request.param.layers
    inputs = layers.Input((4,))
    hidden = layers.Dense(400, "relu", name="hidden")(inputs)
    model = request.param.Model(inputs, layers.Dense(3, "softmax", name="classes")(hidden))
    return klp.prune(model, (X, Y), 0.3, criterion="l1", verbose=0)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [0, 100, 4096, 10_000, 20_000])
def test_save_keeps_the_result_before(result, tmp_path, size):
    folder = result.save(tmp_path / "out")
    there = content(tmp_path)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(OSError, match=str(target)) as caught, full_disk(size):
            result.save(target)
        assert "writing-" not in str(caught.value)
    assert content(tmp_path) == there and klp.load_result(folder).rate == result.rate
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


EXPORTS = {
    "3": klp.export.saved_model,
    "model.tflite": klp.export.litert,
    "curve.png": lambda result, path: result.plot(path),
    "run.json": lambda result, path: write_json(path, {"text": "x" * 100_000}),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_name_the_path(result, tmp_path, name):
    with full_disk(1000), pytest.raises(OSError) as caught:
        EXPORTS[name](result, tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "writing-" not in str(caught.value) and "}}" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
