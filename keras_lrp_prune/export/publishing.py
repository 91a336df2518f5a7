"""Writing that is seen whole or not at all: under another name first, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from keras_lrp_prune.pruning.result import check_result_folder


def check_version(path: Path) -> None:
    """Checks that `path` can become a version folder of TensorFlow Serving.

    Raises:
        ValueError: If its last part is not a version number.
        FileExistsError: If there is something already.
        OSError: If it cannot be written.
    """
    name = path.name
    if not (name.isascii() and name.isdigit() and str(int(name)) == name):
        raise ValueError(
            f"The last part of {str(path)!r} is not a version number. TensorFlow Serving loads "
            f"the numbered folders of a model: give {str(path / str(_next_version(path)))!r}."
        )
    if path.exists():
        raise FileExistsError(
            f"There is a version {str(path)!r} already, and a server may be using it. Give the "
            f"next one: {str(path.parent / str(_next_version(path.parent)))!r}."
        )
    check_result_folder(path.parent)


def publish_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a folder, and gives it its name when it is complete.

    Until then its name begins with a dot: TensorFlow Serving, which polls the parent for numbers,
    passes over it.

    Args:
        path: The folder; its parents are made.
        write: Gets an empty folder beside it.

    Raises:
        FileExistsError: If the folder exists in the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        write(temporary)
        temporary.chmod(0o755)  # the server may run as another user
        try:
            os.rename(temporary, path)
        except OSError as error:
            if not path.exists():
                raise
            raise FileExistsError(
                f"Somebody else has published {str(path)!r} in the meantime; it is left as it is."
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_file(path: Path, suffix: str) -> None:
    """Checks that a file of that kind can be written to `path`.

    Raises:
        ValueError: If its name ends otherwise.
        OSError: If it is a folder, or cannot be written.
    """
    if path.suffix != suffix:
        raise ValueError(f"The file {str(path)!r} must end in {suffix}.")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; choose another name.")
    check_result_folder(path.parent)


def publish_file(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name, then renames it; an earlier one is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _next_version(folder: Path) -> int:
    names = (entry.name for entry in folder.iterdir()) if folder.is_dir() else ()
    return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0) + 1
