"""Checkpoints that are damaged, inconsistent or another's: a `CheckpointError`, and no hang."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pruning_models import digits_model, reference

import keras_lrp_prune as klp
from keras_lrp_prune.callbacks.states import States
from keras_lrp_prune.control.checkpoint import Checkpoint, RunState, claimed
from keras_lrp_prune.control.history import Step

UNITS, COUNTS = 7, ("filters", "params", "flops")
THIS_RUN = {"model": "m", "data": "d", "samples": "s", "settings": {"seed": "0"}}


def record(step):
    left = {"filters": 12, "params": 340, "flops": 5600}
    return Step(step, 0.25, 0.8, (0.9, 0.72), 0.7, (0.8, 0.6), left, True)


def state(step=5):
    removed = np.arange(UNITS) % 3 == 0
    return RunState(removed, ~removed, step, [record(0), record(1)], {"accepted": 0.1})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    saved = Checkpoint(tmp_path_factory.mktemp("checkpoints"), THIS_RUN, UNITS, COUNTS)
    saved.save(state())
    saved.whole = saved.path.read_bytes()
    return saved


def plain(one):
    masks = one.removed.tolist(), one.rejected.tolist()
    return (*masks, one.step, one.history, one.schedule, one.stopped)


def assert_refused(checkpoint, content=None):
    if content is not None:
        checkpoint.path.write_bytes(content)
    with pytest.raises(klp.CheckpointError, match=r"Checkpoint .*\. Delete it"):
        checkpoint.load()


def test_every_truncated_checkpoint_is_refused(checkpoint):
    for length in range(len(checkpoint.whole)):
        assert_refused(checkpoint, checkpoint.whole[:length])


@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(checkpoint, data):
    changed = bytearray(checkpoint.whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] ^= data.draw(st.integers(1, 255))
    checkpoint.path.write_bytes(changed)
    try:
        loaded = checkpoint.load()
    except klp.CheckpointError:
        return
    assert plain(loaded) == plain(state())


@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused(checkpoint, content):
    assert_refused(checkpoint, content)
    assert_refused(checkpoint, checkpoint.whole[:200] + content)


def archive(described=None, **arrays):
    """A checkpoint with other contents."""
    usual = {"removed": state().removed, "rejected": state().rejected}
    text = described if isinstance(described, str) else json.dumps(described)
    file = io.BytesIO()
    np.savez(file, **{**usual, "described": np.array(text), **arrays})
    return file.getvalue()


DESCRIBED = {
    "fingerprint": THIS_RUN,
    "step": 5,
    "history": [record(0).to_dict()],
    "schedule": {"accepted": 0.1},
    "stopped": "",
}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(key=st.sampled_from(sorted(DESCRIBED)), value=JSON)
def test_any_value_is_refused_or_of_its_type(checkpoint, key, value):
    checkpoint.path.write_bytes(archive({**DESCRIBED, key: value}))
    try:
        loaded = checkpoint.load()
    except klp.CheckpointError:
        return
    assert type(loaded.step) is int and loaded.step >= 0 and type(loaded.stopped) is str
    assert all(isinstance(one, Step) for one in loaded.history)
    assert all(type(one) is float and np.isfinite(one) for one in loaded.schedule.values())


@given(key=st.sampled_from(sorted(record(0).to_dict())), value=JSON)
def test_any_value_of_a_record_is_refused_or_of_its_type(checkpoint, key, value):
    history = [{**record(0).to_dict(), key: value}]
    checkpoint.path.write_bytes(archive({**DESCRIBED, "history": history}))
    try:
        (loaded,) = checkpoint.load().history
    except klp.CheckpointError:
        return
    assert type(loaded.to_dict()[key]) is type(record(0).to_dict()[key])


ARRAYS = {
    "more units": {"removed": np.zeros(8, bool), "rejected": np.zeros(8, bool)},
    "masks of two lengths": {"rejected": np.zeros(8, bool)},
    "two dimensions": {"removed": np.zeros((7, 1), bool)},
    "numbers": {"removed": np.zeros(7), "rejected": np.zeros(7)},
    "not a number": {"removed": np.full(7, np.nan)},
    "objects": {"removed": np.array([{}] * 7, object)},
    "a single one": {"removed": np.array(True)},
    "described by nothing": {"rejected": np.zeros((), "S0")},
}


@pytest.mark.parametrize("arrays", ARRAYS)
def test_other_arrays_are_refused(checkpoint, arrays):
    assert_refused(checkpoint, archive(DESCRIBED, **ARRAYS[arrays]))


def test_json_that_is_too_deep_or_too_large_is_refused(checkpoint):
    for text in ("[" * 100_000, '{"step": ' + "1" * 10_000 + "}", "{", "null", '{"step": NaN}'):
        assert_refused(checkpoint, archive(text))


def test_an_archive_that_would_fill_the_memory_is_refused(checkpoint):
    header = b"{'descr': '|b1', 'fortran_order': False, 'shape': (9999999999999,), }\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(checkpoint.path, "w") as file:
        for name in ("removed", "rejected", "described"):
            file.writestr(f"{name}.npy", array)
    assert_refused(checkpoint)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_refused_at_once(tmp_path, make):
    checkpoint = Checkpoint(tmp_path, THIS_RUN, UNITS, COUNTS)
    make(checkpoint.path)
    assert_refused(checkpoint)


# States, one for each step.


def states(folder, fingerprint=THIS_RUN):
    return States(folder, fingerprint, UNITS, COUNTS)


def test_states_of_another_run_are_never_deleted(tmp_path):
    """Also where there is none up to the step where this run begins."""
    first = states(tmp_path)
    first.hold()
    for step in (20, 40):
        first.save(state(step))
    first.release()
    there = {path: path.read_bytes() for path in tmp_path.iterdir()}
    second = states(tmp_path, {**THIS_RUN, "model": "another"})
    with pytest.raises(klp.CheckpointError, match=r"another model\. .* another state_dir"):
        second.hold()
    with pytest.raises(klp.CheckpointError, match="another model"):
        second.at(0)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == there
    first.hold()
    assert first.at(30).step == 20 and len(list(tmp_path.glob("filters-*"))) == 1
    first.release()


def test_a_damaged_or_misnamed_state_stops_before_anything_is_deleted(tmp_path):
    one = states(tmp_path)
    one.hold()
    for step in (20, 40):
        one.save(state(step))
    (tmp_path / "filters-0000000040.npz").rename(tmp_path / "filters-0000000050.npz")
    with pytest.raises(klp.CheckpointError, match="it is of step 40"):
        one.at(10)
    (tmp_path / "filters-0000000050.npz").write_bytes(b"PK")
    with pytest.raises(klp.CheckpointError, match="cannot be read"):
        one.at(10)
    assert len(list(tmp_path.glob("filters-*"))) == 2


HOLD = """
import sys
from keras_lrp_prune.control.checkpoint import CheckpointError, claimed
try:
    claimed(sys.argv[1])
    print("held")
except CheckpointError as error:
    print(error)
"""


def test_a_folder_that_a_run_uses_is_refused_to_others(tmp_path):
    def other():
        environment = {**os.environ, "PYTHONPATH": str(Path(klp.__file__).parents[1])}
        command = [sys.executable, "-c", HOLD, tmp_path]
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout

    with claimed(tmp_path):
        said = other()
    assert f"in use by another run, in process {os.getpid()}" in said
    assert other() == "held\n"


def test_a_run_that_is_refused_lets_go_of_the_folder(tmp_path):
    (tmp_path / "pruning.npz").write_bytes(b"PK")
    options = {"checkpoint_dir": tmp_path, "criterion": "l1", "verbose": 0}
    with pytest.raises(klp.CheckpointError) as kept:
        klp.prune(digits_model(epochs=1), reference(), **options)
    # Whoever keeps the error, as a notebook does, keeps what the run had in its hands.
    assert kept.value and not list(tmp_path.glob(".*"))
