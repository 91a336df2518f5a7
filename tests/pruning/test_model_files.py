"""Loading results: no file of a folder runs code, whatever it says, and damage is named."""

import copy
import json
import math
import shutil
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tf_keras

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


def small(module, *layers):
    inputs = module.layers.Input((4,))
    x = inputs
    for layer in (module.layers.Dense(6, "relu", name="hidden"), *layers):
        x = layer(x)
    return module.Model(inputs, module.layers.Dense(3, "softmax", name="classes")(x))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The folder of a result of each generation of Keras."""
    folders = {}
    x, y = np.random.default_rng(0).random((12, 4), np.float32), np.arange(12) % 3
    for module in (keras, tf_keras):
        folder = tmp_path_factory.mktemp("results") / module.__name__
        result = klp.prune(small(module), (x, y), 0.3, criterion="l1", verbose=0)
        folders[module.__name__] = result.save(folder)
    return folders


@pytest.fixture
def folder(results, tmp_path):
    return Path(shutil.copytree(results["keras"], tmp_path / "out"))


def change(folder, **entries):
    record = json.loads((folder / "result.json").read_text())
    record.pop("model_sha256", None)
    (folder / "result.json").write_text(json.dumps({**record, **entries}))


def with_config(source, target, edit):
    """A copy of a `.keras` file whose config is another one."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                content = json.dumps(edit(json.loads(content))).encode()
            new.writestr(name, content)


def in_hidden(**entries):
    """Changes the config of the layer `hidden`."""

    def edit(config):
        for layer in config["config"]["layers"]:
            if layer["config"]["name"] == "hidden":
                layer["config"].update(entries)
        return config

    return edit


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


# Odd JSON, and files that do not belong together.

DEEP = "[" * 100_000 + "]" * 100_000
TEXTS = {
    **{text: text for text in ("", "null", "[]", "3", '"text"', "true", "{", "NaN", "{}")},
    "deep": DEEP,
    "deep inside": '{"keras": ' + DEEP + "}",
    "a huge number": "1" * 10_000,
    "no text": "\ud800",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_record_that_is_none_is_named(folder, text):
    (folder / "result.json").write_bytes(TEXTS[text].encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match=r"result\.json' is damaged"):
        klp.load_result(folder)


ODD = (None, [], {}, [None], {"a": None}, "text", -1, 3.5, math.nan, math.inf, 10**400, True, DEEP)
# What these values are good for.
FITTING = {
    "kept": ({},),
    **dict.fromkeys(("validation", "class_names"), (None,)),
    "stopped": ("text", DEEP),
    "rate": (-1, 3.5),
    **dict.fromkeys(("protected", "barriers"), ({},)),
    **dict.fromkeys(("uncounted", "frozen_weights"), ([],)),
}


def test_every_odd_entry_of_a_record_is_reported(folder):
    record = json.loads((folder / "result.json").read_text())
    step, *others = record["history"]
    cases = [
        {**record, key: odd} for key in record for odd in ODD if odd not in FITTING.get(key, ())
    ]
    optional = ("model_sha256", "class_names", "frozen_weights")
    cases += [
        {other: record[other] for other in record if other != key}
        for key in record
        if key not in optional
    ]
    for key in step:
        cases += [
            {**record, "history": [{**step, key: odd}, *others]}
            for odd in (None, [None], {}, math.nan, 10**400)
        ]
    cases += [{**record, "history": [{**step, "further": 1}]}]
    cases += [{**record, "cost_before": {**record["cost_before"], "flops": odd}} for odd in ODD[:6]]
    cases += [{**record, "reference": {"before": record["reference"]["before"]}}]
    cases = [
        case
        for case in cases
        if case != record and case.get("model_sha256") == record["model_sha256"]
    ]
    taken = []
    for case in cases:
        (folder / "result.json").write_text(json.dumps(case))
        try:
            klp.load_result(folder)
            taken.append({key: value for key, value in case.items() if record.get(key) != value})
        except ValueError as error:
            assert "result.json' is damaged" in str(error)
    assert not taken and len(cases) > 150


SETTINGS = ("criterion", "recovery", "min_accuracy", "not_recovered", "steering", "budget")


@pytest.mark.parametrize("name", SETTINGS)
def test_odd_settings_are_reported(folder, name):
    settings = json.loads((folder / "result.json").read_text())["settings"]
    change(folder, settings={**settings, name: [3]})
    with pytest.raises(ValueError, match=rf"result\.json' is damaged: settings\.{name}"):
        klp.load_result(folder)


def cut(values):
    return values[:-1]


# What of a record is changed, how, and what the error says of it.
APART = {
    "no step": (("history",), lambda _: [], "history has no accepted step"),
    "steps undone": (("history", 0, "accepted"), lambda _: False, "history has no accepted step"),
    "step": (("history", 0, "class_accuracies"), cut, r"history\[0\]\.class_accuracies has 2"),
    "soft": (("history", 0, "soft_class_accuracies"), cut, "soft_class_accuracies has 2"),
    "support": (("reference", "after", "support"), lambda _: [], "after.support has 0 entries"),
    "recall": (("reference", "before", "recall"), cut, "before.recall has 2 entries, for 3"),
    "validation": (("validation", "before", "recall"), cut, "validation.before.recall has 2"),
    "no budget": (("settings", "budget"), lambda _: None, "remaining has 'flops', which is not"),
    "another": (("settings", "budget"), lambda _: {"parameters": 1}, "remaining has 'flops'"),
}


@pytest.mark.parametrize("name", APART)
def test_parts_of_a_record_that_do_not_belong_together_are_reported(folder, name):
    (*path, last), edit, message = APART[name]
    record = json.loads((folder / "result.json").read_text())
    record["history"] = record["history"][:1]
    record["validation"] = copy.deepcopy(record["reference"])
    record["settings"] |= {"budget": {"flops": 0.5}, "remaining": {"flops": 0.4}}
    change(folder, **record)
    klp.load_result(folder).summary()
    part = record
    for key in path:
        part = part[key]
    part[last] = edit(part[last])
    change(folder, **record)
    with pytest.raises(ValueError, match=rf"result\.json' is damaged: .*{message}"):
        klp.load_result(folder)


def test_no_text_of_a_result_steers_the_terminal(folder, capsys):
    red = "\x1b[31m\a"
    record = json.loads((folder / "result.json").read_text())
    budget = {"budget": {red: 0.5}, "remaining": {red: 0.5}}
    settings = {**record["settings"], "criterion": red, "recovery": red, "asked_recovery": "auto"}
    change(folder, stopped=red, settings={**settings, **budget}, protected={red: red})
    result = klp.load_result(folder)
    result.summary()
    shown = [repr(result), result._repr_html_(), capsys.readouterr().out]
    change(folder, class_names=[red])
    with pytest.raises(ValueError, match="is damaged: There are 1 class names") as error:
        klp.load_result(folder)
    with_config(folder / "model.keras", folder / "new", in_hidden(module=red, class_name=red))
    (folder / "new").replace(folder / "model.keras")
    change(folder, class_names=None)
    with pytest.raises(ValueError, match="no part of Keras") as foreign:
        klp.load_result(folder)
    for text in (*shown, str(error.value), str(foreign.value)):
        assert "\\x1b[31m" in text and "\x1b" not in text and "\a" not in text


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
