"""Set-up for all tests: CPU only and quiet, unless the environment says otherwise."""

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

# Largest difference between two ways to compute the same outputs, relative to the largest one.
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}


def _with_precision(dtype):
    import keras

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    yield TOLERANCE[dtype]
    keras.utils.clear_session()
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def float64():
    """Models built in the test compute in float64; gives the tolerance."""
    yield from _with_precision("float64")


@pytest.fixture(params=TOLERANCE)
def precision(request):
    """The test runs once in each precision; gives the tolerance."""
    yield from _with_precision(request.param)
