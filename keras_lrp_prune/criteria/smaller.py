"""The same problem without units that are gone for good: what is masked is not computed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.prunables.channel_mask import ChannelMask
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.cut import cut
from keras_lrp_prune.surgery.kept import Kept


def without(problem: Problem[ChannelStructure], removed: np.ndarray) -> Problem[ChannelStructure]:
    """A problem of what is left of the model, with a working copy of its own.

    Units keep their numbers, so that masks are those of the whole problem; they have to hold all
    units that were left out.

    Args:
        problem: The whole one; it stays as it is.
        removed: Units to leave out, bool, shape `(units,)`.
    """
    if not removed.any():
        return problem
    keras = keras_of(problem.working().model)
    left = cut(problem.graph, problem.structure, removed)
    working = cache(lambda: build(left.graph, Kept(), keras))
    names = {name: layer.weights for name, layer in left.graph.layers.items()}
    return replace(
        problem,
        graph=left.graph,
        structure=left.structure,
        working=working,
        mask=cache(lambda: ChannelMask(left.structure, working().layers, names)),
    )
