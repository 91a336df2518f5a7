"""Metrics of each class, from the scores of a classifier."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
from scipy.special import expit, softmax

from keras_lrp_prune.data import sparse_labels
from keras_lrp_prune.graph.heads import OutputKind

# Rows of a softmax in bfloat16 sum to 1 only this closely.
_SUM_TOLERANCE = 1e-2
# Accuracies are rounded to so many decimals, so that no decision depends on float rounding.
DECIMALS = 6
# A smaller loss of accuracy is not worth advice: any pruning or training has it.
FEW_POINTS = 0.05


def probabilities(outputs: Any, kind: OutputKind) -> np.ndarray:
    """Turns the outputs of a classifier into class probabilities.

    Args:
        outputs: Model outputs, shape `(n, n_classes)`, or `(n, 1)` for a single unit that scores
            class 1 against class 0.
        kind: What the outputs are: `"logits"`, `"softmax"` or `"sigmoid"` probabilities.

    Returns:
        Probabilities, float64, shape `(n, n_classes)`, each row summing to 1. A single unit gives
        two columns, `1 - p` and `p`. Several sigmoid units are divided by their sum, row by row;
        a row of zeros becomes uniform.

    Raises:
        ValueError: If the outputs are not finite, of another shape, or not of this kind.

    Example:
        >>> probabilities([[0.25], [1.0]], "sigmoid")
        array([[0.75, 0.25],
               [0.  , 1.  ]])
    """
    if kind not in get_args(OutputKind):
        raise ValueError(f"Unknown kind of outputs {kind!r}; choose from {get_args(OutputKind)}.")
    scores = _scores(outputs, min_columns=1)
    single = scores.shape[1] == 1
    if kind == "logits":
        # expit(-s) and not 1 - expit(s), which loses the small probabilities.
        return np.hstack([expit(-scores), expit(scores)]) if single else softmax(scores, axis=1)

    if scores.min() < 0 or scores.max() > 1 + _SUM_TOLERANCE:
        raise ValueError(
            f"A {kind} lies within 0 and 1, but the outputs range from {scores.min():.4g} to "
            f"{scores.max():.4g}. Are they logits?"
        )
    if kind == "sigmoid" and single:
        return np.hstack([1 - scores, scores])
    if single:
        raise ValueError("A softmax over a single unit is always 1; such a model tells nothing.")
    total = scores.sum(axis=1, keepdims=True)
    if kind == "softmax" and np.abs(total - 1).max() > _SUM_TOLERANCE:
        row = int(np.abs(total - 1).argmax())
        raise ValueError(
            f"The rows of a softmax sum to 1, but row {row} sums to {total[row, 0]:.4g}. Are they "
            "logits or sigmoid outputs?"
        )
    uniform = np.full_like(scores, 1 / scores.shape[1])
    return np.divide(scores, total, out=uniform, where=total > 0)


def class_accuracies(y: Any, outputs: Any) -> np.ndarray:
    """Accuracy within each class: the share of its samples whose highest score is its own.

    Args:
        y: True classes, as indices, shape `(n,)`, or one-hot, shape `(n, n_classes)`.
        outputs: Scores or probabilities, shape `(n, n_classes)`; give a single unit to
            `probabilities` first.

    Returns:
        The accuracies, float64, shape `(n_classes,)`.

    Raises:
        ValueError: If the shapes do not fit, a score is not finite, or a class has no sample.

    Example:
        >>> class_accuracies([0, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
        array([0.5, 1. ])
    """
    from sklearn.metrics import recall_score  # slow to import

    labels, scores = labels_and_scores(y, outputs)
    return recall_score(
        labels, scores.argmax(axis=1), labels=range(scores.shape[1]), average=None, zero_division=0
    )


def soft_class_accuracies(y: Any, probabilities: Any) -> np.ndarray:
    """Mean probability that the samples of each class get for it.

    Unlike `class_accuracies` it moves with every sample, so it also tells apart two models that
    classify a small set equally well.

    Args:
        y: True classes, as indices, shape `(n,)`, or one-hot, shape `(n, n_classes)`.
        probabilities: Class probabilities, shape `(n, n_classes)`.

    Returns:
        The mean probabilities, float64, shape `(n_classes,)`.

    Raises:
        ValueError: If the shapes do not fit, a score is no probability, or a class has no sample.

    Example:
        >>> soft_class_accuracies([0, 0, 1], [[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]])
        array([0.75, 0.75])
    """
    labels, scores = labels_and_scores(y, probabilities)
    if scores.min() < 0 or scores.max() > 1 + _SUM_TOLERANCE:
        raise ValueError(
            f"Probabilities lie within 0 and 1, but these range from {scores.min():.4g} to "
            f"{scores.max():.4g}. Turn model outputs into probabilities with probabilities()."
        )
    own = scores[np.arange(len(labels)), labels]
    sums = np.bincount(labels, weights=own, minlength=scores.shape[1])
    return sums / np.bincount(labels, minlength=scores.shape[1])


def harmonic_mean_accuracy(class_accuracies: Any) -> float:
    """Harmonic mean of the class accuracies, `C / sum(1 / a_c)`.

    It is ruled by the worst class: it is 0 as soon as one class is lost, whereas the arithmetic
    mean over many classes hardly moves.

    Args:
        class_accuracies: Accuracy of each class, in [0, 1], shape `(n_classes,)`.

    Returns:
        The harmonic mean, in [0, 1].

    Raises:
        ValueError: If it is empty, not one-dimensional, or holds anything outside [0, 1].

    Example:
        >>> harmonic_mean_accuracy([1.0, 0.5])
        0.6666666666666666
        >>> harmonic_mean_accuracy([1.0, 0.0])
        0.0
    """
    accuracies = real_numbers("class_accuracies", class_accuracies)
    if accuracies.ndim != 1 or not accuracies.size:
        raise ValueError(
            f"Give one accuracy per class, shape (n_classes,), not an array of shape "
            f"{accuracies.shape}."
        )
    # Written so that NaN fails it too.
    inside = (accuracies >= 0) & (accuracies <= 1)
    if not inside.all():
        index = int(np.argmin(inside))
        raise ValueError(
            f"Accuracies lie within 0 and 1, but that of class {index} is {accuracies[index]}."
        )
    # 1 / 0 is infinite and C / inf is 0, which is the limit wanted.
    with np.errstate(divide="ignore", over="ignore"):
        return float(len(accuracies) / np.sum(1 / accuracies))


def real_numbers(name: str, values: Any) -> np.ndarray:
    """Values as float64, a copy.

    Raises:
        ValueError: If they are no array of numbers.
    """
    try:
        found = np.array(values)
        if found.dtype.kind in "biuf":
            return found.astype(np.float64)
    except ValueError:  # rows of different lengths
        pass
    raise ValueError(f"{name} takes an array of numbers, not {values!r}.")


@dataclass(frozen=True, eq=False)
class ClassMetrics:
    """Metrics of each class and of all together.

    Attributes:
        precision: Share of the samples assigned to each class that belong to it, `(n_classes,)`;
            0 for a class that nothing was assigned to.
        recall: Share of the samples of each class assigned to it, `(n_classes,)`: the class
            accuracies.
        f1: Harmonic mean of the two, `(n_classes,)`.
        support: Samples of each class, int64, `(n_classes,)`.
        accuracy: Share of all samples assigned to their own class.
        harmonic_mean: Harmonic mean of the class accuracies.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    accuracy: float
    harmonic_mean: float

    def as_dict(self) -> dict[str, Any]:
        """Gives the metrics as plain lists and floats, ready for JSON.

        Returns:
            One entry per attribute.

        Example:
            >>> classification_report([0, 1], [[1, 0], [0, 1]]).as_dict()["support"]
            [1, 1]
        """
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}


def classification_report(y: Any, probabilities: Any) -> ClassMetrics:
    """Computes precision, recall and F1 of each class.

    Args:
        y: True classes, as indices, shape `(n,)`, or one-hot, shape `(n, n_classes)`.
        probabilities: Scores or probabilities, shape `(n, n_classes)`.

    Returns:
        The metrics.

    Raises:
        ValueError: If the shapes do not fit, a score is not finite, or a class has no sample.

    Example:
        >>> report = classification_report([0, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
        >>> report.precision, report.recall
        (array([1. , 0.5]), array([0.5, 1. ]))
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support  # slow to import

    labels, scores = labels_and_scores(y, probabilities)
    predicted = scores.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=range(scores.shape[1]), average=None, zero_division=0
    )
    return ClassMetrics(
        precision,
        recall,
        f1,
        support.astype(np.int64),  # without any right answer, scikit-learn counts in floats
        accuracy=float(accuracy_score(labels, predicted)),
        harmonic_mean=harmonic_mean_accuracy(recall),
    )


def _scores(outputs: Any, min_columns: int) -> np.ndarray:
    scores = np.asarray(outputs, np.float64)
    if scores.ndim != 2 or not len(scores) or scores.shape[1] < min_columns:
        hint = " (probabilities() makes two columns of a single unit)" if min_columns > 1 else ""
        raise ValueError(
            f"Class scores have the shape (n, n_classes) with at least {min_columns} column(s)"
            f"{hint}, not {scores.shape}."
        )
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(scores)} rows of class scores hold NaN or infinite values, the "
            f"first at row {bad[0]}. Check the model's weights and the scale of its input."
        )
    return scores


def labels_and_scores(y: Any, outputs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Class indices and scores, checked; arguments and errors as those of `class_accuracies`."""
    scores = _scores(outputs, min_columns=2)
    n_classes = scores.shape[1]
    labels, _ = sparse_labels(y, n_classes)
    if len(labels) != len(scores):
        raise ValueError(f"There are {len(labels)} labels but scores for {len(scores)} samples.")
    missing = np.flatnonzero(np.bincount(labels, minlength=n_classes) == 0)
    if len(missing):
        raise ValueError(
            f"{len(missing)} of {n_classes} classes have no sample, the first is class "
            f"{missing[0]}; the accuracy of a class needs at least one."
        )
    return labels, scores
