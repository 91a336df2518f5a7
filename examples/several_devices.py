"""Prune a model on all GPUs of a machine, or on several machines.

    python examples/several_devices.py --images FOLDER --model ResNet50 --weights imagenet
    python examples/several_devices.py --devices 2

The first line takes all GPUs; FOLDER has a sub-folder of images for each class. The second line
can be tried anywhere: two logical CPU devices, synthetic images, a small network with random
weights below a fitted head. Where TF_CONFIG names several workers, start the same line on each of
them; docs/distribution.md says how.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

import keras_lrp_prune as klp
from keras_lrp_prune.data import load_image_folder
from keras_lrp_prune.runtime import is_chief

APPLICATIONS = {
    "MobileNet": keras.applications.mobilenet,
    "ResNet50": keras.applications.resnet,
    "VGG16": keras.applications.vgg16,
}
CLASSES = 5  # of the synthetic images


def main() -> None:
    arguments = parse_arguments()
    strategy = make_strategy(arguments.devices)  # before TensorFlow computes anything
    keras.utils.set_random_seed(arguments.seed)  # every worker starts from the same model

    images, labels, names = load(arguments)
    backbone, preprocess = make_backbone(arguments, images.shape[1:])
    reference = preprocess(images), labels
    # Made outside the strategy's scope, as any model of yours: prune() works on copies inside.
    model = klp.with_linear_head(backbone, reference)
    result = klp.prune(
        model,
        reference,
        target_rate=arguments.rate,
        schedule=Clocked(),
        batch_size=arguments.batch_size,
        strategy=strategy,
        checkpoint_dir=arguments.checkpoint,
    )
    if not is_chief(strategy):
        return  # all workers have the same result
    print(f"{strategy.num_replicas_in_sync} replicas, engine {result.settings['engine']}")
    steps = np.diff(Clocked.times)
    print(f"{len(steps)} steps, median {np.median(steps):.3f} s")
    result.summary(names)
    if arguments.out:
        result.save(arguments.out)


class Clocked(klp.schedules.AccuracyAware):
    """Notes the times at which a step was evaluated."""

    times: ClassVar[list[float]] = []

    def observe(self, *news) -> bool:
        self.times.append(time.perf_counter())
        return super().observe(*news)


def make_strategy(devices: int | None) -> tf.distribute.Strategy:
    """The workers in TF_CONFIG, or that many logical CPU devices, or all GPUs."""
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if devices is None:
        return tf.distribute.MirroredStrategy()
    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
    tf.config.set_logical_device_configuration(cpu, logical)
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(devices)])


def make_backbone(
    arguments: argparse.Namespace, shape: tuple[int, ...]
) -> tuple[keras.Model, Callable[[np.ndarray], np.ndarray]]:
    """A network that ends in features, and what its images have to go through before."""
    if arguments.model in APPLICATIONS:
        application = APPLICATIONS[arguments.model]
        build = getattr(application, arguments.model)
        weights = arguments.weights
        backbone = build(include_top=False, weights=weights, pooling="avg", input_shape=shape)
        return backbone, application.preprocess_input
    stack = [keras.Input(shape), keras.layers.Rescaling(1 / 127.5, offset=-1)]
    for width in (32, 64, 128):
        stack.append(keras.layers.Conv2D(width, 3, strides=2, activation="relu"))
    return keras.Sequential([*stack, keras.layers.GlobalAveragePooling2D()]), np.asarray


def load(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images in 0..255, their classes, and the names of the classes."""
    size = (arguments.size, arguments.size)
    if arguments.images:
        found = load_image_folder(
            arguments.images,
            image_size=size,
            per_class=arguments.per_class,
            seed=arguments.seed,
        )
        return found.x, found.y, list(found.class_names)
    rng = np.random.default_rng(arguments.seed)
    patterns = tf.image.resize(rng.uniform(0, 255, (CLASSES, 4, 4, 3)), size).numpy()
    labels = np.repeat(np.arange(CLASSES), arguments.per_class)
    noise = rng.normal(0, 50, (len(labels), *size, 3))
    return np.clip(patterns[labels] + noise, 0, 255), labels, [f"class {i}" for i in range(CLASSES)]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, help="logical CPU devices to use instead of GPUs")
    parser.add_argument("--images", type=Path, help="folder of images; default: synthetic ones")
    parser.add_argument("--model", choices=("small", *APPLICATIONS), default="small")
    parser.add_argument("--weights", help="imagenet, or a .h5 file; default: random")
    parser.add_argument("--rate", type=float, default=0.3, help="pruning rate")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--per-class", type=int, default=20, help="reference images per class")
    parser.add_argument("--batch-size", type=int, help="images per batch and device")
    parser.add_argument("--checkpoint", type=Path, help="folder to resume from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
