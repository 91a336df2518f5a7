"""A `.tflite` file against the Keras model that it was made of, class by class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.data import reference_set, shown_names
from keras_lrp_prune.evaluation import (
    USUAL_CAUSES,
    Guessing,
    class_accuracies,
    harmonic_mean_accuracy,
    probabilities,
    warn_at_chance,
)
from keras_lrp_prune.export.litert_model import LiteRTModel
from keras_lrp_prune.export.signature import checked_model
from keras_lrp_prune.graph.heads import Head, read_head
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.report import class_table, print_table
from keras_lrp_prune.runtime import CompiledForward

if TYPE_CHECKING:
    import keras

    from keras_lrp_prune.pruning import PruningResult

_WRONG_RANGES = (
    "By the Keras model it is not. Usual cause: the representative samples of an int8 file were "
    "not preprocessed as the model takes them, so that it holds wrong ranges."
)


@dataclass(frozen=True, eq=False, repr=False)
class LiteRTComparison:
    """What `compare_litert` found.

    Attributes:
        keras: Accuracy of each class by the Keras model, `(n_classes,)`.
        litert: The same by the file.
        keras_harmonic_mean: Harmonic mean of the Keras model's class accuracies.
        litert_harmonic_mean: The same of the file's.
        agreement: Share of the samples that both assign to the same class.
        support: Samples of each class, `(n_classes,)`.
        file_size: Bytes of the file.
        class_names: What the classes are called, if the model or the samples know.
    """

    keras: np.ndarray
    litert: np.ndarray
    keras_harmonic_mean: float
    litert_harmonic_mean: float
    agreement: float
    support: np.ndarray
    file_size: int
    class_names: Sequence[str] | None = None

    def summary(self, class_names: Sequence[str] | None = None) -> None:
        """Prints the accuracy of each class by both, their harmonic means and their agreement.

        Args:
            class_names: Names of the classes, by default those that are known, or numbers.
        """
        names = shown_names(class_names or self.class_names, len(self.keras))
        print_table(
            class_table(
                names,
                self.keras.tolist(),
                self.litert.tolist(),
                support=self.support.tolist(),
                headers=("Keras", "LiteRT"),
                title="Accuracy of each class (%)",
            )
        )
        print(f"{'. '.join(self._figures)}.")

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}: {len(self.keras)} classes", *self._figures]
        return "\n  ".join([*lines, "summary(); .keras, .litert, .support"])

    @property
    def _figures(self) -> tuple[str, ...]:
        """Harmonic means, agreement and file size, in words."""
        return (
            f"Harmonic mean accuracy: Keras {self.keras_harmonic_mean:.1%}, LiteRT "
            f"{self.litert_harmonic_mean:.1%}",
            f"Same class for {self.agreement:.1%} of the samples",
            f"The file has {self.file_size:,} bytes",
        )


@checked
def compare_litert(
    model: keras.Model | PruningResult,
    path: str | os.PathLike[str],
    data: Any,
    *,
    threads: int = 1,
) -> LiteRTComparison:
    """Measures the accuracy of each class by a `.tflite` file and by the Keras model.

    Costs one pass of each over the samples. Needs the extra `litert`. Warns (`AtChanceWarning`) if
    the Keras model or the file classifies them no better than guesses would.

    Args:
        model: The classifier, or what `prune` returned: logits, softmax or a single sigmoid unit.
        path: The file that was made of it.
        data: Labelled samples, as `prune` takes them, at least one of each class; better not those
            that the ranges of int8 were measured on.
        threads: Threads that the interpreter may use.

    Returns:
        A `LiteRTComparison`.

    Raises:
        DataError: If the samples cannot be used, or there is no such file.
        TypeError: For an argument of another type.
        ValueError: If the file is no `.tflite` file with one input and one output.
        UnsupportedModelError: If the model is not a classifier with one `(batch, n)` output.
        MissingExtraError: Without ai-edge-litert.

    Example:
    >>> found = klp.export.compare_litert(result, "flowers.tflite", (x_test, y_test))
    >>> found.summary(["daisy", "tulip"])
    >>> found.litert, found.agreement
    """
    found = checked_model(model)
    head = read_head(read_model(found))
    samples = reference_set(
        data, n_classes=head.n_classes, input_shape=tuple(found.inputs[0].shape[1:])
    )
    run = LiteRTModel(path, threads=threads)
    outputs = CompiledForward(found)(samples.x)
    head = head.judged_by(outputs)
    by_keras = _decisive(outputs, head)
    by_litert = _decisive(run(samples.x), head)
    names = getattr(model, "class_names", None) or samples.class_names
    warn_at_chance(samples.y, by_keras, USUAL_CAUSES, names, where="the samples to compare on")
    if not Guessing.of(samples.y, by_keras).at_chance:
        where = "the samples to compare on, by the file,"
        warn_at_chance(samples.y, by_litert, _WRONG_RANGES, names, where=where)
    keras_accuracies = class_accuracies(samples.y, by_keras)
    litert_accuracies = class_accuracies(samples.y, by_litert)
    return LiteRTComparison(
        keras=keras_accuracies,
        litert=litert_accuracies,
        keras_harmonic_mean=harmonic_mean_accuracy(keras_accuracies),
        litert_harmonic_mean=harmonic_mean_accuracy(litert_accuracies),
        agreement=float(np.mean(by_keras.argmax(axis=1) == by_litert.argmax(axis=1))),
        support=samples.class_counts,
        file_size=Path(path).stat().st_size,
        class_names=names,
    )


def _decisive(outputs: np.ndarray, head: Head) -> np.ndarray:
    """Scores in which the highest tells the class.

    Only the output of a single unit is turned into probabilities: the rows of a quantised softmax
    do not sum to 1, and their highest entry is the class as it is.
    """
    return probabilities(outputs, head.kind) if head.one_unit else outputs
