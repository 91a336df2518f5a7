"""A run's state in one file, written atomically, so that it can go on after any interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from keras_lrp_prune.control.history import StepRecord
from keras_lrp_prune.runtime import from_chief, is_chief

if TYPE_CHECKING:
    import tensorflow as tf


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
    history: list[StepRecord]
    schedule: Mapping[str, float]
    stopped: str = ""


class Checkpoint:
    """Saves and loads the state of one run.

    Args:
        folder: Where the file lies; made if it does not exist.
        fingerprint: Tells this run from others: model, data and settings.
        strategy: Of its workers, the chief alone touches the folder, and tells the others.
        file: Name of the file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        fingerprint: str,
        strategy: tf.distribute.Strategy | None = None,
        file: str = "pruning.npz",
    ) -> None:
        self._folder = Path(folder)
        self.path = self._folder / file
        self._fingerprint = fingerprint
        self._strategy = strategy
        if not is_chief(strategy):
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise CheckpointError(
                f"Cannot write to checkpoint_dir {str(self._folder)!r}: {error.strerror}."
            ) from error

    def save(self, state: RunState) -> None:
        """Writes the state under a temporary name, then renames it; the chief does.

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
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                np.savez(
                    file,
                    removed=state.removed,
                    rejected=state.rejected,
                    described=np.array(json.dumps(described)),
                )
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)

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
            with np.load(BytesIO(data), allow_pickle=False) as file:
                described: dict[str, Any] = json.loads(str(file["described"]))
                fingerprint = described["fingerprint"]
                state = RunState(
                    file["removed"],
                    file["rejected"],
                    described["step"],
                    [StepRecord.from_dict(record) for record in described["history"]],
                    described["schedule"],
                    described["stopped"],
                )
        except (OSError, EOFError, ValueError, LookupError, TypeError, BadZipFile) as error:
            raise CheckpointError(
                f"Checkpoint {str(self.path)!r} cannot be read ({error}). Delete it to start anew."
            ) from error
        if fingerprint != self._fingerprint:
            raise CheckpointError(
                f"Checkpoint {str(self.path)!r} belongs to a run with another model, other data "
                "or other settings. Delete it, or choose another checkpoint_dir."
            )
        return state

    def _found(self) -> bytes:
        """What the file holds, on the chief; nothing if there is none."""
        if not is_chief(self._strategy) or not self.path.exists():
            return b""
        try:
            return self.path.read_bytes() or b"empty"
        except OSError as error:  # no archive either: all workers will say so
            return str(error).encode()
