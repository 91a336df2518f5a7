"""Class names, wherever numbers would be shown."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from pruning_models import digits, digits_model, reference

import keras_lrp_prune as klp
from keras_lrp_prune.data import load_image_folder

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def model():
    return digits_model(4, 4)


@pytest.fixture(scope="module")
def result(model):
    return klp.prune(model, reference(), 0.2, criterion="l1", class_names=iter(NAMES), verbose=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of two classes that differ in brightness."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        (root / name).mkdir()
        for number in range(6):
            pixels = rng.integers(level - 50, level + 50, (8, 8, 3)).astype("uint8")
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def by_brightness():
    """A model that takes images as they are, and knows the two classes."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(8, 1, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    sign = np.tile([1.0, -1.0], 4).astype("float32")
    model.layers[1].set_weights([np.tile(sign, (1, 1, 3, 1)), np.zeros(8, "float32")])
    model.layers[3].set_weights([np.stack([-sign, sign], 1), np.zeros(2, "float32")])
    return model


def test_tables_plots_and_files(result, tmp_path, capsys):
    result.summary()
    printed = capsys.readouterr().out
    assert all(f" {name} " in printed for name in NAMES)
    labels = [text.get_text() for text in result.plot().axes[0].get_legend().get_texts()]
    assert labels[-10:] == NAMES
    loaded = klp.load_result(result.save(tmp_path / "out"))
    assert loaded.class_names == tuple(NAMES)
    result.summary(class_names=list("abcdefghij"))
    assert " j " in capsys.readouterr().out


def test_older_results_load(result, tmp_path, capsys):
    path = result.save(tmp_path / "out") / "result.json"
    record = json.loads(path.read_text())
    del record["class_names"]
    path.write_text(json.dumps(record))
    loaded = klp.load_result(tmp_path / "out")
    assert loaded.class_names is None
    loaded.summary()
    assert "\n 9 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (NAMES[:9], klp.DataError, "9 class names .* for 10 classes"),
        ([*NAMES, "ten"], klp.DataError, "11 class names"),
        ([*NAMES[:9], "one"], klp.DataError, "'one' is given twice"),
        (range(10), TypeError, "a list of names"),
        ("zero", TypeError, "a list of names"),
        (7, TypeError, "a list of names"),
    ],
)
def test_names_that_cannot_be(model, names, error, message):
    with pytest.raises(error, match=message):
        klp.prune(model, reference(), 0.2, class_names=names)


def test_image_folders_are_taken_as_they_are(by_brightness, folder, tmp_path):
    images = load_image_folder(folder, image_size=(8, 8), per_class=4)
    held_out = load_image_folder(folder, image_size=(8, 8))
    result = klp.prune(by_brightness, images, 0.3, validation=held_out, verbose=0)
    assert result.class_names == ("dark", "light")
    assert result.reference["before"]["accuracy"] == 1
    same = klp.prune(by_brightness, (images.x, images.y), 0.3, verbose=0)
    assert same.class_names is None and same.history == result.history
    curve = klp.accuracy_curve(by_brightness, images, held_out, "l1", [0.0, 0.3])
    assert curve.mean()[0] == 1
    relevance = klp.filter_relevance(by_brightness, images.x, images.y, engine="native")
    assert len(relevance) > 0

    halved = dataclasses.replace(images, x=images.x / 2 + 60)
    named = klp.prune(by_brightness, halved, 0.3, class_names=["D", "L"], verbose=0)
    assert named.class_names == ("D", "L")


def test_sets_in_different_orders_are_refused(by_brightness, folder):
    images = load_image_folder(folder, image_size=(8, 8))
    other = dataclasses.replace(images, class_names=("light", "dark"))
    with pytest.raises(klp.DataError, match="validation data: its classes are light, dark, but"):
        klp.prune(by_brightness, images, 0.3, validation=other)
    with pytest.raises(klp.DataError, match="The test data: its classes are"):
        klp.accuracy_curve(by_brightness, images, other, "l1")


def test_datasets_that_keras_makes_know_their_names(by_brightness, folder):
    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(8, 8), batch_size=5, shuffle=False, verbose=False
    )
    result = klp.prune(by_brightness, dataset, 0.3, criterion="l1", verbose=0)
    assert result.class_names == ("dark", "light")


def test_fine_tuning(result, by_brightness, folder, capsys):
    x, y = reference()
    tuned = klp.finetune(result, (x, y), epochs=1, validation=digits()[1], verbose=0)
    assert tuned.class_names == tuple(NAMES)
    tuned.summary()
    assert " seven " in capsys.readouterr().out
    images = load_image_folder(folder, image_size=(8, 8))
    tuned = klp.finetune(by_brightness, images, epochs=1, validation=images, verbose=0)
    assert tuned.class_names == images.class_names
    with pytest.raises(klp.DataError, match="class names"):
        klp.finetune(by_brightness, images, epochs=1, class_names=["only"], verbose=0)


def test_training(by_brightness, folder):
    images = load_image_folder(folder, image_size=(8, 8))
    model = keras.models.clone_model(by_brightness)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pruning = klp.callbacks.FilterPruning(images, klp.schedules.EqualSteps(0.3), "l1")
    assert pruning.class_names is None
    model.set_weights(by_brightness.get_weights())
    model.fit(images.x, images.y, epochs=1, callbacks=[pruning], verbose=0)
    assert pruning.class_names == ("dark", "light")
    with pytest.raises(TypeError, match="a list of names"):
        klp.callbacks.FilterPruning(images, klp.schedules.EqualSteps(), class_names="dark")


def test_names_that_contradict_those_of_the_samples_are_refused(by_brightness, folder):
    images = load_image_folder(folder, image_size=(8, 8))
    with pytest.raises(klp.DataError, match=r"light, dark, but the reference set .* dark, light"):
        klp.prune(by_brightness, images, 0.3, class_names=["light", "dark"], verbose=0)
