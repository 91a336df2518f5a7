"""A model, and results of it. TensorFlow is imported by those who ask."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model():
    from pruning_models import digits_model

    return digits_model()


@pytest.fixture(scope="session")
def small():
    """A smaller model, which is pruned faster."""
    from pruning_models import digits_model

    return digits_model(4, 4)


@pytest.fixture(scope="session")
def halved(small):
    """The result of pruning half of the smaller one's filters at once, by magnitude.

    Much is lost.
    """
    from pruning_models import NAMES, digits, reference

    import keras_lrp_prune as klp

    return klp.prune(
        small,
        reference(),
        0.5,
        schedule=klp.schedules.EqualSteps(0.25),
        criterion="l1",
        recovery=None,
        validation=digits()[1],
        class_names=NAMES,
        verbose=0,
    )


@pytest.fixture(scope="session")
def headed():
    """A model with a linear head on pooled features, and its reference set, partly mislabelled."""
    import numpy as np
    from trained import trained

    from keras_lrp_prune import demo

    train, (x, y), _ = demo.digits(seed=0)
    y = np.where(np.arange(len(y)) % 10 == 0, (y + 1) % 10, y)
    return trained(demo.train_classifier, train, seed=0), (x, y)


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """The folder of a result of each generation of Keras."""
    from saved_results import save_results

    return save_results(tmp_path_factory.mktemp("results"))


@pytest.fixture
def folder(results, tmp_path):
    """A result of Keras 3, to damage."""
    return Path(shutil.copytree(results["keras"], tmp_path / "out"))
