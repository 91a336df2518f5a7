"""Prune an ImageNet MobileNet for five kinds of flowers, with 20 labelled images of each.

A linear head is fitted on the frozen features of the reference images; then filters go, all other
weights staying as they are. Accuracy is reported on images that played no part.

    python examples/transfer_flowers.py --flowers FOLDER --weights imagenet --rate 0.2

FOLDER has train/<class>/*.jpg, which the reference images are drawn from, and val/<class>/*.jpg.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np

import keras_lrp_prune as klp
from keras_lrp_prune.data import load_image_folder
from keras_lrp_prune.report import plot_heatmaps


def main() -> None:
    arguments = parse_arguments()
    size = (arguments.size, arguments.size)
    train = load_image_folder(
        arguments.flowers / "train",
        image_size=size,
        per_class=arguments.per_class,
        seed=arguments.seed,
    )
    held_out = load_image_folder(arguments.flowers / "val", image_size=size)
    preprocess = keras.applications.mobilenet.preprocess_input
    reference = preprocess(train.x.copy()), train.y
    validation = preprocess(held_out.x.copy()), held_out.y

    backbone = keras.applications.MobileNet(
        alpha=arguments.alpha,
        include_top=False,
        weights=arguments.weights,
        pooling="avg",
        input_shape=(*size, 3),
    )
    model = klp.with_linear_head(backbone, reference)
    result = klp.prune(
        model,
        reference,
        target_rate=arguments.rate,
        validation=validation,
        criterion=arguments.criterion,
        seed=arguments.seed,
    )
    result.summary(train.class_names)
    result.save(arguments.out)
    result.plot(arguments.out / "curve.png", train.class_names)
    draw_heat_maps(model, result.model, held_out, validation, arguments.out / "heatmaps.png")
    print(f"Written to {arguments.out}: model.keras, result.json, curve.png, heatmaps.png")


def draw_heat_maps(before, after, images, validation, path):
    """Input relevance of one image per class, before and after pruning."""
    x, y = validation
    first = [int(np.flatnonzero(y == label)[0]) for label in range(len(images.class_names))]
    analyzer = "lrp.sequential_preset_a_flat"
    maps = {
        name: klp.input_relevance(model, x[first], y[first], analyzer=analyzer)
        for name, model in (("before", before), ("after", after))
    }
    plot_heatmaps(images.x[first] / 255, maps, path, images.class_names)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flowers", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a .h5 file")
    parser.add_argument("--alpha", type=float, default=0.75, help="width of the MobileNet")
    parser.add_argument("--rate", type=float, default=0.2, help="pruning rate")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--per-class", type=int, default=20, help="reference images per class")
    parser.add_argument("--criterion", help="what scores filters; default: lrp.log_odds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("flowers_output"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
