"""What is exported, and who serves it. TensorFlow is imported by those who ask."""

import json
import subprocess
import sys

import numpy as np
import pytest
from places import SUPPORT


@pytest.fixture(scope="session")
def model():
    from pruning_models import digits_model

    return digits_model()


@pytest.fixture(scope="session")
def result(model):
    from pruning_models import reference

    import keras_lrp_prune as klp

    return klp.prune(model, reference(), target_rate=0.3, criterion="l1", verbose=0)


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """Gives `serve(folder, x)`: what a process without Keras finds in a SavedModel."""
    file = tmp_path_factory.mktemp("inputs") / "x.npy"
    with subprocess.Popen(
        [sys.executable, SUPPORT / "serving_process.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask(folder, x):
            np.save(file, x)
            request = {"folder": str(folder), "inputs": {"inputs": str(file)}}
            print(json.dumps(request), file=process.stdin, flush=True)
            reply = json.loads(process.stdout.readline())
            assert "problem" not in reply, reply["problem"]
            return reply

        yield ask
        process.stdin.close()
