"""Every function of `keras.applications`: channel groups, masking, rebuilding, saving.

`make test` runs one small member of each family, `make test-all` all of them; the report at the
end of the run has a line for each (see `conftest.py`).
"""

import gc
import inspect

import keras
import numpy as np
import pytest
from models import all_layers, analysed, difference, make_live, random_removal

from keras_lrp_prune.prunables.channel_mask import ChannelMask
from keras_lrp_prune.surgery.building import build, rebuild
from keras_lrp_prune.surgery.kept import Kept, kept_without

FUNCTIONS = {
    name: function
    for name, function in vars(keras.applications).items()
    if inspect.isfunction(function)
}

# The quickest member of each family.
FAMILIES = (
    *("VGG16", "ResNet50", "ResNet50V2", "InceptionV3", "InceptionResNetV2", "Xception"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "DenseNet121", "NASNetMobile"),
    *("EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny"),
)

# More than a gigabyte in float64: never two at a time, if the run is given `--dist loadgroup`.
LARGE = ("ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge", "EfficientNetV2L", "VGG19")

SMALLEST_IMAGE = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
# Their convolutions by channel are grouped ones, which take seconds each in float64 on a CPU.
SMALLEST_IMAGE |= {name: 32 for name in FUNCTIONS if name.startswith("ConvNeXt")}
PRUNABLE_SHARE = 0.6


def marks(name):
    if name not in FAMILIES:
        yield pytest.mark.all_applications
    if name in LARGE:
        yield pytest.mark.xdist_group("large")


def application(name):
    """The architecture with random weights, every part of it alive."""
    keras.utils.set_random_seed(0)
    size = SMALLEST_IMAGE.get(name, 64)
    model = FUNCTIONS[name](
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )
    rng, normalised = np.random.default_rng(0), False
    for layer in all_layers(model):
        if type(layer).__name__ == "LayerScale":  # starts at 1e-6: its branch would be dead
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum, normalised = 0.0, True
    make_live(model)
    if normalised:
        model(pictures(model, 8), training=True)  # statistics of pixels, for Rescaling
    return model


def pictures(model, count=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (count, *model.input_shape[1:])).astype(model.inputs[0].dtype)


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
