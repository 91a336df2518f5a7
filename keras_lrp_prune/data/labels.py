"""Labels: every accepted form brought to class indices, and draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lrp_prune.data.errors import DataError, numeric, some

_MAX_LABEL = np.iinfo(np.int32).max


def sparse_labels(y: Any, n_classes: int | None = None) -> tuple[np.ndarray, int]:
    """Turns labels of any accepted form into class indices.

    Args:
        y: Class indices, shape `(n,)` or `(n, 1)`, or one-hot rows, shape `(n, n_classes)`, as
            integers, booleans, or floats that hold whole numbers.
        n_classes: Number of classes, at least 2; by default the one-hot width, or one more than
            the largest index.

    Returns:
        The class indices, int64, shape `(n,)`, and the number of classes.

    Raises:
        DataError: If a label is not a whole number, out of range, or a row is not one-hot.

    Example:
        >>> sparse_labels([[0, 0, 1], [1, 0, 0]])
        (array([2, 0]), 3)
    """
    if n_classes is not None and n_classes < 2:
        raise DataError(f"n_classes must be at least 2, not {n_classes}; a sigmoid unit is two.")
    labels = numeric(y, "y")
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _from_one_hot(labels, n_classes), labels.shape[1]
    if labels.ndim not in (1, 2):
        raise DataError(
            f"y has the shape {labels.shape}; give class indices, shape (n,) or (n, 1), or one-hot "
            "rows, shape (n, n_classes)."
        )
    labels = labels.reshape(-1)
    if not labels.size:
        raise DataError("y holds no label; give at least one labelled sample per class.")

    whole = np.isfinite(labels) & (labels == np.floor(labels))
    if not whole.all():
        raise DataError(f"y must hold whole class indices; it does not {_where(labels, ~whole)}.")
    negative = labels < 0
    if negative.any():
        raise DataError(f"y must not be negative; it is {_where(labels, negative)}.")
    outside = labels >= (n_classes or _MAX_LABEL)
    if outside.any():
        raise DataError(
            f"y must lie within 0 to {(n_classes or _MAX_LABEL) - 1}; it does not "
            f"{_where(labels, outside)}."
        )
    labels = labels.astype(np.int64)
    return labels, n_classes or max(2, int(labels.max()) + 1)


def draw_per_class(
    y: Any, per_class: int, seed: int = 0, *, class_names: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the same number of samples of each class, without replacement.

    Args:
        y: Labels, as `sparse_labels` takes them; every class up to the largest needs samples.
        per_class: Samples to draw of each class, at least 1.
        seed: Seed of `np.random.default_rng`.
        class_names: Names for error messages.

    Returns:
        The indices drawn and the indices that remain (for a held-out set), both sorted, int64.

    Raises:
        DataError: If a class has fewer than `per_class` samples.

    Example:
        >>> drawn, held_out = draw_per_class([0, 0, 0, 1, 1, 1], per_class=2)
        >>> len(drawn), len(held_out)
        (4, 2)
    """
    if per_class < 1:
        raise DataError(f"per_class must be at least 1, not {per_class}.")
    # Classes are counted below: `sparse_labels` says two even for a folder with a single class.
    labels, _ = sparse_labels(y)
    rng = np.random.default_rng(seed)
    drawn = []
    for index in range(len(class_names) if class_names else int(labels.max()) + 1):
        members = np.flatnonzero(labels == index)
        if len(members) < per_class:
            name = f"{class_names[index]!r}" if class_names else f"{index}"
            raise DataError(
                f"Class {name} has {len(members)} samples, fewer than per_class={per_class}. "
                "Add samples or ask for fewer."
            )
        drawn.append(rng.choice(members, per_class, replace=False))
    chosen = np.sort(np.concatenate(drawn))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def _from_one_hot(rows: np.ndarray, n_classes: int | None) -> np.ndarray:
    if n_classes is not None and rows.shape[1] != n_classes:
        raise DataError(
            f"The one-hot labels have {rows.shape[1]} columns, but there are {n_classes} classes."
        )
    if not len(rows):
        raise DataError("y holds no label; give at least one labelled sample per class.")
    bad = ~(((rows == 0) | (rows == 1)).all(axis=1) & (rows.sum(axis=1) == 1))
    if bad.any():
        raise DataError(
            f"y must be one-hot, a single 1 per row; it is not in {some(np.flatnonzero(bad))}. "
            "Soft or multiple labels are not supported."
        )
    return rows.argmax(axis=1).astype(np.int64)


def _where(values: np.ndarray, bad: np.ndarray) -> str:
    """Names the first few bad values: `at rows 3, 4 (values -1, 2.5)`."""
    indices = np.flatnonzero(bad)
    shown = ", ".join(str(v) for v in values[indices[:5]])
    return f"at {some(indices)} (value{'s' if len(indices) > 1 else ''} {shown})"
