"""Loading results: no model runs code, whatever its file says, and damage is named."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tf_keras
from saved_results import change, in_hidden, small, with_config

import keras_lrp_prune as klp
from keras_lrp_prune.graph.model_files import load_model, save_model

RAN = []


def ran(*args, **kwargs):
    RAN.append(args)
    return args[0] if args else None


@pytest.fixture(autouse=True)
def nothing_has_run(tmp_path, monkeypatch):
    """A module that the files below name, which tells when it is imported or called."""
    RAN.clear()
    (tmp_path / "evil.py").write_text(
        f"import {__name__} as test\ntest.RAN.append('imported')\nrun = test.ran\n"
        "class Layer:\n    from_config = classmethod(test.ran)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("evil", None)
    assert not RAN


def instead_of_hidden(class_name, module, **config):
    """Puts another layer in the place of `hidden`."""

    def edit(model):
        for layer in model["config"]["layers"]:
            if layer["config"]["name"] == "hidden":
                layer.update(class_name=class_name, module=module, registered_name=None)
                layer["config"] = {"name": "hidden", **config}
                if module is None:
                    del layer["module"], layer["registered_name"]
        return model

    return edit


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


CODE = "4wEAAAAAAAAAAAAAAAEAAAADAAAA"
LAMBDA = {"class_name": "__lambda__", "config": {"value": [CODE, None, None]}}
RAW = {"function": [CODE, None, None], "function_type": "lambda", "arguments": {}}
ATTACKS = {
    "a lambda": instead_of_hidden("Lambda", "keras.layers", function=LAMBDA),
    "a lambda of older versions": instead_of_hidden("Lambda", "keras.layers", **RAW),
    "a lambda without a module": instead_of_hidden("Lambda", None, **RAW),
    "a class of any module": instead_of_hidden("Layer", "evil"),
    "a function of any module": in_hidden(activation=function("evil", "run")),
    "a function of Python": in_hidden(activation=function("os", "system")),
    "a function built into Python": in_hidden(activation=function("builtins", "exec")),
    "a function without a module": in_hidden(
        activation={"class_name": "function", "config": "eval", "registered_name": "function"}
    ),
    "a layer that calls what is built into Python": instead_of_hidden(
        "Lambda", "keras.layers", function_type="function", function=function("builtins", "eval")
    ),
    "a function that downloads": in_hidden(activation=function("keras.utils", "get_file")),
    "a switch of safe mode": in_hidden(
        activation=function("keras.config", "enable_unsafe_deserialization")
    ),
    "an inner function": in_hidden(activation=function("keras.src.utils.file_utils", "get_file")),
    "a function as a class": in_hidden(
        activation={"module": "keras.src.layers", "class_name": "get_file", "config": {}}
    ),
    "a SavedModel": instead_of_hidden("TFSMLayer", "keras.layers", filepath="/evil"),
    "an operation that writes": instead_of_hidden(
        "TFOpLambda", "keras.layers", function="io.write_file"
    ),
    "an operation that runs Python": instead_of_hidden(
        "TFOpLambda", "keras.layers", function="compat.v1.py_func"
    ),
    "no names": in_hidden(activation={"module": ["os"], "class_name": {}, "config": 3}),
}


@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_model_that_asks_for_code_is_refused(results, tmp_path, generation, attack):
    edit = ATTACKS[attack]
    folder = Path(shutil.copytree(results[generation], tmp_path / "out"))
    with_config(results[generation] / "model.keras", folder / "model.keras", edit)
    change(folder)
    with pytest.raises(ValueError, match="is not loaded"):
        klp.load_result(folder)


def test_whatever_the_record_calls_it_a_model_runs_no_code(folder):
    """Legacy Keras reads HDF5 whatever it is called, and has no safe mode there."""
    tf_keras.Sequential(
        [tf_keras.layers.Input((4,)), tf_keras.layers.Lambda(lambda x: x, name="code")]
    ).save(folder / "model.h5")
    (folder / "model.h5").rename(folder / "model.keras")
    for generation in ("keras", "tf_keras"):
        change(folder, keras=generation)
        with pytest.raises(ValueError, match=r"no \.keras file"):
            klp.load_result(folder)
    # With an archive behind it, it would pass for one.
    with zipfile.ZipFile(folder / "model.keras", "a") as archive:
        archive.writestr("config.json", "{}")
    assert zipfile.is_zipfile(folder / "model.keras") and h5py.is_hdf5(folder / "model.keras")
    with pytest.raises(ValueError, match=r"no \.keras file"):
        klp.load_result(folder)
    for name in ("os", "evil", "keras.src", "", None, ["keras"], {}):
        change(folder, keras=name)
        with pytest.raises(ValueError, match=r"result\.json.* is damaged: keras is no 'keras' or"):
            klp.load_result(folder)


@pytest.mark.parametrize("module", [keras, tf_keras])
def test_what_models_are_made_of_is_loaded(module, tmp_path):
    """Built-in parts of all kinds, compiled, and classes that are registered."""

    @module.utils.register_keras_serializable("ours", name=f"Twice{module.__name__}")
    class Twice(module.layers.Layer):
        def call(self, x):
            return 2 * x

    layers = module.layers
    model = small(
        module,
        layers.Dense(
            6,
            activation=module.activations.gelu,
            kernel_initializer=module.initializers.HeNormal(1),
            kernel_regularizer=module.regularizers.L2(1e-3),
            kernel_constraint=module.constraints.MaxNorm(2.0),
            dtype="mixed_float16",
        ),
        layers.Activation("relu"),
        Twice(dtype="float32"),
        layers.Reshape((6, 1)),
        layers.Bidirectional(layers.LSTM(2)),
    )
    doubled = model.output * 0.5 + 0.5  # operations, too
    model = module.Model(model.input, module.layers.Dense(3, "softmax")(doubled))
    model.compile(
        module.optimizers.Adam(module.optimizers.schedules.ExponentialDecay(1e-3, 10, 0.9)),
        module.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy", module.metrics.SparseTopKCategoricalAccuracy(2)],
    )
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras", module.__name__)
    x = np.random.default_rng(0).random((5, 4), np.float32)
    assert np.array_equal(np.asarray(loaded(x)), np.asarray(model(x)))
    assert type(loaded.optimizer) is type(model.optimizer)


class Unregistered(keras.layers.Layer):
    def call(self, x):
        return x


def test_classes_of_ones_own_are_given_in_a_scope(results, tmp_path):
    model = small(keras, keras.layers.Dense(6, name="last"), Unregistered(name="own"))
    x, y = np.random.default_rng(0).random((12, 4), np.float32), np.arange(12) % 3
    folder = klp.prune(model, (x, y), 0.3, criterion="l1", verbose=0).save(tmp_path / "own")
    with pytest.raises(ValueError, match=r"needs .*Unregistered.*custom_object_scope"):
        klp.load_result(folder)
    with keras.saving.custom_object_scope({"Unregistered": Unregistered}):
        assert klp.load_result(folder).model.get_layer("own")


def test_results_of_versions_that_refitted_nothing_are_shown(folder, capsys):
    settings = json.loads((folder / "result.json").read_text())["settings"]
    change(folder, settings={name: settings[name] for name in ("criterion", "min_accuracy")})
    result = klp.load_result(folder)
    result.summary()
    assert repr(result).startswith("PruningResult") and "Pruning rate" in capsys.readouterr().out


@pytest.mark.parametrize("module", [keras, tf_keras])
def test_a_compiled_model_is_loaded_as_it_was_and_without_warning(module, tmp_path, recwarn):
    """Its optimizer was saved before it had trained, so that there is nothing to begin with."""
    model = small(module)
    model.compile("adam", "sparse_categorical_crossentropy")
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras", module.__name__)
    assert isinstance(loaded.optimizer, module.optimizers.Adam)
    assert not [str(warning.message) for warning in recwarn if "optimizer" in str(warning.message)]


def test_a_model_of_another_result_is_found(folder, results):
    whole = (folder / "model.keras").read_bytes()
    other = keras.models.load_model(folder / "model.keras")
    other.save(folder / "model.keras")
    with pytest.raises(ValueError, match=r"model\.keras' is damaged, or of another result"):
        klp.load_result(folder)
    (folder / "model.keras").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"model\.keras' is damaged"):
        klp.load_result(folder)
    (folder / "model.keras").write_bytes(whole)
    change(folder)  # a record of an older version has no checksum
    assert klp.load_result(folder).rate > 0


def test_truncated_models_are_reported(folder):
    whole = (folder / "model.keras").read_bytes()
    change(folder)
    for length in range(0, len(whole), len(whole) // 23):
        (folder / "model.keras").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.keras"):
            klp.load_result(folder)
