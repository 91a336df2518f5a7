"""Prune a model on all GPUs of a machine, or on several machines.

    python examples/several_devices.py --images FOLDER --model ResNet50 --weights imagenet
    python examples/several_devices.py --devices 2
    python examples/several_devices.py --devices 1 --gpus 1 2 4 --model VGG16 --size 224

The first line takes all GPUs; FOLDER has a sub-folder of images for each class. The second line
can be tried anywhere: two logical CPU devices, synthetic images, a small network with random
weights below a fitted head. The third one runs once for each number of devices, CPUs first, each
run in a process of its own, checks that all give what the first one gave, and prints how time and
memory scale. Where TF_CONFIG names several workers, start the same line on each of them;
docs/distribution.md says how.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
MIB = 2**20
# Float32 sums in another order: probabilities of a whole model, and filters on the border.
MOST_APART, FEWEST_ALIKE = 1e-3, 0.99


def main() -> None:
    arguments = parse_arguments()
    settings = [
        (kind, count)
        for kind, counts in (("devices", arguments.devices), ("gpus", arguments.gpus))
        for count in counts
    ]
    if len(settings) > 1:
        sys.exit(compare(settings, arguments.out))
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """One run, on the devices that there are."""
    strategy = make_strategy(arguments)  # before TensorFlow computes anything
    keras.utils.set_random_seed(arguments.seed)  # every worker starts from the same model

    images, labels, names = load(arguments)
    backbone, preprocess = make_backbone(arguments, images.shape[1:])
    reference = preprocess(images), labels
    # Made outside the strategy's scope, as any model of yours: prune() works on copies inside.
    model = klp.with_linear_head(backbone, reference)
    start = time.perf_counter()
    result = klp.prune(
        model,
        reference,
        target_rate=arguments.rate,
        schedule=Clocked(),
        recovery=arguments.recovery,
        batch_size=arguments.batch_size,
        strategy=strategy,
        checkpoint_dir=arguments.checkpoint,
    )
    seconds = time.perf_counter() - start
    if not is_chief(strategy):
        return  # all workers have the same result
    print(f"{strategy.num_replicas_in_sync} replicas, engine {result.settings['engine']}")
    steps = np.diff(Clocked.times)
    print(f"{len(steps)} steps, median {np.median(steps):.3f} s")
    result.summary(names)
    if arguments.out:
        result.save(arguments.out)
        told = {"seconds": seconds, **memory(), "forward": forward_seconds(model, reference[0])}
        (arguments.out / "run.json").write_text(json.dumps(told))


def memory() -> dict[str, float]:
    """The most memory that was taken, in MiB: of the host, and of a GPU, if there is one."""
    gpus = tf.config.list_logical_devices("GPU")
    peaks = [tf.config.experimental.get_memory_info(gpu.name[-5:])["peak"] for gpu in gpus]
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"host": host * (1 if sys.platform == "darwin" else 1024) / MIB} | (
        {"gpu": max(peaks) / MIB} if gpus else {}
    )


def forward_seconds(model: keras.Model, images: np.ndarray) -> float:
    """How long one forward pass over the images takes, on one device."""
    model.predict(images[:1], verbose=0)
    start = time.perf_counter()
    model.predict(images, verbose=0)
    return time.perf_counter() - start


def compare(settings: Sequence[tuple[str, int]], results: Path | None) -> int:
    """Runs once for each setting; prints a table, and returns 1 if one gives something else."""
    given = without_devices(sys.argv[1:])
    rows, first = [], None
    with tempfile.TemporaryDirectory() as folder:
        for kind, count in settings:
            out = (results or Path(folder)) / f"{kind}-{count}"
            command = [sys.executable, __file__, *given, f"--{kind}", str(count), "--out", str(out)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            result, told = klp.load_result(out), json.loads((out / "run.json").read_text())
            first = first or (result, told)
            rows.append((f"{kind[:-1]}s {count}", told, first[1], *apart(result, first[0])))
    heads = ("on", "run, s", "speed-up", "a forward pass, s", "in forward passes")
    print(" | ".join((*heads, "host, MiB", "GPU, MiB", "same filters", "probabilities apart")))
    for name, told, base, alike, difference in rows:
        figures = (
            f"{told['seconds']:.1f}",
            f"{base['seconds'] / told['seconds']:.2f}",
            f"{told['forward']:.2f}",
            f"{told['seconds'] / told['forward']:.0f}",
            f"{told['host']:,.0f}",
            f"{told['gpu']:,.0f}" if "gpu" in told else "-",
            f"{alike:.2%}",
            f"{difference:.1e}",
        )
        print(" | ".join((name, *figures)))
    equal = all(alike >= FEWEST_ALIKE and far <= MOST_APART for *_, alike, far in rows)
    print("All give the same." if equal else "Not all give the same.")
    return 0 if equal else 1


def apart(result: klp.PruningResult, first: klp.PruningResult) -> tuple[float, float]:
    """The share of filters that both keep or both remove, and how far probabilities are apart.

    Probabilities: the mean of each class in the model as it is, as the run itself computed it.
    """
    same = [
        len(np.intersect1d(kept, first.kept[layer])) / max(len(kept), len(first.kept[layer]), 1)
        for layer, kept in result.kept.items()
    ]
    sizes = [len(kept) for kept in result.kept.values()]
    ours, theirs = (one.history[0].soft_class_accuracies for one in (result, first))
    return float(np.average(same, weights=sizes)), float(np.abs(np.subtract(ours, theirs)).max())


def without_devices(arguments: Sequence[str]) -> list[str]:
    """Arguments of the command line without those that say where to run, and where results go."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--devices", "--gpus", "--out"):
        parser.add_argument(name, nargs="+")
    return parser.parse_known_args(arguments)[1]


class Clocked(klp.schedules.AccuracyAware):
    """Notes the times at which a step was evaluated."""

    times: ClassVar[list[float]] = []

    def observe(self, *news) -> bool:
        self.times.append(time.perf_counter())
        return super().observe(*news)


def make_strategy(arguments: argparse.Namespace) -> tf.distribute.Strategy:
    """The workers in TF_CONFIG, or that many logical CPU devices, or that many GPUs, or all."""
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if arguments.gpus:
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(arguments.gpus[0])])
    if not arguments.devices:
        return tf.distribute.MirroredStrategy()
    (count,) = arguments.devices
    tf.config.set_visible_devices([], "GPU")
    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    tf.config.set_logical_device_configuration(cpu, logical)
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)])


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
    numbers = np.arange(arguments.classes)
    patterns = tf.image.resize(rng.uniform(0, 255, (len(numbers), 4, 4, 3)), size).numpy()
    labels = np.repeat(numbers, arguments.per_class)
    noise = rng.normal(0, 50, (len(labels), *size, 3))
    return np.clip(patterns[labels] + noise, 0, 255), labels, [f"class {i}" for i in numbers]


def recovery(text: str) -> str | None:
    return None if text == "none" else text


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--devices", type=int, nargs="+", default=[], help="logical CPU devices, instead of GPUs"
    )
    parser.add_argument("--gpus", type=int, nargs="+", default=[], help="GPUs; default: all")
    parser.add_argument("--images", type=Path, help="folder of images; default: synthetic ones")
    parser.add_argument("--model", choices=("small", *APPLICATIONS), default="small")
    parser.add_argument("--weights", help="imagenet, or a .h5 file; default: random")
    parser.add_argument("--rate", type=float, default=0.3, help="pruning rate")
    parser.add_argument("--recovery", default="auto", type=recovery, help="as in prune, or none")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--classes", type=int, default=5, help="of the synthetic images")
    parser.add_argument("--per-class", type=int, default=20, help="reference images per class")
    parser.add_argument("--batch-size", type=int, help="images per batch and device")
    parser.add_argument("--checkpoint", type=Path, help="folder to resume from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the result, or for that of each run")
    arguments = parser.parse_args()
    if arguments.checkpoint and len(arguments.devices) + len(arguments.gpus) > 1:
        parser.error(
            "--checkpoint goes with one number of devices: runs would take up each other's"
        )
    return arguments


if __name__ == "__main__":
    main()
