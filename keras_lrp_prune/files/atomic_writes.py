"""Writing that is seen whole or not at all: under another name first, then renamed.

The other name is random, and must not exist yet (mode `"x"`): so no two threads or processes share
one, and no link that somebody put there is followed. Permissions follow the umask.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from keras_lrp_prune.files.locks import folder_locked, is_held

_PREFIX = ".writing-"
_OLD = 60  # seconds

StrPath = str | os.PathLike[str]


@contextmanager
def new_file(path: StrPath) -> Iterator[BinaryIO]:
    """Writes a file that appears under its name when the block ends without an error.

    A file that was there is replaced, and stays if anything fails; a link is replaced, not
    followed. What is written is on the disk when the name appears.

    Args:
        path: The file; its folder is made if it is missing.

    Yields:
        The open file, binary.

    Raises:
        OSError: If it cannot be written; it names the path.

    Example:
    >>> with new_file("out/record.json") as file:
    ...     file.write(b"{}")
    """
    target = Path(path)
    make_folder(target.parent)
    check_place(target)
    temporary = other_name(target.parent)
    with known_as(temporary, target):
        # Outside the `try` below, which removes the file: only one that was made here.
        made = open(temporary, "xb")  # noqa: SIM115 - closed below
        try:
            with made as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


@contextmanager
def new_folder(path: StrPath) -> Iterator[Path]:
    """Fills a folder that appears under its name when the block ends without an error.

    Until then its name begins with a dot.

    Args:
        path: The folder; its parents are made if they are missing.

    Yields:
        An empty folder beside it, to write into.

    Raises:
        FileExistsError: If there is something of that name in the end; it is left as it is.
        OSError: If it cannot be written; it names the path.

    Example:
    >>> with new_folder("serving/1") as folder:
    ...     Path(folder, "model.bin").write_bytes(b"...")
    """
    target = Path(path)
    make_folder(target.parent)
    with emptied_folder(target.parent) as temporary, known_as(temporary, target):
        yield temporary
        sync_tree(temporary)
        try:
            os.rename(temporary, target)
        except OSError as error:
            if not os.path.lexists(target):
                raise
            raise FileExistsError(
                f"Somebody else has made {str(target)!r} in the meantime; it is left as it is."
            ) from error
    sync_folder(target.parent)


def make_folder(path: StrPath) -> None:
    """Makes a folder and its parents, where they are missing, as open as the umask says.

    Raises:
        NotADirectoryError: If there is something else of that name.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise _not_a_folder(Path(path)) from error


def check_writable(folder: StrPath) -> None:
    """Checks that files can be written to a folder, made or not, before any work is done.

    Raises:
        OSError: If not.
    """
    existing = Path(folder)
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise _not_a_folder(existing)
    probe = other_name(existing)
    try:
        open(probe, "xb").close()
        probe.unlink()
    except OSError as error:
        raise PermissionError(
            f"Cannot write to {str(existing)!r} ({error.strerror}); choose another output folder."
        ) from error


def other_name(folder: Path) -> Path:
    """A new random name in a folder; it looks like no result, and like no version of a server."""
    return folder / f"{_PREFIX}{secrets.token_hex(8)}"


@contextmanager
def emptied_folder(parent: Path) -> Iterator[Path]:
    """A new folder under another name, which is removed in the end unless it has been renamed.

    It is locked meanwhile. Such folders of processes that were killed are not locked any more: they
    are removed first.
    """
    for old in parent.glob(f"{_PREFIX}*"):
        if _is_abandoned(old):
            shutil.rmtree(old, ignore_errors=True)
    temporary = other_name(parent)
    temporary.mkdir()
    try:
        with folder_locked(temporary, shared=True):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Whether a folder under another name is left of a process that was killed."""
    try:
        found = folder.lstat()
    except FileNotFoundError:  # renamed or removed in the meantime
        return False
    # A young one may have been made just now, and not be locked yet.
    is_old = time.time() - found.st_mtime > _OLD
    return stat.S_ISDIR(found.st_mode) and is_old and not is_held(folder)


def sync_tree(folder: Path) -> None:
    """Waits until all files under a folder are on the disk."""
    for where, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(where, name), os.O_RDWR | getattr(os, "O_BINARY", 0))
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(where))


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems sync no folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_place(target: Path) -> None:
    """Refuses to put a file where there is something else: a folder, a pipe, a device."""
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise OSError(errno.EEXIST, "Not a regular file", str(target))


def _not_a_folder(path: Path) -> NotADirectoryError:
    return NotADirectoryError(f"{str(path)!r} is not a folder; choose another output folder.")


@contextmanager
def known_as(temporary: Path, target: Path) -> Iterator[None]:
    """Makes errors of the system name the target.

    By themselves they name the temporary path, or, where a library writes, no path at all.
    """

    def shown(text: str) -> str:
        return text.replace(str(temporary), str(target))

    try:
        yield
    except OSError as error:
        if error.errno is not None:
            name = str(target) if error.filename is None else os.fsdecode(error.filename)
            raise OSError(error.errno, error.strerror, shown(name)) from error
        if str(temporary) not in str(error):
            raise
        raise type(error)(shown(str(error))) from error
