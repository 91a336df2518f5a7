"""Files and folders: whole or not at all, together or not at all, held by one run at a time."""

import ast
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from full_disk import full_disk

import keras_lrp_prune
from keras_lrp_prune.cli.relevance_report import write_arrays
from keras_lrp_prune.control.checkpoint import CheckpointError, claimed
from keras_lrp_prune.files import (
    FolderInUse,
    FolderLock,
    check_writable,
    members,
    new_file,
    new_folder,
    new_members,
    read_bytes,
)
from keras_lrp_prune.files.locking import folder_locked
from keras_lrp_prune.files.writing import emptied_folder

PACKAGE = Path(keras_lrp_prune.__file__).parent
NAMES = ("a", "b", "c")


def write(path, content):
    with new_file(path) as file:
        file.write(content)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def in_children(program, *arguments, count=1):
    """Runs a program in processes of its own; the outputs."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    options = {"stdout": subprocess.PIPE, "text": True, "env": environment}
    children = [subprocess.Popen([*command, str(i)], **options) for i in range(count)]
    outputs = [child.communicate()[0] for child in children]
    assert not any(child.returncode for child in children)
    return outputs


# One file.


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
        with new_members(tmp_path / "several", NAMES[:1]) as folder:
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


def make_folder_at(path):
    path.mkdir()


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


# Several files.


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


# Locks.

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


# Nobody else writes.

# Calls that write, by the end of what is called, and where alone they may be: in the files room,
# and what fills an open file, a folder that the room gave, or a scratch folder.
METHODS = {
    "write_bytes": (),
    "write_text": (),
    "touch": (),
    "mkdir": ("files/", "export/warmup.py"),
    "makedirs": (),
    "symlink_to": (),
    "hardlink_to": (),
    "savefig": ("report/figures.py", "report/html.py"),  # html: to memory
    "imsave": (),
    "save_weights": (),
    "to_csv": (),
    "tofile": (),
    "unlink": ("files/", "callbacks/states.py"),
    "TFRecordWriter": ("export/warmup.py",),
}
FUNCTIONS = {
    "os.open": ("files/", "cli/streams.py"),  # streams: os.devnull
    "os.replace": ("files/",),
    "os.rename": ("files/",),
    "os.truncate": ("files/",),
    "os.remove": (),
    "shutil.rmtree": ("files/", "finetuning/cycle_store.py", "demo.py"),
    "shutil.move": (),
    "shutil.copy": (),
    "shutil.copytree": (),
    "json.dump": (),
    "pickle.dump": (),
    "np.save": ("demo.py",),
    "np.savez": ("control/checkpoint.py", "examination/refit.py"),  # refit: to memory
    "np.savez_compressed": (),
    "model.save": ("graph/model_files.py", "cost/measuring.py"),
    "model.export": ("demo.py",),
    "saved_model.save": ("export/signature.py", "profiling.py"),
    "tempfile.mkdtemp": (),
    "tempfile.mkstemp": (),
    "tempfile.NamedTemporaryFile": (),
}
SCRATCH = ("tempfile.TemporaryDirectory", "tempfile.TemporaryFile")


def writing(mode):
    letters = set(str(mode.value)) if isinstance(mode, ast.Constant) else set()
    return letters <= set("rwaxbt+") and bool(letters & set("wax+"))


def writers(tree):
    """Calls in a module that write, as in the tables, with their lines."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        *_, owner, method = ["", *ast.unparse(node.func).split(".")]
        name = f"{owner}.{method}"
        # Of the function the second argument, of a path's method the first.
        modes = node.args[bool(not owner or owner in ("os", "io")) :][:1]
        modes += [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
        if method in METHODS or name in FUNCTIONS:
            yield node.lineno, method if method in METHODS else name
        elif method in ("open", "fdopen") and any(map(writing, modes)):
            yield node.lineno, "open"
        elif name in SCRATCH and (node.args or node.keywords):
            yield node.lineno, f"{name} in a folder"


ALLOWED = {
    **METHODS,
    **FUNCTIONS,
    "open": ("files/", "relevance/innvestigate_worker.py", "cli/streams.py"),
}


def test_nobody_else_writes():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE).as_posix()
        for line, call in writers(ast.parse(path.read_text())):
            if not where.startswith(ALLOWED.get(call, ()) or ("nowhere",)):
                found[f"{where}:{line}"] = call
    assert not found, "use keras_lrp_prune.files"


@pytest.mark.parametrize(
    "source",
    [
        *("open('x', 'w')", "path.open('wb')", "open('x', mode='a')", "np.save('x.npy', x)"),
        *("Path('x').write_text('')", "os.replace(a, b)", "self.model.save(path)", "p.mkdir()"),
        *("tempfile.mkdtemp()", "tempfile.TemporaryDirectory(dir=folder)", "json.dump({}, file)"),
    ],
)
def test_writers_are_found(source):
    assert list(writers(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ["open('x')", "text.replace(a, b)", "checkpoint.save(state)", "path.open('rb')"]
)
def test_readers_are_not_taken_for_writers(source):
    assert not list(writers(ast.parse(source)))


def test_arrays_of_any_name_are_written(tmp_path):
    """Layers are called as their makers like."""
    arrays = {name: np.arange(3) for name in ("file", "allow_pickle", "block/conv", "ä")}
    with new_file(tmp_path / "relevance.npz") as file:
        write_arrays(file, arrays)
    with np.load(tmp_path / "relevance.npz") as found:
        assert {name: found[name].tolist() for name in found} == {
            name: [0, 1, 2] for name in arrays
        }
