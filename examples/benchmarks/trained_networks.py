"""Small networks trained here on CIFAR-10 and MNIST, with images left over to judge on.

Of the classes that `TRAINED` names, a network is trained on some images of the training set, from
which reference sets are drawn. Other images of the same training set, which it has not seen, judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import control
import keras
import numpy as np
from digit_networks import BODIES
from keras import layers

import keras_lrp_prune as klp
from keras_lrp_prune.data import draw_per_class

_TRAINED_PER_CLASS = {"cifar10": 1_000, "mnist": 600}
_EPOCHS = 8
_JUDGED_PER_CLASS = 200


def vgg(inputs: Any) -> Any:
    """Pairs of normalised convolutions between poolings, as in VGG."""
    stream = inputs
    for width in (24, 48, 64):
        for _ in range(2):
            stream = layers.Conv2D(width, 3, padding="same", use_bias=False)(stream)
            stream = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(stream))
        stream = layers.MaxPooling2D()(stream)
    return layers.GlobalAveragePooling2D()(stream)


def mlp(inputs: Any) -> Any:
    """Two hidden dense layers."""
    stream = layers.Flatten()(inputs)
    for width in (96, 64):
        stream = layers.Dense(width, activation="relu")(stream)
    return stream


KINDS: dict[str, Callable[[Any], Any]] = {**BODIES, "vgg": vgg, "mlp": mlp}


@dataclass(frozen=True)
class Trained:
    """A network of some kind, and what it was trained for.

    Args:
        kind: One of `KINDS`.
        data: `"cifar10"` or `"mnist"`.
        classes: Those of the task.
        learnt: Those that it was trained on, if they are others: then the head is fitted to the
            task on the reference set.
    """

    kind: str
    data: str
    classes: tuple[int, ...]
    learnt: tuple[int, ...] | None = None

    def task(self, draw: control.Draw, cache: Path) -> control.Triple:
        """The model, a reference set, and unseen training images to judge on."""
        x, y, is_test = images(self.data, draw.data)
        learnt = self.learnt or self.classes
        model = self._network(x, y, is_test, learnt, cache)
        numbers = _numbered(y, self.classes)
        seen = _trained_on(numbers, is_test, self.data)
        reference = _drawn(numbers, seen, draw.per_class, draw.seed)
        unseen = np.setdiff1d(np.flatnonzero(~is_test & (numbers >= 0)), seen)
        judged = _drawn(numbers, unseen, _JUDGED_PER_CLASS, draw.seed)
        samples, held_out = ((x[some], numbers[some]) for some in (reference, judged))
        if self.learnt is None:
            return model, samples, held_out
        backbone = keras.Model(model.inputs[0], model.layers[-1].input)
        return klp.with_linear_head(backbone, samples), samples, held_out

    def _network(
        self,
        x: np.ndarray,
        y: np.ndarray,
        is_test: np.ndarray,
        learnt: tuple[int, ...],
        cache: Path,
    ) -> keras.Model:
        path = cache / f"{self.kind}-{self.data}-{''.join(map(str, learnt))}.keras"
        if path.is_file():
            return keras.models.load_model(path)
        keras.utils.set_random_seed(0)
        numbers = _numbered(y, learnt)
        seen = _trained_on(numbers, is_test, self.data)
        inputs = keras.Input(x.shape[1:])
        features = KINDS[self.kind](layers.AveragePooling2D(2)(inputs))
        model = keras.Model(inputs, layers.Dense(len(learnt), name="classes")(features))
        steps = -(-len(seen) // 64) * _EPOCHS
        rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss)
        model.fit(x[seen], numbers[seen], epochs=_EPOCHS, batch_size=64, verbose=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
        return model


def images(name: str, data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images in -1..1, classes, and whether they are test images."""
    if name == "cifar10":
        x, y, is_test = control.cifar10(data)
        return x.astype(np.float32) / 127.5 - 1, y, is_test
    with np.load(data / "mnist.npz") as arrays:
        parts = [(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    is_test = np.arange(len(y)) >= len(parts[0][1])
    return x.astype(np.float32)[..., None] / 127.5 - 1, y.astype(int), is_test


def _numbered(y: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    return np.array([classes.index(label) if label in classes else -1 for label in y.tolist()])


def _trained_on(numbers: np.ndarray, is_test: np.ndarray, data: str) -> np.ndarray:
    """The first images of each class."""
    train = np.flatnonzero(~is_test)
    parts = [
        train[numbers[train] == label][: _TRAINED_PER_CLASS[data]]
        for label in range(numbers.max() + 1)
    ]
    return np.sort(np.concatenate(parts))


def _drawn(numbers: np.ndarray, where: np.ndarray, count: int, seed: int) -> np.ndarray:
    chosen, _ = draw_per_class(numbers[where], count, seed)
    return where[chosen]


_VEHICLES_AND_MORE, _OTHERS = (0, 2, 4, 6, 8), (1, 3, 5, 7, 9)
_DIGITS = tuple(range(10))
TRAINED = {
    "vgg-cifar10": Trained("vgg", "cifar10", _VEHICLES_AND_MORE),
    "residual-cifar10": Trained("residual", "cifar10", _VEHICLES_AND_MORE),
    "inverted-cifar10": Trained("inverted", "cifar10", _VEHICLES_AND_MORE),
    "residual-transfer": Trained("residual", "cifar10", _OTHERS, learnt=_VEHICLES_AND_MORE),
    "vgg-transfer": Trained("vgg", "cifar10", _OTHERS, learnt=_VEHICLES_AND_MORE),
    "dense-mnist": Trained("dense", "mnist", _DIGITS),
    "squeeze-mnist": Trained("squeeze", "mnist", _DIGITS),
    "plain-mnist": Trained("plain", "mnist", _DIGITS),
    "mlp-mnist": Trained("mlp", "mnist", _DIGITS),
}
