"""A model, and results of it. TensorFlow is imported by those who ask."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model():
    from pruning_models import digits_model

    return digits_model()


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """The folder of a result of each generation of Keras."""
    from saved_results import save_results

    return save_results(tmp_path_factory.mktemp("results"))


@pytest.fixture
def folder(results, tmp_path):
    """A result of Keras 3, to damage."""
    return Path(shutil.copytree(results["keras"], tmp_path / "out"))
