"""What is exported with a model, and read from what was written."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pruning_models import digits

WARMUP = Path("assets.extra", "tf_serving_warmup_requests")
NAMES = [f"digit {number}" for number in range(10)]
SAMPLES = digits()[1][0][:7]
AS_UINT8 = np.round(SAMPLES * 16).astype(np.uint8)


def requests(folder):
    from tensorflow_serving.apis import prediction_log_pb2

    logs = []
    for record in tf.data.TFRecordDataset(str(folder / WARMUP)).as_numpy_iterator():
        logs.append(prediction_log_pb2.PredictionLog.FromString(record))
    return [log.predict_log.request for log in logs]


def with_list_input():
    entry = keras.Input((8, 8, 1))
    scores = layers.Dense(10)(layers.Flatten()(entry))
    return keras.Model([entry], [scores])


def two_outputs():
    entry = keras.Input((8, 8, 1))
    x = layers.Flatten()(entry)
    return keras.Model(entry, [layers.Dense(2)(x), layers.Dense(3)(x)], name="two")


def versions(parent):
    """Version folders that a server would load now, as lists of their files."""
    return [
        {str(file.relative_to(folder)) for file in folder.rglob("*")}
        for folder in parent.iterdir()
        if folder.name.isdigit()
    ]
