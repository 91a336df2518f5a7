"""Every function of `keras.applications`, with random weights and all parts alive."""

import inspect

import keras
import numpy as np
from models import all_layers, make_live

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

SMALLEST_IMAGE = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
# Their convolutions by channel are grouped ones, which take seconds each in float64 on a CPU.
SMALLEST_IMAGE |= {name: 32 for name in FUNCTIONS if name.startswith("ConvNeXt")}


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
