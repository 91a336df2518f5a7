"""What the values of `fuzz_values.py` and `fuzz_calls.py` speak of."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from fuzz_models import Case, case, plain
from keras import layers
from PIL import Image

import keras_lrp_prune as klp
from keras_lrp_prune.control.tfmot import PruningSchedule
from keras_lrp_prune.graph.generations import keras_of

_FOLDER = TemporaryDirectory(prefix="fuzz-")


def names(found: Case, folder: Path) -> dict[str, Any]:
    """All names, for a model of the pool and an empty folder."""
    x, y = found.samples()
    (folder / "file").write_text("no folder")
    return {
        **{"klp": klp, "np": np, "tf": tf, "keras": keras, "schedules": klp.schedules},
        **{"case": found, "model": found.model, "x": x, "y": y},
        **{"folder": folder, "file": folder / "file"},
        "tfmot": _tfmot(),
        "backbone": lambda: keras_of(found.model).Model(
            found.model.inputs[0], found.model.layers[-2].output
        ),
        **{it.__name__: it for it in (dataset, unranked, answering, unbuilt, subclassed)},
        **{it.__name__: it for it in (two_outputs, two_inputs, image_output, fitted, profiled)},
        "registered": registered,
        **{it.__name__: it for it in (saved, damaged, images, converted, converted_from)},
    }


def _tfmot() -> Any:
    import tensorflow_model_optimization as tfmot

    return tfmot.sparsity.keras


def dataset(x: Any, y: Any) -> tf.data.Dataset:
    """Batches of the samples."""
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(5)


def unranked(x: Any, y: Any) -> Any:
    """A sample of which TensorFlow does not know how many axes it has."""
    return tf.py_function(lambda x, y: (x, y), (x, y), (tf.float32, y.dtype))


def answering(answer: Any) -> PruningSchedule:
    """A schedule that gives this answer to every step."""

    class Answering(klp.schedules.EqualSteps):
        def __call__(self, step: Any) -> Any:
            return answer

    return Answering()


def registered(**given: Any) -> None:
    """A criterion gets a name, and loses it again."""
    klp.register_criterion(**given)
    klp.criteria.unregister_criterion(given["criterion"].name)


def unbuilt() -> keras.Model:
    """A model without an input shape."""
    return keras.Sequential([layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(3)])


class Subclassed(keras.Model):
    """A model that is no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x: Any) -> Any:
        """Calls the layer."""
        return self.dense(layers.Flatten()(x))


def subclassed() -> keras.Model:
    """A model that is no graph, built."""
    model = Subclassed()
    model(np.zeros((1, 8, 8, 3)))
    return model


def two_outputs() -> keras.Model:
    """A model with two outputs."""
    model = case(plain).model
    return keras.Model(model.inputs, [model.layers[-2].output, model.layers[-1].output])


def two_inputs() -> keras.Model:
    """A model with two inputs."""
    one, other = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3)(layers.Add()([one, other]))
    return keras.Model([one, other], layers.Dense(3)(layers.Flatten()(x)))


def image_output() -> keras.Model:
    """A model that returns an image."""
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, layers.Conv2D(3, 3)(layers.Conv2D(8, 3)(inputs)))


def fitted(model: Any, pruning: Any) -> Any:
    """What an epoch of training a copy of the model makes of the callback."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    single, logits = copy.output_shape[-1] == 1, "softmax" not in str(copy.layers[-1].get_config())
    kind = "binary" if single else "sparse_categorical"
    losses = {"binary": "BinaryCrossentropy", "sparse_categorical": "SparseCategoricalCrossentropy"}
    loss = getattr(keras.losses, losses[kind])(from_logits=logits and not single)
    copy.compile("sgd", loss)
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    copy.fit(x, np.arange(8) % 2, batch_size=4, verbose=0, callbacks=[pruning])
    return pruning


def profiled() -> klp.Profile:
    """A profile, not measured."""
    return klp.Profile("keras", 10, 20, 30, None, "float32", 1, ())


@cache
def _kept() -> Path:
    """A folder for what is made once; it goes with the process."""
    return Path(_FOLDER.name)


@cache
def _pruned() -> klp.PruningResult:
    found = case(plain)
    return klp.prune(
        found.model,
        found.samples(),
        0.3,
        criterion="l1",
        schedule=klp.schedules.EqualSteps(1),
        recovery=None,
        verbose=0,
    )


@cache
def saved() -> Path:
    """A saved result."""
    return _pruned().save(_kept() / "result")


@cache
def damaged() -> Path:
    """A saved result of which the record is damaged."""
    folder = _pruned().save(_kept() / "damaged")
    (folder / "result.json").write_text('{"keras": [')
    return folder


@cache
def images() -> Path:
    """A folder of images."""
    for name in ("a", "猫"):
        (_kept() / "images" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (9, 7)).save(_kept() / "images" / name / f"{number}.png")
    return _kept() / "images"


def converted_from() -> Any:
    """The model that `converted` is made of."""
    return case(plain).model


@cache
def converted() -> Path:
    """A file for LiteRT."""
    return klp.export.litert(converted_from(), _kept() / "plain.tflite")
