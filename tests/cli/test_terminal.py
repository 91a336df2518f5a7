"""What the program prints: nothing of libraries, and nothing that could cost the result."""

import contextlib
import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
from contextlib import ExitStack

import pytest
from command_line import classifier, write_images
from places import ROOT

NAMES = ("\x1b[31mblue", "green\n[bold]", "\u82b1")
PROGRAM = [sys.executable, "-m", "keras_lrp_prune"]


def environment(**variables):
    """As a user has it: nothing said about logs."""
    silenced = ("TF_CPP_MIN_LOG_LEVEL", "PYTHONWARNINGS")
    usual = {key: value for key, value in os.environ.items() if key not in silenced}
    return {**usual, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **variables}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A compiled model that has been trained, and images whose classes have awkward names."""
    root = tmp_path_factory.mktemp("terminal")
    write_images(root / "data")
    for old, new in zip(("blue", "green", "red"), NAMES, strict=True):
        (root / "data" / old).rename(root / "data" / new)
    model = classifier()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    model.save(root / "model.keras")
    return root


# Real processes.

PRUNE = ("prune", "model.keras", "data", "--preprocess", "unit", "--criterion", "l1")


def is_written(folder):
    names = {path.name for path in folder.iterdir()}
    return names == {"model.keras", "result.json", "curve.png"}


def test_full_disk_behind_standard_output_of_an_ascii_terminal(folder):
    """And nothing is printed but what the program itself says."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, *PRUNE, "--out", "full"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment(PYTHONIOENCODING="ascii"),
        )
    *progress, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert last == "Error: Cannot write to standard output: No space left on device."
    ours = re.compile(r"step \d+: rate |[a-z ]+: \d+:\d\d$")
    assert progress and all(map(ours.match, progress)), done.stderr
    assert is_written(folder / "full")
    names = json.loads((folder / "full" / "result.json").read_text())["class_names"]
    assert names == list(NAMES)


@pytest.mark.slow
def test_reader_that_leaves_and_names_of_any_kind(folder):
    """`2>&1 | head -1`: progress and tables go to a pipe that nobody reads."""
    command = subprocess.list2cmdline([*PROGRAM, *PRUNE, "--out", "piped"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} 2>&1 | head -1"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(),
    )
    assert done.returncode == 0, done
    assert done.stdout.count("\n") == 1 and done.stderr == ""
    assert is_written(folder / "piped")
    shown = subprocess.run(
        [*PROGRAM, *PRUNE, "--out", "ascii"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(PYTHONIOENCODING="ascii"),
    )
    assert shown.returncode == 0, shown.stderr
    lines = (shown.stdout + shown.stderr).split("\n")
    assert all(line.isascii() and line.isprintable() for line in lines)
    for name in (r"\x1b[31mblue", r"green\n[bold]", r"\u82b1"):
        assert name in shown.stdout
    assert is_written(folder / "ascii")


def in_a_terminal(command, columns, **options):
    """What a process shows in a terminal, without colours, and how it ended."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, **options) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # at the end, on Linux
            while part := os.read(master, 4096):
                shown += part
    os.close(master)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()), process.returncode


@pytest.mark.slow
def test_nothing_foreign_in_a_terminal_of_80_columns(folder):
    command = [*PROGRAM, *PRUNE, "--out", "shown"]
    shown, code = in_a_terminal(
        command, 80, cwd=folder, env=environment(TERM="xterm", COLUMNS="80")
    )
    assert code == 0, shown
    lines = [line for line in re.split(r"[\r\n]+", shown) if line.strip()]
    progress = [line for line in lines if "\u2501" in line]  # a bar
    assert lines[0] in progress and max(map(len, progress)) <= 80
    assert all(re.match(r"(pruning|refitting|measuring) ", line) for line in progress)
    rest = lines[len(progress) :]
    assert not set(rest) & set(progress), "nothing comes between"
    assert rest[0].startswith("Pruning rate 50.0%") and rest[-1].startswith("Written to shown: ")
    for word in ("cuda", "absl", "oneDNN", "optimizer", "Warning: "):
        assert not [line for line in lines if word in line and "not one sample" not in line]


# Light processes: the streams alone.

MEASURING = """
from keras_lrp_prune.cli.profile_command import _shown
from keras_lrp_prune.cli.streams import held_back, own_streams
with own_streams(), held_back():
    with _shown("measuring \x1b[31m[bold]model ..."):
        pass
"""


def test_what_is_measured_is_told_in_a_terminal_only():
    command = [sys.executable, "-c", MEASURING]
    shown, code = in_a_terminal(command, 80, env=environment(TERM="xterm"))
    assert code == 0 and r"measuring \x1b[31m[bold]model ..." in shown, shown
    piped = subprocess.run(command, capture_output=True, env=environment())
    assert (piped.returncode, piped.stdout, piped.stderr) == (0, b"", b"")


def printing(code, *, stdout=subprocess.PIPE, **variables):
    """A process that prints within the program's streams."""
    start = (
        "import os, sys\n"
        "from keras_lrp_prune.cli.streams import *\n"
        "silence_libraries()\n"
        "with own_streams() as output:\n"
    )
    return subprocess.run(
        [sys.executable, "-c", start + "\n".join(f"    {line}" for line in code.splitlines())],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment(**variables),
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_takes_is_passed_over(unbuffered):
    code = (
        "print('x' * 100_000, flush=True)\n"
        "print('more', flush=True)\n"
        "print(output.error.errno, file=sys.stderr)"
    )
    with ExitStack() as stack:
        reader, writer = os.pipe()
        stack.callback(os.close, writer)
        os.close(reader)
        full = stack.enter_context(open("/dev/full", "w"))
        for stdout, number in ((writer, b"32"), (full, b"28")):
            done = printing(code, stdout=stdout, PYTHONUNBUFFERED=unbuffered)
            assert (done.returncode, done.stderr.split()) == (0, [number])


def test_what_cannot_be_encoded_is_escaped():
    done = printing(r"print('Bl\u00fcte \u82b1 \udcff')", PYTHONIOENCODING="ascii")
    assert done.stdout.decode().strip() == r"Bl\xfcte \u82b1 \udcff", done.stderr
    done = printing(r"print('Bl\u00fcte \u82b1 \udcff')", PYTHONIOENCODING="utf-8")
    assert done.stdout.decode().strip() == "Bl\u00fcte \u82b1 \\udcff"


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_streams_do_not_become_files_of_ours(closed, tmp_path):
    """Else what a library prints would get into the first file that is opened."""
    start = "from keras_lrp_prune.cli.streams import own_streams"
    code = f"""
import os, sys
{start}
with own_streams():
    file = open({str(tmp_path / "result")!r}, "wb")
    for number in (1, 2):
        os.write(number, b"noise")
    print("told")
    print("complained", file=sys.stderr)
    file.write(b"result")
    file.close()
"""
    shell = f'exec "$0" -c "$1" {closed}{"<" if closed == 0 else ">"}&-'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, code], capture_output=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result").read_bytes() == b"result"
    assert (b"told" in done.stdout) == (closed != 1)
    assert (b"complained" in done.stderr) == (closed != 2)


NOISE = (
    "try:\n"
    "    with held_back():\n"
    "        os.write(2, b'greeting')\n"
    "        print('ours', file=sys.stderr)\n"
    "        {}\n"
    "except ImportError:\n"
    "    print('failed', file=sys.stderr)\n"
    "os.write(2, b'later')\n"
)


def test_greetings_of_libraries_are_held_back():
    assert printing(NOISE.format("pass")).stderr.split() == [b"ours", b"later"]


def test_what_was_held_back_is_shown_after_a_failure():
    done = printing(NOISE.format("raise ImportError"))
    assert done.stderr.split(b"\n") == [b"ours", b"greetingfailed", b"later"]


def test_whoever_asks_for_logs_gets_them():
    done = printing(NOISE.format("pass"), TF_CPP_MIN_LOG_LEVEL="0")
    assert done.stderr.split() == [b"greetingours", b"later"]


def test_importing_the_command_line_changes_nothing():
    state = "dict(os.environ), sys.stdout, sys.stderr, logging.root.manager.disable"
    code = (
        f"import logging, os, sys\nbefore = {state}\nimport keras_lrp_prune.cli\n"
        f"sys.exit(before != ({state}))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0
