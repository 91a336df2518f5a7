"""The states of a pruning callback, one file for each step, so that training can go on from any."""

from __future__ import annotations

import os
from pathlib import Path

from keras_lrp_prune.control.checkpoint import Checkpoint, RunState

_PATTERN = "filters-{:010d}.npz"


class States:
    """Keeps the state after each pruning step.

    What restores the weights, after an interruption, may go back further than to the last step: so
    each step is kept.

    Args:
        folder: Where the files lie; made if it does not exist.
        fingerprint: Tells this run from others.

    Raises:
        CheckpointError: If the folder cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: str) -> None:
        self._folder = Path(folder)
        self._fingerprint = fingerprint
        self._at(0)

    def save(self, state: RunState) -> None:
        """Writes the state under a temporary name, then renames it."""
        self._at(state.step).save(state)

    def at(self, step: int) -> RunState | None:
        """The last state of that optimizer step or an earlier one; later ones are deleted.

        Raises:
            CheckpointError: If the file is damaged, or from a run with another model, other data
                or other settings.
        """
        found = sorted(self._folder.glob(_PATTERN.replace("{:010d}", "[0-9]" * 10)))
        steps = [int(path.stem.rpartition("-")[2]) for path in found]
        last = max((known for known in steps if known <= step), default=None)
        state = None if last is None else self._at(last).load()
        for path, known in zip(found, steps, strict=True):
            if known > step:
                path.unlink()
        return state

    def _at(self, step: int) -> Checkpoint:
        return Checkpoint(self._folder, self._fingerprint, file=_PATTERN.format(step))
