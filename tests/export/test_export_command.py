"""The command `export`."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import SIZE, assert_bad_input, classifier, run, write_images
from exports import SAMPLES, requests

from keras_lrp_prune.export.litert_model import LiteRTModel


@pytest.fixture
def files(tmp_path):
    """A model file, a folder of images, and an empty folder."""
    classifier().save(tmp_path / "model.keras")
    write_images(tmp_path / "data")
    (tmp_path / "out").mkdir()
    return tmp_path / "model.keras", tmp_path / "data", tmp_path / "out"


def test_command_writes_both(files, serve):
    file, data, out = files
    result = run(
        *("export", file, "--saved-model", out / "1", "--litert", out / "m.tflite"),
        *("--quantize", "int8", "--representative", data, "--test", data),
        *("--preprocess", "mobilenet", "--uint8-images", "--labels", "blue,green,red", "--warmup"),
    )
    assert result.exit_code == 0, result.output
    assert "Accuracy of each class" in result.stdout and "LiteRT" in result.stdout
    assert {request.inputs["inputs"].dtype for request in requests(out / "1")} == {
        tf.uint8.as_datatype_enum
    }
    x = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    model = keras.models.load_model(file)
    expected = np.asarray(model(x / np.float32(127.5) - 1))
    found = serve(out / "1", x)["values"]
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-4, atol=1e-5)
    names = ["blue", "green", "red"]
    assert found["labels"] == [names[best] for best in expected.argmax(axis=1)]
    assert np.abs(LiteRTModel(out / "m.tflite")(x / 127.5 - 1) - expected).max() < 0.1


def test_command_measures_on_all_test_images(files):
    """`--per-class` says how many are drawn to measure ranges on."""
    file, data, out = files
    result = run(
        *("export", file, "--litert", out / "m.tflite", "--preprocess", "unit"),
        *("--representative", data, "--per-class", "2", "--test", data),
    )
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    counts = {row[0]: row[1] for row in rows if row and row[0] in ("blue", "green", "red")}
    assert counts == dict.fromkeys(("blue", "green", "red"), "4")


def test_command_takes_the_folder_of_a_result(result, tmp_path, serve):
    result.save(tmp_path / "pruned")
    done = run("export", tmp_path / "pruned", "--saved-model", tmp_path / "1")
    assert done.exit_code == 0, done.output
    found = serve(tmp_path / "1", SAMPLES)["values"]["scores"]
    np.testing.assert_allclose(found, result.model(SAMPLES), rtol=1e-4, atol=1e-5)


BAD_COMMANDS = {
    "nothing": ([], "--saved-model, --litert or both"),
    "int8 alone": (["--litert", "m.tflite", "--quantize", "int8"], "needs --representative"),
    "unknown mode": (["--litert", "m.tflite", "--quantize", "int4"], "int4"),
    "no version": (["--saved-model", "model"], "version number"),
    "suffix": (["--saved-model", "1", "--litert", "m.bin"], ".tflite"),
    "warm-up alone": (["--saved-model", "1", "--warmup"], "--warmup needs --representative"),
    "test alone": (["--saved-model", "1", "--test", "data"], "--test is for --litert"),
    "labels": (["--saved-model", "1", "--labels", "a,b"], "2 labels for the 3 classes"),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_bad_commands(case, files, monkeypatch):
    file, _, out = files
    monkeypatch.chdir(out)
    options, message = BAD_COMMANDS[case]
    assert_bad_input(run("export", file, *options), message)
    assert os.listdir(out) == []


def test_command_needs_a_file(tmp_path):
    assert_bad_input(run("export", "MobileNet", "--saved-model", tmp_path / "1"), "model file")
    help_text = run("export", "--help")
    assert help_text.exit_code == 0 and "--saved-model" in help_text.output
