"""Training data: checked before training, then as batches for Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.data import DataError, ImageFolder, ReferenceSet, names_of, reference_set
from keras_lrp_prune.graph.heads import Head

if TYPE_CHECKING:
    import tensorflow as tf

_NAMED = 8


@dataclass(frozen=True)
class TrainingData:
    """Labelled samples to train on.

    Args:
        batches: Yields `(x, y)` without end, epoch after epoch: what the model takes, and class
            indices, shape `(n, 1)`.
        steps: Number of batches in an epoch.
        samples: Number of samples.
        fingerprint: Hash of samples and labels in their order; empty for a dataset.
        class_names: What the classes are called, if the data has it.
    """

    batches: tf.data.Dataset
    steps: int
    samples: int
    fingerprint: str = ""
    class_names: tuple[str, ...] | None = None


def training_data(
    data: Any,
    head: Head,
    input_shape: tuple[int | None, ...],
    *,
    batch_size: int,
    augment: Any,
    seed: int,
) -> TrainingData:
    """Checks training data and makes batches of them; a dataset is read once for that.

    Args:
        data: `(x, y)` arrays, a batched, finite `tf.data.Dataset` of such pairs, or an
            `ImageFolder`.
        head: What the model's outputs mean.
        input_shape: Shape of one sample, without the batch axis.
        batch_size: Samples per batch, of arrays.
        augment: Keras layer or function of a batch of samples, applied in training only.
        seed: Of the order of arrays, which is another one in each epoch.

    Raises:
        DataError: For samples or labels that cannot be used.
        TypeError: If `augment` cannot be called.
    """
    if augment is not None and not callable(augment):
        raise TypeError(f"augment must be a Keras layer or a function, not {augment!r}.")
    if isinstance(data, tuple | list | ReferenceSet | ImageFolder):
        samples = _checked(data, head, input_shape)
        _check_classes(samples.class_counts)
        batches = _shuffled(samples, batch_size, seed)
        steps, count, digest = -(-len(samples) // batch_size), len(samples), samples.fingerprint()
    else:
        steps, counts = _read_once(data, head, input_shape)
        batches, count, digest = data.map(_as_indices).repeat(), int(counts.sum()), ""
    if augment is not None:
        batches = batches.map(_augmenting(augment))
    names = names_of(data, head.n_classes)
    return TrainingData(batches.prefetch(2), steps, count, digest, names)


def held_out_data(data: Any, head: Head, input_shape: tuple[int | None, ...]) -> ReferenceSet:
    """Validation data, checked; every class needs a sample.

    Raises:
        DataError: For samples or labels that cannot be used.
    """
    try:
        return reference_set(data, n_classes=head.n_classes, input_shape=input_shape)
    except DataError as error:
        raise DataError(f"The validation data: {error}") from error


def _checked(data: Any, head: Head, input_shape: tuple[int | None, ...]) -> ReferenceSet:
    try:
        return reference_set(
            data, n_classes=head.n_classes, input_shape=input_shape, require_all_classes=False
        )
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


def _read_once(
    dataset: Any, head: Head, input_shape: tuple[int | None, ...]
) -> tuple[int, np.ndarray]:
    """Number of batches, and of samples of each class; checks batch by batch, keeps none."""
    steps, counts = 0, np.zeros(head.n_classes, np.int64)
    for batch in _raw_batches(dataset, len(input_shape)):
        try:
            counts += _checked(batch, head, input_shape).class_counts
        except DataError as error:
            raise DataError(f"{error} (in batch {steps} of the dataset)") from error
        steps += 1
    if not steps:
        raise DataError("The training data: the dataset is empty.")
    _check_classes(counts)
    return steps, counts


def _raw_batches(dataset: Any, rank: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    import tensorflow as tf

    if not isinstance(dataset, tf.data.Dataset):
        raise DataError(
            "The training data: give a pair (x, y) of arrays or a batched tf.data.Dataset, not "
            f"a {type(dataset).__name__}."
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise DataError(
            "The training data: the dataset is infinite; drop .repeat() or limit it with .take(n)."
        )
    spec = dataset.element_spec
    is_pair = isinstance(spec, tuple) and len(spec) == 2
    if not is_pair or not all(isinstance(part, tf.TensorSpec) for part in spec):
        raise DataError(
            f"The training data: the dataset must yield pairs (x, y) of tensors, not {spec}."
        )
    if spec[1].shape.rank == 0 or spec[0].shape.rank == rank:
        raise DataError(
            "The training data: the dataset yields single samples; batch it: dataset.batch(32)."
        )
    yield from dataset.as_numpy_iterator()


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
