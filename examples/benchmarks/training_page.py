"""What `training.py` measured, as a page of the documentation."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

Runs = Sequence[Mapping[str, Any]]

METHODS = {
    "base": "unpruned",
    "finetune": "pruned, then fine-tuned",
    "distil": "pruned, then distilled",
    "callback": "`FilterPruning` during fit",
    "scratch": "half as large, from scratch",
}
COLUMNS = {
    "accuracy": "accuracy",
    "harmonic_mean": "harmonic mean",
    "worst_class": "worst class",
    "flops": "FLOPs",
    "params": "parameters",
}

PAGE = Template("""\
# Recovery by training

Written by `python examples/benchmarks/training.py --data DATA --out runs/ --page` from its runs.

Two small networks on CIFAR-10: one in the style of VGG (three stages of two convolutions) and one
in that of ResNet (three residual blocks), $widths filters by stage, batch normalisation,
32 x 32 images. For each seed, $per_class training images per class are drawn and the unpruned
network is trained on them for $epochs epochs. Then half of its FLOPs go, in three ways, each with
the same $tuning_epochs further epochs (the same number of optimiser steps, Adam, cosine, batches of
$batch):

- *pruned, then fine-tuned*: `prune(budget={"flops": 0.5}, min_channels=0.5, recovery=None)`
  with $reference images per class as the reference set, [without trials](how-it-works.md#trials),
  then [`finetune`](finetuning.md);
- *pruned, then distilled*: the same with the unpruned network as a teacher;
- *`FilterPruning` during fit*: the callback prunes during the first half of these epochs, until the
  same budget is met, with the same `min_channels`.

For comparison, *unpruned* is the network before these epochs, and *half as large, from scratch* a
network whose stages are all narrower, with about half of the FLOPs, trained for the epochs of both
phases together.

That each layer keeps half of its filters was chosen on training images that were not trained on
(VGG-style network, another seed): fine-tuned, 56.5 % accuracy and 52.7 % harmonic mean, against
53.8 and 47.7 without it; with `recovery="head+least_squares"` before training, and filters scored
by the refitted head, 54.8 and 51.9, and 53.1 and 48.7.

All decisions were made on training images, drawn anew for each seed; accuracies are those on the
10,000 test images. Mean ± standard error over the seeds, in percent; FLOPs and parameters are
shares of the unpruned network.

$sections
## What it says

- Half of the FLOPs, and less than 40 % of the parameters, do what the whole did, within the spread
  of the seeds or little below. With the same further training the three ways come out alike; a
  teacher that was trained on the same few images adds nothing.
- With filters elected one by one instead of by FLOPs, the ResNet-style network had 49.9 % accuracy
  and 45.8 % harmonic mean after fine-tuning, the VGG-style one 54.5 and 49.7; without
  `min_channels` as well, 47.2 and 41.1, and 50.0 and 34.5. (That `min_channels` was chosen with
  that election.)
- Where there are images enough to train on, a narrower network trained from scratch for as long
  does as well, as Liu et al. 2019 (arXiv:1810.05270) found for larger ones. Pruning is for networks
  that were trained on more than there is at hand.

## Where it was measured

Python $python, TensorFlow $tensorflow, Keras $keras, CPU.
""")


def write_page(folder: Path, docs: Path) -> None:
    """Writes `training.md` from the runs in `NETWORK_METHOD_seedN.json`.

    Raises:
        SystemExit: If there are none, or they were made with different settings.
    """
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for path in sorted(folder.glob("*_*_seed*.json")):
        network, method, _ = path.stem.split("_")
        record = json.loads(path.read_text())
        found.setdefault(network, {}).setdefault(method, []).append(record)
    every = [run for methods in found.values() for runs in methods.values() for run in runs]
    if not every:
        raise SystemExit(f"There are no runs in {folder}.")
    settings = every[0]["settings"]
    if any(run["settings"] != settings for run in every):
        raise SystemExit(f"The runs in {folder} were made with different settings.")
    page = PAGE.substitute(
        widths=", ".join(map(str, settings["widths"])),
        per_class=settings["per_class"],
        epochs=settings["epochs"],
        tuning_epochs=settings["tuning_epochs"],
        reference=settings["reference_per_class"],
        batch=settings["batch"],
        sections="\n".join(_section(network, methods) for network, methods in found.items()),
        python=platform.python_version(),
        tensorflow=version("tensorflow"),
        keras=version("keras"),
    )
    temporary = docs / ".training.md"
    temporary.write_text(page)
    temporary.replace(docs / "training.md")


def _section(network: str, methods: Mapping[str, Runs]) -> str:
    heads = ["seeds", *COLUMNS.values()]
    lines = [
        f"## {network}\n",
        "| | " + " | ".join(heads) + " |",
        "| --- |" + " ---: |" * len(heads),
    ]
    for method, title in METHODS.items():
        if method in methods:
            runs = methods[method]
            cells = [str(len(runs)), *(_cell(runs, figure) for figure in COLUMNS)]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(runs: Runs, figure: str) -> str:
    """Mean and standard error in percent; the mean alone of one run, or if they do not differ."""
    values = 100 * np.array([run[figure] for run in runs], float)
    if len(values) == 1 or not np.ptp(values):
        return f"{values.mean():.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1) / np.sqrt(len(values)):.1f}"
