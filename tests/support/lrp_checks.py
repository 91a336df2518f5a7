"""Models, samples and relevances that the tests of both engines share."""

import keras
import numpy as np
from models import BUILDERS, make_live

EXACT = 1e-3
PARITY = 1e-4
Y = np.array([0, 1, 2, 3, 1, 0])
DEFAULT = "lrp.sequential_preset_a"
SUPPORTED = [name for name in BUILDERS if name not in ("squeeze_excite", "shared")]
NEEDED = {
    "lrp.alpha_beta": {"alpha": 3, "beta": 2},
    "lrp.sequential_preset_b_flat_until_idx": {"until_layer_idx": 4},
    "deep_taylor.bounded": {"low": -5, "high": 5},
}


def live(build, *arguments):
    keras.utils.set_random_seed(0)
    return make_live(build(*arguments))


def relevances(engine, x, y):
    """Of the output channels of every layer with weights, and of the input."""
    return {**engine._channel_sums(x, y)[0], "the input": engine.input_relevance(x, y)}
