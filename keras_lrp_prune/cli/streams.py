"""The program's output: kept apart from what libraries print, and never the end of a run.

A result must not be lost because a line cannot be printed: to a reader that has stopped
(`| head -1`), to a full disk, or to a terminal that knows ASCII only.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_SILENT = "3"  # TensorFlow logs only errors that end the process
_STDERR = 2


class ForgivingOutput(io.RawIOBase):
    """An output that takes everything; after its first error it passes nothing on.

    Args:
        raw: Where to write.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.error: OSError | None = None

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return bool(self._raw.isatty())

    def fileno(self) -> int:
        """The descriptor that it writes to."""
        return int(self._raw.fileno())

    def write(self, data: Any) -> int:
        """Says that all of it is written, whatever happens."""
        rest = memoryview(data)
        while self.error is None and rest:
            try:
                rest = rest[self._raw.write(rest) or 0 :]
            except OSError as error:
                self.error = error
        return len(data)


@contextmanager
def own_streams() -> Iterator[ForgivingOutput]:
    """Makes standard output and error take everything; what they cannot encode is escaped.

    Yields:
        The output behind standard output.
    """
    _occupy_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, output = _forgiving(sys.stdout)
    sys.stderr, _ = _forgiving(sys.stderr)
    try:
        yield output
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _occupy_descriptors() -> None:
    """Opens the null device in the place of closed standard streams.

    Otherwise the next file to be opened would get such a stream's number, and with it what
    libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _forgiving(stream: Any) -> tuple[Any, ForgivingOutput]:
    """A stream that writes where this one does but never fails; for a closed one, to nowhere."""
    if stream is None:
        stream = open(os.devnull, "w")  # noqa: SIM115 - for as long as the program runs
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # text that is captured
        return stream, ForgivingOutput(stream)
    raw = getattr(buffer, "raw", buffer)  # there is nothing between with PYTHONUNBUFFERED
    stream.flush()
    if isinstance(raw, io.FileIO):
        # A descriptor of its own, so that what libraries write to theirs can be held back.
        raw = io.FileIO(os.dup(raw.fileno()), "w")
    output = ForgivingOutput(raw)
    below: Any = output if isinstance(buffer, io.RawIOBase) else io.BufferedWriter(output)
    wrapped = io.TextIOWrapper(
        below,
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    return wrapped, output


def silence_libraries() -> None:
    """Keeps libraries from printing anything but errors, unless the environment says otherwise.

    Affects the whole process: for the command line only.
    """
    if LOG_LEVEL in os.environ:
        return
    os.environ[LOG_LEVEL] = _SILENT
    logging.disable(logging.WARNING)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


@contextmanager
def held_back() -> Iterator[None]:
    """Holds back what C code writes to standard error; shows it if there is an error.

    TensorFlow and LiteRT write some lines there that no setting keeps back.
    """
    if os.environ.get(LOG_LEVEL) != _SILENT:
        yield
        return
    kept = os.dup(_STDERR)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), _STDERR)
        try:
            yield
        except Exception:
            caught.seek(0)
            print(caught.read().decode(errors="replace"), end="", file=sys.stderr)
            raise
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)


def import_tensorflow() -> None:
    """Imports TensorFlow and Keras without their greetings; takes seconds.

    Raises:
        UnsupportedModelError: A `ValueError`, if Keras is to use another backend.
    """
    with held_back():
        from keras_lrp_prune.control import tfmot  # noqa: F401 - checks, and imports them in order
