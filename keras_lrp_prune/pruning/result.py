"""The result of a pruning run: the small model, what was kept, and how it went."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.cost import Cost
from keras_lrp_prune.data import shown_names
from keras_lrp_prune.display_names import printable
from keras_lrp_prune.files import (
    check_writable,
    members,
    new_file,
    new_members,
    read_json,
)
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.model_files import digest, load_model, save_model
from keras_lrp_prune.graph.plain import json_default
from keras_lrp_prune.graph.single_weights import freeze_weights, frozen_weights
from keras_lrp_prune.pruning.advice import (
    advice,
    ends,
    fall,
    fallen_class,
    measured_by,
    recovery_lines,
)
from keras_lrp_prune.pruning.saved_record import checked_record
from keras_lrp_prune.report import (
    before_after_table,
    class_table,
    html_report,
    plot_history,
    print_table,
    reason_lines,
)
from keras_lrp_prune.report.step_record import StepRecord

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

_MODEL, _RECORD, _CURVE = "model.keras", "result.json", "curve.png"

_PLAIN_FIELDS = [
    *("reference", "validation", "settings", "stopped", "rate"),
    *("protected", "barriers", "uncounted"),
]

# The most protected layers that the summary names for one reason.
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
        settings: What the run was asked for, and what was chosen, such as the engine.
        stopped: Why the run ended.
        rate: The pruning rate reached.
        protected: Layer to the reason why its filters (or some) were left alone.
        barriers: Layers without a channel rule, with their classes and the reasons; what they read
            and return was left alone.
        uncounted: Layers whose FLOPs are missing in the counts, for want of a formula or a size.
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
        shown = "reference set" if self.validation is None else "validation data"
        metrics = self.reference if self.validation is None else self.validation
        names = shown_names(class_names or self.class_names, len(metrics["after"]["recall"]))
        print_table(
            before_after_table(self._rows(), title=self._title),
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
            left = f"{share:.2%} of the original left, {most:.2%} allowed"
            print(f"Budget {printable(name)}: {left}")
        recalls = zip(
            names, *(metrics[when]["recall"] for when in ("before", "after")), strict=True
        )
        lost = [name for name, before, after in recalls if before and not after]
        if lost:
            print(
                f"Warning: not one sample of {printable(', '.join(lost))} is classified correctly "
                "any more."
            )
        for said in (fallen_class(self, names), advice(self)):
            if said is not None:
                print(printable(said))
        protected = {
            layer: reason for layer, reason in self.protected.items() if layer not in self.barriers
        }
        for line in (
            *reason_lines("Protected", protected, _MOST_PROTECTED),
            *reason_lines("Barrier", self.barriers),
            *recovery_lines(self.settings),
        ):
            print(printable(line))
        if self.uncounted:
            print(f"Missing in the FLOPs: {printable(', '.join(self.uncounted))}")

    def __repr__(self) -> str:
        before, after, where = fall(self)
        first, last = self.cost_before, self.cost_after
        return "\n".join(
            (
                f"{type(self).__name__}: {self._title}",
                f"  filters {first.filters:,} to {last.filters:,}, parameters "
                f"{first.parameters:,} to {last.parameters:,}, FLOPs {first.flops:,} to "
                f"{last.flops:,}",
                f"  harmonic mean accuracy {before:.1%} to {after:.1%} ({where})",
                "  summary(), plot(), save(folder); .model, .kept, .history, .settings",
            )
        )

    def _repr_html_(self) -> str:
        return html_report(self._title, ("", "Before", "After"), self._rows(), self.plot())

    @property
    def _title(self) -> str:
        why = f"{self.stopped}; {self.settings['criterion']}"
        return f"Pruning rate {self.rate:.1%} ({printable(why)})"

    def _rows(self) -> list[tuple[object, ...]]:
        """Costs and accuracies before and after."""
        rows = cost_rows(self.cost_before, self.cost_after)
        fitted = "" if measured_by(self.settings).of_model else " (fitted on it)"
        rows.append(accuracy_row(f"reference set{fitted}", self.reference))
        rows += self._steps_rows()
        if self.validation is not None:
            rows.append(accuracy_row("validation data", self.validation))
        return rows

    def _steps_rows(self) -> Iterator[tuple[object, ...]]:
        """The harmonic mean of the steps, where it is not that of the model in the end."""
        first, last = (f"{record.harmonic_mean:.1%}" for record in ends(self.history))
        if not measured_by(self.settings).of_model:
            yield "Harmonic mean of cross-fitted heads, reference set", first, last
        elif self._refitted_last:
            yield "Harmonic mean before refitting, reference set", None, last

    @property
    def _refitted_last(self) -> bool:
        """Whether layers were refitted after the last step, and not at each."""
        layers = "least_squares" in (self.settings.get("recovery") or "")
        return layers and not self.settings.get("refits_each_step")

    def plot(
        self, path: str | os.PathLike[str] | None = None, class_names: Sequence[str] | None = None
    ) -> Figure:
        """Draws the class accuracies on the reference set over the pruning rate.

        The lines are those of the steps: of the masked model, before anything is refitted unless it
        was at each step, or of cross-fitted heads where these steered; legend, title and axis say
        so. What the result achieves is a star where it was refitted; diamonds are the original
        model and the result on the validation data.

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
        of_model = measured_by(self.settings).of_model
        refitted, title = None, "Accuracy on the reference set while pruning"
        if of_model and self._refitted_last:
            after = self.reference["after"]["harmonic_mean"]
            refitted = {"rate": self.rate, "harmonic_mean": after}
            title += ", before refitting"
        return plot_history(
            [record.to_dict() for record in self.history],
            path,
            title=title,
            held_out=held_out,
            refitted=refitted,
            ylabel="Accuracy (%)" if of_model else "Accuracy of cross-fitted heads (%)",
            class_names=class_names or self.class_names,
        )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes the model (`model.keras`), the record (`result.json`) and the curve (`curve.png`).

        All three appear together or not at all, and take the place of an earlier result; other
        files in the folder are left alone. Several processes may save to one folder: the result of
        one of them is there in the end.

        Args:
            folder: Where to; made if it does not exist.

        Returns:
            The folder.

        Raises:
            OSError: If it cannot be written; an earlier result stays.
        """
        target = Path(folder)
        check_writable(target)
        with new_members(target, (_RECORD, _MODEL, _CURVE)) as new:
            save_model(self.model, new / _MODEL, target / _MODEL)
            self.plot(new / _CURVE)
            record = {"model_sha256": digest(new / _MODEL), **self._record()}
            with new_file(new / _RECORD) as file:
                file.write(json.dumps(record, indent=1, default=json_default).encode())
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
            "frozen_weights": frozen_weights(self.model),
        }


def cost_rows(before: Cost, after: Cost) -> list[tuple[object, ...]]:
    """What a model costs, before and after."""
    return [
        ("Filters", before.filters, after.filters),
        ("Parameters", before.parameters, after.parameters),
        ("FLOPs per sample", before.flops, after.flops),
    ]


def accuracy_row(data: str, metrics: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The harmonic mean accuracy on some data, before and after."""
    values = (f"{metrics[when]['harmonic_mean']:.1%}" for when in ("before", "after"))
    return (f"Harmonic mean accuracy, {data}", *values)


@checked
def load_result(folder: str | os.PathLike[str]) -> PruningResult:
    """Loads what `PruningResult.save` wrote; runs no code that is in the folder.

    Classes and functions of your own that the model holds have to be registered
    (`keras.saving.register_keras_serializable`) or given by `keras.saving.custom_object_scope`;
    a Lambda layer with a Python lambda is refused.

    Args:
        folder: The folder given to `save`.

    Returns:
        The result, its model included.

    Raises:
        TypeError: For an argument of another type.
        FileNotFoundError: If there is no result in the folder.
        ValueError: If a file in it is damaged, is not what it claims to be, or is of another
            result; the message names it.

    Example:
    >>> result = klp.load_result("out/")
    """
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path)!r}.")
    with members(path, (_MODEL, _RECORD)) as found:
        for name, file in found.items():
            if not file.is_file():
                raise FileNotFoundError(
                    f"There is no pruning result in {str(path)!r}: it has no {name}."
                )
        try:
            data = read_json(found[_RECORD])
            record = checked_record(data)
        except ValueError as error:
            raise ValueError(f"{str(path / _RECORD)!r} is damaged: {error}.") from error
        if record.get("model_sha256", known := digest(found[_MODEL])) != known:
            raise ValueError(
                f"{str(path / _MODEL)!r} is damaged, or of another result: it is not the file "
                f"that {_RECORD} was saved with. To load the model alone: "
                "keras.models.load_model(path)."
            )
        try:
            model = load_model(found[_MODEL], record["keras"])
            freeze_weights(model, record.get("frozen_weights", ()))
        except ValueError as error:
            raise ValueError(f"The result in {str(path)!r} is damaged: {error}") from error
    return PruningResult(
        model=model,
        kept={layer: np.array(indices, np.int64) for layer, indices in record["kept"].items()},
        history=record["history"],
        cost_before=record["cost_before"],
        cost_after=record["cost_after"],
        **{key: data[key] for key in _PLAIN_FIELDS},
        class_names=record.get("class_names"),
    )
