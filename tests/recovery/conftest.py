"""The same random models in each test."""

import pytest


@pytest.fixture(autouse=True)
def same_models():
    import keras

    keras.utils.set_random_seed(0)
