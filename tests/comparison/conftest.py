"""Digits: a model, and what it is tested on. TensorFlow is imported by those who ask."""

import pytest


@pytest.fixture(scope="session")
def model():
    from pruning_models import digits_model

    return digits_model()


@pytest.fixture(scope="session")
def test_data():
    from pruning_models import digits

    x, y = digits()[1]
    return x[:200], y[:200]
