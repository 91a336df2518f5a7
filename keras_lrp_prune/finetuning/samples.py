"""Training data: checked before training, then as batches for Keras."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.data import (
    DataError,
    ImageFolder,
    ReferenceSet,
    check_fits,
    labelled_batches,
    names_of,
    reference_set,
)

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_lrp_prune.finetuning.session import Classifier

_NAMED = 8  # classes in a message
_MOST = 2**24  # samples of a dataset that does not say how long it is


@dataclass(frozen=True)
class TrainingData:
    """Labelled samples to train on.

    Args:
        batches: Yields `(x, y)` without end, epoch after epoch: what the model takes, and class
            indices, shape `(n, 1)`.
        steps: Number of batches in an epoch.
        samples: Number of samples.
        fingerprint: Hash of samples and labels in their order; empty for a dataset.
        class_names: What the classes are called, if the data has names.
    """

    batches: tf.data.Dataset
    steps: int
    samples: int
    fingerprint: str = ""
    class_names: tuple[str, ...] | None = None


def training_data(
    data: Any,
    source: Classifier,
    *,
    batch_size: int,
    augment: Any,
    seed: int,
) -> TrainingData:
    """Checks training data and makes batches of them; a dataset is read once for that.

    Args:
        data: `(x, y)` arrays, a batched, finite `tf.data.Dataset` of such pairs, or an
            `ImageFolder`.
        source: The model to train.
        batch_size: Samples per batch, of arrays.
        augment: Keras layer or function of a batch of samples, applied in training only.
        seed: For the order of arrays, which is drawn anew in each epoch.

    Raises:
        DataError: For samples or labels that cannot be used.
        TypeError: If `augment` cannot be called.
    """
    if augment is not None and not callable(augment):
        raise TypeError(f"augment must be a Keras layer or a function, not {augment!r}.")
    if isinstance(data, tuple | list | ReferenceSet | ImageFolder):
        samples = _checked(data, source)
        _check_classes(samples.class_counts)
        batches = _shuffled(samples, batch_size, seed)
        steps, count, digest = -(-len(samples) // batch_size), len(samples), samples.fingerprint()
    else:
        steps, counts = _read_once(data, source)
        batches, count, digest = data.map(_as_indices).repeat(), int(counts.sum()), ""
    if augment is not None:
        batches = batches.map(_augmenting(augment))
    names = names_of(data, source.head.n_classes)
    return TrainingData(batches.prefetch(2), steps, count, digest, names)


def held_out_data(data: Any, source: Classifier) -> ReferenceSet:
    """Validation data, checked; every class needs a sample.

    Raises:
        DataError: For samples or labels that cannot be used.
    """
    try:
        return _fitting(data, source)
    except DataError as error:
        raise DataError(f"The validation data: {error}") from error


def _fitting(data: Any, source: Classifier, **options: Any) -> ReferenceSet:
    samples = reference_set(
        data, n_classes=source.head.n_classes, input_shape=source.input_shape, **options
    )
    check_fits(source.graph, samples.x)
    return samples


def _checked(data: Any, source: Classifier) -> ReferenceSet:
    try:
        return _fitting(data, source, require_all_classes=False)
    except DataError as error:
        raise DataError(f"The training data: {error}") from error


def _check_classes(counts: np.ndarray) -> None:
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        names = ", ".join(map(str, islice(missing, _NAMED)))
        raise DataError(
            f"The training data have no sample of {len(missing)} of {len(counts)} classes: {names}"
            f"{', ...' if len(missing) > _NAMED else ''}. Training would forget them; add samples."
        )


def _read_once(dataset: Any, source: Classifier) -> tuple[int, np.ndarray]:
    """Number of batches, and of samples of each class; checks batch by batch, keeps none."""
    steps, counts = 0, np.zeros(source.head.n_classes, np.int64)
    for batch in _raw_batches(dataset, len(source.input_shape)):
        try:
            counts += _checked(batch, source).class_counts
        except DataError as error:
            raise DataError(f"{error} (in batch {steps} of the dataset)") from error
        steps += 1
    _check_classes(counts)
    return steps, counts


def _raw_batches(dataset: Any, rank: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    import tensorflow as tf

    if not isinstance(dataset, tf.data.Dataset):
        raise DataError(
            "The training data: give a pair (x, y) of arrays or a batched tf.data.Dataset, not "
            f"a {type(dataset).__name__}."
        )
    try:
        yield from labelled_batches(dataset, rank, most=_MOST, most_bytes=sys.maxsize)
    except DataError as error:
        raise DataError(f"The training data: {error}") from error


def _shuffled(samples: ReferenceSet, batch_size: int, seed: int) -> tf.data.Dataset:
    import tensorflow as tf

    with tf.device("CPU"):
        x, y = tf.constant(samples.x), tf.constant(samples.y[:, None])

    def order(epoch: Any) -> tf.data.Dataset:
        # Stateless: tf.data's own shuffling follows the global seed of TensorFlow, too.
        rows = tf.random.experimental.stateless_shuffle(tf.range(len(samples)), [seed, epoch])
        return tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)

    numbers = tf.data.Dataset.counter().flat_map(order)
    return numbers.map(lambda rows: (tf.gather(x, rows), tf.gather(y, rows)))


def _as_indices(x: Any, y: Any) -> tuple[Any, Any]:
    """Brings labels of a dataset, sparse or one-hot, to shape `(n, 1)`."""
    import tensorflow as tf

    if y.shape.rank == 2 and y.shape[-1] != 1:
        return x, tf.argmax(y, axis=-1)[:, None]
    return x, tf.reshape(tf.cast(y, tf.int64), (-1, 1))


def _augmenting(augment: Callable[..., Any]) -> Callable[[Any, Any], tuple[Any, Any]]:
    import keras

    if isinstance(augment, keras.layers.Layer):
        return lambda x, y: (augment(x, training=True), y)
    return lambda x, y: (augment(x), y)
