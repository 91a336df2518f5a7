"""Finished cycles in a folder each, so that a run can go on after any interruption."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from keras_lrp_prune.control.checkpoint import CheckpointError, check_same_run, claimed
from keras_lrp_prune.files import formed, new_file, new_folder, read_json
from keras_lrp_prune.finetuning.cycle_record import CycleRecord
from keras_lrp_prune.graph.model_files import load_model, save_model
from keras_lrp_prune.graph.plain import json_default
from keras_lrp_prune.graph.single_weights import freeze_weights, frozen_weights
from keras_lrp_prune.runtime import Fingerprint

if TYPE_CHECKING:
    import keras

_MODEL, _RECORD = "model.keras", "cycle.json"


@dataclass(frozen=True)
class Finished:
    """A cycle that is over.

    Args:
        record: What it did.
        kept: What `prune` kept in it: layer to indices of the filters before the cycle.
        model: The model after it.
    """

    record: CycleRecord
    kept: Mapping[str, np.ndarray]
    model: keras.Model


class _SinceLater(TypedDict, total=False):
    """Entries that files of older versions lack."""

    frozen_weights: tuple[int, ...]


class _Saved(_SinceLater):
    identity: Fingerprint
    kept: dict[str, list[int]]
    record: CycleRecord


class CycleStore:
    """Saves and loads the finished cycles of one run.

    Args:
        folder: Where to; made if it does not exist, and held until `close`.
        identity: Tells this run from others.

    Raises:
        CheckpointError: If the folder cannot be written to, or another run is using it.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Fingerprint) -> None:
        self._folder, self._identity = Path(folder), identity
        self._lock = claimed(self._folder)

    def close(self) -> None:
        """Lets another run have the folder."""
        if self._lock is not None:
            self._lock.release()

    def pruning_folder(self, cycle: int) -> Path:
        """Where `prune` saves its steps while the cycle is running."""
        return self._folder / f"cycle-{cycle}-pruning"

    def save(self, finished: Finished) -> None:
        """Writes a cycle, whole or not at all.

        Raises:
            OSError: If it cannot be written.
        """
        cycle = finished.record.cycle
        data = {
            "identity": self._identity,
            "kept": finished.kept,
            "record": finished.record.to_dict(),
            "frozen_weights": frozen_weights(finished.model),
        }
        with new_folder(self._path(cycle)) as folder:
            save_model(finished.model, folder / _MODEL, self._path(cycle) / _MODEL)
            with new_file(folder / _RECORD) as file:
                file.write(json.dumps(data, indent=1, default=json_default).encode())
        shutil.rmtree(self.pruning_folder(cycle), ignore_errors=True)

    def load(self, cycle: int, custom: Mapping[str, Any]) -> Finished | None:
        """A finished cycle, its model not compiled; `None` if the cycle is not finished.

        Args:
            cycle: Its number.
            custom: Classes and functions of the user's that the model holds.

        Raises:
            CheckpointError: If it is damaged, or of a run with another model, other data or
                settings.
        """
        path = self._path(cycle)
        if not os.path.lexists(path):
            return None
        try:
            saved: _Saved = formed(read_json(path / _RECORD), _Saved)
        except (OSError, ValueError) as error:
            raise self._damaged(path, error) from error
        if saved["record"].cycle != cycle:
            raise self._damaged(path, f"it is of cycle {saved['record'].cycle}")
        check_same_run(path, saved["identity"], self._identity)
        try:
            model = load_model(path / _MODEL, "keras", compile=False, custom=custom)
            freeze_weights(model, saved.get("frozen_weights", ()))
        except (OSError, ValueError) as error:
            raise self._damaged(path, error) from error
        kept = {layer: np.array(indices, np.int64) for layer, indices in saved["kept"].items()}
        return Finished(saved["record"], kept, model)

    def _path(self, cycle: int) -> Path:
        return self._folder / f"cycle-{cycle}"

    def _damaged(self, path: Path, error: object) -> CheckpointError:
        return CheckpointError(
            f"Checkpoint {str(path)!r} cannot be read ({error}). Delete it to let that cycle be "
            "made anew."
        )


def described(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON-able data that are the same in another process."""
    return {key: _described(value) for key, value in sorted(options.items())}


def _described(value: Any) -> Any:
    if isinstance(value, Mapping):
        return described(value)
    if isinstance(value, list | tuple):
        return [_described(entry) for entry in value]
    if hasattr(value, "get_config"):
        config = json.loads(json.dumps(value.get_config(), default=lambda it: type(it).__name__))
        return {"class": type(value).__name__, "config": config}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)
