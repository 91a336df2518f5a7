"""What replicas exchange, and what a step of pruning costs on several logical CPU devices.

    python examples/benchmarks/scaling.py

Prints the tables of docs/distribution.md: bytes that each all-reduce moves, from the graphs of the
models; and times of the parts of a step, on one device and under strategies. All take turns in each
round, so that other work on the machine disturbs them alike; CPU time, that of all cores together,
hardly depends on it. Logical CPU devices share the cores: the second table shows what distribution
costs, not what it gains.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lrp_prune.cost import CostModel
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.model_graph import ModelGraph, references
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.canonical import canonize, strip_softmax
from keras_lrp_prune.relevance.native.engine import NativeEngine
from keras_lrp_prune.runtime import DEFAULT_MEMORY, chosen_batch_size
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.ranking import propose

MODELS = ("VGG16", "ResNet50", "MobileNet")
CLASSES, SAMPLES = 5, 100
REPLICAS = 2
FLOAT32, FLOAT64 = 4, 8  # bytes


def main() -> None:
    options = parse_arguments()
    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration() for _ in range(max(options.replicas))]
    tf.config.set_logical_device_configuration(cpu, logical)
    print_table(
        ("model", "channels", "per pass: sums", "rows", "batch size", "batches", "weights"),
        [exchange(name) for name in MODELS],
    )
    print()
    print(
        f"{options.model}, {SAMPLES} samples of {options.size} x {options.size}, batches of "
        f"{options.batch} in all, {cores()} cores; medians (and range) of {options.rounds}; "
        "CPU time, where not said otherwise"
    )
    header = ("devices", "a pass", "a pass, on the clock", "new masks", "proposal", "tracing, once")
    print_table(header, steps(options))


def exchange(name: str) -> tuple[str, ...]:
    """What two replicas add up while one LRP pass goes over the samples."""
    graph = read_model(application(name, 224)).flat()
    canonical = strip_softmax(canonize(graph))
    channels = sum(node.shapes[0][-1] for node in canonical.nodes if node.layer.weights)
    (output,) = references(canonical.outputs)
    weights = sum(
        np.prod(weight.shape, dtype=int)
        for layer in canonical.layers.values()
        for weight in layer.weights.values()
    )
    batch = chosen_batch_size(graph, None, DEFAULT_MEMORY)
    batches = -(-SAMPLES // (batch * REPLICAS))
    sums = FLOAT64 * CLASSES * channels * batches
    rows = FLOAT32 * SAMPLES * canonical.shape(output)[-1]
    moved = (f"{sums / 2**10:,.0f} KiB", f"{rows:,} bytes", str(batch), str(batches))
    return name, f"{channels:,}", *moved, f"{weights * FLOAT32 / 2**20:.0f} MiB"


def steps(options: argparse.Namespace) -> list[tuple[str, ...]]:
    """The times of the parts of a step, for each strategy."""
    model = application(options.model, options.size)
    graph = read_model(model).flat()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, options.size, options.size, 3)).astype(np.float32)
    contestants = {"one, without a strategy": Contestant(graph, None, options.batch)}
    for replicas in options.replicas:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])
        share = -(-options.batch // replicas)
        contestants[f"{replicas} of a MirroredStrategy"] = Contestant(graph, strategy, share)
    for contestant in contestants.values():
        contestant.trace(x)
    for _ in range(options.rounds):
        for contestant in contestants.values():
            contestant.step(x)
    return [(name, *contestant.cells()) for name, contestant in contestants.items()]


class Contestant:
    """An engine, and the times of what it did.

    Args:
        graph: The model.
        strategy: To run under.
        batch_size: Samples per batch and replica.
    """

    def __init__(
        self, graph: ModelGraph, strategy: tf.distribute.Strategy | None, batch_size: int
    ) -> None:
        self._structure = channel_structure(graph)
        self._cost = CostModel(graph, self._structure)
        self._removed = np.zeros(self._structure.n_units, bool)
        self._goal = 0.0
        analyzer = "lrp.sequential_preset_a"
        self._engine = NativeEngine(graph, analyzer, batch_size=batch_size, strategy=strategy)
        self._times: dict[str, list[tuple[float, float]]] = {}

    def trace(self, x: np.ndarray) -> None:
        """Two passes over one sample; the first one is traced."""
        for part in ("first pass", "second pass"):
            self._timed(part, lambda: self._pass(x[:1]))

    def step(self, x: np.ndarray) -> None:
        """A step as the pruning loop takes it."""
        gc.collect()
        scores, _ = self._timed("pass", lambda: self._pass(x))
        self._goal += 0.05
        self._timed("proposal", lambda: self._propose(scores.sum(0)))
        self._timed("masks", lambda: self._engine.set_mask(self._structure, self._removed))

    def _pass(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._engine.unit_relevance(self._structure, x, np.arange(len(x)) % CLASSES)

    def _propose(self, scores: np.ndarray) -> None:
        self._removed = propose(self._structure, self._removed, scores, self._goal, Limits(1, 1))
        self._cost(self._removed)

    def _timed(self, part: str, work: Callable[[], Any]) -> Any:
        start = time.process_time(), time.perf_counter()
        done = work()
        taken = time.process_time() - start[0], time.perf_counter() - start[1]
        self._times.setdefault(part, []).append(taken)
        return done

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        cpu = {part: [taken[0] for taken in times] for part, times in self._times.items()}
        clock = [taken[1] for taken in self._times["pass"]]
        traced = cpu["first pass"][0] - cpu["second pass"][0]
        return (
            *(seconds(times) for times in (cpu["pass"], clock)),
            *(milliseconds(cpu[part]) for part in ("masks", "proposal")),
            f"{traced:.1f} s",
        )


def seconds(times: list[float]) -> str:
    """Median and range."""
    return f"{median(times):.1f} s ({min(times):.1f} to {max(times):.1f})"


def milliseconds(times: list[float]) -> str:
    """Median and range."""
    low, middle, high = (1000 * value for value in (min(times), median(times), max(times)))
    return f"{middle:.0f} ms ({low:.0f} to {high:.0f})"


def application(name: str, size: int) -> keras.Model:
    """A model with random weights, with as many classes as a small task has."""
    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, name)
    return build(weights=None, classes=CLASSES, input_shape=(size, size, 3))


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Prints a table in Markdown."""
    for row in (header, ("---",) * len(header), *rows):
        print("|", " | ".join(row), "|")


def cores() -> int:
    """The CPU cores that all devices share."""
    return len(os.sched_getaffinity(0))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="MobileNet")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, REPLICAS])
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=20, help="samples per batch, of all replicas")
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
