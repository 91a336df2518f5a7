"""Finished runs of a comparison, a file for each, so that it can go on after any interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.comparison.methods import Method
from keras_lrp_prune.control.checkpoint import CheckpointError
from keras_lrp_prune.files import formed, new_file, parsed_json, read_bytes
from keras_lrp_prune.graph.plain import json_default
from keras_lrp_prune.runtime import REORDERED, from_chief, is_chief

if TYPE_CHECKING:
    import tensorflow as tf

_FOLDER = "runs"
_SAME_NORM = 1e-4


class _SinceLater(TypedDict, total=False):
    """Entries that files of older versions lack."""

    samples: dict[str, str]  # digests of the same data, whatever the order of their samples


class _Task(_SinceLater):
    reference: str
    test: str
    layers: list[Any]
    norms: list[float]


class _Run(TypedDict):
    """What the file of a run holds."""

    settings: dict[str, Any]
    method: dict[str, Any]
    task: _Task
    curve: dict[str, Any]


class RunFolder:
    """Saves and loads the runs of one comparison.

    Args:
        folder: The folder of the comparison; runs lie in a folder of their own in it.
        strategy: Only its chief worker touches the folder; it tells the others.
    """

    def __init__(
        self, folder: str | os.PathLike[str], strategy: tf.distribute.Strategy | None = None
    ) -> None:
        self._folder = Path(folder, _FOLDER)
        self._strategy = strategy
        self._found = self._parsed(from_chief(json.dumps(self._read()).encode(), strategy))

    def check(self, settings: Mapping[str, Any]) -> None:
        """Makes sure that all runs that are there were made with these settings.

        Raises:
            CheckpointError: If not; the message says which differ.
        """
        self._check(self._found, settings)

    def _check(self, found: Mapping[str, _Run], settings: Mapping[str, Any]) -> None:
        wanted = _as_json(settings)
        for name, run in found.items():
            there = run["settings"]
            differ = [key for key in wanted if there.get(key) != wanted[key]]
            if differ:
                listed = "; ".join(f"{key} {there.get(key)}, not {wanted[key]}" for key in differ)
                raise CheckpointError(
                    f"{str(self._folder / name)!r} is of a comparison with other settings "
                    f"({listed}). Choose another folder, or the same settings."
                )

    def load(self, method: Method, seed: int, identity: Mapping[str, Any]) -> MethodCurve | None:
        """A finished run, or `None` if there is none.

        Raises:
            CheckpointError: If it is one of another method, model or data.
        """
        name = _file_name(method, seed)
        if name not in self._found:
            return None
        run = self._found[name]
        same = {
            f"another method {method.name!r}": run["method"] == _as_json(method.describe())
            and run["curve"]["method"] == method.name,
            "another seed": run["curve"]["seed"] == seed,
            "another model": _same_model(run["task"], identity),
        }
        others = [
            *(what for what, is_same in same.items() if not is_same),
            *_other_data(run["task"], identity),
        ]
        if others:
            raise CheckpointError(
                f"{str(self._folder / name)!r} is of a run with {' and '.join(others)}. Choose "
                "another folder."
            )
        return MethodCurve.from_dict(run["curve"])

    def save(
        self,
        curve: MethodCurve,
        method: Method,
        identity: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        """Writes a finished run, whole or not at all; the chief does.

        Raises:
            CheckpointError: If another process has written runs with other settings meanwhile.
            OSError: If it cannot be written.
        """
        if not is_chief(self._strategy):
            return
        self._check(self._parsed(json.dumps(self._read()).encode()), settings)
        run = {
            "settings": settings,
            "method": method.describe(),
            "task": identity,
            "curve": curve.to_dict(),
        }
        write_json(self._folder / _file_name(method, curve.seed), run)

    def _read(self) -> dict[str, str]:
        """The text of each file, on the chief."""
        if not is_chief(self._strategy):
            return {}
        return {path.name: _text(path) for path in sorted(self._folder.glob("*.json"))}

    def _parsed(self, texts: bytes) -> dict[str, _Run]:
        return {name: self._run(name, text) for name, text in json.loads(texts).items()}

    def _run(self, name: str, text: str) -> _Run:
        try:
            run: _Run = formed(parsed_json(text), _Run)
            MethodCurve.from_dict(run["curve"])
        except ValueError as error:
            raise CheckpointError(
                f"{str(self._folder / name)!r} cannot be read ({error}). Delete it to let that "
                "run be made anew."
            ) from error
        return run


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Writes a file, whole or not at all."""
    with new_file(path) as file:
        file.write(json.dumps(data, indent=1, default=json_default).encode())


def _file_name(method: Method, seed: int) -> str:
    return f"{method.name}-seed{seed}.json"


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        return str(error)  # is not JSON: parsing it raises the error on all workers


def _as_json(data: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(data, default=json_default))


def _other_data(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """In words, which data differ, or whether only the order of their samples does."""
    known = there.get("samples", {})
    return [
        REORDERED if known.get(part) == here["samples"][part] else what
        for part, what in {"reference": "another reference set", "test": "other test data"}.items()
        if there[part] != here[part]
    ]


def _same_model(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    return (
        there["layers"] == here["layers"]
        and len(there["norms"]) == len(here["norms"])
        and np.allclose(there["norms"], here["norms"], rtol=_SAME_NORM)
    )
