"""Torch-Pruning's iterative Taylor, timed in a process of its own, which `peer_times.py` starts."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from process_memory import growing
from torch_network import Network, accuracies
from torch_pruning_taylor import Task, torch_pruning_taylor

from keras_lrp_prune.graph.plain import from_plain
from keras_lrp_prune.relevance.wire import receive


def main() -> None:
    """Takes the file of a network and images, and what to do; answers on standard output."""
    file, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with file.open("rb") as stream:
        message, arrays = receive(stream)
    x, x_test = (
        torch.tensor(arrays.pop(name).transpose(0, 3, 1, 2).copy()) for name in ("x", "x_test")
    )
    y, y_test = (torch.tensor(arrays.pop(name)) for name in ("y", "y_test"))
    network = Network(from_plain(message["graph"], arrays)).eval()
    task = Task(network, x, y, tuple(asked["rates"]))
    # A curve is measured on held-out images at each rate; `prune` reports on the reference set.
    held_out, rates = ((x_test, y_test), task.rates) if asked["measures"] else ((x, y), ())
    with growing() as memory:
        start, before = time.perf_counter(), time.process_time()
        for rate, pruned in zip(task.rates, torch_pruning_taylor(task), strict=True):
            if rate in rates or rate in (task.rates[0], task.rates[-1]):
                accuracies(pruned, *held_out)
        seconds, cpu = time.perf_counter() - start, time.process_time() - before
    versions = {name: version(name) for name in ("torch", "torch-pruning")}
    found = {"seconds": seconds, "cpu": cpu, "memory": memory.growth, "versions": versions}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
