"""How long pruning takes beside Torch-Pruning's iterative Taylor, in the same steps.

    python examples/benchmarks/peer_times.py --data DATA --python PYTHON

`prune` at half of the filters and a whole curve, with all weights frozen and with recovery, on the
same network, images and threads. Each run has a process of its own, and both sides take turns;
what is timed begins when the network and the images are loaded, and includes all tracing. DATA is
that of `control.py`. PYTHON is an interpreter with `pip install torch torch-pruning==1.6.0`:
TensorFlow and PyTorch do not bear each other in one process.

Prints a row for each task and work: medians, and the shortest in parentheses, of the time on the
clock and of the time of all cores, which other work on the machine disturbs less; the median of the
ratios, pair by pair; and by how much each process grew at the most. Then where the time of this
package goes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from control import COARSE, FINE, TASKS, Draw, Triple
from process_memory import MIB, growing
from time_parts import PARTS, by_parts

import keras_lrp_prune as klp
from keras_lrp_prune.graph.plain import to_plain
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.canonical import canonize, strip_softmax
from keras_lrp_prune.relevance.wire import send

HERE = Path(__file__).parent
HALF = 0.5
SEED = 0


@dataclass(frozen=True)
class Work:
    """What is timed.

    Args:
        title: What the table calls it.
        rates: Where Torch-Pruning stops; the steps of this package.
        run: Does it by this package.
        measures: Whether each of them is measured on held-out images.
    """

    title: str
    rates: tuple[float, ...]
    run: Callable[[Triple], Any]
    measures: bool


def prune(triple: Triple, recovery: str | None) -> Any:
    """Half of the filters."""
    return klp.prune(*triple[:2], HALF, engine="native", recovery=recovery, verbose=0)


def curve(triple: Triple, recovery: str | None, rates: tuple[float, ...]) -> Any:
    """All rates, each measured on the held-out images."""
    return klp.accuracy_curve(*triple, "accuracy-aware", rates, engine="native", recovery=recovery)


def up_to_half(rates: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(rate for rate in rates if rate <= HALF)


def works() -> Mapping[str, Work]:
    """By name: with frozen weights in steps of 5 %, with recovery of 10 %."""
    found = {}
    for name, recovery, rates in (("frozen", None, FINE), ("recovery", "auto", COARSE)):
        run = partial(prune, recovery=recovery)
        found[f"prune-{name}"] = Work(f"`prune`, {name}", up_to_half(rates), run, False)
        run = partial(curve, recovery=recovery, rates=rates)
        found[f"curve-{name}"] = Work(f"curve, {name}", rates, run, True)
    return found


WORKS = works()


def ours(options: argparse.Namespace) -> None:
    """Does one work in this process, and says on standard output what it took."""
    triple = task(options, options.tasks[0])
    with growing() as memory, by_parts() as parts:
        start, before = time.perf_counter(), time.process_time()
        WORKS[options.works[0]].run(triple)
        seconds, cpu = time.perf_counter() - start, time.process_time() - before
    found = {"seconds": seconds, "cpu": cpu, "memory": memory.growth, "parts": parts}
    print(json.dumps(found))


def task(options: argparse.Namespace, name: str) -> Triple:
    return TASKS[name](Draw(options.data, options.per_class, SEED, selection=False))


def start_ours(options: argparse.Namespace, name: str, work: str) -> dict[str, Any]:
    """Runs `ours` in a process of its own."""
    command = [sys.executable, __file__, "--ours", "--data", options.data, "--per-class"]
    command += [str(options.per_class), "--tasks", name, "--works", work]
    return answer(command, options, {})


def start_theirs(options: argparse.Namespace, message: Path, work: str) -> dict[str, Any]:
    """Runs Torch-Pruning in a process of its own."""
    command = [options.python, HERE / "peer_times_torch.py", message]
    command += [json.dumps({"rates": WORKS[work].rates, "measures": WORKS[work].measures})]
    paths = os.pathsep.join((str(HERE.parents[1]), str(HERE)))
    return answer(command, options, {"PYTHONPATH": paths})


def answer(
    command: list[Any], options: argparse.Namespace, more: Mapping[str, str]
) -> dict[str, Any]:
    """What a process says in its last line."""
    threads = {name: str(options.threads) for name in THREADS}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        env={**quiet, **os.environ, **threads, **more},
        check=True,
        text=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


COLUMNS = (
    *("ours, s", "Torch-Pruning, s", "ratio"),
    *("ours, CPU s", "Torch-Pruning, CPU s", "ratio"),
    *("ours, MiB", "Torch-Pruning, MiB"),
)
# TensorFlow takes a pool for each operation and one for several of them.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


def carry_over(triple: Triple, file: Path) -> None:
    """Writes a network and the images, for PyTorch."""
    model, (x, y), (x_test, y_test) = triple
    plain, arrays = to_plain(strip_softmax(canonize(read_model(model).flat())))
    samples = {"x": x, "y": y.astype(np.int64), "x_test": x_test, "y_test": y_test.astype(np.int64)}
    with file.open("wb") as stream:
        send(stream, {"graph": plain}, {**arrays, **samples})


def print_times(title: str, mine: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    """A row of the table of times."""
    cells = []
    for what in ("seconds", "cpu"):
        found = [[run[what] for run in runs] for runs in (mine, other)]
        cells += [f"{median(times):.1f} ({min(times):.1f})" for times in found]
        cells.append(f"{median(a / b for a, b in zip(*found, strict=True)):.2f}")
    cells += [f"{median(run['memory'] for run in runs) / MIB:.0f}" for runs in (mine, other)]
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measures all and prints the tables; with `--ours`, does one work."""
    options = parse_arguments()
    if options.ours:
        ours(options)
        return
    print(f"| task, work | {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * len(COLUMNS)}")
    parts = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.tasks:
            message = Path(folder, name)
            carry_over(task(options, name), message)
            for work in options.works:
                title = f"{name}, {WORKS[work].title}"
                runs = [
                    (start_ours(options, name, work), start_theirs(options, message, work))
                    for _ in range(options.repeats)
                ]
                mine, other = (list(side) for side in zip(*runs, strict=True))
                print_times(title, mine, other)
                parts[title] = min(mine, key=lambda run: run["seconds"])["parts"]
    print(f"\n| task, work | {' | '.join(PARTS)} |\n| --- |{' ---: |' * len(PARTS)}")
    for title, seconds in parts.items():
        print(f"| {title} | " + " | ".join(f"{seconds[part]:.1f}" for part in PARTS) + " |")
    names = ("tensorflow", "keras", "numpy", "keras-lrp-prune")
    versions = {**{name: version(name) for name in names}, **other[0]["versions"]}
    print("\n" + ", ".join(f"{name} {number}" for name, number in versions.items()))


def parse_arguments() -> argparse.Namespace:
    """What is on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="as that of control.py")
    parser.add_argument("--python", help="an interpreter with PyTorch and Torch-Pruning")
    chains = [name for name in TASKS if name.startswith(("vgg16", "mobilenet", "plain"))]
    parser.add_argument(
        "--tasks", nargs="+", choices=chains, default=["vgg16-5", "mobilenet-flowers"]
    )
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--per-class", type=int, default=20, help="reference images per class")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
