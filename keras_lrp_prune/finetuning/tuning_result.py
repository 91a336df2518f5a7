"""What fine-tuning gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.data import shown_names
from keras_lrp_prune.evaluation import FEW_POINTS
from keras_lrp_prune.report import before_after_table, class_table, html_report, print_table

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class TuningResult:
    """What `finetune()` returns.

    Args:
        model: The tuned model, a plain `keras.Model`.
        history: One value per epoch: `loss`, `accuracy`, `learning_rate`, and, with validation
            data, `val_loss` (the cross-entropy), `val_accuracy`, `val_harmonic_mean_accuracy` and
            `val_worst_class_accuracy`.
        validation: Metrics on the validation data `"before"` and `"after"`, as in
            `PruningResult.validation`; `None` without such data.
        epoch: The epoch whose weights the model has; the last one unless the best were restored.
            0 means the weights before training.
        settings: What training was asked for.
        class_names: What the classes are called, if it is known.
        trained: What was trained, in words, of a model with frozen layers; else empty.

    Example:
    >>> tuned = klp.finetune(result, (x, y), validation=(x_val, y_val))
    >>> tuned.summary()
    >>> tuned.model.save("small.keras")
    """

    model: keras.Model
    history: Mapping[str, Sequence[float]]
    validation: Mapping[str, Mapping[str, Any]] | None
    epoch: int
    settings: Mapping[str, Any]
    class_names: Sequence[str] | None = None
    trained: str = ""

    def summary(self, class_names: Sequence[str] | None = None) -> None:
        """Prints what training did: loss, and the accuracies before and after on validation data.

        Args:
            class_names: Names of the classes, by default those of the result, or numbers.
        """
        print(f"{self._course}.")
        if self.trained:
            print(self.trained)
        if self.validation is None:
            print("Give validation=(x, y) to see the accuracy of each class before and after.")
            return
        before, after = self.validation["before"], self.validation["after"]
        names = shown_names(class_names or self.class_names, len(after["recall"]))
        print_table(
            before_after_table(self._rows(before, after), title="Fine-tuning, validation data"),
            class_table(
                names,
                before["recall"],
                after["recall"],
                support=after["support"],
                title="Accuracy of each class, validation data (%)",
            ),
        )
        if (fall := before["harmonic_mean"] - after["harmonic_mean"]) > FEW_POINTS:
            remedies = ", ".join(remedy for remedy, applies in self._remedies() if applies)
            print(
                f"The harmonic mean accuracy fell by {100 * fall:.1f} points: the weights from "
                f"before are better. What may help: {remedies}."
            )

    def _remedies(self) -> Sequence[tuple[str, bool]]:
        """What may keep more of the accuracy, each with whether it was not asked for already."""
        settings = self.settings
        return (
            ("the weights of the best epoch (restore_best=True)", not settings["restore_best"]),
            ("batch normalisation as it is (freeze_batch_norm=True)", self._normalised),
            ("a lower learning_rate", True),
            ("more samples", True),
        )

    @property
    def _normalised(self) -> bool:
        """Whether batch normalisation took the statistics of batches."""
        import keras

        layers = self.model._flatten_layers()
        norms = [it for it in layers if isinstance(it, keras.layers.BatchNormalization)]
        asked = self.settings["freeze_batch_norm"]
        return not asked and any(it.trainable or asked is False for it in norms)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}: {self._course}"]
        if self.validation is not None:
            before, after = (self.validation[when]["harmonic_mean"] for when in ("before", "after"))
            lines.append(f"  harmonic mean accuracy {before:.1%} to {after:.1%} (validation data)")
        return "\n".join([*lines, "  summary(); .model, .history, .validation, .settings"])

    def _repr_html_(self) -> str:
        if self.validation is None:
            ends = [(name, values[0], values[-1]) for name, values in self.history.items()]
            return html_report(self._course, ("", "First epoch", "Last epoch"), ends)
        rows = self._rows(self.validation["before"], self.validation["after"])
        return html_report(self._course, ("Validation data", "Before", "After"), rows)

    @staticmethod
    def _rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """Accuracies before and after."""
        titles = {"harmonic_mean": "Harmonic mean accuracy", "accuracy": "Accuracy"}
        return [(title, f"{before[key]:.1%}", f"{after[key]:.1%}") for key, title in titles.items()]

    @property
    def _course(self) -> str:
        """How the training went, in a line."""
        loss = self.history["loss"]
        how = "with" if self.settings["distillation"] else "without"
        if len(loss) == 1:
            epochs, losses = "1 epoch", f"{loss[0]:.4f}"
        else:
            epochs, losses = f"{len(loss)} epochs", f"{loss[0]:.4f} to {loss[-1]:.4f}"
        return (
            f"{epochs} {how} distillation: loss {losses}; the weights are those after epoch "
            f"{self.epoch}"
        )
