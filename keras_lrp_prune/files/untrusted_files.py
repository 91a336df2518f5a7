"""Reading files that anybody may have written."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """What a regular file holds; a pipe or a device, which could block for ever, is refused.

    Raises:
        OSError: If it cannot be read, or is no regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{str(Path(path))!r} is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def read_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: If it cannot be read, or is no regular file.
        ValueError: If it holds no JSON.
    """
    return parsed_json(read_bytes(path))


def parsed_json(text: str | bytes) -> Any:
    """Parses JSON.

    Raises:
        ValueError: If it is no JSON, or nested too deep for Python.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("It is nested too deep.") from error
