"""Fresh processes: importing the package changes nothing for the rest of the process."""

import ast
import functools
import itertools
import json
import os
import subprocess
import sys

import pytest
from places import ROOT

# Runs the given statements, then tells what `tf.keras` and the environment have become.
PROBE = """
import json, os, sys
before = dict(os.environ)
for statement in sys.argv[1:]:
    exec(statement)
import tensorflow as tf
version = getattr(tf.keras, "__version__", None)
changed = {key for key in before.keys() | os.environ if before.get(key) != os.environ.get(key)}
print(json.dumps([tf.keras.__name__, version, tf.keras.Model.__module__, sorted(changed)]))
"""
PACKAGE = "import keras_lrp_prune"
# Loads the schedule, and with it TensorFlow Model Optimization.
SCHEDULE = "import keras_lrp_prune; keras_lrp_prune.schedules.AccuracyAware"
LIBRARIES = ("import tensorflow", "import keras")


def python(code, *arguments, **environment):
    clean = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def probe(*statements, **environment):
    return json.loads(python(PROBE, *statements, **environment).splitlines()[-1])


@pytest.fixture(scope="module", params=["", "1"], ids=["keras 3", "legacy"])
def untouched(request):
    """The environment variable, and a function: what a process without this package sees."""
    environment = {"TF_USE_LEGACY_KERAS": request.param} if request.param else {}
    return environment, functools.cache(lambda order: probe(*order, **environment))


# Where the package stands among the libraries; and Keras first.
ORDERS = [
    order
    for use in (PACKAGE, SCHEDULE)
    for order in itertools.permutations((*LIBRARIES, use))
    if order.index(LIBRARIES[0]) < order.index(LIBRARIES[1]) or order[-1] == use
]


@pytest.mark.parametrize("order", ORDERS, ids="; ".join)
def test_tf_keras_and_environment_stay(order, untouched):
    environment, expected = untouched
    libraries = tuple(statement for statement in order if statement in LIBRARIES)
    assert probe(*order, **environment) == expected(libraries)


def test_import_loads_neither_tensorflow_nor_keras():
    code = f"{PACKAGE}, sys; dir(keras_lrp_prune); print(sorted(sys.modules))"
    loaded = {name.split(".")[0] for name in eval(python(code))}
    assert "keras_lrp_prune" in loaded
    assert not loaded & {"tensorflow", "keras", "tf_keras", "numpy", "matplotlib"}


def test_every_public_name_loads():
    python("import keras_lrp_prune as klp\nfor name in klp.__all__: getattr(klp, name)")


def test_unknown_names_are_attribute_errors():
    code = (
        "import keras_lrp_prune\ntry: keras_lrp_prune.nothing\nexcept AttributeError: print('ok')"
    )
    assert python(code).strip() == "ok"


def test_the_probe_sees_a_change():
    changed = probe("import tensorflow_model_optimization")[-1]
    assert "TF_USE_LEGACY_KERAS" in changed
    assert "TF_USE_LEGACY_KERAS" not in probe("import tensorflow")[-1]


def test_the_package_is_typed():
    assert ROOT.joinpath("keras_lrp_prune", "py.typed").is_file()


def imported(source):
    """Modules and names that a script imports from this package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_lrp_prune"):
            yield from ((node.module, alias.name) for alias in node.names)


def test_what_scripts_import_is_there():
    scripts = [*ROOT.glob("examples/**/*.py"), *ROOT.glob("docs/**/*.py")]
    found = {each for path in scripts for each in imported(path.read_text())}
    assert len(found) > 20
    for module, name in sorted(found):
        exec(f"from {module} import {name}")
