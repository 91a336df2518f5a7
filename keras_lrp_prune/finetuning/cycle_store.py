"""Finished cycles in a folder each, so that a run can go on after any interruption."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.control.checkpoint import CheckpointError
from keras_lrp_prune.finetuning.cycle_record import CycleRecord
from keras_lrp_prune.graph.plain import json_default
from keras_lrp_prune.pruning.result import check_result_folder

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


class CycleStore:
    """Saves and loads the finished cycles of one run.

    Args:
        folder: Where to; made if it does not exist.
        identity: Tells this run from others.

    Raises:
        OSError: If the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: str) -> None:
        self._folder, self._identity = Path(folder), identity
        check_result_folder(self._folder)
        self._folder.mkdir(parents=True, exist_ok=True)

    def pruning_folder(self, cycle: int) -> Path:
        """Where `prune` keeps its steps while the cycle is at work."""
        return self._folder / f"cycle-{cycle}-pruning"

    def save(self, finished: Finished) -> None:
        """Writes a cycle to a temporary folder that is then renamed.

        Raises:
            OSError: If it cannot be written.
        """
        cycle = finished.record.cycle
        temporary = Path(tempfile.mkdtemp(prefix=f".cycle-{cycle}-", dir=self._folder))
        try:
            finished.model.save(temporary / _MODEL)
            data = {
                "identity": self._identity,
                "kept": finished.kept,
                "record": finished.record.to_dict(),
            }
            (temporary / _RECORD).write_text(json.dumps(data, indent=1, default=json_default))
            temporary.chmod(0o755)
            os.replace(temporary, self._path(cycle))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(self.pruning_folder(cycle), ignore_errors=True)

    def load(self, cycle: int, custom: Mapping[str, Any]) -> Finished | None:
        """A finished cycle, or `None` if it is not; its model is not compiled.

        Args:
            cycle: Its number.
            custom: Classes and functions of the user's that the model holds.

        Raises:
            CheckpointError: If it is damaged, or of a run with another model, other data or
                settings.
        """
        import keras

        path = self._path(cycle)
        if not path.exists():
            return None
        try:
            data = json.loads((path / _RECORD).read_text())
            identity = data["identity"]
            record = CycleRecord.from_dict(data["record"])
            kept = {layer: np.array(indices, np.int64) for layer, indices in data["kept"].items()}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise self._damaged(path, error) from error
        if identity != self._identity:
            raise CheckpointError(
                f"Checkpoint {str(path)!r} belongs to a run with another model, other data or "
                "other settings. Delete it, or choose another checkpoint_dir."
            )
        try:
            with keras.utils.custom_object_scope(custom):
                model = keras.models.load_model(path / _MODEL, compile=False)
        except Exception as error:
            raise self._damaged(path, error) from error
        return Finished(record, kept, model)

    def _path(self, cycle: int) -> Path:
        return self._folder / f"cycle-{cycle}"

    def _damaged(self, path: Path, error: Exception) -> CheckpointError:
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
