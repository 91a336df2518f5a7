"""The command line: what it writes, and one clear line for everything that can be wrong."""

import contextlib
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from command_line import SIZE, assert_bad_input, classifier, prune, run, write_images
from places import EXAMPLES

from keras_lrp_prune.cli import places
from keras_lrp_prune.cli.commands import app

SCRIPT = EXAMPLES / "transfer_flowers.py"


@pytest.fixture
def data(tmp_path):
    return write_images(tmp_path / "data")


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.keras"
    classifier().save(path)
    return path


@pytest.fixture(scope="session")
def backbone_weights(tmp_path_factory):
    """Weights of a small MobileNet, as a file."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNet(
        alpha=0.25, include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)
    )
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    model.save_weights(path)
    return path


def test_version():
    result = run("--version")
    assert result.exit_code == 0 and result.output.startswith("keras-lrp-prune ")


def test_prune_a_file(model_file, data, tmp_path):
    out = tmp_path / "out"
    result = prune(model_file, data, out, "--rate", 0.5, "--criterion", "taylor", "--quiet")
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == set(places.RESULT)
    record = json.loads((out / "result.json").read_text())
    assert record["rate"] == pytest.approx(0.5)
    assert keras.models.load_model(out / "model.keras").count_params() < classifier().count_params()
    assert "blue" in result.output and "Pruning rate 50.0%" in result.output


def test_prune_to_a_budget(model_file, data, tmp_path):
    budgets = ("--budget", "flops=0.6", "--budget", "filters=0.9")
    done = prune(model_file, data, tmp_path / "out", *budgets, "--criterion", "l1", "--quiet")
    assert done.exit_code == 0, done.output
    assert "budget met" in done.output and "60.00% allowed" in done.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["cost_after"]["flops"] <= 0.6 * record["cost_before"]["flops"]
    assert record["settings"]["budget"] == {"flops": 0.6, "filters": 0.9}


def test_model_at_chance(model_file, data, tmp_path):
    names = [data / name for name in ("blue", "green", "red")]
    for name in names:
        name.rename(data / f"{name.name}_")
    for name, new in zip(names, ("green_", "red_", "blue_"), strict=True):
        (data / new).rename(name)  # the model's classes, called otherwise
    refused = prune(model_file, data, tmp_path / "out", "--criterion", "l1")
    assert_bad_input(refused, "is at chance: 0 of 12 samples", "preprocess", "give --force")
    assert not (tmp_path / "out").exists()
    done = prune(model_file, data, tmp_path / "out", "--criterion", "l1", "--quiet", "--force")
    assert done.exit_code == 0 and done.stderr.startswith("Warning: The accuracy"), done.output
    assert done.stderr.count("\n") == 1


class FullDisk(io.StringIO):
    """An output that takes nothing."""

    def fileno(self):
        return 1

    def write(self, text):
        if text:
            raise OSError(errno.ENOSPC, "No space left on device")
        return 0


def test_results_are_saved_before_anything_is_printed(model_file, data, tmp_path, monkeypatch):
    unit = ("--preprocess", "unit")
    lines = {
        ("prune", model_file, data, "--out", "out", "--criterion", "l1", *unit): "out/model.keras",
        (
            *("compare", model_file, data, "--test", data, "--out", "runs", *unit),
            *("--rates", "0,0.3", "--method", "l1"),
        ): "runs/comparison.json",
        ("relevance", model_file, data, "--out", "found", *unit): "found/relevance.npz",
        ("explain", model_file, "--plot", "groups.svg"): "groups.svg",
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", FullDisk())
    for line, made in lines.items():
        with contextlib.suppress(OSError):
            assert app([str(part) for part in line], standalone_mode=False) != 0, "it is told"
        assert Path(made).is_file(), line


@pytest.mark.parametrize(("asked", "done"), [([], "least_squares"), (["--recovery", "none"], None)])
def test_what_is_left_is_refitted_unless_told_otherwise(model_file, data, tmp_path, asked, done):
    result = prune(model_file, data, tmp_path / "out", "--criterion", "l1", "--quiet", *asked)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["settings"]["recovery"] == done


def test_validation_is_reported(model_file, data, tmp_path):
    held_out = write_images(tmp_path / "held_out", per_class=3, seed=1)
    options = ["--criterion", "l1", "--validation", held_out, "--quiet"]
    result = prune(model_file, data, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "validation data" in result.output


def test_checkpoint_of_a_finished_run_is_used(model_file, data, tmp_path):
    options = ["--criterion", "l2", "--checkpoint-dir", tmp_path / "steps", "--quiet"]
    for name in ("first", "second"):
        assert prune(model_file, data, tmp_path / name, *options).exit_code == 0
    kept = [
        json.loads((tmp_path / name / "result.json").read_text())["kept"]
        for name in ("first", "second")
    ]
    assert kept[0] == kept[1]
    assert {path.name for path in (tmp_path / "steps").iterdir()} == set(places.CHECKPOINT)


def test_prune_a_named_backbone(backbone_weights, data, tmp_path):
    result = run(
        *("prune", "mobilenet:alpha=0.25", data, "--out", tmp_path / "out", "--quiet"),
        *("--weights", backbone_weights, "--image-size", SIZE, "--criterion", "activation"),
        *("--rate", 0.3),
    )
    assert result.exit_code == 0, result.output
    assert "keras.applications.mobilenet.preprocess_input" in " ".join(result.output.split())
    model = keras.models.load_model(tmp_path / "out" / "model.keras")
    assert model.output_shape == (None, 3)


def compare(model, data, test, out, *options):
    arguments = ["compare", model, data, "--test", test, "--out", out, "--quiet"]
    return run(*arguments, *("--rates", "0,0.25,0.5"), *options)


def test_compare_a_file(model_file, data, tmp_path):
    test, out = write_images(tmp_path / "test", per_class=3, seed=1), tmp_path / "out"
    options = ["--preprocess", "unit", "--seeds", "0,1", "--per-class", 3]
    methods = ["--method", "taylor", "--method", "random"]
    result = compare(model_file, data, test, out, *options, *methods)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {*places.COMPARISON, "runs"}
    record = json.loads((out / "comparison.json").read_text())
    runs = [(run["method"], run["seed"]) for run in record["runs"]]
    assert runs == [("taylor", 0), ("taylor", 1), ("random", 0), ("random", 1)]
    assert record["settings"]["rates"] == [0, 0.25, 0.5]
    assert "Held-out accuracy (%)" in result.output and "2 seeds" in result.output
    again = compare(model_file, data, test, out, *options, *methods)
    assert again.exit_code == 0
    assert json.loads((out / "comparison.json").read_text()) == record, "runs are only read"
    other = ["--preprocess", "none", *options[2:], *methods]
    assert_bad_input(compare(model_file, data, test, out, *other), "another reference set")


def test_compare_a_named_backbone(backbone_weights, data, tmp_path):
    options = ["--weights", backbone_weights, "--image-size", SIZE, "--method", "l1"]
    out = tmp_path / "out"
    result = compare("mobilenet:alpha=0.25", data, data, out, *options, "--recovery", "head")
    assert result.exit_code == 0, result.output
    assert json.loads((out / "comparison.json").read_text())["settings"]["recovery"] == "head"


def test_bad_comparison(model_file, data, tmp_path):
    result = compare(model_file, data, data, tmp_path / "out", "--seeds", "1,1")
    assert_bad_input(result, "1 is given twice")


def test_relevance(model_file, data, tmp_path):
    out = tmp_path / "out"
    result = run("relevance", model_file, data, "--out", out, "--preprocess", "unit")
    assert result.exit_code == 0, result.output
    with np.load(out / "relevance.npz") as found:
        assert sorted(found[name].shape for name in found.files) == [(3, 3), (3, 8), (3, 8)]
    assert (out / "heatmaps.png").stat().st_size > 1000
    assert {path.name for path in out.iterdir()} == set(places.RELEVANCE)


def test_explain_a_file(model_file, tmp_path):
    picture = tmp_path / "groups.svg"
    result = run("explain", model_file, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert "16 of 19 filters (84.2 %) can be pruned, in 2 channel groups." in result.output
    assert f"Written to {picture}." in result.output
    assert picture.read_text().startswith("<?xml")


def test_explain_a_named_backbone_without_its_weights():
    result = run("explain", "mobilenet:alpha=0.25", "--protect", "conv1")
    assert result.exit_code == 0, result.output
    # The last block is prunable, as it is below the head that pruning a backbone puts on.
    rows = {line.split()[0]: line for line in result.output.splitlines() if line.strip()}
    assert rows["conv_pw_13"].endswith("prunable")
    assert "named in protect=" in rows["conv1"]
    assert "conv1_relu" not in rows
    assert "conv1_relu" in run("explain", "mobilenet:alpha=0.25", "--all").output


def test_bad_explain(model_file):
    assert_bad_input(run("explain", model_file, "--protect", "magic"), "magic")


def test_no_traceback_in_a_real_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "keras_lrp_prune", "prune", "nothing.keras", tmp_path, "--out", "o"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 2
    assert "There is no model file nothing.keras" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "o").exists()


def test_truncated_image(model_file, data, tmp_path):
    image = data / "green" / "2.png"
    image.write_bytes(image.read_bytes()[:100])
    assert_bad_input(prune(model_file, data, tmp_path / "out"), "Cannot read the image", image)


def test_truncated_model(model_file, data, tmp_path):
    model_file.write_bytes(model_file.read_bytes()[:1000])
    assert_bad_input(prune(model_file, data, tmp_path / "out"), "Cannot load the model")


def test_truncated_weights(backbone_weights, data, tmp_path):
    broken = tmp_path / "broken.weights.h5"
    broken.write_bytes(backbone_weights.read_bytes()[:1000])
    result = prune("MobileNet", data, tmp_path / "out", "--weights", broken)
    assert_bad_input(result, "Cannot make MobileNet", "broken.weights.h5")


def test_image_size_needed(data, tmp_path):
    path = tmp_path / "any_size.keras"
    classifier(size=None).save(path)
    assert_bad_input(prune(path, data, tmp_path / "out"), "give --image-size")
    result = prune(path, data, tmp_path / "out", "--image-size", 24, "--criterion", "l1", "--quiet")
    assert result.exit_code == 0, result.output


def test_wrong_image_size(model_file, data, tmp_path):
    assert_bad_input(prune(model_file, data, tmp_path / "out", "--image-size", 24), "32x32")


def test_wrong_number_of_classes(model_file, data, tmp_path):
    (data / "red").rename(tmp_path / "red")
    words = "'tiny' scores 3 classes, but", "has 2 class folders: blue, green"
    assert_bad_input(prune(model_file, data, tmp_path / "out"), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rate", 0.99], "the largest pruning rate is"),
        (["--budget", "flops=0.0001"], "the smallest share that can remain is"),
        (["--protect", "magic"], "magic"),
    ],
)
def test_bad_options(model_file, data, tmp_path, options, words):
    arguments = [*("--out", tmp_path / "out"), *options]
    assert_bad_input(run("prune", model_file, data, *arguments), words)


@pytest.mark.slow
def test_flowers_example(backbone_weights, tmp_path):
    write_images(tmp_path / "flowers" / "train", per_class=8)
    write_images(tmp_path / "flowers" / "val", per_class=5, seed=1)
    out = tmp_path / "out"
    done = subprocess.run(
        [
            *(sys.executable, SCRIPT, "--data", tmp_path, "--out", out, "--alpha", "0.25"),
            *("--size", str(SIZE), "--per-class", "5", "--seeds", "2", "--rates", "0.1", "0.3"),
            *("--weights", backbone_weights),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {
        *("table.md", "table.json", "pruned", "heatmaps.png")
    }
    table = (out / "table.md").read_text()
    assert table in done.stdout and table.count("| seed ") == 2
    runs = json.loads((out / "table.json").read_text())
    assert [run["rates"] for run in runs] == 2 * [pytest.approx([0.1, 0.3], abs=0.02)]
    assert all(run["recovery"] == 2 * ["least_squares"] for run in runs)
