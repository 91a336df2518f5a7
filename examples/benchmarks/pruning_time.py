"""Says where the time of a whole accuracy-aware pruning run goes: MobileNet, 5 x 20 images.

Run it from the root of the repository:

    python examples/benchmarks/pruning_time.py --flowers FOLDER --weights FILE.h5

FOLDER has a folder of images for each class in train/. Without it the images are noise and the
weights random: the time is the same for each pass, but not the number of steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from time_parts import by_parts

import keras_lrp_prune as klp
from keras_lrp_prune.data import load_image_folder
from keras_lrp_prune.runtime import CompiledForward

CLASSES = 5


def task(options: argparse.Namespace) -> tuple[keras.Model, tuple[np.ndarray, np.ndarray]]:
    """MobileNet with a linear head for the classes, and the reference images."""
    size = (options.size, options.size)
    if options.flowers is None:
        rng = np.random.default_rng(options.seed)
        x = rng.uniform(-1, 1, (CLASSES * options.per_class, *size, 3)).astype("float32")
        y = np.arange(len(x)) % CLASSES
    else:
        images = load_image_folder(
            options.flowers / "train",
            image_size=size,
            per_class=options.per_class,
            seed=options.seed,
            antialias=True,
        )
        x, y = keras.applications.mobilenet.preprocess_input(images.x.copy()), images.y
    keras.utils.set_random_seed(options.seed)
    backbone = keras.applications.MobileNet(
        alpha=options.alpha,
        include_top=False,
        weights=options.weights,
        pooling="avg",
        input_shape=(*size, 3),
    )
    return klp.with_linear_head(backbone, (x, y)), (x, y)


def main() -> None:
    options = parse_arguments()
    model, reference = task(options)
    forward = CompiledForward(model)
    forward(reference[0])
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        forward(reference[0])
        taken.append(time.perf_counter() - start)
    one_forward = statistics.median(taken)

    start = time.perf_counter()
    with by_parts() as seconds:
        result = klp.prune(
            model,
            reference,
            options.rate,
            engine=options.engine,
            recovery=None,
            verbose=0,
            seed=options.seed,
        )
    whole = time.perf_counter() - start
    title = (
        f"{model.name}, {len(reference[1])} images of {options.size} pixels, engine "
        f"{result.settings['engine']}, rate {result.rate:.2f}, {len(result.history)} steps"
    )
    table = Table(title=title)
    for name in ("what", "seconds", "share", "forward passes"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for name, taken_by in {**seconds, "all": whole}.items():
        share, equivalents = taken_by / whole, taken_by / one_forward
        table.add_row(name, f"{taken_by:.1f}", f"{share:.1%}", f"{equivalents:.0f}")
    console = Console(width=120)
    console.print(table)
    undone = sum(not record.accepted for record in result.history)
    console.print(
        f"A forward pass over the reference set takes {one_forward:.2f} s; {undone} steps undone."
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flowers", type=Path, help="folder with train/<class>/*.jpg")
    parser.add_argument("--weights", help="a .h5 file of MobileNet's weights without top")
    parser.add_argument("--alpha", type=float, default=0.75, help="width of the MobileNet")
    parser.add_argument("--rate", type=float, default=0.5, help="pruning rate")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--per-class", type=int, default=20, help="reference images per class")
    parser.add_argument("--engine", default="native")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
