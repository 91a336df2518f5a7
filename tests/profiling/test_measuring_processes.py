"""Models of which only the inference can be measured, and processes that fail."""

import os
import signal
import subprocess

import keras
import pytest
from keras import layers
from typer.testing import CliRunner

import keras_lrp_prune as klp
from keras_lrp_prune.cli.commands import app
from keras_lrp_prune.cost.process import measured

QUICK = {"batch_sizes": (1,), "repeats": 1}
OPTIONS = {"batch_sizes": [1], "threads": 1, "repeats": 1, "input_shape": None}


def augmented():
    """Draws random numbers in training, whose state inference does not read."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(layers.RandomFlip()(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def recurrent():
    inputs = keras.Input((4, 4))
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(4, dropout=0.1)(inputs)))


def looking_up():
    inputs = keras.Input((4,), dtype="int64")
    x = layers.Embedding(5, 4)(layers.IntegerLookup(vocabulary=[1, 2, 3])(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


@pytest.mark.parametrize("build", [augmented, recurrent, looking_up])
def test_layers_with_state_of_their_own(build):
    model = build()
    found = klp.profile(model, **QUICK)
    assert found.parameters == model.count_params() and found.timings[0].median > 0


def test_command_line_takes_augmented_models(tmp_path):
    augmented().save(tmp_path / "model.keras")
    arguments = ["profile", str(tmp_path / "model.keras"), "--batch-size", "1", "--repeats", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "Parameters" in done.output


def test_a_lookup_table_is_exported_with_its_model(tmp_path):
    klp.export.saved_model(looking_up(), tmp_path / "served" / "1")
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()


def broken_file(tmp_path):
    """A SavedModel that the process finds damaged."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"no model")
    return folder


def test_a_failure_is_one_line_of_the_command_line(tmp_path):
    done = CliRunner().invoke(app, ["profile", str(broken_file(tmp_path))])
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 1 and "Traceback" not in line
    assert "served could not be measured: OSError: " in line


def test_a_failure_in_python_has_the_traceback_as_a_note(tmp_path):
    with pytest.raises(RuntimeError, match="could not be measured: OSError") as error:
        measured("saved_model", broken_file(tmp_path), **OPTIONS)
    assert "Traceback" in error.value.__notes__[0]


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (signal.SIGKILL, "was killed, probably as memory ran out; measure smaller batches"),
        (signal.SIGTERM, "was killed by signal 15"),
    ],
)
def test_a_killed_process_is_told(monkeypatch, ends, words):
    """Killed as soon as it has its request, as by a system that is out of memory."""
    run = subprocess.run

    def killing(command, **options):
        program = f"import os; os.kill(os.getpid(), {int(ends)})"
        return run([command[0], "-c", program], **options)

    monkeypatch.setattr(subprocess, "run", killing)
    with pytest.raises(RuntimeError, match=f"model could not be measured: .* {words}"):
        measured("saved_model", "model", **OPTIONS)


def test_a_process_that_cannot_start_is_told(monkeypatch, tmp_path):
    """An interpreter without the packages that it needs."""
    (tmp_path / "numpy.py").write_text("raise ImportError('no NumPy here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(RuntimeError, match="it failed: ImportError: no NumPy here"):
        measured("saved_model", "model", **OPTIONS)
