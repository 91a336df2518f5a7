"""Loads SavedModels where neither Keras nor this package can be imported.

Reads a line of JSON for each, `{"folder": ..., "inputs": {name: .npy file}}`, and answers with one:
the signatures, what `serving_default` takes and returns, and what it returns for these inputs.
"""

import json
import os
import sys
import traceback

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
for name in ("keras", "tf_keras", "keras_lrp_prune"):
    sys.modules[name] = None

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402


def described(specs):
    return {name: [spec.shape.as_list(), spec.dtype.name] for name, spec in specs.items()}


def listed(tensor):
    array = tensor.numpy()
    return array.astype(str).tolist() if array.dtype == object else array.tolist()


def answer(request):
    loaded = tf.saved_model.load(request["folder"])
    signature = loaded.signatures["serving_default"]
    inputs = {name: tf.constant(np.load(file)) for name, file in request["inputs"].items()}
    return {
        "signatures": list(loaded.signatures),
        "inputs": described(signature.structured_input_signature[1]),
        "outputs": described(signature.structured_outputs),
        "values": {name: listed(value) for name, value in signature(**inputs).items()},
    }


for line in sys.stdin:
    try:
        reply = answer(json.loads(line))
    except Exception:
        reply = {"problem": traceback.format_exc()}
    print(json.dumps(reply), flush=True)
