"""Several replicas, several worker processes: the results of one device.

Each scenario runs once, in processes of its own, and writes a report that the tests read.
"""

import fcntl
import json
import os
import re
import socket
import subprocess
import sys

import pytest
from places import DOCS, EXAMPLES, ROOT, SUPPORT

import keras_lrp_prune as klp

LRP = "lrp.sequential_preset_a"
SUMMATION_ORDER = 1e-5
LIMIT = 300  # seconds; only a hang takes as long


def together(commands, folder):
    """Runs processes at the same time: (command, environment) each; returns what they print.

    Files take what they print, so that none waits for a reader; a hang ends all of them.
    """
    paths = [folder / f"output-{index}.txt" for index in range(len(commands))]
    processes = []
    try:
        for (command, environment), path in zip(commands, paths, strict=True):
            with path.open("w") as file:
                given = {"stdout": file, "stderr": subprocess.STDOUT, "cwd": folder}
                environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
                processes.append(subprocess.Popen(command, env=environment, **given))
        codes = [process.wait(LIMIT) for process in processes]
    except subprocess.TimeoutExpired:
        codes = [f"none after {LIMIT} s"]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    printed = [path.read_text() for path in paths]
    if any(codes):
        pytest.fail(f"Exit codes {codes}\n\n" + "\n\n".join(text[-4000:] for text in printed))
    return printed


def free_ports(count):
    """Ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [entry.getsockname()[1] for entry in sockets]
    for entry in sockets:
        entry.close()
    return ports


def workers(command, count=2):
    """The same command for each of several workers on this machine."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(count)]}
    configs = [
        {"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(count)
    ]
    return [(command, {"TF_CONFIG": json.dumps(config)}) for config in configs]


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Gives `once(name, function)`: what the function of a folder returns (JSON).

    Of several pytest processes, one runs it; the others wait for it.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def run(name, function):
        folder = root / name
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = folder / "done.json"
            if not done.exists():
                done.write_text(json.dumps(function(folder)))
            return json.loads(done.read_text())

    return run


# Sections of what `several_replicas.py` reports, by the process that finds them.
REPLICAS = {
    "results": (
        *("relevance", "made_in_scope", "one_device_strategy", "forward", "shares", "any_split"),
        *("traces", "traces_of_a_run", "legacy", "errors", f"prune by {LRP}"),
    ),
    "other criteria": (
        *("prune by lrp.log_odds", "prune by lrp.unique"),
        *("prune by taylor", "prune by activation", "scores"),
    ),
}


@pytest.fixture(scope="session")
def replicas(once):
    """Gives `replicas(section)`: a section of what `several_replicas.py` reports."""

    def report(section):
        (group,) = (name for name, sections in REPLICAS.items() if section in sections)

        def run(folder):
            path = folder / "report.json"
            script = [sys.executable, SUPPORT / "several_replicas.py", path, *REPLICAS[group]]
            together([(script, {})], folder)
            return json.loads(path.read_text())

        return without_failure(once(group, run)[section])

    return report


@pytest.fixture(scope="session")
def both(once):
    """Gives `both(section)`: that section of the reports of two `several_workers.py`."""

    def run(folder):
        command = [sys.executable, SUPPORT / "several_workers.py", folder]
        printed = together(workers(command), folder)
        reports = [json.loads((folder / f"worker-{index}.json").read_text()) for index in (0, 1)]
        folders = sorted(path.name for path in folder.iterdir() if path.is_dir())
        return [
            {**report, "printed": {"text": text, "folders": folders}}
            for report, text in zip(reports, printed, strict=True)
        ]

    reports = once("workers", run)
    return lambda section: [without_failure(report[section]) for report in reports]


def without_failure(section):
    assert "failure" not in section, section["failure"]
    return section


# --- One process, several replicas ---


def test_relevance_is_that_of_one_device(replicas):
    found = replicas("relevance")
    assert len(found) == 8
    assert max(found.values()) <= SUMMATION_ORDER, found
    # Not the same computation twice: the last batches are uneven, and summed in another order.
    assert any(found.values())


def test_a_model_made_in_the_scope_gives_the_same(replicas):
    assert replicas("made_in_scope")["relevance"] <= SUMMATION_ORDER


def test_one_device_strategy_gives_the_same(replicas):
    found = replicas("one_device_strategy")
    assert found["relevance"] <= SUMMATION_ORDER and found["chief"]


def test_outputs_are_those_of_one_device_row_by_row(replicas):
    found = replicas("forward")
    assert len(found) == 4 and max(found.values()) <= SUMMATION_ORDER, found


def test_replicas_share_each_batch_in_equal_parts(replicas):
    # Batches of 15 and 8 samples; a third replica has nothing to do for two samples.
    assert replicas("shares") == {"23": [8, 8, 7], "2": [1, 1, 0]}


def test_sums_and_rows_for_any_split(replicas):
    assert replicas("any_split")["functions"] > 10


@pytest.mark.parametrize("criterion", [LRP, "lrp.log_odds", "lrp.unique", "taylor", "activation"])
def test_a_run_keeps_the_filters_that_one_device_keeps(replicas, criterion):
    for found in replicas(f"prune by {criterion}").values():
        # By unique contributions, all proposals stand here.
        assert found["steps"] > 5 and (found["undone"] or criterion == "lrp.unique")
        assert found["same filters"] and found["same history"] and found["same reports"]
        assert found["soft accuracies"] <= SUMMATION_ORDER
        assert found["outputs"] <= SUMMATION_ORDER
        assert found["engine"] == ("native" if criterion.startswith("lrp") else None)


def test_scores_are_those_of_one_device(replicas):
    for name, found in replicas("scores").items():
        assert found <= 1e-3, name


@pytest.mark.parametrize("criterion", [LRP, "taylor"])
def test_the_result_is_a_plain_model_and_the_users_is_untouched(replicas, criterion):
    for found in replicas(f"prune by {criterion}").values():
        assert found["plain model"] and found["untouched"]


def test_one_trace_for_batches_and_masks(replicas):
    assert replicas("traces") == {"own class": 1, "all kinds": 3}


def test_one_trace_for_a_whole_run(replicas):
    found = replicas("traces_of_a_run")
    assert found["steps"] > 5 and found["traces"] == 1


def test_legacy_models_run_under_strategies(replicas):
    found = replicas("legacy")
    assert found["relevance"] <= SUMMATION_ORDER and found["outputs"] <= SUMMATION_ORDER
    assert found["same filters"] and found["legacy"] and not found["distributed"]


REFUSED = {
    "a name": ("TypeError", "strategy must be a tf.distribute.Strategy, not 'mirrored'"),
    "a class": ("TypeError", "MirroredStrategy'>"),
    "another kind": ("ValueError", "give one of MirroredStrategy, MultiWorkerMirroredStrategy"),
    "innvestigate": ("ValueError", "strategy has 2 replicas; choose engine='native'"),
}


@pytest.mark.parametrize("call", ["filter_relevance", "input_relevance", "prune"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(replicas, name, call):
    kind, message = REFUSED[name]
    found, said = replicas("errors")[f"{name}: {call}"]
    assert found == kind and message in said


# --- Two worker processes ---


def test_there_are_two_workers_and_one_chief(both):
    first, second = both("environment")
    assert first == {"replicas": 2, "chief": True}
    assert second == {"replicas": 2, "chief": False}


def test_workers_find_the_relevance_of_one_device(both):
    for found in both("relevance"):
        assert len(found) == 3 and max(found.values()) <= SUMMATION_ORDER, found


@pytest.mark.parametrize("section", ["pruned", "taylor"])
def test_workers_agree_with_each_other_and_with_one_device(both, section):
    first, second = both(section)
    assert first == second
    assert first["same filters"] and len(first["history"]) > 5
    assert first["engine"] == ("native" if section == "pruned" else None)


def test_the_chief_alone_writes_checkpoints(both):
    for found in both("printed"):
        assert found["folders"] == ["damaged-0", "parts-0", "whole-0"]


def test_the_chief_alone_shows_progress(both):
    first, second = (found["text"] for found in both("printed"))
    assert "step 0: rate" in first and "step 0: rate" not in second


def test_workers_resume_from_the_checkpoint_of_the_chief(both):
    (first, second), (whole, _) = both("resumed"), both("pruned")
    assert first["steps before"] > 0 and first["folder"]
    assert second["steps before"] == 0 and not second["folder"]
    for key in ("kept", "history", "reference"):
        assert first[key] == second[key] == whole[key]


def test_a_finished_run_gives_its_result_to_all_workers(both):
    (first, second), (whole, _) = both("finished"), both("pruned")
    assert first == second and first["history"] == whole["history"]


@pytest.mark.parametrize(
    ("section", "message"),
    [("another_run", "other settings (target_rate"), ("damaged", "cannot be read")],
)
def test_an_unsuitable_checkpoint_is_an_error_on_all_workers(both, section, message):
    for found in both(section):
        assert found["error"] == "CheckpointError" and message in found["message"]


@pytest.mark.parametrize("section", ["other_samples", "other_model"])
def test_workers_that_were_given_something_else_are_told(both, section):
    for found in both(section):
        assert found["error"] == "ValueError"
        assert "were given different models or samples" in found["message"]


# --- The script and the page ---


@pytest.mark.parametrize(
    ("devices", "processes"),
    [
        (["--devices", "2"], lambda command: [(command, {})]),
        ([], workers),
    ],
    ids=["logical devices", "workers"],
)
def test_the_script_for_several_devices_runs(devices, processes, tmp_path):
    small = ["--size", "32", "--per-class", "4", "--batch-size", "3"]
    out = tmp_path / "out"
    command = [sys.executable, EXAMPLES / "several_devices.py", *devices, *small, "--out", out]
    chief, *others = together(processes(command), tmp_path)
    assert "2 replicas, engine native" in chief and "Pruning rate" in chief
    assert all("Pruning rate" not in other for other in others)
    assert klp.load_result(out).rate == pytest.approx(0.3, abs=0.02)


@pytest.mark.slow
def test_the_script_compares_numbers_of_devices(tmp_path):
    small = ["--size", "32", "--per-class", "4", "--batch-size", "3", "--recovery", "none"]
    out = ["--out", tmp_path / "out"]
    command = [sys.executable, EXAMPLES / "several_devices.py", "--devices", "1", "2", *small, *out]
    (printed,) = together([(command, {})], tmp_path)
    assert klp.load_result(tmp_path / "out" / "devices-2").rate == pytest.approx(0.3, abs=0.02)
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("devices ")]
    assert [row[0] for row in rows] == ["devices 1", "devices 2"]
    assert rows[0][2] == "1.00" and all(float(row[5].replace(",", "")) > 100 for row in rows)
    assert "All give the same." in printed


def test_the_code_of_the_page_runs(tmp_path):
    page = DOCS / "distribution.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (worker,) = (block for block in blocks if block.startswith("# worker.py"))
    blocks.remove(worker)
    (printed,) = together([([sys.executable, "-c", "\n".join(blocks)], {})], tmp_path)
    assert "2 replicas, engine native" in printed
    together(workers([sys.executable, "-c", worker]), tmp_path)
    assert klp.load_result(tmp_path / "pruned").rate == pytest.approx(0.4, abs=0.02)
