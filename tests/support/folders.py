"""Files of a folder, and processes that write them."""

import os
import subprocess
import sys
from pathlib import Path

import keras_lrp_prune
from keras_lrp_prune.files import new_file

PACKAGE = Path(keras_lrp_prune.__file__).parent


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


def make_folder_at(path):
    path.mkdir()
