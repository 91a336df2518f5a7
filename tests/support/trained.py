"""Models that several tests start from, trained once and kept by what they are made from."""

import fcntl
import hashlib
import inspect
import os
import pickle
import tempfile

import keras
import tensorflow as tf
from places import ROOT

FOLDER = ROOT / ".cache" / "trained_models"


def trained(train, *arguments, **options):
    """A copy of what `train(*arguments, **options)` returns.

    Kept under the source of the module that trains, the arguments and the versions of the
    libraries, so that a change of any of them trains anew. Processes wait for one another: each
    model is trained once.
    """
    source = inspect.getsource(inspect.getmodule(train))
    made_from = (source, train.__name__, arguments, options, keras.__version__, tf.__version__)
    name = hashlib.sha256(pickle.dumps(made_from)).hexdigest()[:16]
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{train.__name__}-{name}.keras"
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            handle, temporary = tempfile.mkstemp(suffix=".keras", dir=FOLDER)
            os.close(handle)
            train(*arguments, **options).save(temporary)
            os.replace(temporary, path)
    return keras.models.load_model(path)
