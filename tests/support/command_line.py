"""A folder of images, a model for them, and the command line in this process."""

from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image
from typer.testing import CliRunner

from keras_lrp_prune.cli.commands import app

SIZE = 32


def write_images(folder: Path, per_class: int = 4, seed: int = 0) -> Path:
    """Three classes of images that differ in colour."""
    rng = np.random.default_rng(seed)
    for channel, name in enumerate(("blue", "green", "red")):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.integers(0, 120, (40, 36, 3), dtype=np.uint8)
            pixels[..., 2 - channel] += 120
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def classifier(size: int | None = SIZE) -> keras.Model:
    """A CNN that tells three classes apart by their colour; most of its weights are random."""
    keras.utils.set_random_seed(1)
    entry = keras.Input((size, size, 3))
    x = layers.Conv2D(8, 3, activation="relu")(entry)
    x = layers.Conv2D(8, 3, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    head = layers.Dense(3, activation="softmax")
    model = keras.Model(entry, head(x), name="tiny")
    features = keras.Model(entry, x)
    means = np.eye(3, dtype=np.float32)[::-1, None, None] * 120 / 255 + 60 / 255
    rows = features.predict(np.broadcast_to(means, (3, SIZE, SIZE, 3)), verbose=0)
    head.kernel.assign(5 * np.linalg.pinv(rows - rows.mean(0), rcond=1e-3))
    head.bias.assign(-rows.mean(0) @ head.kernel)
    return model


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def prune(model, data, out, *options):
    return run("prune", model, data, "--out", out, "--preprocess", "unit", *options)


def assert_bad_input(result, *words):
    """Exit code 2 and one line that says what is wrong."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and "Traceback" not in result.output
    for word in words:
        assert str(word) in lines[0]
