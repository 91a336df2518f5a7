"""Reading the batches of a `tf.data.Dataset`: once, in its order, and not without end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_lrp_prune.data.errors import DataError

_GIB = 2**30


def labelled_batches(
    dataset: Any, rank: int | None = None, *, most: int = 2**20, most_bytes: int = 8 * _GIB
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the batches `(x, y)` of a dataset.

    Args:
        dataset: A finite, batched `tf.data.Dataset` of pairs.
        rank: Number of axes of a sample, if it is known.
        most: Samples that a dataset of unknown length may have.
        most_bytes: Bytes that the samples of such a dataset may take.

    Raises:
        DataError: If it is no such dataset, empty, or did not end within the limits.
    """
    import tensorflow as tf

    spec = dataset.element_spec
    is_pair = isinstance(spec, tuple) and len(spec) == 2
    if not is_pair or not all(isinstance(part, tf.TensorSpec) for part in spec):
        raise DataError(f"The dataset must yield pairs (x, y) of tensors, not {spec}.")
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise DataError("The dataset is infinite; drop .repeat() or limit it with .take(n).")
    _check_batched(spec[0].shape.rank, spec[1].shape.rank, rank)
    endless = dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
    samples = taken = 0
    for number, (x, y) in enumerate(dataset.as_numpy_iterator()):
        _check_batched(np.ndim(x), np.ndim(y), rank)  # `element_spec` may leave ranks open
        if len(x) != len(y):
            raise DataError(
                f"Batch {number} of the dataset holds {len(x)} samples but {len(y)} labels; if it "
                "yields single samples, batch it, as in dataset.batch(32)."
            )
        samples, taken = samples + len(x), taken + x.nbytes
        if endless and (samples > most or taken > most_bytes):
            raise DataError(
                f"The dataset does not say how long it is, and did not end within {samples:,} "
                f"samples ({taken / _GIB:.2g} GiB). Limit it with .take(n), or, if it ends, say "
                "when: dataset.apply(tf.data.experimental.assert_cardinality(batches))."
            )
        yield x, y
    if not samples:
        raise DataError("The dataset is empty; give at least one labelled sample per class.")


def _check_batched(x_rank: int | None, y_rank: int | None, rank: int | None) -> None:
    if y_rank == 0 or x_rank == 0 or (rank is not None and x_rank == rank):
        raise DataError("The dataset yields single samples; batch it, as in dataset.batch(32).")
