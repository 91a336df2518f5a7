"""Recovery by training at half of the FLOPs: three ways, two networks, side by side.

    python examples/benchmarks/training.py --data DATA --out runs/

DATA holds `cifar10.tfrecord`. For each seed a small VGG-style and a small ResNet-style network are
trained on images drawn from the training images; then, with the same number of optimiser steps
each: pruned to 50 % of the FLOPs and fine-tuned, the same with the unpruned network as a teacher,
and pruned by `klp.callbacks.FilterPruning` while training goes on. For comparison: the unpruned
network, and one of half the FLOPs trained from scratch with the steps of both phases together.

All decisions are made on training images; what is reported was measured on the test images. Every
finished run is kept in `--out`; the same command goes on, and one with more seeds, networks or
methods adds to it. `--page` writes docs/training.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from control import cifar10
from keras import layers
from tensorflow_model_optimization.sparsity.keras import PolynomialDecay
from training_page import write_page

import keras_lrp_prune as klp
from keras_lrp_prune.cost import Cost, CostModel
from keras_lrp_prune.data import draw_per_class
from keras_lrp_prune.evaluation import classification_report
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.reader import read_model

Samples = tuple[np.ndarray, np.ndarray]

WIDTHS = (16, 32, 64)
BATCH = 64
LEARNING_RATE = 3e-3
FLOPS = 0.5
# Of each layer this share stays: training needs width more than a frozen network does.
MIN_CHANNELS = 0.5
# The callback prunes in so many steps, over this share of the training, until the budget is met.
PRUNING_STEPS, PRUNING_SHARE, FINAL_SPARSITY = 20, 0.5, 0.8


def vgg(widths: Sequence[int]) -> keras.Model:
    """Three stages of two convolutions."""
    flow = inputs = keras.Input((32, 32, 3))
    for stage, width in enumerate(widths):
        if stage:
            flow = layers.MaxPooling2D()(flow)
        for _ in range(2):
            flow = layers.ReLU()(_convolution(flow, width))
    return _classifier(inputs, flow, "vgg")


def resnet(widths: Sequence[int]) -> keras.Model:
    """Three stages of one residual block."""
    inputs = keras.Input((32, 32, 3))
    flow = layers.ReLU()(_convolution(inputs, widths[0]))
    for stage, width in enumerate(widths):
        strides = 2 if stage else 1
        branch = layers.ReLU()(_convolution(flow, width, strides))
        branch = _convolution(branch, width)
        shortcut = _convolution(flow, width, strides, size=1) if stage else flow
        flow = layers.ReLU()(layers.Add()([shortcut, branch]))
    return _classifier(inputs, flow, "resnet")


def _convolution(flow: Any, width: int, strides: int = 1, size: int = 3) -> Any:
    flow = layers.Conv2D(width, size, strides, padding="same", use_bias=False)(flow)
    return layers.BatchNormalization(momentum=0.9)(flow)


def _classifier(inputs: Any, flow: Any, name: str) -> keras.Model:
    scores = layers.Dense(10, name="classes")(layers.GlobalAveragePooling2D()(flow))
    return keras.Model(inputs, scores, name=name)


NETWORKS: Mapping[str, Callable[[Sequence[int]], keras.Model]] = {"vgg": vgg, "resnet": resnet}


@dataclass(frozen=True)
class Options:
    """What a run depends on beside the network, the method and the seed."""

    per_class: int
    reference_per_class: int
    epochs: int
    tuning_epochs: int


@dataclass
class Task:
    """One network and seed; the base network is trained once, and kept."""

    data: Path
    out: Path
    network: str
    seed: int
    options: Options

    @cached_property
    def images(self) -> tuple[Samples, Samples, Samples]:
        """To train on, the reference set among them, and the test images."""
        x, y, is_test = cifar10(self.data)
        pixels = np.flatnonzero(~is_test)
        drawn, _ = draw_per_class(y[pixels], self.options.per_class, self.seed)
        train = _scaled(x[pixels[drawn]]), y[pixels[drawn]]
        few, _ = draw_per_class(train[1], self.options.reference_per_class, self.seed)
        return train, (train[0][few], train[1][few]), (_scaled(x[is_test]), y[is_test])

    @cached_property
    def base(self) -> keras.Model:
        """The unpruned network, trained."""
        path = self.out / f"{self.network}-seed{self.seed}.keras"
        if not path.exists():
            model = self.fit(self.made(WIDTHS), self.options.epochs, LEARNING_RATE)
            temporary = path.with_name(f".{os.getpid()}-{path.name}")
            model.save(temporary)
            os.replace(temporary, path)
        return keras.models.load_model(path)

    @cached_property
    def pruned(self) -> klp.PruningResult:
        """The network at half of the FLOPs, as it was pruned."""
        reference = self.images[1]
        return klp.prune(
            self.base,
            reference,
            budget={"flops": FLOPS},
            schedule=klp.schedules.AccuracyAware(trials=False),
            min_channels=MIN_CHANNELS,
            recovery=None,
            seed=self.seed,
            verbose=0,
            engine="native",
        )

    def made(self, widths: Sequence[int]) -> keras.Model:
        """A network with fresh weights."""
        keras.utils.set_random_seed(self.seed)
        return NETWORKS[self.network](widths)

    def steps(self, epochs: int) -> int:
        """Optimiser steps in so many epochs."""
        return epochs * -(-len(self.images[0][1]) // BATCH)

    def fit(
        self, model: keras.Model, epochs: int, rate: float, callbacks: Sequence[Any] = ()
    ) -> keras.Model:
        """Trains with the same recipe as `klp.finetune` has: Adam, a cosine, flipped images."""
        keras.utils.set_random_seed(self.seed)
        x, y = self.images[0]
        batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(y)).batch(BATCH)
        falling = keras.optimizers.schedules.CosineDecay(rate, self.steps(epochs))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(falling), loss)
        flipped = batches.map(lambda x, y: (flip(x), y)).prefetch(2)
        model.fit(flipped, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks))
        return model


def _scaled(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) / 127.5 - 1


def flip(x: tf.Tensor) -> tf.Tensor:
    """Flips half of the images of a batch."""
    return tf.image.random_flip_left_right(x)


def base(task: Task) -> keras.Model:
    """The unpruned network."""
    return task.base


def finetuned(task: Task, teacher: keras.Model | None = None) -> keras.Model:
    """Pruned at once, then trained."""
    pruned = task.pruned
    return klp.finetune(
        pruned,
        task.images[0],
        teacher=teacher,
        epochs=task.options.tuning_epochs,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH,
        augment=flip,
        seed=task.seed,
        verbose=0,
    ).model


def distilled(task: Task) -> keras.Model:
    """Pruned at once, then trained with the unpruned network as a teacher."""
    return finetuned(task, teacher=task.base)


def during_fit(task: Task) -> keras.Model:
    """Pruned while it is trained, until the budget is met."""
    model = keras.models.clone_model(task.base)
    model.set_weights(task.base.get_weights())
    epochs = task.options.tuning_epochs
    last = max(int(PRUNING_SHARE * task.steps(epochs)), 2)
    schedule = PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=FINAL_SPARSITY,
        begin_step=1,
        end_step=last,
        frequency=max(last // PRUNING_STEPS, 1),
    )
    pruning = klp.callbacks.FilterPruning(
        task.images[1],
        schedule,
        engine="native",
        budget={"flops": FLOPS},
        min_channels=MIN_CHANNELS,
        seed=task.seed,
    )
    task.fit(model, epochs, LEARNING_RATE, [pruning])
    return pruning.pruned_model()


def from_scratch(task: Task) -> keras.Model:
    """A narrower network of the family, trained for as long as both phases take together."""
    epochs = task.options.epochs + task.options.tuning_epochs
    return task.fit(task.made(half_widths(task)), epochs, LEARNING_RATE)


def half_widths(task: Task) -> tuple[int, ...]:
    """The widths, all scaled alike, whose FLOPs are closest to those asked for."""
    whole = cost_of(task.base).flops
    choices = {tuple(round(width * scale) for width in WIDTHS) for scale in np.arange(0.5, 1, 0.02)}
    found = {widths: cost_of(task.made(widths)).flops for widths in sorted(choices)}
    return min(found, key=lambda widths: abs(found[widths] - FLOPS * whole))


def cost_of(model: keras.Model) -> Cost:
    """Filters, parameters and FLOPs."""
    graph = read_model(model)
    return CostModel(graph, channel_structure(graph))()


METHODS: Mapping[str, Callable[[Task], keras.Model]] = {
    "base": base,
    "finetune": finetuned,
    "distil": distilled,
    "callback": during_fit,
    "scratch": from_scratch,
}


def measured(task: Task, model: keras.Model) -> dict[str, Any]:
    """Accuracies on the test images, and costs as shares of those of the unpruned network."""
    x, y = task.images[2]
    report = classification_report(y, model.predict(x, batch_size=256, verbose=0))
    cost, whole = cost_of(model), cost_of(task.base)
    return {
        "accuracy": report.accuracy,
        "harmonic_mean": report.harmonic_mean,
        "worst_class": float(report.recall.min()),
        "flops": cost.flops / whole.flops,
        "params": cost.parameters / whole.parameters,
    }


def run(task: Task, method: str) -> None:
    """One run, unless it is there."""
    path = task.out / f"{task.network}_{method}_seed{task.seed}.json"
    settings = {**vars(task.options), "widths": list(WIDTHS), "batch": BATCH}
    if path.exists():
        there = json.loads(path.read_text())["settings"]
        if there != settings:
            raise SystemExit(f"{path} was made with {there}, not {settings}: choose another --out.")
        return
    start = time.perf_counter()
    found = measured(task, METHODS[method](task))
    seconds = round(time.perf_counter() - start, 1)
    record = {"settings": settings, "seconds": seconds, **found}
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    temporary.write_text(json.dumps(record, indent=1))
    os.replace(temporary, path)
    shown = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    print(f"{task.network}, {method}, seed {task.seed}: {shown}, {seconds:.0f} s", flush=True)


def main() -> None:
    arguments = parse_arguments()
    options = Options(
        arguments.per_class,
        arguments.reference_per_class,
        arguments.epochs,
        arguments.tuning_epochs,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.seeds):
        for network in arguments.networks:
            task = Task(arguments.data, arguments.out, network, seed, options)
            for method in arguments.methods:
                run(task, method)
            keras.utils.clear_session()
    if arguments.page:
        write_page(arguments.out, Path(__file__).parents[2] / "docs")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="see above")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--per-class", type=int, default=200, help="training images per class")
    parser.add_argument("--reference-per-class", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10, help="of the unpruned network")
    parser.add_argument("--tuning-epochs", type=int, default=6, help="with or after pruning")
    parser.add_argument("--page", action="store_true", help="write docs/training.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
