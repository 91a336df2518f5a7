"""The examples in the docstrings of what trains, profiles and exports run as they stand."""

import doctest

import keras
import numpy as np
import pytest
from keras import layers
from pruning_models import digits

import keras_lrp_prune as klp

EXAMPLES = {
    **{name: getattr(klp, name) for name in ("finetune", "prune_and_finetune", "TuningResult")},
    **{
        name: getattr(klp, name) for name in ("CyclesResult", "profile", "profile_table", "Profile")
    },
    **{name: getattr(klp.export, name) for name in ("saved_model", "litert")},
    **{name: getattr(klp.export, name) for name in ("compare_litert", "LiteRTModel")},
    "FilterPruning": klp.callbacks.FilterPruning,
}


@pytest.fixture(scope="module")
def names():
    """What the examples take for granted: zeros and ones, and a model that tells them apart."""
    (x, y), (x_val, y_val) = [(x[y < 2], y[y < 2]) for x, y in digits()]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu", name="conv1"),
            layers.Conv2D(8, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=10, verbose=0)
    few = np.concatenate([np.flatnonzero(y == c)[:10] for c in range(2)])
    reference = x[few], y[few]
    result = klp.prune(model, reference, verbose=0)
    return {
        **{"klp": klp, "keras": keras, "model": model, "reference": reference, "result": result},
        **{"x": x, "y": y, "x_few": reference[0], "y_few": reference[1]},
        **{"x_val": x_val, "y_val": y_val, "x_test": x_val, "y_test": y_val},
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "profile":
        klp.export.saved_model(names["result"], "serving/my_model/1")
    if name in ("compare_litert", "LiteRTModel"):
        klp.export.litert(names["result"], "flowers.tflite")
    examples = doctest.DocTestParser().get_examples(EXAMPLES[name].__doc__)
    assert examples
    namespace = dict(names)
    before = [np.array(weight) for weight in names["model"].get_weights()]
    for example in examples:
        exec(compile(example.source, name, "exec"), namespace)
    if name == "FilterPruning":  # trains the model itself
        names["model"].set_weights(before)
    assert all(map(np.array_equal, before, names["model"].get_weights()))
