"""Version folders for TensorFlow Serving."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.export.destinations import check_version, published
from keras_lrp_prune.export.signature import (
    Wrapping,
    checked_model,
    samples_for,
    trace,
)
from keras_lrp_prune.export.warmup import PROTOS, check_batch_sizes, write_warmup
from keras_lrp_prune.extras import extra
from keras_lrp_prune.graph.inference import Inference

if TYPE_CHECKING:
    import keras

    from keras_lrp_prune.pruning import PruningResult


@checked
def saved_model(
    model: keras.Model | PruningResult,
    path: str | os.PathLike[str],
    *,
    preprocessing: Callable[[Any], Any] | None = None,
    labels: Sequence[str] | None = None,
    input_dtype: str | None = None,
    input_shape: Sequence[int | None] | None = None,
    warmup: Any = None,
    warmup_batch_sizes: Sequence[int] = (1, 8, 32),
) -> Path:
    """Writes a version of a model that TensorFlow Serving loads: a SavedModel in a numbered folder.

    It has one signature, `serving_default`, with an open batch: from `inputs` to `scores`, the
    model's own output, and with `labels` to `labels` too. It needs neither Keras nor this package.
    Costs a trace of the model and the writing of its weights; nothing is computed.

    The folder is filled under a name that a server passes over, and renamed at the end: no server
    or listing sees half a version, and an existing version is never replaced.

    Args:
        model: A Keras model (3 or legacy) with one input and one output, or what `prune` returned.
        path: The version folder: the model's folder, then the version, `"serving/my_model/1"`.
        preprocessing: A function of a float32 tensor `(batch, ...)`, or a Keras layer or model,
            put in front of the model; made of TensorFlow or Keras operations.
        labels: Names of the classes, in the order of the model's outputs; for a single sigmoid
            (or logit) unit two names. Adds the output `labels`, a string `(batch,)`: the class
            with the highest score.
        input_dtype: What clients send: `"uint8"` or `"float32"`. By default uint8 if there is
            preprocessing, else what the model takes.
        input_shape: Shape of one sample as clients send it, `None` for any size, where the
            preprocessing changes it; by default what the model takes.
        warmup: Samples as clients send them, shape `(n, ...)`, n at least 1; or a pair `(x, y)` or
            a batched `tf.data.Dataset` of samples or pairs. They become
            `assets.extra/tf_serving_warmup_requests`, which the server runs before it lets
            clients in. Needs the extra `serving`.
        warmup_batch_sizes: A request is written for each; samples are repeated to fill it.

    Returns:
        The version folder.

    Raises:
        TypeError: For an argument of another type.
        ValueError: If the path does not end in a version number, or the preprocessing, the labels
            or the batch sizes do not fit.
        DataError: If the warm-up samples do not fit.
        UnsupportedModelError: If the model has not one input and one output, or cannot be read.
        MissingExtraError: If `warmup` is given without tensorflow-serving-api.
        FileExistsError: If the version exists.
        OSError: If it cannot be written.

    Example:
    >>> klp.export.saved_model(result, "serving/flowers/1", warmup=x[:8])
    >>> klp.export.saved_model(
    ...     result.model,
    ...     "serving/flowers/2",
    ...     preprocessing=keras.layers.Rescaling(1 / 255),
    ...     labels=["daisy", "tulip"],
    ... )
    """
    target = Path(path).absolute()
    check_version(target)
    check_batch_sizes(warmup_batch_sizes)
    if warmup is not None:
        extra(PROTOS)
    wrapping = Wrapping(preprocessing, labels, input_dtype, input_shape)
    servable = trace(checked_model(model), wrapping)
    x = None if warmup is None else samples_for(servable.specs[0], warmup, "warm-up samples")

    # TensorFlow Serving polls the parent for numbers, and passes over the other name.
    with published(target) as folder:
        _write(servable, folder, target.parent.name, x, warmup_batch_sizes)
    return Path(path)


def _write(
    servable: Inference,
    folder: Path,
    model_name: str,
    warmup: np.ndarray | None,
    batch_sizes: Sequence[int],
) -> None:
    servable.save(folder)
    if warmup is not None:
        write_warmup(folder, model_name, warmup, batch_sizes)
