"""The worker process: its messages, and that it never outlives who started it."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from places import ROOT

from keras_lrp_prune.relevance import worker_process
from keras_lrp_prune.relevance.wire import ConnectionLost, receive, send
from keras_lrp_prune.relevance.worker_process import WorkerError, WorkerProcess, borrow, give_back

# A request that takes seconds: the worker imports TensorFlow before it finds nothing to analyse.
LONG = {
    "do": "analyze",
    "graph": {
        **{"name": "empty", "class_name": "Functional", "layers": [], "nodes": []},
        **{"inputs": [], "outputs": []},
    },
    "analyzer": "lrp.z",
    "options": {},
    "layers": [],
}
PARENT = f"""
import signal
import sys
# A shell starts what it puts into the background with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from keras_lrp_prune.relevance.worker_process import WorkerProcess
worker = WorkerProcess()
worker.ask({{"do": "versions"}})
print(worker.pid, flush=True)
if sys.argv[1] == "busy":
    try:
        worker.ask({LONG!r})
    except KeyboardInterrupt:
        print("interrupted", flush=True)
sys.stdin.read()
"""


def start_parent(state):
    """A process that has a worker, and the worker's process id."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, state],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return parent, int(parent.stdout.readline())


def wait_until_gone(pid, seconds=10):
    """Seconds until a process of somebody else is gone (or waits for its new parent only)."""
    start = time.monotonic()
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < start + seconds, f"process {pid} is an orphan"
        time.sleep(0.05)


def is_our_child(pid):
    return pid in [child.pid for child in psutil.Process().children()]


@pytest.fixture
def worker():
    with WorkerProcess() as started:
        started.ask({"do": "versions"})
        yield started


def test_failure_in_the_worker_is_raised_here_and_it_lives_on(worker):
    with pytest.raises(WorkerError, match="unknown request 'nonsense'"):
        worker.ask({"do": "nonsense"})
    versions, arrays = worker.ask({"do": "versions"})
    assert versions["innvestigate"] == "2.1.2" and arrays == {}


def test_killed_in_a_request(worker):
    with pytest.raises(WorkerError):
        worker.ask({"do": "print me"})
    pid = worker.pid
    killer = threading.Timer(0.7, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(WorkerError) as caught:
        worker.ask(LONG)
    killer.join()
    message = str(caught.value)
    assert f"process {pid}" in message and "killed by signal 9 during 'analyze'" in message
    assert "Its last output:" in message and "unknown request 'print me'" in message
    assert not is_our_child(pid), "a zombie is left"
    with pytest.raises(WorkerError, match="signal 9 during 'versions'"):
        worker.ask({"do": "versions"})


def test_killed_between_requests(worker):
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"signal 9 .* It printed nothing"):
        worker.ask({"do": "versions"})
    assert not is_our_child(worker.pid)


def test_close_is_idempotent(worker):
    pid = worker.pid
    worker.close()
    worker.close()
    assert not psutil.pid_exists(pid)
    with pytest.raises(WorkerError, match="closed"):
        worker.ask({"do": "versions"})


def test_forgotten_worker_is_ended():
    worker = WorkerProcess()
    worker.ask({"do": "versions"})
    pid = worker.pid
    del worker
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_no_orphan(state):
    parent, pid = start_parent(state)
    time.sleep(0.7)
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.communicate()
    wait_until_gone(pid)


def test_ctrl_c_ends_the_worker():
    parent, pid = start_parent("busy")
    os.kill(pid, signal.SIGSTOP)  # so that the request is not answered before the signal comes
    time.sleep(0.7)
    assert psutil.pid_exists(pid)
    parent.send_signal(signal.SIGINT)
    assert parent.stdout.readline() == "interrupted\n"
    assert not psutil.pid_exists(pid), "the worker goes before KeyboardInterrupt is raised"
    parent.communicate()
    assert parent.returncode == 0


EXIT = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from keras_lrp_prune.relevance.worker_process import WorkerProcess
worker = WorkerProcess()
wait = worker._process.wait

def wait_with_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    return wait()

worker._process.wait = wait_with_ctrl_c
print(worker.pid)
"""


@pytest.mark.parametrize("closed", [False, True])
def test_ctrl_c_while_the_worker_is_ended(closed):
    """At exit nothing is printed of it; who closes the worker gets it."""
    done = subprocess.run(
        [sys.executable, "-c", EXIT + "worker.close()" * closed],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    wait_until_gone(int(done.stdout))
    assert bool(done.returncode) == closed
    assert ("KeyboardInterrupt" in done.stderr) == closed == bool(done.stderr), done.stderr


def borrowed_again(worker):
    """The process id of the worker that comes after this one."""
    give_back(worker)
    following = borrow()
    pid = following.pid
    give_back(following)
    return pid


def test_a_worker_serves_who_comes_next():
    first, meanwhile = borrow(), borrow()
    assert first.pid != meanwhile.pid, "two engines at a time have a worker each"
    give_back(meanwhile)
    assert borrowed_again(first) == meanwhile.pid
    assert not psutil.pid_exists(first.pid), "one waits, not two"


def test_a_worker_that_was_killed_serves_nobody():
    worker = borrow()
    pid = worker.pid
    os.kill(pid, signal.SIGKILL)
    assert borrowed_again(worker) != pid
    waiting = borrow()
    give_back(waiting)
    os.kill(waiting.pid, signal.SIGKILL)
    assert borrowed_again(borrow()) != waiting.pid


def test_an_unused_worker_ends_itself(monkeypatch):
    monkeypatch.setattr(worker_process, "UNUSED_SECONDS", 1)
    with WorkerProcess() as worker:
        worker.ask({"do": "versions"})
        wait_until_gone(worker.pid)
        with pytest.raises(WorkerError, match="ended with exit code 0 during 'versions'"):
            worker.ask({"do": "versions"})


FORKED = """
import os
from keras_lrp_prune.relevance.worker_process import borrow, give_back
worker = borrow()
give_back(worker)
if os.fork() == 0:
    os._exit(borrow().pid == worker.pid)
_, status = os.wait()
assert os.waitstatus_to_exitcode(status) == 0, "the child talks to the worker of its parent"
assert borrow().pid == worker.pid
"""


def test_a_forked_child_has_a_worker_of_its_own():
    subprocess.run([sys.executable, "-c", FORKED], check=True)


def test_interpreter_that_does_not_exist():
    with pytest.raises(WorkerError, match=r"'/no/such/python'.*KERAS_LRP_PRUNE_INNVESTIGATE"):
        WorkerProcess("/no/such/python")


def test_interpreter_that_cannot_run_it():
    with (
        WorkerProcess("/bin/false") as worker,
        pytest.raises(WorkerError, match="ended with exit code 1 during 'versions'"),
    ):
        worker.ask({"do": "versions"})


def test_module_in_the_working_directory_is_not_imported(tmp_path, monkeypatch):
    for name in ("numpy", "tempfile", "struct"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    with WorkerProcess() as worker:
        assert worker.ask({"do": "versions"})[0]["innvestigate"]


ARRAYS = npst.arrays(
    st.one_of(
        npst.boolean_dtypes(),
        *(make(endianness="=") for make in (npst.integer_dtypes, npst.unsigned_integer_dtypes)),
        *(make(endianness=">") for make in (npst.floating_dtypes, npst.complex_number_dtypes)),
        npst.unicode_string_dtypes(max_len=4),
        npst.datetime64_dtypes(),
    ),
    npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
MESSAGES = st.dictionaries(
    st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)
)


@given(MESSAGES, st.dictionaries(st.text(), ARRAYS, max_size=3), st.booleans())
def test_wire_round_trip(message, arrays, transposed):
    if transposed:
        arrays = {name: array.T for name, array in arrays.items()}
    stream = io.BytesIO()
    send(stream, message, arrays)
    send(stream, {"next": 1})
    stream.seek(0)
    got, received = receive(stream)
    assert got == message and received.keys() == arrays.keys()
    for name, array in arrays.items():
        assert received[name].dtype == array.dtype and received[name].shape == array.shape
        assert received[name].tobytes() == array.tobytes()
    assert receive(stream) == ({"next": 1}, {})


def test_numpy_numbers_in_a_message():
    stream = io.BytesIO()
    send(stream, {"epsilon": np.float32(0.5), "size": np.int64(3), "low": np.array([1, 2])})
    stream.seek(0)
    assert receive(stream)[0] == {"epsilon": 0.5, "size": 3, "low": [1, 2]}


@pytest.mark.parametrize(
    "array",
    [
        np.array([{}, []], object),
        np.zeros(2, [("a", "f4"), ("b", "O")]),
        np.zeros(2, [("a", "f4")]),
    ],
    ids=["objects", "fields with objects", "fields"],
)
def test_only_plain_values_are_sent(array):
    stream = io.BytesIO()
    with pytest.raises(TypeError, match="'x' has dtype"):
        send(stream, {}, {"x": array})
    with pytest.raises(TypeError):
        send(stream, {"x": object()})
    assert stream.getvalue() == b""


def test_objects_are_not_received():
    header = json.dumps(
        {"message": {}, "arrays": [{"name": "x", "dtype": "|O", "shape": [1]}]}
    ).encode()
    stream = io.BytesIO(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(ValueError, match="OBJECT"):
        receive(stream)


def test_message_cut_off():
    stream = io.BytesIO()
    send(stream, {"do": "mask"}, {"x": np.arange(4.0)})
    whole = stream.getvalue()
    for end in (0, 5, 20, len(whole) - 1):
        with pytest.raises(ConnectionLost):
            receive(io.BytesIO(whole[:end]))


def test_stream_that_nobody_reads():
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(ConnectionLost):
        send(os.fdopen(writing, "wb", buffering=0), {"do": "versions"})
