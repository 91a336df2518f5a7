"""Starting, asking, keeping and stopping a worker process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from typing import Any, BinaryIO, Self

import numpy as np

from keras_lrp_prune.children import environment, module_command
from keras_lrp_prune.relevance.wire import ConnectionLost, receive, send

PYTHON_VARIABLE = "KERAS_LRP_PRUNE_INNVESTIGATE_PYTHON"

# An unused worker ends itself after so many seconds, as it takes half a GiB of memory.
UNUSED_SECONDS = 60

_WORKER = "keras_lrp_prune.relevance.innvestigate_worker"
_ENVIRONMENT = {
    "TF_USE_LEGACY_KERAS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "",  # the parent has taken the GPU's memory
    "PYTHONUNBUFFERED": "1",
}
_LAST_LINES = 15
_unused: dict[tuple[int, str], WorkerProcess] = {}


class WorkerError(RuntimeError):
    """The worker could not do what was asked, or is gone."""


class WorkerProcess:
    """A process that answers messages; it never outlives this one.

    Args:
        python: Path of the worker's interpreter. Default: the environment variable
            `KERAS_LRP_PRUNE_INNVESTIGATE_PYTHON`, else this interpreter.

    Raises:
        WorkerError: If the interpreter cannot be started.
    """

    def __init__(self, python: str | None = None) -> None:
        self.python = _interpreter(python)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            self._process = subprocess.Popen(
                module_command(_WORKER, [str(os.getpid()), str(UNUSED_SECONDS)], self.python),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment(**_ENVIRONMENT),
                start_new_session=True,  # Ctrl-C reaches this process, which then ends the worker
            )
        except OSError as error:
            self._log.close()
            raise WorkerError(
                f"Cannot start the interpreter {self.python!r} for iNNvestigate: {error}. "
                f"It comes from the parameter or from the variable {PYTHON_VARIABLE}."
            ) from error
        self._finalizer = weakref.finalize(self, _end_quietly, self._process, self._log)

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def ask(
        self, message: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Sends one message and waits for the reply.

        Raises:
            WorkerError: If the worker fails or is gone; the message has its last output.
        """
        if self._process.stdin is None or self._process.stdout is None or self._log.closed:
            raise WorkerError("The iNNvestigate worker has been closed.")
        try:
            send(self._process.stdin, message, arrays)
            reply, results = receive(self._process.stdout)
        except ConnectionLost as error:
            code = self._process.wait()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise WorkerError(
                f"The iNNvestigate worker (process {self.pid}) {how} during "
                f"{message['do']!r}. {self._last_output()}"
            ) from error
        except BaseException:
            # Ctrl-C in the middle of a message: the streams are out of step, so end it.
            self.close()
            raise
        if "error" in reply:
            raise WorkerError(
                f"The iNNvestigate worker failed in {message['do']!r}: {reply['error']}"
            )
        return reply, results

    def close(self) -> None:
        """Ends the worker and waits for it."""
        if self._finalizer.detach():
            _end(self._process, self._log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _last_output(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
        return "Its last output:\n" + "\n".join(lines) if lines else "It printed nothing."


def borrow(python: str | None = None) -> WorkerProcess:
    """A worker that was given back, or a new one: starting TensorFlow costs seconds.

    Args:
        python: As of `WorkerProcess`.
    """
    # A forked child has the parent's workers in memory, but must not talk to them.
    waiting = _unused.pop((os.getpid(), _interpreter(python)), None)
    if waiting is not None:
        try:
            waiting.ask({"do": "versions"})
        except WorkerError:  # it has waited too long
            waiting.close()
        else:
            return waiting
    return WorkerProcess(python)


def give_back(worker: WorkerProcess) -> None:
    """Makes a worker forget its model; one for each interpreter is kept for the next borrower."""
    key = os.getpid(), worker.python
    try:
        worker.ask({"do": "forget"})
    except WorkerError:
        worker.close()
        return
    if _unused.setdefault(key, worker) is not worker:
        worker.close()


def _interpreter(python: str | None) -> str:
    return python or os.environ.get(PYTHON_VARIABLE) or sys.executable


def _end(process: subprocess.Popen[bytes], log: BinaryIO) -> None:
    with log:
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                # Closing flushes what the dead worker did not read.
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()


def _end_quietly(process: subprocess.Popen[bytes], log: BinaryIO) -> None:
    """Ends a worker when Python ends, or when nothing refers to it; Ctrl-C is ignored then."""
    with contextlib.suppress(KeyboardInterrupt):
        _end(process, log)
