import pytest
from pruning_models import digits_model


@pytest.fixture(scope="session")
def trained():
    """The digits model after one epoch; take a copy."""
    return digits_model(epochs=1)
