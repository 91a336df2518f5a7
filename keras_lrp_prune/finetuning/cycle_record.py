"""What cycles of pruning and fine-tuning give back: one record for each, and the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.cost import Cost
from keras_lrp_prune.files import formed
from keras_lrp_prune.pruning.result import accuracy_row, cost_rows
from keras_lrp_prune.report import before_after_table, html_report, print_table

if TYPE_CHECKING:
    import keras

Reports = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class CycleRecord:
    """What one cycle did.

    Args:
        cycle: Its number, from 1.
        rate: Pruning rate after it, of the filters that the model had at first.
        filters, params, flops: What is left; FLOPs are per sample.
        stopped: Why pruning ended in this cycle.
        reference: Metrics on the reference set, `"pruned"` (before training) and `"tuned"`.
        validation: The same on the validation data, if there were any.
        history: Values for each epoch, as in `TuningResult`.
    """

    cycle: int
    rate: float
    filters: int
    params: int
    flops: int
    stopped: str
    reference: Reports
    validation: Reports | None
    history: Mapping[str, Sequence[float]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CycleRecord:
        """The inverse of `to_dict`.

        Raises:
            ValueError: If it is no such record; the message says what is missing or of another
                type.
        """
        return formed(record, cls)


@dataclass(frozen=True)
class CyclesResult:
    """What `prune_and_finetune()` returns.

    Args:
        model: The smaller, tuned model, a plain `keras.Model`.
        kept: Layer name to the sorted indices, in the model given, of the filters that were kept.
        cycles: One record per cycle.
        cost_before, cost_after: Filters, parameters and FLOPs per sample.
        reference: Metrics on the reference set, `"before"` and `"after"` all cycles.
        validation: The same on the validation data, if there were any.
        rate: The pruning rate reached.
        settings: What the run was asked for.

    Example:
    >>> result = klp.prune_and_finetune(model, reference, (x, y), target_rate=0.6)
    >>> result.summary()
    >>> result.model.save("small.keras")
    """

    model: keras.Model
    kept: Mapping[str, np.ndarray]
    cycles: Sequence[CycleRecord]
    cost_before: Cost
    cost_after: Cost
    reference: Reports
    validation: Reports | None
    rate: float
    settings: Mapping[str, Any]

    def summary(self) -> None:
        """Prints a table of costs and accuracies before and after, and one row for each cycle."""
        shown = "reference set" if self.validation is None else "validation data"
        rows = [_row(record) for record in self.cycles]
        print_table(
            before_after_table(self._rows(), title=f"Pruning rate {self.rate:.1%}"),
            before_after_table(
                rows,
                extra_columns=("Rate", "Parameters", "FLOPs"),
                title=f"Harmonic mean accuracy before and after each training, {shown}",
            ),
        )

    def __repr__(self) -> str:
        where, reports = "reference set", self.reference
        if self.validation is not None:
            where, reports = "validation data", self.validation
        before, after = (_harmonic(reports[when]) for when in ("before", "after"))
        return (
            f"{type(self).__name__}: {self._title}\n"
            f"  filters {self.cost_before.filters:,} to {self.cost_after.filters:,}, parameters "
            f"{self.cost_before.parameters:,} to {self.cost_after.parameters:,}\n"
            f"  harmonic mean accuracy {before} to {after} ({where})\n"
            "  summary(); .model, .cycles, .kept, .settings"
        )

    def _repr_html_(self) -> str:
        return html_report(self._title, ("", "Before", "After"), self._rows())

    @property
    def _title(self) -> str:
        cycles = "1 cycle" if len(self.cycles) == 1 else f"{len(self.cycles)} cycles"
        return f"{cycles}, pruning rate {self.rate:.1%}"

    def _rows(self) -> list[tuple[object, ...]]:
        """Costs and accuracies before and after all cycles."""
        rows = cost_rows(self.cost_before, self.cost_after)
        rows.append(accuracy_row("reference set", self.reference))
        if self.validation is not None:
            rows.append(accuracy_row("validation data", self.validation))
        return rows


def _row(record: CycleRecord) -> tuple[object, ...]:
    reports = record.reference if record.validation is None else record.validation
    means = [_harmonic(reports[when]) for when in ("pruned", "tuned")]
    return (f"Cycle {record.cycle}", *means, f"{record.rate:.1%}", record.params, record.flops)


def _harmonic(report: Mapping[str, Any]) -> str:
    return f"{report['harmonic_mean']:.1%}"
