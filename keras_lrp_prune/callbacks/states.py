"""The states of a pruning callback, one file for each step, so that training can go on from any."""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import partial
from pathlib import Path

from keras_lrp_prune.control.checkpoint import Checkpoint, CheckpointError, RunState, claimed
from keras_lrp_prune.files import FolderLock
from keras_lrp_prune.runtime import Fingerprint

_PATTERN = "filters-{:010d}.npz"
_ARGUMENT = "state_dir"


class States:
    """Keeps the state after each pruning step.

    After an interruption, the weights that are restored may be older than the last pruning step:
    so the states of all steps are kept.

    Args:
        folder: Where the files lie.
        fingerprint: Tells this run from others.
        units: Number of units that the masks are of.
        counts: Names of what the records of its steps count.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        fingerprint: Fingerprint,
        units: int,
        counts: Collection[str],
    ) -> None:
        self._folder = Path(folder)
        self._checkpoint = partial(
            Checkpoint, folder, fingerprint, units, counts, argument=_ARGUMENT
        )
        self._lock: FolderLock | None = None

    def hold(self) -> None:
        """Makes the folder if it does not exist, and holds it for this run, until `release`.

        Raises:
            CheckpointError: If the folder cannot be written to, another run holds it, or one of its
                files is damaged or from a run with another model, other data or other settings.
        """
        self._lock = claimed(self._folder, argument=_ARGUMENT)
        try:
            self._known()
        except CheckpointError:
            self.release()
            raise

    def release(self) -> None:
        """Lets another run have the folder."""
        if self._lock is not None:
            self._lock.release()

    def save(self, state: RunState) -> None:
        """Writes the state, whole or not at all."""
        self._at(state.step).save(state)

    def at(self, step: int) -> RunState | None:
        """The last state of that optimizer step or an earlier one; later ones are deleted.

        Raises:
            CheckpointError: As `hold` does; then nothing is deleted.
        """
        known = self._known()
        for later in known:
            if later > step:
                self._at(later).path.unlink()
        return known.get(max((one for one in known if one <= step), default=-1))

    def _known(self) -> dict[int, RunState]:
        """All states in the folder, by their steps; checks that each is of this run."""
        found = {}
        for path in sorted(self._folder.glob(_PATTERN.replace("{:010d}", "[0-9]" * 10))):
            step = int(path.stem.rpartition("-")[2])
            state = self._at(step).load()
            if state is None:
                continue
            if state.step != step:
                raise CheckpointError(
                    f"Checkpoint {str(path)!r} is damaged: it is of step {state.step}. Delete it "
                    "to start anew."
                )
            found[step] = state
        return found

    def _at(self, step: int) -> Checkpoint:
        return self._checkpoint(file=_PATTERN.format(step))
