"""Measures the memory that pruning VGG16 with its full top needs, beside holding the model.

Two processes load the same model: one holds it and waits, the other prunes it by LRP. The resident
memory of the pruning process and of its worker is sampled until it ends.

Run it from the root of the repository: python examples/benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

MIB = 2**20
CLASSES = 10
INTERVAL = 0.02


def build(options: argparse.Namespace) -> None:
    """Writes VGG16, all 138 million parameters of it, and ten class scores on top."""
    import keras

    keras.utils.set_random_seed(0)
    base = keras.applications.VGG16(weights=None, classifier_activation=None)
    scores = keras.layers.Dense(CLASSES, name="scores")(base.output)
    model = keras.Model(base.input, scores)
    model.save(options.model)
    print(sum(weight.numpy().nbytes for weight in model.weights))


def hold(options: argparse.Namespace) -> None:
    """Loads the model and waits until standard input closes."""
    import keras

    model = keras.models.load_model(options.model)
    print("loaded", flush=True)
    sys.stdin.read()
    del model


def prune(options: argparse.Namespace) -> None:
    """Loads the model and prunes it on random images."""
    import keras
    import numpy as np

    import keras_lrp_prune as klp

    model = keras.models.load_model(options.model)
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, (options.images, *model.input_shape[1:])).astype("float32")
    y = np.arange(options.images) % CLASSES
    print("loaded", flush=True)
    result = klp.prune(
        model,
        (x, y),
        options.rate,
        criterion=options.criterion,
        engine=options.engine,
        recovery=None,
        verbose=0,
    )
    engine, steps = result.settings["engine"], len(result.history) - 1
    print(f"engine {engine}, rate {result.rate:.3f} in {steps} steps", flush=True)


def resident(process: psutil.Process) -> int:
    """Resident bytes of a process, 0 once it is gone."""
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


STEPS = {"build": build, "hold": hold, "prune": prune}


def start(step: str, model: Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    """Runs a step in a process of its own."""
    arguments = {"step": step, "model": model, **vars(options)}
    return subprocess.Popen(
        [sys.executable, __file__, *(f"--{name}={value}" for name, value in arguments.items())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
    )


def measure(options: argparse.Namespace) -> None:
    """Runs both processes and prints their memory."""
    del options.step, options.model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vgg16.keras")
        weights = int(start("build", path, options).communicate()[0])
        idle = start("hold", path, options)
        idle.stdout.readline()
        time.sleep(1)
        holding = resident(psutil.Process(idle.pid))
        idle.communicate()

        pruning = start("prune", path, options)
        pruning.stdout.readline()
        main = psutil.Process(pruning.pid)
        loaded = resident(main)
        peaks = {"main process": 0, "worker": 0, "both": 0}
        while pruning.poll() is None:
            own = resident(main)
            try:
                others = sum(map(resident, main.children(recursive=True)))
            except psutil.NoSuchProcess:
                others = 0
            for name, now in zip(peaks, (own, others, own + others), strict=True):
                peaks[name] = max(peaks[name], now)
            time.sleep(INTERVAL)
        outcome = pruning.stdout.read().strip()
        if pruning.returncode:
            sys.exit("pruning failed")

    def line(name: str, size: int) -> str:
        return f"{name:<42}{size / MIB:8.0f} MiB  {size / weights:5.2f} x weights"

    print(f"{options.criterion}, {options.images} images, {outcome}")
    print(line("weights", weights))
    print(line("idle process that holds the model", holding))
    print(line("pruning process, model and images loaded", loaded))
    for name, peak in peaks.items():
        print(line(f"peak of {name}", peak))
    print(line("peak of main process above the idle one", peaks["main process"] - holding))


def main() -> None:
    """Measures; with the name of a step, does that step (in a process of its own)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--criterion", default="lrp.sequential_preset_a")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    STEPS.get(options.step, measure)(options)


if __name__ == "__main__":
    main()
