"""The order of class folders on the command line: that of the model's outputs, given or known."""

import json

import numpy as np
import pytest
from command_line import assert_bad_input, classifier, prune, run, write_images

NAMES = ("tulipa", "rosa", "dente-de-leão")  # in the order of the model's outputs
GIVEN = ("--class-names", ",".join(NAMES))
QUICK = ("--criterion", "l1", "--rate", "0.2", "--quiet")
UNIT = ("--preprocess", "unit")


def named(folder, names=NAMES):
    """The images that the model knows as blue, green and red, in folders of other names."""
    write_images(folder)
    for name, new in zip(("blue", "green", "red"), names, strict=True):
        (folder / name).rename(folder / new)
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A model file, its images, and the folder that `prune --class-names` made of them."""
    root = tmp_path_factory.mktemp("order")
    classifier().save(root / "model.keras")
    data = named(root / "data")
    done = prune(root / "model.keras", data, root / "pruned", *QUICK, *GIVEN)
    assert done.exit_code == 0, done.output
    return root / "model.keras", data, root / "pruned"


def record(folder):
    return json.loads((folder / "result.json").read_text())


def test_prune_takes_the_order(places):
    _, _, pruned = places
    assert record(pruned)["class_names"] == list(NAMES)
    assert record(pruned)["reference"]["before"]["harmonic_mean"] == 1


def test_a_model_at_chance_is_told_the_remedy(places, tmp_path):
    file, data, _ = places
    refused = prune(file, data, tmp_path / "out", *QUICK)
    assert_bad_input(refused, "is at chance", "--class-names a,b,c (the order of the model's outp")


def test_a_result_knows_the_order(places, tmp_path):
    _, data, pruned = places
    done = prune(pruned, data, tmp_path / "again", *QUICK)
    assert done.exit_code == 0, done.output
    assert record(tmp_path / "again")["class_names"] == list(NAMES)


def test_what_is_given_goes_before_what_a_result_knows(places, tmp_path):
    _, data, pruned = places
    options = (*QUICK, "--class-names", ",".join(sorted(NAMES)))
    assert_bad_input(prune(pruned, data, tmp_path / "out", *options), "is at chance")


def test_a_result_says_nothing_of_other_classes(places, tmp_path):
    _, _, pruned = places
    data = named(tmp_path / "others", ("cravo", "lírio", "violeta"))
    done = prune(pruned, data, tmp_path / "out", *QUICK)
    assert done.exit_code == 0, done.output
    assert record(tmp_path / "out")["class_names"] == ["cravo", "lírio", "violeta"]


def test_relevance_takes_the_order(places, tmp_path):
    file, data, _ = places
    sorted_data = named(tmp_path / "data", ("1", "2", "3"))
    for folder, images, options in (("given", data, GIVEN), ("sorted", sorted_data, ())):
        done = run("relevance", file, images, "--out", tmp_path / folder, *UNIT, *options)
        assert done.exit_code == 0, done.output
    found, expected = (np.load(tmp_path / it / "relevance.npz") for it in ("given", "sorted"))
    for layer in expected.files:
        np.testing.assert_allclose(found[layer], expected[layer], rtol=1e-5, atol=1e-7)


def test_compare_takes_the_order(places, tmp_path):
    file, data, _ = places
    done = run(
        *("compare", file, data, "--test", data, "--out", tmp_path, "--quiet", "--method", "l1"),
        *("--rates", "0,0.2", *UNIT, *GIVEN),
    )
    assert done.exit_code == 0, done.output
    (found,) = json.loads((tmp_path / "comparison.json").read_text())["runs"]
    assert found["class_accuracy"][0] == [1, 1, 1]


def exported(model, data, out, *options):
    """Exit code, warnings, and the accuracies printed: class name to those of both models."""
    done = run("export", model, "--litert", out, "--test", data, *UNIT, *options)
    rows = [line.split() for line in done.stdout.splitlines()]
    accuracies = {row[0]: row[2:4] for row in rows if row and row[0] in NAMES}
    return done.exit_code, done.stderr, accuracies


def test_export_takes_the_order(places, tmp_path):
    file, data, pruned = places
    perfect = {name: ["100.0", "100.0"] for name in NAMES}
    for name, model, options in (("given", file, GIVEN), ("known", pruned, ())):
        code, told, accuracies = exported(model, data, tmp_path / f"{name}.tflite", *options)
        assert code == 0 and accuracies == perfect and "Warning" not in told


def test_export_warns_of_a_model_at_chance(places, tmp_path):
    file, data, _ = places
    code, told, accuracies = exported(file, data, tmp_path / "m.tflite")
    assert code == 0 and accuracies["tulipa"] == ["0.0", "0.0"]
    (line,) = (line for line in told.splitlines() if line.startswith("Warning: "))
    assert "at chance: 4 of 12 samples" in line and "--class-names a,b,c" in line
