"""Set-up for all tests: CPU only and quiet, unless the environment says otherwise."""

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests run side by side: threads of BLAS would spin while they wait for a core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings
from precision import TOLERANCE
from tiers import FULL, is_left_out, stale

# Building a model takes a while. `make test` uses the first profile, `make test-slow` the second;
# the long run (--hypothesis-profile=long) draws other examples each time.
_SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
_COMMON = {"deadline": None, "suppress_health_check": _SLOW}
settings.register_profile("quick", max_examples=FULL // 4, derandomize=True, **_COMMON)
settings.register_profile("full", max_examples=FULL, derandomize=True, **_COMMON)
settings.register_profile("long", max_examples=50 * FULL, print_blob=True, **_COMMON)
settings.load_profile("quick")


def pytest_addoption(parser):
    parser.addoption(
        "--all-applications",
        action="store_true",
        help="test every function of keras.applications, not one of each family",
    )


def pytest_collection_modifyitems(config, items):
    names = [item.nodeid for item in items]
    if config.args == ["tests"] and stale(names):
        raise pytest.UsageError(f"tests/support/tiers.py names tests that are gone: {stale(names)}")
    for item in items:
        if is_left_out(item.nodeid):
            item.add_marker(pytest.mark.slow)
    if config.getoption("--all-applications"):
        return
    left_out = [item for item in items if item.get_closest_marker("all_applications")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish():
    # The libraries' 400,000 objects stay: no collection has to look at them again.
    gc.collect()
    gc.freeze()


_TABLES = {"application": "keras.applications", "parity": "native engine and iNNvestigate"}


def pytest_terminal_summary(terminalreporter):
    """Prints tables of what was found for each architecture, if all of them were asked for."""
    if not terminalreporter.config.getoption("--all-applications"):
        return
    for table, title in _TABLES.items():
        rows = [
            {**row, "outcome": outcome, "seconds": f"{report.duration:.0f}"}
            for outcome in ("passed", "failed")
            for report in terminalreporter.getreports(outcome)
            for key, row in report.user_properties
            if key == table and report.when == "call"
        ]
        if rows:
            terminalreporter.section(title)
            _write_table(terminalreporter, sorted(rows, key=lambda row: row["architecture"]))


def _write_table(terminalreporter, rows):
    lines = [list(rows[0])] + [[str(cell) for cell in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        first, *others = zip(line, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        terminalreporter.write_line("  ".join(cells))


@pytest.fixture(scope="session", autouse=True)
def worker_that_waits():
    """An iNNvestigate worker, which takes seconds to start, waits for whoever asks next."""
    from keras_lrp_prune.relevance import worker_process

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_process, "UNUSED_SECONDS", 600)
        yield


_process = psutil.Process()
_most_memory = 0


@pytest.fixture(autouse=True)
def bounded_memory():
    """Garbage is collected when the process has grown by as much as a GiB since the last time.

    Models are cycles of references: Python finds them late, and each holds megabytes.
    """
    global _most_memory
    yield
    if _process.memory_info().rss > _most_memory:
        gc.collect()
        _most_memory = _process.memory_info().rss + 2**30


def _with_precision(dtype):
    import keras

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    yield TOLERANCE[dtype]
    keras.utils.clear_session(free_memory=False)
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def float64():
    """Models built in the test compute in float64; gives the tolerance."""
    yield from _with_precision("float64")


@pytest.fixture(params=TOLERANCE)
def precision(request):
    """The test runs once in each precision; gives the tolerance."""
    yield from _with_precision(request.param)


_PLAIN_KERAS = """
import sys
sys.modules["keras_lrp_prune"] = None
import json, traceback
import keras, numpy as np

def use(folder, train):
    model = keras.saving.load_model(f"{folder}/model.keras")
    x, y = np.load(f"{folder}/x.npy"), model(np.load(f"{folder}/x.npy"))
    np.save(f"{folder}/y.npy", y)
    if train:
        model.compile("sgd", "mse")
        model.fit(x, np.asarray(y), verbose=0)

for line in sys.stdin:
    problem = None
    try:
        use(**json.loads(line))
    except Exception:
        problem = traceback.format_exc()
    keras.utils.clear_session()
    print(json.dumps(problem), flush=True)
"""


@pytest.fixture(scope="session")
def plain_keras():
    """Gives `predict(model, x, train)`: saves the model, loads and calls it without this package.

    It does so in a process in which `keras_lrp_prune` cannot be imported.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _PLAIN_KERAS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def predict(model, x, train=False):
            import numpy as np

            with tempfile.TemporaryDirectory() as folder:
                model.save(Path(folder, "model.keras"))
                np.save(Path(folder, "x.npy"), x)
                asked = json.dumps({"folder": folder, "train": train})
                print(asked, file=process.stdin, flush=True)
                problem = json.loads(process.stdout.readline())
                assert problem is None, problem
                return np.load(Path(folder, "y.npy"))

        yield predict
        process.stdin.close()


@pytest.fixture
def nothing_registered(monkeypatch):
    """No layer type of one's own is known, and none of the test's afterwards."""
    from keras_lrp_prune.cost.flops import FLOPS
    from keras_lrp_prune.graph.layer_registry import CHANNEL_RULES
    from keras_lrp_prune.relevance.own_layers import LAYER_LRP

    for registry in (CHANNEL_RULES, FLOPS, LAYER_LRP):
        monkeypatch.setattr(registry, "own", {})
