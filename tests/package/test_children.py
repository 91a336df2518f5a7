"""Child processes: what lies in the working directory is not theirs to import."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_lrp_prune
from keras_lrp_prune.children import command, environment, module_command
from keras_lrp_prune.relevance.worker_process import WorkerProcess

PACKAGE = Path(keras_lrp_prune.__file__).parent
HOSTILE = ("json", "numpy", "keras", "tensorflow", "tf_keras", "importlib", "keras_lrp_prune")
IMPORTS = f"import {', '.join(HOSTILE[:2])}, importlib, mine; print(mine.__name__, sys.argv[1])"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with hostile modules; fails if one of them is run."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')")
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "mine.py").write_text("")
    monkeypatch.chdir(folder)
    paths = [str(tmp_path / "users"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    yield tmp_path
    ran = tmp_path / "ran"
    assert not ran.exists(), ran.read_text()


@pytest.fixture
def older(tmp_path):
    """This interpreter, as one that does not know of PYTHONSAFEPATH."""
    path = tmp_path / "python"
    path.write_text(
        f'#!/bin/sh\nunset PYTHONSAFEPATH\nexec {sys.executable} "$@"\n',
    )
    path.chmod(0o755)
    return str(path)


def output(arguments):
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_fixture_would_find_out(tmp_path):
    (tmp_path / "json.py").write_text("print('hostile')")
    done = subprocess.run(
        [sys.executable, "-c", "import json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "hostile\n"


def test_programs_import_what_is_installed_and_what_the_user_names(here, older):
    for python in (None, older):
        assert output(command(IMPORTS, ["argument"], python)) == "mine argument"


def test_modules_of_the_package_are_run_from_where_it_lies(here, older):
    show = "keras_lrp_prune.cli"
    for python in (None, older):
        done = subprocess.run(
            [*module_command(show, ["--version"], python)],
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"keras-lrp-prune {keras_lrp_prune.__version__}"


def test_the_worker_of_innvestigate_is_safe(here, older):
    with WorkerProcess(older) as worker:
        assert worker.ask({"do": "versions"})[0]["innvestigate"]


@pytest.mark.slow
def test_the_process_that_measures_is_safe(here):
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    keras_lrp_prune.profile(model, batch_sizes=(1,), repeats=1)


@pytest.mark.slow
def test_the_check_of_the_demo_is_safe(here):
    import keras

    from keras_lrp_prune.demo import _SAVED_MODEL, _check_reloaded, _export

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save(here / "model.keras")
    _export(model, here / _SAVED_MODEL)
    assert "SavedModel reloaded" in _check_reloaded(model, here, np.ones((3, 4), "float32"))


def test_nobody_starts_a_process_otherwise():
    starts = {"run", "Popen", "call", "check_call", "check_output", "system", "spawn", "execv"}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner, name = ast.unparse(node.func.value), node.func.attr
            if owner not in ("subprocess", "os", "multiprocessing") or name not in starts:
                continue
            made = ast.unparse(node.args[0].func) if isinstance(node.args[0], ast.Call) else ""
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            safe = made in ("command", "module_command")
            if not (safe and given.get("env", "").startswith("environment(")):
                found.append(f"{path.name}:{node.lineno}")
    assert not found, "use keras_lrp_prune.children"
