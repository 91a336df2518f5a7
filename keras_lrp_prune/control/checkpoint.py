"""A run's state in one file, written atomically, so that it can go on after any interruption."""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from keras_lrp_prune.control.history import Step
from keras_lrp_prune.files import (
    FolderInUse,
    FolderLock,
    formed,
    make_folder,
    new_file,
    parsed_json,
    read_bytes,
)
from keras_lrp_prune.runtime import Fingerprint, difference, from_chief, is_chief

if TYPE_CHECKING:
    import tensorflow as tf


# What `zipfile` raises on damaged archives, beside ValueError, OSError and EOFError.
_DAMAGED = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    struct.error,
)


class CheckpointError(ValueError):
    """The checkpoint cannot be used for this run."""


@dataclass
class RunState:
    """Where a pruning run is.

    Args:
        removed: Units that are gone, bool, shape `(units,)`.
        rejected: Those of the last proposal, if it was undone; else none.
        step: Number of proposals made.
        history: One record for each.
        schedule: State of the schedule, if it has one.
        stopped: Why the run is over; empty while it is not.
    """

    removed: np.ndarray
    rejected: np.ndarray
    step: int
    history: list[Step]
    schedule: Mapping[str, float]
    stopped: str = ""

    @property
    def standing(self) -> Step:
        """The last step that stands; the unpruned model at first."""
        return next(step for step in reversed(self.history) if step.accepted)


class _Described(TypedDict):
    """What a checkpoint holds beside its masks."""

    fingerprint: Fingerprint
    step: int
    history: list[Any]
    schedule: dict[str, float]
    stopped: str


class Checkpoint:
    """Saves and loads the state of one run.

    Args:
        folder: Where the file lies; it exists (`claimed` makes it).
        fingerprint: Tells this run from others: model, data and settings.
        units: Number of units that the masks are of.
        counts: Names of what the records of its steps count.
        strategy: Only its chief worker touches the folder; it tells the others.
        file: Name of the file.
        argument: The argument that named the folder, for messages.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        fingerprint: Fingerprint,
        units: int,
        counts: Collection[str],
        strategy: tf.distribute.Strategy | None = None,
        file: str = "pruning.npz",
        argument: str = "checkpoint_dir",
    ) -> None:
        self.path = Path(folder, file)
        self._fingerprint, self._units, self._counts = fingerprint, units, counts
        self._strategy = strategy
        self._argument = argument

    def save(self, state: RunState) -> None:
        """Writes the state, whole or not at all; the chief does.

        Raises:
            OSError: If it cannot be written; the checkpoint before it stays.
        """
        if not is_chief(self._strategy):
            return
        described = {
            "fingerprint": self._fingerprint,
            "step": state.step,
            "history": [record.to_dict() for record in state.history],
            "schedule": dict(state.schedule),
            "stopped": state.stopped,
        }
        with new_file(self.path) as file:
            np.savez(
                file,
                removed=state.removed,
                rejected=state.rejected,
                described=np.array(json.dumps(described)),
            )

    def load(self) -> RunState | None:
        """The saved state, or `None` if there is none.

        Raises:
            CheckpointError: If the file is damaged, or from a run with another model, other data
                or other settings.
        """
        data = from_chief(self._found(), self._strategy)
        if not data:
            return None
        try:
            fingerprint, state = self._parsed(data)
        except (ValueError, LookupError, TypeError, OSError, EOFError, *_DAMAGED) as error:
            raise CheckpointError(
                f"Checkpoint {str(self.path)!r} cannot be read ({error}). Delete it to start anew."
            ) from error
        check_same_run(self.path, fingerprint, self._fingerprint, self._argument)
        if len(state.removed) != self._units:
            raise CheckpointError(
                f"Checkpoint {str(self.path)!r} is damaged: it has {len(state.removed)} units, the "
                f"model {self._units}. Delete it to start anew."
            )
        return state

    def _parsed(self, data: bytes) -> tuple[Fingerprint, RunState]:
        """The fingerprint and the state; the archive has checksums that are checked on reading."""
        with zipfile.ZipFile(BytesIO(data)) as archive:
            arrays = {
                name: np.lib.format.read_array(
                    BytesIO(archive.read(f"{name}.npy")), allow_pickle=False
                )
                for name in ("removed", "rejected", "described")
            }
        masks = arrays["removed"], arrays["rejected"]
        if any(
            mask.dtype != bool or mask.ndim != 1 or len(mask) != len(masks[0]) for mask in masks
        ):
            raise ValueError("its masks are not lists of bools of one length")
        described: _Described = formed(parsed_json(str(arrays["described"])), _Described)
        if described["step"] < 0:
            raise ValueError("its step is below 0")
        return described["fingerprint"], RunState(
            removed=arrays["removed"],
            rejected=arrays["rejected"],
            step=described["step"],
            history=[Step.from_dict(record, self._counts) for record in described["history"]],
            schedule=described["schedule"],
            stopped=described["stopped"],
        )

    def _found(self) -> bytes:
        """What the file holds, on the chief; nothing if there is none."""
        if not is_chief(self._strategy) or not os.path.lexists(self.path):
            return b""
        try:
            return read_bytes(self.path) or b"empty"
        except OSError as error:  # is no archive: reading it raises the error on all workers
            return str(error).encode()


def check_same_run(
    path: Path, found: Fingerprint, wanted: Fingerprint, argument: str = "checkpoint_dir"
) -> None:
    """Checks that a checkpoint belongs to the run that wants to go on from it.

    Args:
        path: Path of the checkpoint.
        found: Fingerprint of the run that wrote it.
        wanted: Fingerprint of this run.
        argument: The argument that named the folder, for messages.

    Raises:
        CheckpointError: If it does not; the message says what differs.
    """
    if others := difference(found, wanted):
        raise CheckpointError(
            f"Checkpoint {str(path)!r} belongs to a run with {others}. Delete it, or choose "
            f"another {argument}."
        )


def claimed(
    folder: str | os.PathLike[str],
    strategy: tf.distribute.Strategy | None = None,
    argument: str = "checkpoint_dir",
) -> FolderLock | None:
    """Makes a folder for a run's states, and holds it for this run; the chief does.

    Args:
        folder: Where the states go.
        strategy: Only its chief worker touches the folder; it tells the others.
        argument: The argument that named the folder, for messages.

    Returns:
        The lock, on the chief.

    Raises:
        CheckpointError: On every worker, if the folder cannot be written to, or another run has it.
    """
    lock, problem = None, ""
    if is_chief(strategy):
        made = not os.path.lexists(folder)
        try:
            make_folder(folder)
            lock = FolderLock(folder)
        except FolderInUse as error:
            problem = f"{argument} {error}"
        except OSError as error:
            if made:
                with suppress(OSError):  # there is none, or it holds files of somebody else
                    os.rmdir(folder)
            reason = str(error.strerror or error).rstrip(".")
            problem = f"Cannot write to {argument} {str(folder)!r}: {reason}."
    problem = from_chief(problem.encode(), strategy).decode()
    if problem:
        raise CheckpointError(problem)
    return lock
