"""Files and folders: whole or not at all, and nothing else in their place."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from folders import in_children, make_folder_at, names, write
from full_disk import full_disk

from keras_lrp_prune.cli.relevance_report import write_arrays
from keras_lrp_prune.files import check_writable, new_file, new_folder, new_members, read_bytes


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    write(path, b"one")
    write(path, b"two")
    assert path.read_bytes() == b"two" and names(path.parent) == ["file"]


def test_an_error_leaves_the_file_before_it(tmp_path):
    write(tmp_path / "file", b"one")
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "file") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["file"] and read_bytes(tmp_path / "file") == b"one"


def test_threads_never_mix_their_writes(tmp_path):
    path = tmp_path / "file"

    def one(i):
        write(path, bytes([i % 256]) * (100_000 + i))
        found = path.read_bytes()
        return len(set(found)) == 1 and (len(found) - 100_000) % 256 == found[0]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(400)))
    assert names(tmp_path) == ["file"]


MANY = """
import sys
from keras_lrp_prune.files import new_file
for _ in range(100):
    with new_file(sys.argv[1]) as file:
        file.write(sys.argv[2].encode() * 200_000)
    with open(sys.argv[1]) as file:
        assert len(set(file.read())) == 1
"""


def test_processes_never_mix_their_writes(tmp_path):
    in_children(MANY, tmp_path / "file", count=4)
    assert names(tmp_path) == ["file"]


@contextmanager
def umask(value):
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("value", [0o077, 0o022, 0o002])
def test_modes_are_as_the_umask_asks(tmp_path, value):
    with umask(value):
        write(tmp_path / "out" / "file", b"")
        with new_folder(tmp_path / "folder"):
            pass
        with new_members(tmp_path / "several", ["a"]) as folder:
            write(folder / "a", b"")
    for path in sorted(tmp_path.rglob("*")):
        wanted = (0o777 if path.is_dir() else 0o666) & ~value
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_links_are_replaced_and_not_followed(tmp_path, monkeypatch):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "file").symlink_to(tmp_path / "precious")
    write(tmp_path / "file", b"new")
    assert not (tmp_path / "file").is_symlink() and read_bytes(tmp_path / "file") == b"new"
    # Somebody guesses the other name, too.
    monkeypatch.setattr("secrets.token_hex", lambda size: "guessed")
    (tmp_path / ".writing-guessed").symlink_to(tmp_path / "precious")
    with pytest.raises(FileExistsError):
        write(tmp_path / "file", b"newer")
    assert read_bytes(tmp_path / "precious") == b"precious"


@pytest.mark.parametrize("make", [make_folder_at, os.mkfifo])
def test_nothing_but_files_is_replaced(tmp_path, make):
    make(tmp_path / "other")
    with pytest.raises(OSError, match="other"):
        write(tmp_path / "other", b"")
    assert names(tmp_path) == ["other"] and not (tmp_path / "other").is_file()


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        read_bytes(tmp_path / "pipe")


def test_a_full_disk_is_an_error_that_names_the_path(tmp_path):
    write(tmp_path / "file", b"before")
    with pytest.raises(OSError, match=str(tmp_path / "file")), full_disk(1000):
        write(tmp_path / "file", bytes(10_000))
    expected = pytest.raises(OSError, match=str(tmp_path / "folder"))
    with expected, full_disk(1000), new_folder(tmp_path / "folder") as folder:
        write(folder / "file", bytes(10_000))
    assert names(tmp_path) == ["file"] and read_bytes(tmp_path / "file") == b"before"


def test_a_folder_that_cannot_be_written_to_is_found_before(tmp_path):
    check_writable(tmp_path / "not" / "yet")
    assert names(tmp_path) == []
    write(tmp_path / "file", b"")
    for path in (tmp_path / "file", tmp_path / "file" / "in" / "it"):
        with pytest.raises(NotADirectoryError, match="is not a folder"):
            check_writable(path)
    with pytest.raises(OSError):
        check_writable("/proc/1/nothing")


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path):
    write(tmp_path / "folder" / "file", b"")
    with pytest.raises(FileExistsError, match="Somebody else"), new_folder(tmp_path / "folder"):
        pass
    assert names(tmp_path) == ["folder"] and names(tmp_path / "folder") == ["file"]


def test_arrays_of_any_name_are_written(tmp_path):
    """Layers are called as their makers like."""
    arrays = {name: np.arange(3) for name in ("file", "allow_pickle", "block/conv", "ä")}
    with new_file(tmp_path / "relevance.npz") as file:
        write_arrays(file, arrays)
    with np.load(tmp_path / "relevance.npz") as found:
        assert {name: found[name].tolist() for name in found} == {
            name: [0, 1, 2] for name in arrays
        }
