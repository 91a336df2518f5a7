"""Warm-up requests: what TensorFlow Serving sends to a model before clients may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_lrp_prune.export.signature import INPUT
from keras_lrp_prune.extras import extra
from keras_lrp_prune.graph.inference import SIGNATURE

PROTOS = "tensorflow_serving.apis.prediction_log_pb2"
WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")


def check_batch_sizes(sizes: Sequence[int]) -> None:
    """Raises `ValueError` if there are none."""
    if not sizes:
        raise ValueError("warmup_batch_sizes is empty; give at least one.")


def write_warmup(folder: Path, model_name: str, x: np.ndarray, sizes: Sequence[int]) -> None:
    """Writes the warm-up file into a version folder.

    Args:
        folder: The version folder.
        model_name: What the server calls the model.
        x: Samples as clients send them; repeated to fill a batch.
        sizes: A record is written for each of these batch sizes.

    Raises:
        MissingExtraError: Without tensorflow-serving-api.
    """
    import tensorflow as tf

    path = folder / WARMUP_FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in _requests(model_name, x, sizes):
            writer.write(log.SerializeToString())


def _requests(model_name: str, x: np.ndarray, sizes: Sequence[int]) -> Iterator[Any]:
    import tensorflow as tf

    protos = extra(PROTOS)
    for size in sizes:
        log = protos.PredictionLog()
        request = log.predict_log.request
        request.model_spec.name = model_name
        request.model_spec.signature_name = SIGNATURE
        batch = x[np.arange(size) % len(x)]
        request.inputs[INPUT].CopyFrom(tf.make_tensor_proto(batch))
        yield log
