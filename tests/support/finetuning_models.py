"""Small samples and networks to fine-tune."""

import keras
import numpy as np
from keras import layers

import keras_lrp_prune as klp

CLASSES = 3


def samples(n=48, seed=0, n_classes=CLASSES):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    centres = np.random.default_rng(7).normal(size=(n_classes, 6, 6, 1))
    return (centres[y] + 0.7 * rng.normal(size=(n, 6, 6, 1))).astype(np.float32), y


def network(head="softmax", seed=0, nested=False, extra=(), width=6):
    """Convolution and dense layer; the head as an activation of the dense layer, or a layer."""
    keras.utils.set_random_seed(seed)
    units = 1 if head in ("sigmoid", "logit") else CLASSES
    inputs = keras.Input((6, 6, 1))
    flow = layers.Conv2D(width, 3, activation="relu", name="conv")(inputs)
    for layer in extra:
        flow = layer(flow)
    flow = layers.GlobalAveragePooling2D()(flow)
    activation = {"softmax": "softmax", "sigmoid": "sigmoid"}.get(head)
    scores = layers.Dense(units, activation=activation, name="scores")(flow)
    if head == "softmax layer":
        scores = layers.Softmax(name="probabilities")(scores)
    if head == "softmax operation":
        scores = keras.ops.softmax(scores)
    model = keras.Model(inputs, scores, name="net")
    if nested:
        outer = keras.Input((6, 6, 1))
        model = keras.Model(outer, model(outer), name="outer")
    return model


def tune(model, data=None, **options):
    options = {"epochs": 2, "verbose": 0, **options}
    return klp.finetune(model, samples() if data is None else data, **options)
