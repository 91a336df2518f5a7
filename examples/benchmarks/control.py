"""Which control keeps accuracy longest: methods, networks, tasks and seeds side by side.

    python examples/benchmarks/control.py --data DATA --out runs/

DATA holds `vgg16_cifar10.h5`, `cifar10.tfrecord`, `mobilenet_0.75_imagenet_notop.h5` and `flowers/`
(train/ and val/, a folder for each class); tasks on digits need none of it. Every finished run
is kept in `--out`; the same command goes on, and one with more seeds, tasks or methods adds to it.

Reference sets are drawn from training images, anew for each seed; what is reported was measured on
test images. `--selection` measures on training images that the reference set does not have
instead, with seeds from 100 on: for choosing variants. `--page` measures nothing: from the runs in
`--out`, `--page frozen` writes docs/control.md (of those of `--protocols frozen`), and `--page
refitted` docs/refitted.md (of those of `--protocols default`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from control_page import PAGES, write_page
from digit_networks import BODIES, digit_images, digit_network
from keras import layers

import keras_lrp_prune as klp
from keras_lrp_prune.data import draw_per_class, load_image_folder

Samples = tuple[np.ndarray, np.ndarray]
Triple = tuple[keras.Model, Samples, Samples]

ENGINE = "native"
TEST_PER_CLASS = 100
SELECTION_SEED = 100
_LOG_ODDS, _Aware = "lrp.log_odds", klp.schedules.AccuracyAware

# What each part of the default adds: it without the part, with another one, and parts alone.
ABLATION = {
    method.name: method
    for method in (
        klp.Method("no-trials", _LOG_ODDS, partial(_Aware, trials=False, rate="equal")),
        klp.Method("no-balance", _LOG_ODDS, partial(_Aware, pool=0.0)),
        klp.Method("no-order", _LOG_ODDS, partial(_Aware, order="uniform")),
        klp.Method("adaptive-rate", _LOG_ODDS, partial(_Aware, rate="adaptive")),
        klp.Method("adaptive-rate-no-trials", _LOG_ODDS, partial(_Aware, trials=False)),
        klp.Method(
            "log-odds-alone",
            _LOG_ODDS,
            partial(_Aware, trials=False, pool=0.0, rate="equal", order="uniform"),
        ),
        klp.Method("preset-a-aware", "lrp.sequential_preset_a", _Aware),
    )
}


def refitted(name: str) -> klp.Method:
    """A baseline for which what is left is refitted and scored anew every 10 %, as by default."""
    one = klp.criteria.CRITERIA[name]
    if "lrp" in one.needs:
        one = one.configured(analyzer_options={}, engine=ENGINE)
    kind = type(f"Refitted{type(one).__name__}", (type(one),), {"refits_each_step": True})
    return klp.Method(f"{name}-refitted", kind(**vars(one)), partial(klp.schedules.EqualSteps, 0.1))


# With recovery: published criteria, refitted as often as the default, and the default for frozen
# weights, refitted once, at the rate that is measured.
REFITTED = {
    method.name: method
    for method in (
        *map(
            refitted,
            ("obs", "thinet", "taylor.group", "taylor", "lrp.unique", "lrp.log_odds", "pxp", "l1"),
        ),
        klp.Method("log-odds-aware", _LOG_ODDS, _Aware),
    )
}
OWN = {**ABLATION, **REFITTED}


@dataclass(frozen=True)
class Draw:
    """What a task draws: how many images, with which seed, and what it is measured on."""

    data: Path
    per_class: int
    seed: int
    selection: bool


@cache
def cifar10(data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, classes, and whether they are test images."""
    spec = {
        "image": tf.io.FixedLenFeature([], tf.string),
        **dict.fromkeys(("label", "split"), tf.io.FixedLenFeature([], tf.int64)),
    }
    records = tf.data.TFRecordDataset(str(data / "cifar10.tfrecord"))

    def parsed(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        found = tf.io.parse_single_example(record, spec)
        return tf.io.decode_jpeg(found["image"]), found["label"], found["split"]

    batches = list(records.map(parsed).batch(1_000).as_numpy_iterator())
    x, y, split = (np.concatenate(part) for part in zip(*batches, strict=True))
    return x, y, split == 1


def vgg16(draw: Draw, classes: tuple[int, ...], *, refit: bool = False) -> Triple:
    """VGG16 with CIFAR-10 weights on some classes: its own head for them, or one fitted anew."""
    backbone = keras.applications.VGG16(
        weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg"
    )
    whole = keras.Model(
        backbone.input, layers.Dense(10, name="predictions")(backbone.output), name="vgg16"
    )
    whole.load_weights(draw.data / "vgg16_cifar10.h5")
    x, y, is_test = cifar10(draw.data)
    images = keras.applications.vgg16.preprocess_input(x.astype(np.float32))
    numbers = np.array([classes.index(label) if label in classes else -1 for label in y])
    reference, held_out = split(images, numbers, is_test, draw)
    if refit:
        return klp.with_linear_head(backbone, reference), reference, held_out
    head = layers.Dense(len(classes), name="predictions")
    model = keras.Model(backbone.input, head(backbone.output), name="vgg16")
    kernel, bias = whole.layers[-1].get_weights()
    head.set_weights([kernel[:, list(classes)], bias[list(classes)]])
    return model, reference, held_out


def mobilenet(draw: Draw, side: int = 128) -> Triple:
    """MobileNet 0.75 with ImageNet weights on flowers; the head is fitted anew."""
    parts = [
        load_image_folder(draw.data / "flowers" / part, image_size=(side, side), antialias=True)
        for part in ("train", "val")
    ]
    x = np.concatenate([part.x for part in parts])
    y = np.concatenate([part.y for part in parts])
    is_test = np.repeat([False, True], [len(part.y) for part in parts])
    images = keras.applications.mobilenet.preprocess_input(x)
    backbone = keras.applications.MobileNet(
        alpha=0.75,
        include_top=False,
        pooling="avg",
        input_shape=(side, side, 3),
        weights=draw.data / "mobilenet_0.75_imagenet_notop.h5",
    )
    reference, held_out = split(images, y, is_test, draw)
    return klp.with_linear_head(backbone, reference), reference, held_out


def digits(draw: Draw, kind: str) -> Triple:
    """A small network of some kind, trained here on three fifths of scikit-learn's digits."""
    x, y, is_test = digit_images()
    reference, held_out = split(x, y, is_test, draw)
    return digit_network(kind), reference, held_out


def split(x: np.ndarray, y: np.ndarray, is_test: np.ndarray, draw: Draw) -> tuple[Samples, Samples]:
    """A reference set of training images, and images to measure on; class -1 is left out."""

    def drawn(where: np.ndarray, count: int) -> np.ndarray:
        chosen, _ = draw_per_class(y[where], count, draw.seed)
        return where[chosen]

    train = np.flatnonzero(~is_test & (y >= 0))
    reference = drawn(train, draw.per_class)
    pool = np.setdiff1d(train, reference) if draw.selection else np.flatnonzero(is_test & (y >= 0))
    held_out = drawn(pool, min(TEST_PER_CLASS, int(np.bincount(y[pool]).min())))
    return (x[reference], y[reference]), (x[held_out], y[held_out])


TASKS: Mapping[str, Callable[[Draw], Triple]] = {
    "vgg16-10": partial(vgg16, classes=tuple(range(10))),
    "vgg16-5": partial(vgg16, classes=(0, 2, 4, 6, 8)),
    "vgg16-3": partial(vgg16, classes=(1, 4, 7)),
    "vgg16-2": partial(vgg16, classes=(3, 5)),
    "vgg16-5-refit": partial(vgg16, classes=(0, 2, 4, 6, 8), refit=True),
    "mobilenet-flowers": mobilenet,
    **{f"{kind}-digits": partial(digits, kind=kind) for kind in BODIES},
}
# Refitting layers takes longer than pruning does: at fewer rates.
FINE = tuple(np.arange(0, 0.951, 0.05).round(2).tolist())
COARSE = (*FINE[:-1:2], FINE[-1])
PROTOCOLS: Mapping[str, tuple[str | None, tuple[float, ...]]] = {
    "frozen": (None, FINE),
    "head": ("head", FINE),
    "least-squares": ("least_squares", COARSE),
    "default": ("auto", COARSE),
}


def main() -> None:
    options = parse_arguments()
    for page in options.page:
        write_page(page, options.out, Path(__file__).parents[2] / "docs")
    if not options.page:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Compares the methods on each task, and prints and keeps what it finds."""
    first = SELECTION_SEED if options.selection else 0
    for protocol in options.protocols:
        recovery, rates = PROTOCOLS[protocol]
        for name in options.tasks:
            kind = "-selection" * options.selection
            folder = options.out / f"{name}_{options.per_class}_{protocol}{kind}"

            def task(seed: int, make: Callable[[Draw], Triple] = TASKS[name]) -> Triple:
                return make(Draw(options.data, options.per_class, seed, options.selection))

            comparison = klp.compare(
                task,
                [OWN.get(method, method) for method in options.methods],
                range(first, first + options.seeds),
                rates,
                folder=folder,
                engine=ENGINE,
                recovery=recovery,
            )
            comparison.save(folder)
            print(f"{name}, {options.per_class} images per class, {protocol}")
            comparison.summary()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="see above")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=["frozen"])
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=[*klp.METHODS, *OWN],
        default=["accuracy-aware", "lrp-iterative", "taylor", "l1", "random"],
    )
    parser.add_argument("--per-class", type=int, default=20, help="reference images per class")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--selection", action="store_true", help="measure on training images")
    parser.add_argument(
        "--page", nargs="+", choices=PAGES, default=[], help="write that, and do not measure"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
