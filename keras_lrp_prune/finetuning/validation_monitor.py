"""Measures a model after each epoch of training, and ends a training that failed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lrp_prune.data import ReferenceSet
from keras_lrp_prune.evaluation import (
    classification_report,
    harmonic_mean_accuracy,
    probabilities,
    soft_class_accuracies,
)
from keras_lrp_prune.runtime import CompiledForward


class ValidationMonitor(keras.callbacks.Callback):
    """Logs accuracies on validation data, keeps the best weights, and ends a training that failed.

    It costs a forward pass over the validation data after each epoch. What it logs is seen by the
    callbacks behind it.

    Args:
        trained: The model whose layers are trained; its outputs are logits.
        held_out: Validation data, if there are any.
        keep_best: Whether to keep the weights with the highest harmonic mean accuracy; of equal
            ones those with the highest harmonic mean of the classes' mean probabilities.
        batch_size: Of the forward pass.
    """

    def __init__(
        self,
        trained: keras.Model,
        held_out: ReferenceSet | None,
        *,
        keep_best: bool,
        batch_size: int,
    ) -> None:
        super().__init__()
        self._trained, self._held_out, self._keep_best = trained, held_out, keep_best
        self._forward = CompiledForward(trained, batch_size) if held_out is not None else None
        self.report: dict[str, Any] | None = None
        self.best_epoch, self.best_weights = 0, None
        self._best = (-1.0, -1.0)
        self.look(0)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds to the logs.

        Raises:
            FloatingPointError: If the loss is NaN or infinite.
        """
        logs = {} if logs is None else logs
        if not np.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"The loss became {logs['loss']} in epoch {epoch + 1}: training diverged. Choose a "
                "lower learning_rate."
            )
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        logs |= self.look(epoch + 1)

    def look(self, epoch: int) -> dict[str, float]:
        """Measures the model after an epoch (0: before the first one); `report` has all metrics."""
        if self._held_out is None or self._forward is None:
            return {}
        y = self._held_out.y
        found = probabilities(self._forward(self._held_out.x), "logits")
        self.report = report = classification_report(y, found).as_dict()
        soft = harmonic_mean_accuracy(soft_class_accuracies(y, found))
        if self._keep_best and (report["harmonic_mean"], soft) > self._best:
            self._best = report["harmonic_mean"], soft
            self.best_epoch, self.best_weights = epoch, self._trained.get_weights()
        own = np.maximum(found[np.arange(len(y)), y], np.finfo(np.float64).tiny)
        return {
            "val_loss": float(-np.log(own).mean()),
            "val_accuracy": report["accuracy"],
            "val_harmonic_mean_accuracy": report["harmonic_mean"],
            "val_worst_class_accuracy": min(report["recall"]),
        }
