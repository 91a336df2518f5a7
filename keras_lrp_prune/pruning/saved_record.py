"""What `result.json` holds: its form."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from keras_lrp_prune.control.history import StepRecord
from keras_lrp_prune.cost import Cost
from keras_lrp_prune.data import checked_names
from keras_lrp_prune.files import formed


class _Metrics(TypedDict):
    harmonic_mean: float
    recall: list[float]
    support: list[float]  # whole; some versions wrote 5.0


class _BeforeAfter(TypedDict):
    before: _Metrics
    after: _Metrics


class _SettingsOfSome(TypedDict, total=False):
    """What some runs have, or not all versions wrote (the oldest refitted nothing)."""

    recovery: str | None
    asked_recovery: str | None
    not_recovered: dict[str, str]
    steering: str
    budget: dict[str, float] | None
    remaining: dict[str, float]


class _Settings(_SettingsOfSome):
    """What a result reads of its settings, whatever else they hold."""

    criterion: str
    min_accuracy: float | None


class _SinceLater(TypedDict, total=False):
    """What older versions did not write."""

    model_sha256: str
    class_names: tuple[str, ...] | None
    frozen_weights: tuple[int, ...]


class SavedRecord(_SinceLater):
    """What `result.json` holds."""

    keras: Literal["keras", "tf_keras"]
    kept: dict[str, list[int]]
    history: tuple[StepRecord, ...]
    cost_before: Cost
    cost_after: Cost
    reference: _BeforeAfter
    validation: _BeforeAfter | None
    settings: _Settings
    stopped: str
    rate: float
    protected: dict[str, str]
    barriers: dict[str, str]
    uncounted: tuple[str, ...]


def checked_record(data: Any) -> SavedRecord:
    """The record that parsed JSON is.

    Raises:
        ValueError: If it is none; the message says which part is not.
    """
    record: SavedRecord = formed(data, SavedRecord)
    if (names := record.get("class_names")) is not None:
        checked_names(names, len(record["reference"]["after"]["recall"]))
    return record
