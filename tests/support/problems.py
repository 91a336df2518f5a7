"""What a criterion scores: random images, and classes in turn."""

from typing import Any

import numpy as np
from models import CLASSES, images

from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.runtime import Execution


def labels(n: int) -> np.ndarray:
    """Classes of so many images."""
    return np.arange(n) % CLASSES


def problem_of(model: Any, n: int = 16, **execution: Any) -> Problem[ChannelStructure]:
    """A model of the support room, and so many images."""
    reference = images(model, n), labels(n)
    return read_subject(model, reference, execution=Execution(**execution)).problem()


def no_units(problem: Problem[ChannelStructure]) -> np.ndarray:
    """A mask that has nothing gone."""
    return np.zeros(problem.structure.n_units, bool)
