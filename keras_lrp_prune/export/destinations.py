"""Where exports go: checked before any work; a file or folder appears when it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_lrp_prune.files import check_writable, new_folder

_MOST_DIGITS = 18  # TensorFlow Serving's versions have 64 bits


def check_version(path: Path) -> None:
    """Checks that `path` can become a version folder of TensorFlow Serving.

    Raises:
        ValueError: If its last part is not a version number.
        FileExistsError: If there is something already.
        OSError: If it cannot be written.
    """
    name = path.name
    is_number = name.isascii() and name.isdigit() and len(name) <= _MOST_DIGITS
    if not (is_number and str(int(name)) == name):
        raise ValueError(
            f"The last part of {str(path)!r} is not a version number. TensorFlow Serving loads "
            f"the numbered folders of a model: give {str(path / str(_next_version(path)))!r}."
        )
    if path.exists():
        raise FileExistsError(
            f"There is a version {str(path)!r} already, and a server may be using it. Give the "
            f"next one: {str(path.parent / str(_next_version(path.parent)))!r}."
        )
    check_writable(path.parent)


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Fills a folder that gets its name when it is complete, as `new_folder` does.

    Raises:
        OSError: If it cannot be written, also where TensorFlow does the writing.
    """
    with new_folder(path) as folder, writing_errors(path):
        yield folder


@contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """Turns the errors of TensorFlow for a path that it cannot write into an `OSError`."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        # In the message, the reason follows the names of the operations that failed.
        reason = error.message.rpartition("}} ")[2].partition(" [Op:")[0]
        raise OSError(f"Cannot write {str(path)!r}: {reason}") from error


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
    check_writable(path.parent)


def _next_version(folder: Path) -> int:
    names = (entry.name for entry in folder.iterdir()) if folder.is_dir() else ()
    return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0) + 1
