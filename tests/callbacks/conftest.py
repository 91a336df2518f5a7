"""A trained model. TensorFlow is imported by those who ask."""

import pytest


@pytest.fixture(scope="session")
def trained():
    """The digits model after one epoch; take a copy."""
    from pruning_models import digits_model

    return digits_model(epochs=1)
