"""Folders that one run holds at a time."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from folders import PACKAGE, names
from full_disk import full_disk

from keras_lrp_prune.files import FolderInUse, FolderLock

HOLD = """
import os, sys
from keras_lrp_prune.files import FolderLock
lock = FolderLock(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
os._exit(0)
"""


def test_a_folder_is_held_by_one_process_until_it_ends(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(FolderInUse, match=f"in use by another run, in process {child.pid}"):
            FolderLock(tmp_path)
        child.stdin.write("\n")
    # What the process left behind does not count.
    assert names(tmp_path) == [".in-use"]
    with FolderLock(tmp_path):
        pass
    assert names(tmp_path) == []


def test_a_full_disk_leaves_no_lock(tmp_path):
    with pytest.raises(OSError), full_disk(0):
        FolderLock(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_is_held_by_one_thread_that_may_ask_again(tmp_path):
    found = []

    def ask():
        try:
            found.append(FolderLock(tmp_path))
        except FolderInUse as error:
            found.append(error)

    first = FolderLock(tmp_path)
    for _ in range(2):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        first.release()
    assert [type(one) for one in found] == [FolderInUse, FolderLock]
    again = FolderLock(tmp_path)  # the thread that has it is over
    assert FolderLock(tmp_path) is not again, "what this thread did before is over"


def test_many_threads_get_a_folder_one_after_the_other(tmp_path):
    inside, most = [0], [0]

    def work(_):
        for _ in range(2000):
            try:
                with FolderLock(tmp_path):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    inside[0] -= 1
                return True
            except FolderInUse:
                continue
        return False

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(60)))
    assert most[0] == 1 and names(tmp_path) == []
