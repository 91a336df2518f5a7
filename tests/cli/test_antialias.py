"""Which pixels the command line works on."""

import numpy as np
import pytest
from command_line import classifier
from PIL import Image
from typer.testing import CliRunner

from keras_lrp_prune.cli.commands import app
from keras_lrp_prune.cli.task import Request
from keras_lrp_prune.data import load_image_folder


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("blue", "green", "red"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        noise = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
        noise.save(tmp_path / "photos" / name / "1.png")
    return tmp_path / "photos"


def test_images_are_read_as_asked(photos, tmp_path):
    path = tmp_path / "model.keras"
    model = classifier()
    model.save(path)
    size = tuple(model.inputs[0].shape[1:3])
    found = {}
    for antialias in (False, True):
        images = Request(str(path), photos, antialias=antialias).load().images.x
        wanted = load_image_folder(photos, image_size=size, antialias=antialias).x
        np.testing.assert_array_equal(images, wanted)
        found[antialias] = images
    assert np.abs(found[True] - found[False]).mean() > 10


@pytest.mark.parametrize("command", ["prune", "compare", "relevance", "export"])
def test_every_command_that_reads_images_has_the_option(command):
    done = CliRunner().invoke(app, [command, "-h"], env={"COLUMNS": "200"})
    assert "--antialias" in done.output
