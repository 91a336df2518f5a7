"""Fresh processes: importing the package changes nothing for the rest of the process."""

import ast
import itertools
import json
import os
import subprocess
import sys

import pytest
from places import ROOT

# Follows each of the given orders of statements, then tells what `tf.keras` and the environment
# have become. Orders that begin alike share that beginning: the process forks where they part.
FOLLOW = """
import json, os, sys

def follow(orders, done):
    for first in dict.fromkeys(order[0] for order in orders):
        rest = [order[1:] for order in orders if order[0] == first]
        in_a_child(go_on, first, rest, [*done, first])

def go_on(first, rest, done):
    exec(first, {})
    if [] in rest:
        in_a_child(tell, done)
    follow([order for order in rest if order], done)

def in_a_child(function, *arguments):
    if child := os.fork():
        if os.waitpid(child, 0)[1]:
            os._exit(1)
        return
    try:
        function(*arguments)
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)

def tell(done):
    import tensorflow as tf
    version = getattr(tf.keras, "__version__", None)
    changed = {key for key in before.keys() | os.environ if before.get(key) != os.environ.get(key)}
    found = [tf.keras.__name__, version, tf.keras.Model.__module__, sorted(changed)]
    print(json.dumps([done, found]))

before = dict(os.environ)
follow(json.loads(sys.argv[1]), [])
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
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def followed(orders, **environment):
    """Each order to what `tf.keras` and the environment have become."""
    lines = python(FOLLOW, json.dumps(list(orders)), **environment).splitlines()
    found = {tuple(order): outcome for order, outcome in map(json.loads, lines)}
    assert found.keys() == set(orders)
    return found


# Where the package stands among the libraries.
ORDERS = [
    order for use in (PACKAGE, SCHEDULE) for order in itertools.permutations((*LIBRARIES, use))
]


def without_the_package(order):
    return tuple(statement for statement in order if statement in LIBRARIES)


def check_tf_keras_and_environment_stay(orders, **environment):
    found = followed({*orders, *map(without_the_package, orders)}, **environment)
    assert not {
        order: (found[order], found[without_the_package(order)])
        for order in orders
        if found[order] != found[without_the_package(order)]
    }


def test_tf_keras_and_environment_stay_where_the_package_is_last():
    check_tf_keras_and_environment_stay([(*LIBRARIES, PACKAGE)])


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [False, True], ids=["keras 3", "legacy"])
def test_tf_keras_and_environment_stay(legacy):
    """Slow, as TensorFlow is imported anew behind each of five beginnings."""
    environment = {"TF_USE_LEGACY_KERAS": "1"} if legacy else {}
    check_tf_keras_and_environment_stay(ORDERS, **environment)


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


def test_a_change_is_seen():
    alone, behind = ("import tensorflow",), ("import tensorflow_model_optimization",)
    found = followed({alone, behind})
    assert "TF_USE_LEGACY_KERAS" in found[behind][-1]
    assert "TF_USE_LEGACY_KERAS" not in found[alone][-1]
    assert found[behind][:-1] != found[alone][:-1], "tf.keras is another one"


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
