"""A tiny model, and changes of a saved result."""

import json
import zipfile

import keras
import numpy as np
import tf_keras

import keras_lrp_prune as klp


def small(module, *layers):
    inputs = module.layers.Input((4,))
    x = inputs
    for layer in (module.layers.Dense(6, "relu", name="hidden"), *layers):
        x = layer(x)
    return module.Model(inputs, module.layers.Dense(3, "softmax", name="classes")(x))


def save_results(root):
    """The folder of a result of each generation of Keras."""
    folders = {}
    x, y = np.random.default_rng(0).random((12, 4), np.float32), np.arange(12) % 3
    for module in (keras, tf_keras):
        result = klp.prune(small(module), (x, y), 0.3, criterion="l1", verbose=0)
        folders[module.__name__] = result.save(root / module.__name__)
    return folders


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
