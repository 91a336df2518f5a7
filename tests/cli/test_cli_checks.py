"""What is wrong with a command line shows before TensorFlow is imported, and no input is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from places import ROOT
from typer.testing import CliRunner

from keras_lrp_prune.cli import choices
from keras_lrp_prune.cli.backbones import backbones
from keras_lrp_prune.cli.commands import app

# Runs command lines and tells for each how it ended, and what slow libraries were imported.
RUN = """
import json, sys
from typer.testing import CliRunner
from keras_lrp_prune.cli import app
found = []
for line in json.load(sys.stdin):
    done = CliRunner().invoke(app, line)
    slow = {"tensorflow", "keras", "tf_keras"} & sys.modules.keys()
    found.append([done.exit_code, done.stderr, sorted(slow)])
print(json.dumps(found))
"""

PRUNE = ("prune", "model.keras", "data", "--out", "out")
COMPARE = ("compare", "model.keras", "data", "--test", "held_out", "--out", "out")
EXPORT = ("export", "model.keras")
INT8 = (*EXPORT, "--quantize", "int8", "--representative", "data")

# Command line to what the error says.
WRONG = {
    ("prune", "mistyped.keras", "data", "--out", "out"): "There is no model file mistyped.keras",
    ("prune", "MobileNut", "data", "--out", "out"): "Did you mean 'MobileNet'",
    ("prune", "modle.kers", "data", "--out", "out"): "There is no file or folder 'modle.kers'",
    ("explain", "modle.kers"): "backbone of that name. Did you mean 'model.keras'",
    ("explain", "./pruend"): "Did you mean 'pruned'?",
    ("explain", "modle.keras"): "There is no model file modle.keras. Did you mean 'model.keras'",
    ("explain", "qqq"): "Give a .keras file, a folder that prune wrote, or a backbone by name",
    ("prune", "MobileNet:alpha", "data", "--out", "out"): "'alpha' is not of the form name=value",
    ("prune", "MobileNet:include_top=True", "data", "--out", "out"): "'include_top=True' out: its",
    ("prune", "MobileNet:weights=mine", "data", "--out", "out"): "out: give --weights",
    ("prune", "", "data", "--out", "out"): "The word after 'prune' is empty. Is a variable",
    ("prune", "model.keras", "", "--out", "out"): "The word after 'model.keras' is empty",
    (*PRUNE, "--validation", ""): "The word after '--validation' is empty",
    (*PRUNE, "--validation="): "--validation= has no value",
    ("profile", "model.keras", ""): "The word after 'model.keras' is empty",
    ("explain", ""): "The word after 'explain' is empty",
    ("prune", "held_out", "data", "--out", "out"): "There is no model file held_out/model.keras",
    ("prune", "model.keras", "nowhere", "--out", "out"): "image folder nowhere does not exist",
    ("prune", "model.keras", "empty", "--out", "out"): "empty has no sub-folders",
    (*PRUNE, "--validation", "nowhere"): "image folder nowhere does not exist",
    (*PRUNE, "--validation", "others"): "others has the classes blue, but data has blue, red",
    (*PRUNE, "--per-class", "9"): "Class 'blue' has 1 samples, fewer than --per-class 9",
    (*PRUNE, "--class-names", "red"): "sub-folders of data: not named is 'blue'. Give the name",
    (*PRUNE, "--class-names", "red, blue,rose"): "there is no sub-folder 'rose'. Give the name",
    (*PRUNE, "--class-names", "red,red"): "The class name 'red' is given twice",
    (*COMPARE, "--class-names", "red"): "not named is 'blue'",
    ("relevance", "model.keras", "data", "--out", "out", "--class-names", "a,blue"): "folder 'a'",
    ("prune", "damaged", "data", "--out", "out"): "damaged/result.json is damaged, so",
    (*PRUNE, "--rate", "1.5"): "--rate must lie in [0, 1), not 1.5",
    (*PRUNE, "--rate", "nan"): "--rate must lie in [0, 1), not nan",
    (*PRUNE, "--min-accuracy", "75"): "--min-accuracy must lie in [0, 1], not 75",
    (*PRUNE, "--min-channels", "1.5"): "--min-channels must be at least 1, or a share",
    (*PRUNE, "--round-to", "0"): "--round-to must be at least 1, not 0",
    (*PRUNE, "--seed", "-1"): "--seed must be from 0 to 4294967295, not -1",
    (*PRUNE, "--criterion", "magic"): "Unknown criterion 'magic'. There are: lrp.log_odds",
    (*PRUNE, "--engine", "magic"): "Unknown engine 'magic'. There are: auto",
    (*PRUNE, "--recovery", "magic"): "Unknown recovery 'magic'. There are: ",
    (*PRUNE, "--preprocess", "magic"): "Unknown --preprocess 'magic': give none, unit",
    (*PRUNE, "--weights", "imagenet"): "--weights is for named backbones",
    ("prune", "VGG16", "data", "--weights", "no.h5", "--out", "out"): "no weights file no.h5",
    (*PRUNE, "--budget", "flops"): "such as flops=0.5, not 'flops'",
    (*PRUNE, "--budget", "speed=0.5"): "Unknown budget 'speed'",
    (*PRUNE, "--budget", "flops=0.5", "--rate", "0.5"): "Give --rate or --budget, not both",
    ("prune", "model.keras", "data", "--out", "file/out"): "'file' is not a folder",
    ("prune", "model.keras", "data", "--out", "/proc/out"): "Cannot write to '/proc'",
    (*COMPARE, "--method", "magic"): "Unknown method 'magic'. There are: accuracy-aware",
    (*COMPARE, "--seeds", "0,-1"): "--seeds[1] must be from 0 to 4294967295, not -1",
    (*COMPARE, "--seeds", "x"): "--seeds takes numbers with commas between, not 'x'",
    (*COMPARE, "--rates", "0.5,0.1"): "--rates must be strictly increasing, not [0.5, 0.1]",
    (*COMPARE, "--recovery", "magic"): "Unknown recovery 'magic'",
    ("compare", "model.keras", "data", "--test", "nowhere", "--out", "out"): "nowhere does not",
    ("relevance", "model.keras", "data", "--out", "out", "--analyzer", "magic"): "analyzer 'magic'",
    ("explain", "mistyped.keras"): "There is no model file mistyped.keras",
    ("explain", "model.keras", "--plot", "groups.jpg"): "or .pdf, not as 'groups.jpg'",
    ("explain", "model.keras", "--plot", "file/groups.svg"): "'file' is not a folder",
    ("profile", "model.keras", "mistyped.tflite"): "no file or folder 'mistyped.tflite'",
    ("profile", "model.keras", "--threads", "0"): "--threads must be at least 1, not 0",
    ("profile", "model.keras", "--repeats", "0"): "--repeats must be at least 1, not 0",
    ("profile", "model.keras", "--batch-size", "0"): "must be at least 1, not 0",
    ("export", "MobileNet", "--litert", "new.tflite"): "There is no model file MobileNet",
    (*EXPORT, "--saved-model", "serving/one"): "serving/one' is not a version number",
    (*EXPORT, "--litert", "new.lite"): "new.lite' must end in .tflite",
    EXPORT: "Give --saved-model, --litert or both",
    (*EXPORT, "--litert", "new.tflite", "--quantize", "magic"): "Unknown quantization 'magic'",
    (*INT8, "--litert", "new.tflite", "--io", "magic"): "Unknown type of --io 'magic'",
    (*INT8, "--litert", "new.tflite", "--class-names", "red"): "not named is 'blue'",
    (*EXPORT, "--litert", "new.tflite", "--class-names", "red"): "--class-names is for --repr",
    (*INT8, "--litert", "new.tflite", "--preprocess", "magic"): "Unknown --preprocess 'magic'",
    ("demo", "--out", "file/demo"): "'file' is not a folder",
    ("demo", "--seed", "-1"): "--seed must be from 0",
}
# Command lines that would overwrite or change what they read.
HARMFUL = {
    ("prune", "model.keras", "data", "--out", "."): "would overwrite model.keras, which is read",
    ("prune", "linked.keras", "data", "--out", "."): "would overwrite linked.keras",
    ("prune", "pruned", "data", "--out", "pruned"): "would overwrite pruned/model.keras",
    ("prune", "pruned", "data", "--out", "link"): "would overwrite pruned/model.keras",
    ("prune", "model.keras", "data", "--out", "data"): "lies in the folder of images data",
    ("prune", "model.keras", "data", "--out", "data/red"): "lies in the folder of images data",
    (*PRUNE, "--checkpoint-dir", "data/run"): "--checkpoint-dir data/run lies in the folder",
    (*PRUNE[:-1], "held_out/a/b", "--validation", "held_out"): "folder of images held_out",
    (*COMPARE[:-1], "held_out/out"): "lies in the folder of images held_out",
    ("relevance", "model.keras", "data", "--out", "data/out"): "lies in the folder of images",
    ("explain", "picture.svg", "--plot", "picture.svg"): "would overwrite picture.svg",
    (*PRUNE[:-1], "earlier"): "earlier holds a result already (result.json), which",
    ("relevance", "model.keras", "data", "--out", "earlier"): "give another --out, or --overwrite",
    (*EXPORT, "--litert", "earlier/old.tflite"): "give another --litert, or --overwrite to replace",
    (*INT8, "--litert", "data/red/new.tflite"): "--litert data/red/new.tflite lies in the folder",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with files of every kind that a command line can name."""
    root = tmp_path_factory.mktemp("checks")
    for name in ("data/blue", "data/red", "held_out/blue", "held_out/red", "others/blue"):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / name / "1.png")
    for name in ("empty", "pruned", "damaged", "earlier"):
        (root / name).mkdir()
    files = ("model.keras", "pruned/model.keras", "damaged/model.keras", "file", "picture.svg")
    for name in files:
        (root / name).write_text("not read, as something else is wrong")
    for name in ("result.json", "relevance.npz", "old.tflite"):
        (root / "earlier" / name).touch()
    (root / "damaged" / "result.json").write_text('{"class_names": "blue"}')
    (root / "linked.keras").symlink_to("model.keras")
    (root / "link").symlink_to("pruned")
    return root


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def outcomes(folder):
    """How each command line ended; all run in one fresh process."""
    lines = [*WRONG, *HARMFUL]
    before = left(folder)
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert left(folder) == before, "nothing is written"
    return dict(zip(lines, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("line", [*WRONG, *HARMFUL], ids=" ".join)
def test_errors_come_before_the_slow_imports(outcomes, line):
    code, text, slow = outcomes[line]
    assert code == 2 and text.startswith("Error: ") and text.count("\n") == 1, text
    assert {**WRONG, **HARMFUL}[line] in text
    assert slow == []


def test_names_are_those_that_the_library_knows():
    from keras_lrp_prune.comparison import DEFAULT_METHODS, METHODS
    from keras_lrp_prune.examination.recovery_choice import AUTO, RECOVERIES
    from keras_lrp_prune.export.litert_conversion import _QUANTIZATIONS, InputOutput
    from keras_lrp_prune.report.figures import FORMATS

    assert set(map(choices.recovery, choices.RECOVERIES)) == {AUTO, *RECOVERIES}
    assert set(choices.METHODS) == set(METHODS)
    assert choices.DEFAULT_METHODS == DEFAULT_METHODS
    assert tuple(_QUANTIZATIONS) == choices.QUANTIZATIONS
    assert InputOutput.__args__ == choices.IO_TYPES
    assert choices.PICTURES == FORMATS


def test_backbones_are_those_of_keras():
    import keras

    found = {
        name: function.__module__.rpartition(".")[2]
        for name, function in vars(keras.applications).items()
        if name[0].isupper()
    }
    assert backbones() == found and len(found) > 30


@pytest.mark.parametrize("command", ["prune", "compare", "relevance", "explain", "profile"])
def test_short_help(command):
    short, long = (CliRunner().invoke(app, [command, option]) for option in ("-h", "--help"))
    assert short.exit_code == 0 and "Usage:" in short.output
    assert short.output == long.output
    assert "--help" in short.output and "-h" in short.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell, tmp_path):
    """The script that `--show-completion` prints, and what it asks for."""
    program = Path(sys.executable).with_name("keras-lrp-prune")
    asking = {"_KERAS_LRP_PRUNE_COMPLETE": f"complete_{shell}", "COMP_CWORD": "1"}
    asking |= {"COMP_WORDS": "keras-lrp-prune pr", "_TYPER_COMPLETE_ARGS": "keras-lrp-prune pr"}
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        # Else the shell is the one that the tests run in, if there is one.
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    done = subprocess.run(
        [program],
        capture_output=True,
        text=True,
        env={**environment, **asking, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    )
    words = done.stdout.replace('"', " ").replace(":", " ").split()
    assert {"prune", "profile"} <= set(words) and "export" not in words
    shown = subprocess.run(
        [program, "--show-completion", shell], capture_output=True, text=True, env=environment
    )
    assert "_KERAS_LRP_PRUNE_COMPLETE" in shown.stdout, shown
