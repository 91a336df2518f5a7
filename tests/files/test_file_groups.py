"""Files that belong together: replaced together or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from folders import in_children, make_folder_at, names, write
from full_disk import full_disk

from keras_lrp_prune.control.checkpoint import CheckpointError, claimed
from keras_lrp_prune.files import FolderLock, members, new_members, read_bytes
from keras_lrp_prune.files.atomic_writes import emptied_folder
from keras_lrp_prune.files.locks import folder_locked

NAMES = ("a", "b", "c")


def write_members(folder, content):
    with new_members(folder, NAMES) as new:
        for name in NAMES:
            write(new / name, content)


def contents(folder):
    with members(folder, NAMES) as found:
        return {path.read_bytes() for path in found.values()}


def test_files_are_replaced_together_and_others_stay(tmp_path):
    folder = tmp_path / "out"
    write(folder / "notes", b"mine")
    write_members(folder, b"one")
    write_members(folder, b"two")
    assert contents(folder) == {b"two"} and names(folder) == [*NAMES, "notes"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("at", range(8))
def test_an_error_in_the_swap_brings_the_old_files_back(tmp_path, monkeypatch, at):
    write_members(tmp_path, b"one")
    rename, count = os.rename, [0]

    def failing(source, target):
        count[0] += 1
        if count[0] == at + 1:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr("os.rename", failing)
    if at < 7:
        with pytest.raises(OSError):
            write_members(tmp_path, b"two")
    else:
        write_members(tmp_path, b"two")
    assert contents(tmp_path) == {b"one" if at < 7 else b"two"}
    assert {path.read_bytes() for path in tmp_path.iterdir()} == contents(tmp_path)
    assert names(tmp_path) == list(NAMES)


def test_an_error_in_the_swap_leaves_no_part_of_what_is_new(tmp_path):
    write(tmp_path / "c", b"one")
    with pytest.raises(OSError, match="b'"), new_members(tmp_path, NAMES) as new:
        write(new / "a", b"two")
    assert names(tmp_path) == ["c"] and read_bytes(tmp_path / "c") == b"one"


KILLED = """
import os, sys
from keras_lrp_prune.files import new_file, new_members
rename, left = os.rename, [int(sys.argv[2])]
def killed(source, target):
    if not left[0]:
        os._exit(0)
    left[0] -= 1
    rename(source, target)
os.rename = killed
with new_members(sys.argv[1], "abc") as folder:
    for name in "abc":
        with new_file(folder / name) as file:
            file.write(b"two")
"""


def test_readers_and_writers_see_to_a_swap_that_was_killed(tmp_path):
    for left in range(8):
        folder = tmp_path / str(left)
        write_members(folder, b"one")
    in_children(KILLED.replace("sys.argv[1]", "sys.argv[1] + sys.argv[2]"), f"{tmp_path}/", count=8)
    for left in range(8):
        assert contents(tmp_path / str(left)) == {b"one" if left < 7 else b"two"}
        write_members(tmp_path / str(left), b"three")
        assert contents(tmp_path / str(left)) == {b"three"}


def test_a_failed_first_write_leaves_no_folder(tmp_path):
    with pytest.raises(OSError, match="out"), full_disk(1000):
        write_members(tmp_path / "out", bytes(10_000))
    assert names(tmp_path) == []


def make_link_at(path):
    (path.parent / "elsewhere").mkdir()
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("make", [Path.touch, make_link_at])
def test_what_is_in_the_way_of_a_swap_is_named(tmp_path, make):
    write_members(tmp_path, b"one")
    make(tmp_path / ".replaced")
    before = names(tmp_path)
    with pytest.raises(FileExistsError, match=r"\.replaced' is no folder.*; remove it"):
        write_members(tmp_path, b"two")
    assert names(tmp_path) == before and contents(tmp_path) == {b"one"}


@pytest.mark.parametrize("make", [os.mkfifo, make_folder_at, make_link_at])
def test_what_is_in_the_way_of_a_lock_is_named(tmp_path, make):
    make(tmp_path / ".in-use")
    before = names(tmp_path)
    with pytest.raises(FileExistsError, match=r"\.in-use' is no regular file.*; remove it"):
        FolderLock(tmp_path)
    with pytest.raises(CheckpointError, match=r"Cannot write.*\.in-use' is no regular file"):
        claimed(tmp_path)
    assert names(tmp_path) == before


def test_a_full_disk_leaves_no_folder_for_checkpoints(tmp_path):
    with pytest.raises(CheckpointError, match="too large"), full_disk(0):
        claimed(tmp_path / "new")
    assert names(tmp_path) == []


TOGETHER = """
import sys
from keras_lrp_prune.files import members, new_file, new_members
for _ in range(60):
    with new_members(sys.argv[1], "abc") as folder:
        for name in "abc":
            with new_file(folder / name) as file:
                file.write(sys.argv[2].encode() * 10_000)
    with members(sys.argv[1], "abc") as found:
        assert len({path.read_bytes() for path in found.values()}) == 1
"""


def test_processes_never_mix_files_that_belong_together(tmp_path):
    in_children(TOGETHER, tmp_path / "out", count=3)
    assert len(contents(tmp_path / "out")) == 1 and names(tmp_path / "out") == list(NAMES)


def test_what_killed_processes_left_is_removed(tmp_path):
    """But not what others are writing, nor what only looks like it."""
    made = {name: tmp_path / f".writing-{name}" for name in ("dead", "alive", "new", "link")}
    (tmp_path / "precious").mkdir()
    write(tmp_path / "precious" / "file", b"")
    for path in (made["dead"], made["alive"], made["new"]):
        write(path / "model", b"")
        if path != made["new"]:
            os.utime(path, (0, 0))
    made["link"].symlink_to(tmp_path / "precious")
    with folder_locked(made["alive"], shared=True):
        write_members(tmp_path, b"one")
    assert not made["dead"].exists()
    assert all(made[name].exists() for name in ("alive", "new", "link"))
    assert names(tmp_path / "precious") == ["file"]


def test_threads_fill_folders_side_by_side(tmp_path):
    def one(i):
        with emptied_folder(tmp_path):
            return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(1000)))
    assert names(tmp_path) == []
