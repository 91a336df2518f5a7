"""What `result.json` holds: its form, and a check that its parts belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypedDict

from keras_lrp_prune.cost import Cost
from keras_lrp_prune.data import checked_names
from keras_lrp_prune.files import formed
from keras_lrp_prune.report.step_record import StepRecord


class _Metrics(TypedDict):
    harmonic_mean: float
    recall: list[float]
    support: list[float]  # whole; some versions wrote 5.0


class _BeforeAfter(TypedDict):
    before: _Metrics
    after: _Metrics


class _SettingsOfSome(TypedDict, total=False):
    """Settings that not all runs have, or that files of older versions lack."""

    recovery: str | None
    asked_recovery: str | None
    not_recovered: dict[str, str]
    refit_refused: str
    refits_each_step: bool
    steering: str
    budget: dict[str, float] | None
    remaining: dict[str, float]


class _Settings(_SettingsOfSome):
    """What a result reads of its settings, whatever else they hold."""

    criterion: str
    min_accuracy: float | None


class _SinceLater(TypedDict, total=False):
    """Entries that files of older versions lack."""

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
        ValueError: If it is no such record, or its parts do not belong together; the message says
            which.
    """
    record: SavedRecord = formed(data, SavedRecord)
    n_classes = len(record["reference"]["after"]["recall"])
    if (names := record.get("class_names")) is not None:
        checked_names(names, n_classes)
    for where, values in _of_classes(record):
        if len(values) != n_classes or not values:
            raise ValueError(f"{where} has {len(values)} entries, for {n_classes} classes")
    if not any(step.accepted for step in record["history"]):
        raise ValueError("history has no accepted step")
    settings = record["settings"]
    unasked = settings.get("remaining", {}).keys() - (settings.get("budget") or {}).keys()
    if unasked:
        raise ValueError(f"settings.remaining has {min(unasked)!r}, which is not in the budget")
    return record


def _of_classes(record: SavedRecord) -> Iterator[tuple[str, Sequence[float]]]:
    """What has an entry for each class, and what it is called."""
    for data, found in (("reference", record["reference"]), ("validation", record["validation"])):
        if found is not None:
            for when, metrics in (("before", found["before"]), ("after", found["after"])):
                yield f"{data}.{when}.recall", metrics["recall"]
                yield f"{data}.{when}.support", metrics["support"]
    for i, step in enumerate(record["history"]):
        yield f"history[{i}].class_accuracies", step.class_accuracies
        yield f"history[{i}].soft_class_accuracies", step.soft_class_accuracies
