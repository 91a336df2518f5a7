"""Prune an ImageNet MobileNet for five kinds of flowers, with 20 labelled images of each.

As Keras' guide to transfer learning has it: a frozen base, called with `training=False` behind its
preprocessing. A linear head is fitted on the features of the reference images, and `prune` does the
rest, with its defaults. Accuracy is reported on images that played no part.

    python examples/transfer_flowers.py --data DATA --seeds 3

DATA has flowers/train/<class>/*.jpg, which the reference images are drawn from, another set for
each seed, and flowers/val/<class>/*.jpg. If it also has `mobilenet_0.75_imagenet_notop.h5`, that
gives the weights; else Keras downloads them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import keras_lrp_prune as klp
from keras_lrp_prune.data import ImageFolder, load_image_folder
from keras_lrp_prune.report import plot_heatmaps


def main() -> None:
    options = parse_arguments()
    size = (options.size, options.size)
    held_out = load_image_folder(options.data / "flowers" / "val", image_size=size)
    runs = []
    for seed in range(options.seeds):
        reference = load_image_folder(
            options.data / "flowers" / "train",
            image_size=size,
            per_class=options.per_class,
            seed=seed,
        )
        model = classifier(options, reference)
        results = [
            klp.prune(model, reference, target_rate=rate, validation=held_out, seed=seed)
            for rate in options.rates
        ]
        runs.append(record(seed, results))
        if seed == 0:
            show(model, results[-1], held_out, options.out)
    write_table(runs, options.rates, options.out)


def classifier(options: argparse.Namespace, reference: ImageFolder) -> keras.Model:
    """A frozen MobileNet behind its preprocessing, and a linear head for the reference images."""
    file = options.weights or options.data / f"mobilenet_{options.alpha:g}_imagenet_notop.h5"
    base = keras.applications.MobileNet(
        alpha=options.alpha,
        include_top=False,
        weights=file if file.is_file() else "imagenet",
        input_shape=(options.size, options.size, 3),
    )
    base.trainable = False
    inputs = keras.Input(base.input_shape[1:])
    maps = base(layers.Rescaling(1 / 127.5, offset=-1)(inputs), training=False)
    backbone = keras.Model(inputs, layers.GlobalAveragePooling2D()(maps), name="flowers")
    return klp.with_linear_head(backbone, reference)


def record(seed: int, results: list[klp.PruningResult]) -> dict[str, Any]:
    """What the table says of one seed, and what else one may ask."""
    return {
        "seed": seed,
        "unpruned": results[0].validation["before"]["harmonic_mean"],
        "pruned": [result.validation["after"]["harmonic_mean"] for result in results],
        "rates": [result.rate for result in results],
        "parameters": [result.cost_after.parameters for result in results],
        "recovery": [result.settings["recovery"] for result in results],
    }


def write_table(runs: list[dict[str, Any]], rates: list[float], out: Path) -> None:
    """Prints the harmonic mean accuracies on held-out images; writes them as table and JSON."""
    found = np.array([[run["unpruned"], *run["pruned"]] for run in runs])
    named = [f"seed {run['seed']}" for run in runs]
    rows = [
        ["harmonic mean accuracy at rate", "0", *(f"{100 * rate:.0f} %" for rate in rates)],
        ["---", *(["---:"] * found.shape[1])],
        *([name, *percent(row)] for name, row in zip(named, found, strict=True)),
        ["mean", *percent(found.mean(0))],
        ["of the unpruned", *percent(found.mean(0) / found.mean(0)[0])],
    ]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(table)
    (out / "table.json").write_text(json.dumps(runs, indent=1))
    print(f"{table}\nWritten to {out}: table.md, table.json; of seed 0 the most pruned model")


def percent(shares: np.ndarray) -> list[str]:
    return [f"{100 * share:.1f} %" for share in shares]


def show(model: keras.Model, result: klp.PruningResult, images: ImageFolder, out: Path) -> None:
    """The summary, the result's folder, and input relevance of an image of each class."""
    result.summary()
    result.save(out / "pruned")
    first = [int(np.flatnonzero(images.y == label)[0]) for label in np.unique(images.y)]
    maps = {
        name: klp.input_relevance(
            some, images.x[first], images.y[first], analyzer="lrp.sequential_preset_a_flat"
        )
        for name, some in (("before", model), ("after", result.model))
    }
    plot_heatmaps(images.x[first] / 255, maps, out / "heatmaps.png", images.class_names)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="see above")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[0.3, 0.5, 0.7], help="pruning rates"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many reference sets")
    parser.add_argument("--per-class", type=int, default=20, help="reference images per class")
    parser.add_argument("--alpha", type=float, default=0.75, help="width of the MobileNet")
    parser.add_argument("--weights", type=Path, help="a .h5 file; default: see above")
    parser.add_argument("--size", type=int, default=160, help="side of the images in pixels")
    parser.add_argument("--out", type=Path, default=Path("flowers_output"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
