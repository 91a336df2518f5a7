"""Every function of `keras.applications`: channel groups, masking, rebuilding, saving.

`make test` runs one small member of each family, `make test-all` all of them; the report at the
end of the run has a line for each (see `conftest.py`).
"""

import gc

import keras
import numpy as np
import pytest
from applications import FAMILIES, FUNCTIONS, application, pictures
from models import all_layers, analysed, difference, random_removal

from keras_lrp_prune.prunables.channel_mask import ChannelMask
from keras_lrp_prune.surgery.builder import build, rebuild
from keras_lrp_prune.surgery.kept import Kept, kept_without

# More than a gigabyte in float64: never two at a time, if the run is given `--dist loadgroup`.
LARGE = ("ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge", "EfficientNetV2L", "VGG19")

PRUNABLE_SHARE = 0.6


def marks(name):
    if name not in FAMILIES:
        yield pytest.mark.all_applications
    if name in LARGE:
        yield pytest.mark.xdist_group("large")


def bits(model):
    """What tells whether any bit of any weight has changed."""
    return [hash(np.asarray(weight).tobytes()) for weight in model.weights]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[*marks(name)]) for name in FUNCTIONS])
def test_masked_equals_rebuilt(name, float64, plain_keras, record_property):
    model = application(name)
    x = pictures(model, seed=1)
    graph, structure = analysed(model)
    flat = graph.flat()
    units = np.concatenate(list(structure.filter_units.values()))
    prunable = (units >= 0).mean()

    copy = build(flat, Kept(), keras)
    before, plain = bits(copy.model), copy.model(x).numpy()
    assert difference(plain, model(x)) <= float64
    removed = random_removal(structure, 0.5)
    mask = ChannelMask(
        structure, copy.layers, {name: layer.weights for name, layer in flat.layers.items()}
    )
    mask.set(removed)
    masked = copy.model(x).numpy()
    mask.clear()
    assert bits(copy.model) == before
    assert (copy.model(x).numpy() == plain).all()
    parameters = model.count_params()
    del copy, mask

    small = rebuild(graph, kept_without(structure, removed), keras)
    del model, graph, flat
    gc.collect()
    outputs = small(x).numpy()
    error, effect = difference(outputs, masked), difference(plain, masked)
    variation = difference(masked[1:], masked[:-1])
    record_property(
        "application",
        {
            "architecture": name,
            "layers": len(list(all_layers(small))),
            "filters": len(units),
            "prunable": f"{prunable:.1%}",
            "groups": len(structure.groups),
            "parameters": f"{parameters / 1e6:.1f} M",
            "rebuilt": f"{small.count_params() / 1e6:.1f} M",
            "mask effect": f"{effect:.1e}",
            "image effect": f"{variation:.1e}",
            "masked - rebuilt": f"{error:.1e}",
        },
    )
    assert effect >= 1e-3, "the mask must matter, or the test cannot fail"
    assert variation >= 1000 * float64, "what is left must be alive, or the test cannot fail"
    assert error <= float64
    assert prunable >= PRUNABLE_SHARE
    assert difference(plain_keras(small, x), outputs) <= float64


def test_every_family_is_there():
    """The functions are found by looking, so a new one is tested without being named here."""
    assert len(FUNCTIONS) >= 40
    assert {*FAMILIES, *LARGE} <= set(FUNCTIONS)
