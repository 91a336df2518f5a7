"""Reference sets: the few labelled samples that pruning decides on."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_lrp_prune.data.class_names import names_of
from keras_lrp_prune.data.datasets import labelled_batches
from keras_lrp_prune.data.errors import DataError, numeric, some
from keras_lrp_prune.data.images import ImageFolder
from keras_lrp_prune.data.labels import sparse_labels


@dataclass(frozen=True, eq=False, repr=False)
class ReferenceSet:
    """Labelled samples that have passed every check of `reference_set`, which makes them.

    Attributes:
        x: Samples, floating, shape `(n, ...)`; read-only.
        y: Class of each sample, int64, shape `(n,)`; read-only.
        n_classes: Number of classes, at least 2.
        class_names: Their names, if the data had them.

    Example:
        >>> import numpy as np
        >>> samples = reference_set((np.zeros((4, 8, 8, 1)), [0, 1, 2, 1]))
        >>> samples
        ReferenceSet(4 samples of shape (8, 8, 1), float64, 3 classes)
        >>> samples.class_counts
        array([1, 2, 1])
    """

    x: np.ndarray
    y: np.ndarray
    n_classes: int
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            # A view, so that the caller's own array stays writable.
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return (
            f"ReferenceSet({len(self)} samples of shape {self.x.shape[1:]}, {self.x.dtype}, "
            f"{self.n_classes} classes)"
        )

    @property
    def class_counts(self) -> np.ndarray:
        """Number of samples of each class, int64, shape `(n_classes,)`."""
        return np.bincount(self.y, minlength=self.n_classes)

    def fingerprint(self, *, in_order: bool = True) -> str:
        """Hashes the samples and labels, to tell whether a later run sees the same ones.

        Args:
            in_order: Whether their order counts.

        Returns:
            The SHA-256 hex digest of shapes, dtypes and values.

        Example:
            >>> import numpy as np
            >>> samples = reference_set((np.zeros((2, 3)), [0, 1]))
            >>> samples.fingerprint() == reference_set(samples).fingerprint()
            True
        """
        digest = hashlib.sha256()
        for array in (self.x, self.y):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            if in_order:
                digest.update(np.ascontiguousarray(array).tobytes())
        if not in_order:
            for one in sorted(map(_digest, self.x, self.y)):
                digest.update(one)
        return digest.hexdigest()


def _digest(x: np.ndarray, y: np.integer) -> bytes:
    """Hashes one sample and its label."""
    return hashlib.sha256(np.ascontiguousarray(x).tobytes() + y.tobytes()).digest()


def reference_set(
    data: Any,
    *,
    n_classes: int | None = None,
    input_shape: Sequence[int | None] | None = None,
    require_all_classes: bool = True,
) -> ReferenceSet:
    """Checks labelled samples and brings them into one form.

    Args:
        data: A pair `(x, y)` of arrays, a finite, batched `tf.data.Dataset` of such pairs (read
            once, in its order; 2^20 samples or 8 GiB at most, if it does not say how long it is),
            an `ImageFolder`, its images as they are, or a `ReferenceSet`, which is checked again
            and passed through.
            `x` has the shape `(n, ...)` and any numeric dtype; what is not floating becomes
            float32, or float64 where only that holds the numbers. `y` holds class indices, shape
            `(n,)` or `(n, 1)`, of any dtype as long as the values are whole, or one-hot rows, shape
            `(n, n_classes)`.
        n_classes: Number of classes of the model; 2 for a single sigmoid unit. By default it is
            taken from the labels.
        input_shape: Shape of one sample, without the batch axis; `None` in it stands for any size.
        require_all_classes: Whether every class needs at least one sample.

    Returns:
        The checked samples.

    Raises:
        DataError: If the samples or labels cannot be used; the message names the first of them.

    Example:
        >>> import numpy as np
        >>> x = np.zeros((3, 32, 32, 3), "uint8")
        >>> reference_set((x, np.eye(3)), input_shape=(None, None, 3))
        ReferenceSet(3 samples of shape (32, 32, 3), float32, 3 classes)
    """
    if isinstance(data, ReferenceSet):
        samples = data
        if n_classes is not None and n_classes != samples.n_classes:
            raise DataError(
                f"The reference set has {samples.n_classes} classes, the model scores {n_classes}."
                f" Build it with n_classes={n_classes}."
            )
        _check_shape(samples.x, input_shape)
    else:
        raw_x, raw_y = _pair(data, input_shape)
        x = _checked_samples(raw_x, input_shape)
        y, n_classes = sparse_labels(raw_y, n_classes)
        if len(x) != len(y):
            raise DataError(
                f"x holds {len(x)} samples but y holds {len(y)} labels; give one label per sample."
            )
        samples = ReferenceSet(x, y, n_classes, names_of(data, n_classes))
    if require_all_classes:
        _check_classes(samples.y, samples.n_classes)
    return samples


def unlabelled(data: Any, *, input_shape: Sequence[int | None] | None = None) -> np.ndarray:
    """Checks samples whose classes do not matter.

    Args:
        data: An array of samples, shape `(n, ...)`; or what `reference_set` takes, of which only
            the samples are used; or a finite, batched `tf.data.Dataset` of samples.
        input_shape: Shape of one sample, without the batch axis; `None` in it stands for any size.

    Returns:
        The samples, floating.

    Raises:
        DataError: If the samples cannot be used.

    Example:
        >>> import numpy as np
        >>> unlabelled(np.zeros((3, 8, 8, 1), "uint8"), input_shape=(8, 8, 1)).dtype
        dtype('float32')
    """
    if isinstance(data, ReferenceSet | ImageFolder):
        data = data.x
    elif isinstance(data, tuple | list) and len(data) == 2:
        data = data[0]
    elif hasattr(data, "element_spec"):
        data = _dataset_samples(data, input_shape)
    return _checked_samples(data, input_shape)


def _dataset_samples(data: Any, input_shape: Sequence[int | None] | None) -> np.ndarray:
    # Only a dataset of pairs is checked and read by `_pair`.
    if not isinstance(data.element_spec, tuple):
        data = data.map(lambda x: (x, x))
    return _pair(data, input_shape)[0]


def _pair(data: Any, input_shape: Sequence[int | None] | None) -> tuple[Any, Any]:
    """Takes `(x, y)` apart, reading it from a `tf.data.Dataset` if it is one."""
    if isinstance(data, tuple | list) and len(data) == 2:
        return data[0], data[1]
    if isinstance(data, ImageFolder):
        return data.x, data.y
    import tensorflow as tf  # slow to import, and arrays do without it

    if not isinstance(data, tf.data.Dataset):
        found = f"a {type(data).__name__}"
        if isinstance(data, tuple | list):
            found += f" of {len(data)} elements"
        raise DataError(
            "Give a pair (x, y) of arrays, a batched tf.data.Dataset or what load_image_folder "
            f"returns, not {found}."
        )
    rank = None if input_shape is None else len(input_shape)
    batches = list(labelled_batches(data, rank))
    xs, ys = zip(*batches, strict=True)
    if len({x.shape[1:] for x in xs}) > 1:
        raise DataError(
            "The samples of the dataset differ in shape between batches; resize them to one shape."
        )
    if len({y.shape[1:] for y in ys}) > 1:
        raise DataError("The labels of the dataset differ in shape between batches.")
    return np.concatenate(xs), np.concatenate(ys)


def _checked_samples(x: Any, input_shape: Sequence[int | None] | None) -> np.ndarray:
    samples = numeric(x, "x")
    if samples.ndim < 2 or not samples.size:
        raise DataError(
            f"x must have the shape (n, ...) with at least one sample and one value each, "
            f"not {samples.shape}."
        )
    _check_shape(samples, input_shape)
    if samples.dtype.kind != "f":
        floats = samples.astype(np.float32)
        # Large whole numbers, such as ids, may not fit into float32.
        samples = floats if (floats == samples).all() else samples.astype(np.float64)
    bad = ~np.isfinite(samples).reshape(len(samples), -1).all(axis=1)
    if bad.any():
        raise DataError(
            f"x holds NaN or infinite values in {some(np.flatnonzero(bad), 'sample')}; "
            "repair or drop them."
        )
    return samples


def _check_shape(x: np.ndarray, input_shape: Sequence[int | None] | None) -> None:
    if input_shape is None:
        return
    found, wanted = x.shape[1:], tuple(input_shape)
    if len(found) != len(wanted) or any(
        w is not None and f != w for f, w in zip(found, wanted, strict=True)
    ):
        raise DataError(
            f"Each sample of x has the shape {found}, the model takes {wanted}; resize or reshape "
            "the samples (x itself needs a batch axis in front)."
        )


def _check_classes(y: np.ndarray, n_classes: int) -> None:
    present = set(np.unique(y).tolist())
    n_missing = n_classes - len(present)
    if n_missing:
        # Counted lazily: a stray huge label would otherwise make a huge list.
        missing = itertools.islice((c for c in range(n_classes) if c not in present), 8)
        names = ", ".join(str(c) for c in missing) + (", ..." if n_missing > 8 else "")
        raise DataError(
            f"{n_missing} of {n_classes} classes have no sample: {names}. Pruning would be blind "
            "to them; add at least one sample of each."
        )
