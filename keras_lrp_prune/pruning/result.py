"""The result of a pruning run: the small model, what was kept, and how it went."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.control.history import StepRecord
from keras_lrp_prune.cost import Cost
from keras_lrp_prune.data import checked_names, shown_names
from keras_lrp_prune.graph.generations import keras_named, keras_of
from keras_lrp_prune.graph.plain import json_default
from keras_lrp_prune.report import (
    before_after_table,
    class_table,
    plot_history,
    print_table,
    reason_lines,
)
from keras_lrp_prune.wording import printable

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

_MODEL, _RECORD, _CURVE = "model.keras", "result.json", "curve.png"

_PLAIN_FIELDS = [
    *("reference", "validation", "settings", "stopped", "rate"),
    *("protected", "barriers", "uncounted"),
]

# More protected layers than these, for one reason, are only counted in the summary.
_MOST_PROTECTED = 6


@dataclass(frozen=True)
class PruningResult:
    """What `prune()` returns.

    Args:
        model: The smaller model, a plain `keras.Model` (or `tf_keras.Model`).
        kept: Layer name to the sorted indices of the filters that were kept.
        history: One record per step; the first is the unpruned model.
        cost_before, cost_after: Filters, parameters and FLOPs per sample.
        reference: Metrics on the reference set, `"before"` and `"after"`.
        validation: The same on the validation data, if there were any.
        settings: What the run was asked for, and which engine it took.
        stopped: Why the run ended.
        rate: The pruning rate reached.
        protected: Layer to the reason why its filters (or some) were left alone.
        barriers: Layers without a layer rule, with their classes; what they read and return was
            left alone.
        uncounted: Layers whose FLOPs are missing in the counts, for want of a formula.
        class_names: What the classes are called, if it is known.

    Example:
    >>> result = klp.prune(model, (x, y), target_rate=0.5)
    >>> result.summary()
    >>> result.plot("curve.png")
    >>> result.save("out/")
    """

    model: keras.Model
    kept: Mapping[str, np.ndarray]
    history: Sequence[StepRecord]
    cost_before: Cost
    cost_after: Cost
    reference: Mapping[str, Mapping[str, Any]]
    validation: Mapping[str, Mapping[str, Any]] | None
    settings: Mapping[str, Any]
    stopped: str
    rate: float
    protected: Mapping[str, str] = field(default_factory=dict)
    barriers: Mapping[str, str] = field(default_factory=dict)
    uncounted: Sequence[str] = ()
    class_names: Sequence[str] | None = None

    def summary(self, class_names: Sequence[str] | None = None) -> None:
        """Prints tables: costs and accuracies before and after, and what was left alone.

        Args:
            class_names: Names of the classes, by default those of the result, or numbers.
        """
        sets = {"reference set": self.reference, "validation data": self.validation}
        rows: list[tuple[object, ...]] = [
            ("Filters", self.cost_before.filters, self.cost_after.filters),
            ("Parameters", self.cost_before.parameters, self.cost_after.parameters),
            ("FLOPs per sample", self.cost_before.flops, self.cost_after.flops),
        ]
        for name, metrics in sets.items():
            if metrics is not None:
                values = [f"{metrics[when]['harmonic_mean']:.4f}" for when in ("before", "after")]
                rows.append((f"Harmonic mean accuracy, {name}", *values))
        shown = "reference set" if self.validation is None else "validation data"
        metrics = sets[shown] or self.reference
        names = shown_names(class_names or self.class_names, len(metrics["after"]["recall"]))
        title = f"Pruning rate {self.rate:.1%} ({self.stopped}; {self.settings['criterion']})"
        print_table(
            before_after_table(rows, title=title),
            class_table(
                names,
                metrics["before"]["recall"],
                metrics["after"]["recall"],
                support=metrics["after"]["support"],
                title=f"Accuracy of each class, {shown} (%)",
            ),
        )
        for name, share in self.settings.get("remaining", {}).items():
            most = self.settings["budget"][name]
            print(f"Budget {name}: {share:.2%} of the original left, {most:.2%} allowed")
        lost = [name for name, a in zip(names, metrics["after"]["recall"], strict=True) if not a]
        if lost:
            print(
                f"Warning: not one sample of {printable(', '.join(lost))} is classified correctly "
                "any more. Choose a lower target rate, or set min_accuracy to stop before that."
            )
        protected = {
            layer: reason for layer, reason in self.protected.items() if layer not in self.barriers
        }
        for line in (
            *reason_lines("Protected", protected, _MOST_PROTECTED),
            *reason_lines("Barrier", self.barriers),
        ):
            print(line)
        if self.uncounted:
            print(f"Without a formula for FLOPs: {printable(', '.join(self.uncounted))}")

    def plot(
        self, path: str | os.PathLike[str] | None = None, class_names: Sequence[str] | None = None
    ) -> Figure:
        """Draws the class accuracies on the reference set over the pruning rate.

        Args:
            path: Where to write it (`.png`, `.svg` or `.pdf`), if anywhere.
            class_names: Names of the classes, by default those of the result, or numbers.

        Returns:
            The matplotlib figure.
        """
        held_out = None
        if self.validation is not None:
            held_out = [
                {"rate": rate, "harmonic_mean": self.validation[when]["harmonic_mean"]}
                for rate, when in ((0.0, "before"), (self.rate, "after"))
            ]
        return plot_history(
            [record.to_dict() for record in self.history],
            path,
            title="Accuracy on the reference set while pruning",
            held_out=held_out,
            class_names=class_names or self.class_names,
        )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes the model (`model.keras`), the record (`result.json`) and the curve (`curve.png`).

        The folder appears complete or not at all; an earlier result in it is replaced.

        Args:
            folder: Where to; made if it does not exist.

        Returns:
            The folder.

        Raises:
            OSError: If it cannot be written.
        """
        target = Path(folder)
        check_result_folder(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            self.model.save(temporary / _MODEL)
            self.plot(temporary / _CURVE)
            record = json.dumps(self._record(), indent=1, default=json_default)
            (temporary / _RECORD).write_text(record)
            temporary.chmod(0o755)
            if target.exists():
                for name in (_MODEL, _CURVE, _RECORD):
                    os.replace(temporary / name, target / name)
            else:
                os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    def _record(self) -> dict[str, Any]:
        return {
            "keras": keras_of(self.model).__name__,
            "kept": {layer: np.asarray(indices).tolist() for layer, indices in self.kept.items()},
            "history": [record.to_dict() for record in self.history],
            "cost_before": asdict(self.cost_before),
            "cost_after": asdict(self.cost_after),
            **{key: getattr(self, key) for key in _PLAIN_FIELDS},
            "class_names": self.class_names,
        }


def check_result_folder(folder: Path) -> None:
    """Raises `OSError` if results cannot be written to `folder`, before any work is done."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(
            f"{str(existing)!r} is not a folder; choose another output folder."
        )
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise PermissionError(
            f"Cannot write to {str(existing)!r} ({error.strerror}); choose another output folder."
        ) from error


@checked
def load_result(folder: str | os.PathLike[str]) -> PruningResult:
    """Loads what `PruningResult.save` wrote.

    Args:
        folder: The folder given to `save`.

    Returns:
        The result, its model included.

    Raises:
        FileNotFoundError: If there is no result in the folder.
        ValueError: If a file in it is damaged.

    Example:
    >>> result = klp.load_result("out/")
    """
    path = Path(folder)
    for name in (_MODEL, _RECORD):
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"There is no pruning result in {str(path)!r}: it has no {name}."
            )
    try:
        record = json.loads((path / _RECORD).read_text())
        return PruningResult(
            model=keras_named(record["keras"]).models.load_model(path / _MODEL),
            kept={layer: np.array(kept, np.int64) for layer, kept in record["kept"].items()},
            history=tuple(StepRecord.from_dict(step) for step in record["history"]),
            cost_before=Cost(**record["cost_before"]),
            cost_after=Cost(**record["cost_after"]),
            **{key: record[key] for key in _PLAIN_FIELDS},
            class_names=_names(record),
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"The result in {str(path)!r} is damaged: {error!r}.") from error


def _names(record: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the classes, if the result has them; older ones have none."""
    names = record.get("class_names")
    return (
        None if names is None else checked_names(names, len(record["reference"]["after"]["recall"]))
    )
