"""Locks on folders: a run's, for as long as it lasts, and short ones around a few renames.

Both are the kernel's (`flock`), and vanish with the process, however it ends. Where the system has
none (Windows, some network file systems), none is taken.
"""

from __future__ import annotations

import errno
import importlib
import os
import stat
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None

_FILE = ".in-use"
_FLAGS = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
_FILE_MODE = 0o666
_BUSY = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EBADF, errno.ENOSYS)

_held: weakref.WeakValueDictionary[tuple[int, int], FolderLock] = weakref.WeakValueDictionary()


class FolderInUse(OSError):
    """Another run holds the folder; the message says which process it is in."""


class FolderLock:
    """Holds a folder for one run, until it is released or the process ends.

    A thread that asks again for a folder that it holds gets it: its earlier run is over, such as a
    training that was interrupted.

    Args:
        folder: An existing folder that can be written to.

    Raises:
        FolderInUse: If another process, or another thread that is alive, holds it.
        OSError: If the folder cannot be written to, or something else has the lock's name.

    Example:
    >>> with FolderLock("checkpoints"):
    ...     print("nobody else writes here")
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._path = Path(folder, _FILE)
        self._owner = (os.getpid(), threading.get_ident())
        descriptor = self._taken()
        known = os.stat(self._path.parent)
        _held[known.st_dev, known.st_ino] = self
        self._end = weakref.finalize(self, _released, descriptor, self._path, os.getpid())

    def release(self) -> None:
        """Lets others have the folder; more than once does no harm."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _taken(self) -> int:
        while True:
            _check_file(self._path)
            descriptor = os.open(self._path, _FLAGS, _FILE_MODE)
            try:
                if not _locked(descriptor):
                    self._take_over_or_refuse(descriptor)
                elif _is_there(descriptor, self._path):
                    _signed(descriptor, self._path)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # whoever held it has removed the file in the meantime

    def _take_over_or_refuse(self, descriptor: int) -> None:
        folder = os.stat(self._path.parent)
        before = _held.get((folder.st_dev, folder.st_ino))
        if before is not None and before._is_over():
            before.release()
            return
        process = os.read(descriptor, 32).decode(errors="replace").strip()
        who = f"process {process}" if process.isdigit() else "another process"
        raise FolderInUse(
            f"{str(self._path.parent)!r} is in use by another run, in {who}. Wait until it has "
            "ended, or choose another folder."
        )

    def _is_over(self) -> bool:
        process, thread = self._owner
        alive = {one.ident for one in threading.enumerate()} - {threading.get_ident()}
        return process == os.getpid() and thread not in alive


@contextmanager
def folder_locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Waits for a short lock on a folder; no file is made in it.

    Args:
        folder: An existing folder.
        shared: Whether others may hold it too, if they share it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether somebody holds a short lock on a folder, as far as the system tells."""
    if fcntl is None:
        return True
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _check_file(path: Path) -> None:
    """Refuses what a lock cannot be held on: a folder, a link, a pipe, a device."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise FileExistsError(f"{str(path)!r} is no regular file, as a lock is; remove it")


def _locked(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _signed(descriptor: int, path: Path) -> None:
    """Writes into the file of a lock which process has it."""
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    except OSError:  # the disk is full
        path.unlink()
        raise


def _is_there(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _released(descriptor: int, path: Path, process: int) -> None:
    if process == os.getpid():  # a forked child only shares the lock
        with suppress(OSError):
            if _is_there(descriptor, path):
                path.unlink()
    os.close(descriptor)
