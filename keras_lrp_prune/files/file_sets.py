"""Several files of a folder that are replaced together, or not at all.

The new ones are written to a folder beside them. Then, under a lock, the old ones move aside and
the new ones take their places; an error in between brings the old ones back. If the process is
killed in between, what moved aside is still there: readers take it, and the next writer puts it
back first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from keras_lrp_prune.files.atomic_writes import (
    StrPath,
    check_place,
    emptied_folder,
    known_as,
    make_folder,
    other_name,
    sync_folder,
    sync_tree,
)
from keras_lrp_prune.files.locks import folder_locked

_ASIDE = ".replaced"


@contextmanager
def new_members(folder: StrPath, names: Sequence[str]) -> Iterator[Path]:
    """Writes files of a folder that appear all at once when the block ends without an error.

    Other files in the folder are left alone.

    Args:
        folder: The folder; made if it is missing, and gone again if anything fails.
        names: What the files are called.

    Yields:
        An empty folder, to write all of them into.

    Raises:
        OSError: If they cannot be written; those that were there stay.

    Example:
    >>> with new_members("out", ["a.txt", "b.txt"]) as folder:
    ...     for name in ("a.txt", "b.txt"):
    ...         Path(folder, name).write_text(name)
    """
    target = Path(folder)
    made = not target.exists()
    make_folder(target)
    try:
        with emptied_folder(target) as temporary, known_as(temporary, target):
            yield temporary
            sync_tree(temporary)
            with folder_locked(target):
                _bring_back(target)
                _swap(target, temporary, names)
    except BaseException:
        if made:
            with suppress(OSError):  # somebody else's files are in it by now
                target.rmdir()
        raise


@contextmanager
def members(folder: StrPath, names: Sequence[str]) -> Iterator[Mapping[str, Path]]:
    """Where to read files of a folder that belong together; none is replaced until the block ends.

    Args:
        folder: An existing folder.
        names: What the files are called.

    Yields:
        Each name with the path to read; a file that is missing has a path too.
    """
    target = Path(folder)
    with folder_locked(target, shared=True):
        aside = target / _ASIDE
        yield {name: _first(aside / name, target / name) for name in names}


def _first(aside: Path, usual: Path) -> Path:
    return aside if aside.exists() else usual


def _swap(target: Path, temporary: Path, names: Sequence[str]) -> None:
    for name in names:
        check_place(target / name)
    aside = target / _ASIDE
    aside.mkdir()
    placed: list[Path] = []
    try:
        for name in names:
            if os.path.lexists(target / name):
                os.rename(target / name, aside / name)
        for name in names:
            os.rename(temporary / name, target / name)
            placed.append(target / name)
        sync_folder(target)
        done = other_name(target)
        os.rename(aside, done)  # from here on, readers take the new files
    except BaseException:
        if aside.is_dir():  # else readers take the new files already
            for path in placed:
                path.unlink()
            _bring_back(target)
        raise
    shutil.rmtree(done, ignore_errors=True)


def _bring_back(target: Path) -> None:
    """Puts what moved aside back in its place, if a swap has not come to its end."""
    aside = target / _ASIDE
    if not os.path.lexists(aside):
        return
    if not aside.is_dir() or aside.is_symlink():
        raise FileExistsError(
            f"{str(aside)!r} is no folder, as old files move to while they are replaced; remove it."
        )
    for path in aside.iterdir():
        os.replace(path, target / path.name)
    aside.rmdir()
